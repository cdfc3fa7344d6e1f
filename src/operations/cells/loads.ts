// How much was written to each volume of a cell since the agent began, by its clients: what a coordinator tells busy volumes from idle ones by.
//
// Invariant: a number never falls. The data plane counts for a device as long as that is open; what it has counted is kept when it is closed.

import type { VolumeLoad } from '../../protocol/exchange.js';
import { LIMITS } from '../../protocol/limits.js';
import type { Device, Devices } from '../devices.js';
import type { PlaneClient } from '../plane-client.js';
import type { Lineages } from './lineages.js';

/** Many devices become idle at a time, and one look at the counters looks at all. Who becomes idle has had no client for longer. */
const LOOK_MS = 1000;

export class Loads {
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #lineages: Lineages;
  /** By container: of its devices that were closed. */
  readonly #closed = new Map<number, bigint>();
  #look: ReadonlyMap<number, bigint> = new Map();
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(collaborators: { devices: Devices; client: PlaneClient; lineages: Lineages }) {
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#lineages = collaborators.lineages;
  }

  /** The current map of a container, without clients, is about to be closed. */
  closing({ container, handle, view }: Device): void {
    if (view || !this.#lineages.ofContainer(container)) return;
    if (performance.now() - this.#lookedMs >= LOOK_MS) this.#lookNow();
    const written = this.#look.get(handle) ?? 0n;
    if (written > 0n) this.#closed.set(container, (this.#closed.get(container) ?? 0n) + written);
  }

  /** Of the volumes that are here. */
  all(): VolumeLoad[] {
    this.#lookNow();
    return this.#lineages
      .all()
      .flatMap(({ record, container }) =>
        container === null
          ? []
          : [{ id: record.volume, writtenBytes: this.#writtenTo(container).toString() }],
      )
      .slice(0, LIMITS.volumes);
  }

  #writtenTo(container: number): bigint {
    const device = this.#devices.current(container);
    const open = device ? (this.#look.get(device.handle) ?? 0n) : 0n;
    return (this.#closed.get(container) ?? 0n) + open;
  }

  #lookNow(): void {
    const { devices } = this.#client.plane.counters();
    this.#look = new Map(devices.map(({ handle, kinds }) => [handle, kinds.write.bytes]));
    this.#lookedMs = performance.now();
  }
}
