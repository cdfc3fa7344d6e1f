// What is here of a volume, for a copy of it: its snapshots in the order of the lineage, and where the data of each continue.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import { countUpTo, liveNumbers } from '../../model/chain.js';
import type { Container, Line, Snapshot } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';
import type { SnapshotFacts, VolumeDescription } from '../../protocol/exchange.js';
import { LIMITS } from '../../protocol/limits.js';
import type { Lineages } from './lineages.js';

/** A page stays far below the largest message. */
const PAGE = Math.min(LIMITS.lineage, 4096);
const DELETED = Math.min(LIMITS.lineage, 4096);

export class Describing {
  readonly #catalog: Catalog;
  readonly #lineages: Lineages;
  readonly #page: number;

  constructor(catalog: Catalog, lineages: Lineages, { page = PAGE }: { page?: number } = {}) {
    this.#catalog = catalog;
    this.#lineages = lineages;
    this.#page = page;
  }

  /** Oldest first, behind `after`. `volume-unknown-here`, `snapshot-not-found`. */
  describe(volume: string, after: string | null): VolumeDescription {
    const container = this.#lineages.requireContainer(volume);
    const lineage = this.#lineages.of(volume)!;
    const snapshots = this.#snapshotsOf(lineage, container);
    const from = after === null ? 0 : snapshots.findIndex(({ id }) => id === after) + 1;
    if (after !== null && from === 0)
      throw new CellblockError('snapshot-not-found', `The volume has no snapshot ${after} here.`, {
        hint: 'Ask from the beginning.',
      });
    const page = firstOf(snapshots.slice(from), this.#page);
    const { name, kind, sizeBytes, attributes, description, allow } = container;
    return {
      name,
      kind,
      sizeBytes: sizeBytes.toString(),
      attributes: attributes && { ...attributes },
      description,
      base: this.#foreignBaseOf(volume, container),
      allow: [...allow],
      snapshots: page,
      more: from + page.length < snapshots.length,
    };
  }

  /** Those of the lineage and hidden ones; of a sync's undo points and what is provisional nobody hears. */
  #snapshotsOf({ record, hidden }: Lineage, container: Container): SnapshotFacts[] {
    const { volume } = record;
    const isHidden = new Set(hidden);
    for (const { phase, members } of this.#catalog.groupCuts.values())
      if (phase === 'cut') for (const { snapshot } of members) isHidden.delete(snapshot);
    const facts: SnapshotFacts[] = [];
    // From the newest on: a hidden one has the seq of the visible one before it, whether that is still here or not.
    let next = (record.head?.seq ?? 0) + 1;
    for (const snapshot of this.#catalog.snapshotsOf(container).reverse()) {
      const seq = this.#lineages.seqOf(volume, snapshot.id);
      if (seq !== null) next = seq;
      else if (!isHidden.has(snapshot.id)) continue;
      facts.push(this.#factsOf(snapshot, { seq: seq ?? next - 1, hidden: seq === null }));
    }
    return this.#withDeleted(volume, facts.reverse());
  }

  /** The ids of what was deleted go with the next visible one that is here: no snapshot ever has one of them again, wherever the volume is. */
  #withDeleted(volume: string, facts: readonly SnapshotFacts[]): SnapshotFacts[] {
    let last = 0;
    return facts.map((one) => {
      if (one.hidden) return one;
      const deletedBefore: { id: string; seq: number }[] = [];
      // Of very many the newest: a message has its bounds.
      for (let seq = Math.max(last + 1, one.seq - DELETED); seq < one.seq; seq++) {
        const id = this.#lineages.idAt(volume, seq);
        if (id !== null) deletedBefore.push({ id, seq });
      }
      last = one.seq;
      return deletedBefore.length === 0 ? one : { ...one, deletedBefore };
    });
  }

  #factsOf(snapshot: Snapshot, place: { seq: number; hidden: boolean }): SnapshotFacts {
    const { id, name, sizeBytes, created, expires } = snapshot;
    return {
      id,
      ...place,
      name,
      sizeBytes: sizeBytes.toString(),
      created,
      expires,
      base: this.#baseOf(snapshot),
    };
  }

  #foreignBaseOf(volume: string, { line }: Container): VolumeDescription['base'] {
    const base = this.#baseOf({ line, version: Number.MAX_SAFE_INTEGER });
    return base?.volume === volume ? null : base;
  }

  /** The nearest snapshot below it, over the bases of lines, if its volume is known by an id. */
  #baseOf({ line, version }: Pick<Snapshot, 'line' | 'version'>): SnapshotFacts['base'] {
    let at = { line: this.#catalog.lines.get(line)!, upTo: version - 1 };
    for (;;) {
      const listed = newestListed(at.line, at.upTo);
      if (listed !== null) {
        const volume = this.#lineages.ofContainer(at.line.container)?.record.volume;
        return volume === undefined ? null : { volume, snapshot: listed };
      }
      const { base } = at.line;
      if (!base) return null;
      at = { line: this.#catalog.lines.get(base.line)!, upTo: base.version };
    }
  }
}

/** So many, those that were deleted before them counted in; one at the least. */
function firstOf(snapshots: readonly SnapshotFacts[], most: number): SnapshotFacts[] {
  const page: SnapshotFacts[] = [];
  let count = 0;
  for (const one of snapshots) {
    count += 1 + (one.deletedBefore?.length ?? 0);
    if (page.length > 0 && count > most) break;
    page.push(one);
  }
  return page;
}

function newestListed(line: Line, upTo: number): string | null {
  for (let index = countUpTo(liveNumbers(line), upTo) - 1; index >= 0; index--) {
    const { state, snapshot } = line.versions[index]!;
    if (state === 'listed') return snapshot;
  }
  return null;
}
