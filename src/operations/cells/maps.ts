// Puts the current map of a container that nobody is served from back to one of its snapshots: what a copy had begun to receive behind
// it is given up. Constant time, as a restore: a new empty line that continues the snapshot.
//
// Invariant: the record that makes this host the owner is in the group that swaps the line, so no owner is ever seen with half a delta.

import type { Catalog, Change } from '../../catalog/catalog.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { endLine } from '../../model/entities.js';
import type { Device, Devices } from '../devices.js';
import { Hold } from '../hold.js';
import type { PlaneClient } from '../plane-client.js';
import type { Reclaim } from '../reclaim.js';
import { baseOf, newLine } from '../snapshots.js';
import type { Logger } from '../types.js';

export class Maps {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #reclaim: Reclaim;
  readonly #log: Logger;

  constructor(collaborators: {
    catalog: Catalog;
    devices: Devices;
    client: PlaneClient;
    reclaim: Reclaim;
    log: Logger;
  }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#reclaim = collaborators.reclaim;
    this.#log = collaborators.log;
  }

  /** `snapshot` null: it becomes empty. Durable, with what `alongside` adds, when it resolves. */
  async goBackTo(
    container: Container,
    snapshot: Snapshot | null,
    alongside: (change: Change) => void,
  ): Promise<void> {
    if (snapshot) this.#devices.pin(snapshot.line, snapshot.version);
    try {
      if (snapshot) await this.#devices.settle(snapshot.line, snapshot.version);
      await this.#devices.settleBases(container.line);
      await this.#devices.mutexOf(container.id).run(() => this.#locked(container, snapshot, alongside));
    } finally {
      if (snapshot) this.#devices.unpin(snapshot.line, snapshot.version);
    }
    this.#log.info(
      { volume: container.name },
      'what was received behind the last complete snapshot is given up',
    );
    void this.#reclaim.kick();
  }

  async #locked(
    container: Container,
    snapshot: Snapshot | null,
    alongside: (change: Change) => void,
  ): Promise<void> {
    if (!this.#devices.current(container.id)) return this.#swap(container, snapshot, alongside);
    const device = await this.#devices.acquireLocked(container);
    const hold = new Hold(this.#client, [device], { limitMs: null });
    try {
      await hold.begin();
      await this.#devices.rounding.run(device);
      try {
        await this.#swap(container, snapshot, alongside);
      } catch (error) {
        // In memory the line is another one already: what it has is of one that nobody names any more.
        await this.#devices.expel(device);
        throw error;
      }
      await this.#follow(device, container);
    } finally {
      hold.end();
      this.#devices.release(device);
    }
  }

  async #swap(
    container: Container,
    snapshot: Snapshot | null,
    alongside: (change: Change) => void,
  ): Promise<void> {
    const change = this.#catalog.change();
    const old = this.#catalog.lines.get(container.line)!;
    const base = snapshot && baseOf(this.#catalog, this.#devices, snapshot);
    const line = newLine({ id: change.take('line'), container: container.id, base });
    endLine(old, null);
    container.line = line.id;
    if (snapshot) container.sizeBytes = snapshot.sizeBytes;
    change.line(line).line(old).container(container);
    alongside(change);
    await change.commit();
    this.#reclaim.note(old.id);
  }

  /** One that cannot follow reads what nobody may see. */
  async #follow(device: Device, container: Container): Promise<void> {
    try {
      await this.#devices.rebase(device, container, { discard: true });
    } catch (error) {
      this.#log.error({ err: error, volume: container.name }, 'a volume is closed that could not go back');
      await this.#devices.expel(device);
    }
  }
}
