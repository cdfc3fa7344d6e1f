// Clients of several volumes, held for a snapshot of all of them over several hosts: from the answer to `quiesce` until it is told to go on,
// or its time is over, whatever has become of the coordinator.
//
// Invariants: while it is held the mutexes of its containers are held too, so nothing opens, rounds, resizes or syncs them in between; it
// ends once, and says how; a cut that has begun is waited for before the mutexes are given back.

import { runWithAll } from '../../base/mutex.js';
import type { Container } from '../../model/entities.js';
import type { Device, Devices } from '../devices.js';
import { Hold } from '../hold.js';
import type { PlaneClient } from '../plane-client.js';

/** `held`: until it was told to go on; `expired`: clients went on by themselves. */
export type HeldUntil = 'held' | 'expired';

export class GroupHold {
  readonly containers: readonly Container[];
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  #hold: Hold | null = null;
  #ended: HeldUntil | null = null;
  #letGo: () => void = () => undefined;
  readonly #isToEnd = new Promise<void>((resolve) => {
    this.#letGo = resolve;
  });
  #cutting: Promise<unknown> = Promise.resolve();
  #over: Promise<void> = Promise.resolve();

  constructor(devices: Devices, client: PlaneClient, containers: readonly Container[]) {
    this.#devices = devices;
    this.#client = client;
    // One order for everyone who takes several mutexes.
    this.containers = [...containers].sort((a, b) => a.id - b.id);
  }

  /** Null: it is held still. */
  get ended(): HeldUntil | null {
    return this.#ended;
  }

  get heldMs(): number {
    return this.#hold?.heldMs ?? 0;
  }

  /** Resolves when nothing of a client is under way. `check` is asked when the mutexes are held. `hold-expired`, or what `check` throws. */
  async begin({ limitMs, check }: { limitMs: number; check: () => void }): Promise<void> {
    for (const { line } of this.containers) await this.#devices.settleBases(line);
    const mutexes = this.containers.map(({ id }) => this.#devices.mutexOf(id));
    await new Promise<void>((resolve, reject) => {
      this.#over = runWithAll(mutexes, async () => {
        check();
        await this.#held(limitMs, resolve);
      }).catch(reject);
    });
  }

  async #held(limitMs: number, begun: () => void): Promise<void> {
    const devices: Device[] = [];
    try {
      for (const container of this.containers) devices.push(await this.#devices.acquireLocked(container));
      const hold = new Hold(this.#client, devices, { limitMs });
      this.#hold = hold;
      try {
        await hold.begin();
        begun();
        await hold.during(this.#isToEnd).catch(() => this.#end('expired'));
      } finally {
        hold.end();
        this.#end('expired');
      }
      await this.#cutting.catch(() => undefined);
    } finally {
      for (const device of devices) this.#devices.release(device);
    }
  }

  /** While it is held; the mutexes are. */
  cut<T>(work: () => Promise<T>): Promise<T> {
    const cutting = work();
    this.#cutting = cutting;
    return cutting;
  }

  /** Clients go on. Says whether they were held until now. */
  async end(): Promise<HeldUntil> {
    this.#end('held');
    this.#letGo();
    await this.#over;
    return this.#ended!;
  }

  #end(how: HeldUntil): void {
    this.#ended ??= how;
  }
}
