// Lineages of this host as the operations use them: found by volume or by container, changed only together with the change that makes it
// durable.
//
// Invariant: a record is durable before anybody hears of it. What is asked here is what memory has, which may be ahead: whoever tells
// somebody waits for the catalog first.

import { CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import type { HostRecord } from '../../model/cell/host-record.js';
import type { Head } from '../../model/cell/route.js';
import { owns } from '../../model/cell/states.js';
import type { Container } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';

/** Ids in every answer, besides those that were asked for. */
const LATEST = 16;

export class Lineages {
  readonly #catalog: Catalog;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  all(): Lineage[] {
    return [...this.#catalog.lineages.values()];
  }

  of(volume: string): Lineage | null {
    return this.#catalog.lineages.of(volume) ?? null;
  }

  ofContainer(container: number): Lineage | null {
    return this.#catalog.lineages.ofContainer(container) ?? null;
  }

  /** Null: nothing of the volume is here. */
  containerOf(volume: string): Container | null {
    const id = this.of(volume)?.container ?? null;
    const container = id === null ? undefined : this.#catalog.containers.get(id);
    return container?.state === 'live' ? container : null;
  }

  /** `volume-unknown-here`. */
  requireContainer(volume: string): Container {
    const container = this.containerOf(volume);
    if (container) return container;
    throw new CellblockError('volume-unknown-here', `Nothing of the volume ${volume} is on this host.`, {
      hint: 'See `cellblock route show`.',
    });
  }

  /** Whether the record of its container, if it has one, says that this host serves it. */
  isOwned(container: number): boolean {
    const lineage = this.ofContainer(container);
    return lineage === null || isOwner(lineage.record);
  }

  seqOf(volume: string, id: string): number | null {
    return this.#catalog.lineages.seqOf(volume, id) ?? null;
  }

  idAt(volume: string, seq: number): string | null {
    return this.#catalog.lineages.idAt(volume, seq) ?? null;
  }

  /** Those that were asked for and the latest ones, as far as there are any. */
  idsOf(volume: string, seqs: readonly number[]): Record<number, string> {
    const last = this.of(volume)?.record.head?.seq ?? 0;
    const latest = Array.from({ length: Math.min(LATEST, last) }, (_, index) => last - index);
    const found: Record<number, string> = {};
    for (const seq of [...seqs, ...latest]) {
      const id = this.idAt(volume, seq);
      if (id !== null) found[seq] = id;
    }
    return found;
  }

  /** What is not given stays. */
  note(
    change: Change,
    record: HostRecord,
    { container, hidden }: { container?: number | null; hidden?: readonly string[] } = {},
  ): void {
    const before = this.of(record.volume);
    change.lineage({
      record,
      container: container === undefined ? (before?.container ?? null) : container,
      hidden: hidden ?? before?.hidden ?? [],
    });
  }

  /** A visible snapshot that is in the lineage from now on. */
  append(change: Change, volume: string, { id, seq }: Head): void {
    change.lineageId(volume, seq, id);
  }

  /** These snapshots are hidden ones of the volume from now on. */
  hide(change: Change, volume: string, ids: readonly string[]): void {
    const { record, hidden } = this.of(volume)!;
    this.note(change, record, { hidden: [...new Set([...hidden, ...ids])] });
  }

  /** They are not, because they are gone or visible. */
  unhide(change: Change, volume: string, ids: readonly string[]): void {
    const lineage = this.of(volume);
    if (lineage)
      this.note(change, lineage.record, { hidden: lineage.hidden.filter((id) => !ids.includes(id)) });
  }
}

export function isOwner({ state }: Pick<HostRecord, 'state'>): boolean {
  return state !== 'GONE' && owns(state);
}
