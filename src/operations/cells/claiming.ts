// A volume that no cell knows becomes one of the cell of this host: it gets an id, its snapshots a lineage, and this host owns it.
//
// Invariant: the record comes last, when every id it speaks of is durable; asked again it changes nothing.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import { newRecord } from '../../model/cell/host-record.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { isHiddenName } from '../../model/names.js';
import type { Devices } from '../devices.js';
import { requireContainer } from '../lookup.js';
import { requireSame } from '../volumes.js';
import type { Lineages } from './lineages.js';
import type { Serial } from './serial.js';

const IDS_AT_ONCE = 5000;

export class Claiming {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #lineages: Lineages;
  readonly #serial: Serial;

  constructor(collaborators: { catalog: Catalog; devices: Devices; lineages: Lineages; serial: Serial }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#lineages = collaborators.lineages;
    this.#serial = collaborators.serial;
  }

  /** Gives the id that it has afterwards. Throws `volume-not-found`, `volume-routed`, `option-invalid`. */
  claim(volume: string, name: string): Promise<string> {
    return this.#serial.run(volume, async () => {
      await this.#catalog.barrier();
      const container = requireContainer(this.#catalog, name);
      // No snapshot comes in between, and no sync is half done.
      return this.#devices.mutexOf(container.id).run(() => this.#locked(volume, container));
    });
  }

  async #locked(volume: string, container: Container): Promise<string> {
    requireSame(this.#catalog, container);
    const its = this.#lineages.ofContainer(container.id)?.record.volume;
    if (its !== undefined) return its;
    this.#refuse(volume, container);
    const lineage = lineageOf(this.#catalog, container);
    await noteIds(this.#catalog, volume, lineage);
    const change = this.#catalog.change();
    const last = lineage.at(-1);
    const head = last ? { id: last.id, seq: lineage.length } : null;
    this.#lineages.note(change, { ...newRecord(volume), head }, { container: container.id });
    await change.commit();
    return volume;
  }

  #refuse(volume: string, container: Container): void {
    if (this.#lineages.of(volume))
      throw new CellblockError('volume-routed', `The id ${volume} is that of another volume here.`, {
        hint: 'Claim it under another id.',
      });
    if (container.expires !== null)
      throw new CellblockError(
        'option-invalid',
        `The volume ${JSON.stringify(container.name)} is deleted by itself at ${container.expires}.`,
        {
          hint: 'Clone it without an expiry, and claim the clone.',
        },
      );
  }
}

/** What is visible of it, oldest first: seq 1, 2, 3, … */
export function lineageOf(catalog: Catalog, container: Container): Snapshot[] {
  return catalog.snapshotsOf(container).filter(({ name }) => !isHiddenName(name));
}

/** Durable before the record that speaks of them; without one the next start takes them back. */
export async function noteIds(
  catalog: Catalog,
  volume: string,
  lineage: readonly Pick<Snapshot, 'id'>[],
): Promise<void> {
  for (let at = 0; at < lineage.length; at += IDS_AT_ONCE) {
    const change = catalog.change();
    for (const [index, { id }] of lineage.slice(at, at + IDS_AT_ONCE).entries())
      change.lineageId(volume, at + index + 1, id);
    await change.commit();
  }
}
