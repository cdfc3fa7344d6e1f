// Deallocates what nothing names any more: pending punches whose batch is durable, after a grace period, in the background.
// Invariant: a pending punch leaves LevelDB only after it was done; until then it is repeated at every start.

import type { Catalog, PendingPunch } from '../catalog/catalog.js';
import { fileOfSlot, offsetInFile } from '../model/slot.js';
import { BLOCK_BYTES } from '../model/units.js';
import type { PlaneClient } from './plane-client.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';

const PUNCHES_AT_ONCE = 64;
const RANGES_AT_ONCE = 4096;
const RETRY_MS = 30_000;

export class Punches {
  readonly #catalog: Catalog;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #windowBytes: number;
  #running: Promise<void> | null = null;
  #stopped = false;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;

  constructor(catalog: Catalog, client: PlaneClient, log: Logger, windowBytes: number) {
    this.#catalog = catalog;
    this.#client = client;
    this.#log = log;
    this.#windowBytes = windowBytes;
  }

  /** Something may be pending. */
  kick(): void {
    if (this.#running || this.#stopped || this.#catalog.punches.size === 0) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      // What became pending between the end of the loop and here; after trouble the timer comes.
      if (!this.#retry) this.kick();
    });
  }

  /** Resolves when nothing is under way; the rest waits for the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#retry) clearTimeout(this.#retry);
    await this.#running;
  }

  /** Resolves when nothing is pending, or it cannot be done now. */
  async settled(): Promise<void> {
    this.kick();
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#catalog.punches.size > 0 && !this.#stopped) await this.#some();
      this.#failures = 0;
    } catch (error) {
      this.#failures++;
      this.#log.warn(
        { ...trouble(error, this.#failures), pending: this.#catalog.punches.size },
        'space could not be freed; it is tried again later',
      );
      this.#retry ??= setTimeout(() => {
        this.#retry = null;
        this.kick();
      }, RETRY_MS);
      this.#retry.unref();
    }
  }

  async #some(): Promise<void> {
    const some: PendingPunch[] = [];
    let count = 0;
    for (const punch of this.#catalog.punches.values()) {
      some.push(punch);
      count += punch.ranges.length;
      if (some.length === PUNCHES_AT_ONCE || count >= RANGES_AT_ONCE) break;
    }
    await this.#client.grace();
    const ranges = some
      .flatMap((punch) => punch.ranges)
      .filter(({ slot }) => this.#catalog.files.has(fileOfSlot(slot)));
    if (ranges.length > 0) {
      await this.#client.punch(
        ranges.map(({ slot, start, count }) => ({
          file: fileOfSlot(slot),
          offset: offsetInFile(slot, start, this.#windowBytes),
          bytes: BigInt(count) * BigInt(BLOCK_BYTES),
        })),
      );
    }
    const change = this.#catalog.change();
    for (const { id } of some) change.removePunch(id);
    await change.commit();
  }
}
