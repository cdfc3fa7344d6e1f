// Deletes of snapshots of volumes of cells: by their owner, and then by every other host that has them.
//
// Invariant: nothing is deleted that this host's record says another host may need, or that a copy to this host continues. Asked again it
// changes nothing.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { isHiddenName } from '../../model/names.js';
import type { Attachments } from '../kernel/attachments.js';
import type { Reclaim } from '../reclaim.js';
import type { Snapshots } from '../snapshots.js';
import type { Lineages } from './lineages.js';
import type { LocalVerbs } from './local-verbs.js';

export class SnapshotDeletes {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #reclaim: Reclaim;
  readonly #attachments: Attachments;
  readonly #lineages: Lineages;
  readonly #localVerbs: LocalVerbs;

  constructor(collaborators: {
    catalog: Catalog;
    snapshots: Snapshots;
    reclaim: Reclaim;
    attachments: Attachments;
    lineages: Lineages;
    localVerbs: LocalVerbs;
  }) {
    this.#catalog = collaborators.catalog;
    this.#snapshots = collaborators.snapshots;
    this.#reclaim = collaborators.reclaim;
    this.#attachments = collaborators.attachments;
    this.#lineages = collaborators.lineages;
    this.#localVerbs = collaborators.localVerbs;
  }

  /** By its owner. `snapshot-pinned`, `kernel-device-in-use`. Durable when it resolves. */
  async byOwner(volume: string, id: string): Promise<void> {
    const snapshot = this.#of(volume, id);
    if (!snapshot) return;
    this.#localVerbs.refuseDelete(snapshot);
    await this.#remove(snapshot);
  }

  /** Why what the owner has deleted has to stay here for now; null: it has not, or is not here. */
  whyNot(volume: string, id: string): string | null {
    if (!this.#of(volume, id)) return null;
    for (const { snapshot, since } of this.#catalog.copies.values())
      if (snapshot === id || since === id) return 'a copy to this host continues it';
    return null;
  }

  /** What the owner has deleted. `kernel-device-in-use`. Durable when it resolves. */
  async byOthers(volume: string, id: string): Promise<void> {
    const snapshot = this.#of(volume, id);
    if (snapshot) await this.#remove(snapshot);
  }

  /** Null: it is not here (any more). Whatever is no visible snapshot of that volume is not deleted so. */
  #of(volume: string, id: string): Snapshot | null {
    const container: Container | null = this.#lineages.containerOf(volume);
    const snapshot = this.#catalog.snapshots.get(id);
    if (!container || !snapshot) return null;
    if (snapshot.container === container.id && !isHiddenName(snapshot.name)) return snapshot;
    throw new CellblockError('snapshot-not-found', `The snapshot ${id} is none of the volume ${volume}.`, {
      hint: 'See `cellblock snapshot list`.',
    });
  }

  async #remove(snapshot: Snapshot): Promise<void> {
    this.#attachments.requireDetached(snapshot);
    await this.#snapshots.remove([snapshot]);
    void this.#reclaim.kick();
  }
}
