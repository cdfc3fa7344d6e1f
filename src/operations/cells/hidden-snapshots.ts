// Snapshots that nobody sees: which a volume needs, and which are given back.
//
// Invariant: each is named by the record of its volume. One that is not was cut when the agent was stopped in the middle: nobody has heard
// of it, and the start removes it before anybody can.

import { CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import type { Snapshot } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';
import type { Reclaim } from '../reclaim.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import { isOwner, type Lineages } from './lineages.js';

export class HiddenSnapshots {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #reclaim: Reclaim;
  readonly #lineages: Lineages;
  readonly #log: Logger;

  constructor(collaborators: {
    catalog: Catalog;
    snapshots: Snapshots;
    reclaim: Reclaim;
    lineages: Lineages;
    log: Logger;
  }) {
    this.#catalog = collaborators.catalog;
    this.#snapshots = collaborators.snapshots;
    this.#reclaim = collaborators.reclaim;
    this.#lineages = collaborators.lineages;
    this.#log = collaborators.log;
  }

  /** Of a volume: cut, and neither published nor dropped. */
  isProvisional(volume: string): boolean {
    return this.#provisional(volume).length > 0;
  }

  /** `volume-busy`: what is provisional has to become the next snapshot, or none. */
  refuseProvisional(volume: string): void {
    if (!this.isProvisional(volume)) return;
    throw new CellblockError(
      'volume-busy',
      `A snapshot of several volumes, ${volume} among them, is neither published nor dropped.`,
      { hint: 'Try again in a moment.' },
    );
  }

  /** What is provisional of the volume is published no more, because it goes; `change` says why. */
  leaveGroups(change: Change, volume: string): void {
    for (const group of this.#catalog.groupCuts.values()) {
      const members = group.members.filter((member) => member.volume !== volume);
      if (group.phase === 'cut' && members.length < group.members.length)
        change.groupCut({ ...group, members });
    }
  }

  /** The volume becomes a copy of what another host has, as `note` says: what is provisional here is no part of that. Durable when it resolves. */
  async forsake(volume: string, note: (change: Change) => void): Promise<void> {
    const ids = this.#provisional(volume);
    await this.#snapshots.remove(this.#there(ids), {
      alongside: (change) => {
        note(change);
        this.#lineages.unhide(change, volume, ids);
        this.leaveGroups(change, volume);
      },
    });
    if (ids.length > 0) void this.#reclaim.kick();
  }

  /** Gives back those that the volume does not need any more. Never throws. */
  async tidy(volume: string): Promise<void> {
    const lineage = this.#lineages.of(volume);
    if (!lineage) return;
    const needed = this.#needed(lineage);
    const ended = lineage.hidden.filter((id) => !needed.has(id));
    if (ended.length === 0) return;
    try {
      await this.remove(volume, ended);
    } catch (error) {
      this.#log.warn({ err: error, volume }, 'hidden snapshots stay for now that nobody needs');
    }
  }

  /**
   * An owner needs the one it was activated from, which the former owner has too; while it is moved also the last two that were carried: the copy
   * is complete through the one, and the other's changes are told since that. A copy needs the last one it has. Whoever is sealed, or
   * faulted, keeps what there is.
   */
  #needed({ record, hidden }: Lineage): ReadonlySet<string | undefined> {
    const { volume, activatedFrom, move } = record;
    if (record.state === 'RECEIVING' || record.state === 'STAGED') return new Set(hidden.slice(-1));
    if (!isOwner(record)) return new Set(hidden);
    const provisional = this.#provisional(volume);
    const carried = hidden.filter((id) => id !== activatedFrom?.id && !provisional.includes(id));
    return new Set([activatedFrom?.id, ...provisional, ...(move ? carried.slice(-2) : [])]);
  }

  #provisional(volume: string): string[] {
    return [...this.#catalog.groupCuts.values()]
      .filter(({ phase }) => phase === 'cut')
      .flatMap(({ members }) => members.filter((member) => member.volume === volume))
      .map(({ snapshot }) => snapshot);
  }

  #there(ids: readonly string[]): Snapshot[] {
    return ids.flatMap((id) => this.#catalog.snapshots.get(id) ?? []);
  }

  /** Durable when it resolves. */
  async remove(volume: string, ids: readonly string[]): Promise<void> {
    await this.#snapshots.remove(this.#there(ids), {
      alongside: (change) => this.#lineages.unhide(change, volume, ids),
    });
    void this.#reclaim.kick();
  }
}
