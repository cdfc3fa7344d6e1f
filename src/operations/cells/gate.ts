// Whether clients get the current map of a volume: only where this host owns it, and at a cold start only when the coordinator has not
// said otherwise, or has said nothing for long enough. Snapshots are read-only and are served always: the puller of another host reads them.
//
// Invariant: everybody who opens a current map asks here, and again when it is open. Opening takes the mutex of the container, which whoever
// takes the volume away holds until the record says so: nobody is let in in between.

import { CellblockError } from '../../base/errors.js';
import type { Container } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';
import type { Lineages } from './lineages.js';
import { isOwner } from './lineages.js';

export class Gate {
  readonly #lineages: Lineages;
  #isOpen = false;

  constructor(lineages: Lineages) {
    this.#lineages = lineages;
  }

  /** False: the cold start is not over, and no volume of a cell is served. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  open(): void {
    this.#isOpen = true;
  }

  isOfCell(container: Container): boolean {
    return this.#lineages.ofContainer(container.id) !== null;
  }

  /** One sentence; null: it is served. */
  whyNot(container: Container): string | null {
    const lineage = this.#lineages.ofContainer(container.id);
    if (!lineage) return null;
    const what = `The ${container.kind} ${JSON.stringify(container.name)}`;
    if (!isOwner(lineage.record)) return `${what} ${sentenceOf(lineage)}.`;
    if (this.#isOpen) return null;
    return `${what} belongs to a cell, and the coordinator has not answered this host since it started.`;
  }

  /** `volume-not-served`. */
  require(container: Container): void {
    const sentence = this.whyNot(container);
    if (sentence === null) return;
    throw new CellblockError('volume-not-served', sentence, {
      hint: 'See `cellblock volume show` and `cellblock route show` for which host serves it.',
    });
  }
}

function sentenceOf({ record }: Lineage): string {
  switch (record.state) {
    case 'SEALED':
      return record.released === null
        ? 'is sealed here: it is on its way to another host'
        : 'was handed over to another host';
    case 'STAGED':
      return 'is here as a copy that is complete and not activated';
    case 'RECEIVING':
      return record.replica ? 'is here as a replica' : 'is here as a copy that is not complete';
    case 'FAULTED':
      return 'may be older here than elsewhere, and is not served until `cellblock host readmit`';
    default:
      return 'is not here any more';
  }
}
