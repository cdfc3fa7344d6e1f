// What a host has of a volume that went on elsewhere becomes a volume of its own: the container goes on under another id and another name, and
// its visible snapshots are a lineage from 1 on, under ids of their own: a snapshot belongs to one volume at a host, so under the ids of before neither
// could ever follow the other to its host.
//
// Invariants: the record of the old volume, which is gone then, and that of the new one are in one group, so the container belongs to
// exactly one of them; ids of the new lineage are durable before it. Asked again it changes nothing.

import { createHash } from 'node:crypto';
import { CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import { type HostCommand, type HostRecord, newRecord } from '../../model/cell/host-record.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { checkName } from '../../model/names.js';
import type { SaidOutcome } from '../../protocol/client.js';
import type { Devices } from '../devices.js';
import { requireSame } from '../volumes.js';
import { lineageOf, noteIds } from './claiming.js';
import type { Lineages } from './lineages.js';

type KeepFork = Extract<HostCommand, { do: 'keep-fork' }>;

export class Forks {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #lineages: Lineages;

  constructor(collaborators: { catalog: Catalog; devices: Devices; lineages: Lineages }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#lineages = collaborators.lineages;
  }

  /** What the record cannot know; null: it can be kept, or was. */
  refused(before: HostRecord, { volume }: KeepFork): SaidOutcome | null {
    const other = this.#lineages.of(volume);
    if (before.state === 'GONE' && !other)
      return { kind: 'refused', refusal: 'WRONG_STATE', because: 'nothing of it is here any more' };
    if (before.state !== 'GONE' && other)
      return {
        kind: 'refused',
        refusal: 'WRONG_STATE',
        because: `the id ${volume} is another volume's here`,
      };
    return null;
  }

  /** `gone`: the record that stays of the old volume. `volume-exists`, `name-...`. Durable when it resolves. */
  async keep(container: Container, gone: HostRecord, { volume, name }: KeepFork): Promise<void> {
    checkName(name, container.kind);
    await this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      this.#requireFree(container, name);
      const lineage = lineageOf(this.#catalog, container);
      const ids = new Map(lineage.map(({ id }) => [id, idInFork(volume, id)]));
      await noteIds(
        this.#catalog,
        volume,
        [...ids.values()].map((id) => ({ id })),
      );
      this.#requireFree(container, name);
      const { hidden } = this.#lineages.of(gone.volume)!;
      const last = lineage.at(-1);
      const head = last ? { id: ids.get(last.id)!, seq: lineage.length } : null;
      const change = this.#catalog.change();
      this.#giveIds(container, { lineage, ids, change });
      change.removeCopy(gone.volume);
      this.#lineages.note(change, gone, { container: null, hidden: [] });
      // Nobody needs the hidden ones of before: the new owner gives them back.
      this.#lineages.note(change, { ...newRecord(volume), head }, { container: container.id, hidden });
      if (container.name !== name) change.rename(container, name);
      await change.commit();
    });
  }

  /** Whatever names the snapshots names them anew. */
  #giveIds(
    container: Container,
    {
      lineage,
      ids,
      change,
    }: { lineage: readonly Snapshot[]; ids: ReadonlyMap<string, string>; change: Change },
  ): void {
    for (const snapshot of lineage) {
      change.removeSnapshot(snapshot);
      snapshot.id = ids.get(snapshot.id)!;
      change.snapshot(snapshot);
    }
    const named = (id: string | null): string | null => (id === null ? null : (ids.get(id) ?? id));
    for (const line of this.#catalog.linesOf(container.id)) {
      line.versions = line.versions.map((live) => ({ ...live, snapshot: named(live.snapshot) }));
      change.line(line);
    }
    for (const taken of this.#catalog.vmSnapshots.values()) {
      if (!taken.members.some(({ snapshot }) => ids.has(snapshot))) continue;
      taken.members = taken.members.map((member) => ({ ...member, snapshot: named(member.snapshot)! }));
      change.vmSnapshot(taken);
    }
  }

  #requireFree(container: Container, name: string): void {
    const other = this.#catalog.containerNamed(name);
    if (!other || other === container) return;
    throw new CellblockError('volume-exists', `There is already a volume ${JSON.stringify(name)} here.`, {
      hint: 'Choose another name for the fork.',
    });
  }
}

/** The same whenever it is asked again. */
function idInFork(volume: string, id: string): string {
  return createHash('sha256').update(`${volume}/${id}`).digest('hex').slice(0, 32);
}
