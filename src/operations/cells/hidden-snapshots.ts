// Snapshots that nobody sees: which a volume needs, and which are given back.
//
// Invariant: each is named by the record of its volume. One that is not was cut when the agent was stopped in the middle: nobody has heard
// of it, and the start removes it before anybody can.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
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
    for (const { phase, members } of this.#catalog.groupCuts.values())
      if (phase === 'cut' && members.some((member) => member.volume === volume)) return true;
    return false;
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

  /** Who owns a volume and does not move it needs only the one it was activated from: the former owner has it too. Never throws. */
  async tidy(volume: string): Promise<void> {
    const lineage = this.#lineages.of(volume);
    if (!lineage || !isOwner(lineage.record) || lineage.record.move) return;
    const needed = new Set([lineage.record.activatedFrom?.id, ...this.#provisional()]);
    const ended = lineage.hidden.filter((id) => !needed.has(id));
    if (ended.length === 0) return;
    try {
      await this.remove(volume, ended);
    } catch (error) {
      this.#log.warn({ err: error, volume }, 'hidden snapshots stay for now that nobody needs');
    }
  }

  #provisional(): string[] {
    return [...this.#catalog.groupCuts.values()]
      .filter(({ phase }) => phase === 'cut')
      .flatMap(({ members }) => members.map(({ snapshot }) => snapshot));
  }

  /** Durable when it resolves. */
  async remove(volume: string, ids: readonly string[]): Promise<void> {
    const there = ids.flatMap((id) => this.#catalog.snapshots.get(id) ?? []);
    await this.#snapshots.remove(there, {
      alongside: (change) => this.#lineages.unhide(change, volume, ids),
    });
    void this.#reclaim.kick();
  }
}
