// What may be done by the control API of this host to a volume of a cell, and what only the coordinator may: whatever belongs to its lineage, or
// has to be the same on every host that holds it. What stays here: access lists, limits, attachments, clones of its snapshots, syncs by
// its owner, and snapshots of the lineage that nobody needs for a move.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { isHiddenName } from '../../model/names.js';
import type { Lineages } from './lineages.js';

const VIA_COORDINATOR = {
  snapshot:
    'Ask the coordinator: `cellblock snapshot create NAME@SNAP --via coordinator`; or, on the host that serves it, give --local.',
  resize: 'Ask the coordinator: `cellblock volume resize NAME SIZE --via coordinator`.',
  delete: 'Ask the coordinator: `cellblock volume delete NAME --via coordinator`.',
  rename: 'A volume of a cell keeps its name; clone it under another one.',
} as const;

export type RoutedVerb = keyof typeof VIA_COORDINATOR;

export class LocalVerbs {
  readonly #catalog: Catalog;
  readonly #lineages: Lineages;

  constructor(catalog: Catalog, lineages: Lineages) {
    this.#catalog = catalog;
    this.#lineages = lineages;
  }

  isRouted(container: Container): boolean {
    return this.#lineages.ofContainer(container.id) !== null;
  }

  /** `volume-routed`. */
  refuse(container: Container, verb: RoutedVerb): void {
    if (!this.isRouted(container)) return;
    throw new CellblockError(
      'volume-routed',
      `The ${container.kind} ${JSON.stringify(container.name)} belongs to a cell.`,
      { hint: VIA_COORDINATOR[verb] },
    );
  }

  /** Null: nobody else may need it. */
  pinOf(snapshot: Snapshot): string | null {
    const lineage = this.#lineages.ofContainer(snapshot.container);
    if (!lineage) return null;
    const { record } = lineage;
    if (record.head?.id === snapshot.id)
      return 'it is the last one of its lineage, which copies are complete through';
    if (record.state === 'ACTIVE' && !record.move) return null;
    // An undo point, say, is no part of what moves.
    if (this.#lineages.seqOf(record.volume, snapshot.id) === null && !isHiddenName(snapshot.name))
      return null;
    return record.replica ? 'it belongs to a replica' : `its volume is ${record.state} here`;
  }

  /** `snapshot-pinned`. */
  refuseDelete(snapshot: Snapshot): void {
    const why = this.pinOf(snapshot);
    if (why === null) return;
    const volume = this.#catalog.containers.get(snapshot.container)!.name;
    throw new CellblockError(
      'snapshot-pinned',
      `The snapshot ${JSON.stringify(`${volume}@${snapshot.name}`)} may be needed by another host: ${why}.`,
      { hint: 'Take another snapshot first, or wait until the move is over; see `cellblock move status`.' },
    );
  }
}
