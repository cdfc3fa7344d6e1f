// Takes a volume away from its clients: what they have begun is finished and answered, then what ends the ownership is done and made
// durable, then whoever is connected is told ESHUTDOWN and let go. Between the last answer and the end nobody writes.
//
// Invariants: what was answered before is in the map that the end sees (and seals); nothing of a client is written or answered as done
// after it. If this host still owns the volume when the work has failed, clients go on as if nothing had been.

import { setTimeout as aWhile } from 'node:timers/promises';
import type { Catalog } from '../../catalog/catalog.js';
import type { Container } from '../../model/entities.js';
import type { Device, Devices } from '../devices.js';
import { Hold } from '../hold.js';
import type { PlaneClient } from '../plane-client.js';
import type { Logger } from '../types.js';
import type { Lineages } from './lineages.js';

/** A connection that was about to be opened comes a little later than the others were told. */
const LOOK_AGAIN_MS = 20;

export class Closing {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #lineages: Lineages;
  readonly #log: Logger;
  readonly #holdLimitMs: number;
  #stopping = false;

  constructor(
    collaborators: {
      catalog: Catalog;
      devices: Devices;
      client: PlaneClient;
      lineages: Lineages;
      log: Logger;
    },
    options: { holdLimitMs: number },
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#lineages = collaborators.lineages;
    this.#log = collaborators.log;
    this.#holdLimitMs = options.holdLimitMs;
  }

  stop(): void {
    this.#stopping = true;
  }

  /**
   * `end` changes the record, and holds the mutex of the container while it does. `hold-expired`: nothing was changed, which cannot be
   * with `mustEnd`: who may not serve a volume does not go on serving it because a request takes long.
   */
  async run<T>(
    container: Container,
    end: () => Promise<T>,
    { mustEnd = false }: { mustEnd?: boolean } = {},
  ): Promise<T> {
    await this.#devices.settleBases(container.line);
    return this.#devices.mutexOf(container.id).run(() => this.#locked(container, end, mustEnd));
  }

  async #locked<T>(container: Container, end: () => Promise<T>, mustEnd: boolean): Promise<T> {
    if (!this.#devices.current(container.id)) return end();
    const device = await this.#devices.acquireLocked(container);
    const limitMs = device.connections > 0 && !mustEnd ? this.#holdLimitMs : null;
    const hold = new Hold(this.#client, [device], { limitMs });
    try {
      await hold.begin();
      return await end();
    } finally {
      if (!this.#lineages.isOwned(container.id)) this.#sendAway(container, device);
      hold.end();
      this.#devices.release(device);
    }
  }

  /** While it is held: what its clients have sent and what they send now is answered ESHUTDOWN when the hold ends. */
  #sendAway(container: Container, device: Device): void {
    this.#client.plane.setReadOnly(device.handle, true);
    this.#log.info(
      { volume: container.name, connections: device.connections },
      'a volume is not served here any more',
    );
    void this.#drain(container, device);
  }

  /** Until none is connected: whoever was being let in when the mutex was taken arrives after the first look. */
  async #drain(container: Container, device: Device): Promise<void> {
    try {
      const isAway = (): boolean => this.#stopping || this.#lineages.isOwned(container.id);
      do {
        await this.#client.disconnect(device.handle);
        await aWhile(LOOK_AGAIN_MS, null, { ref: false });
      } while (!isAway() && this.#devices.byHandle(device.handle) === device && device.connections > 0);
    } catch (error) {
      // It was closed meanwhile, and with it its connections.
      this.#log.debug({ err: error, volume: container.name }, 'no connection is left to end');
    }
  }

  /** The volume can be written again: by its clients, or by the puller. */
  restore(container: Container): void {
    const device = this.#devices.current(container.id);
    if (device && !device.failed)
      this.#client.plane.setReadOnly(
        device.handle,
        this.#catalog.containers.get(container.id)?.failure != null,
      );
  }
}
