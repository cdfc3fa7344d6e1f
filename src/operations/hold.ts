// Clients of some devices are held: what they have begun is answered, what comes waits. While any is connected the hold has a
// limit, for clients give up after theirs (DESIGN "every hold has a limit").
// Invariant: a hold that has begun is ended, once.

import { CellblockError } from '../base/errors.js';
import type { Device } from './devices.js';
import type { PlaneClient } from './plane-client.js';

const PATIENCE_MS = 5000;

export class Hold {
  readonly #client: PlaneClient;
  readonly #devices: readonly Device[];
  readonly #limitMs: number | null;
  readonly #expired: Promise<never>;
  #expire: (error: CellblockError) => void = () => undefined;
  #timer: NodeJS.Timeout | null = null;
  #began = 0;
  #ended: number | null = null;
  #pending: Promise<unknown> = Promise.resolve();

  /** `limitMs` null: nobody waits. */
  constructor(client: PlaneClient, devices: readonly Device[], options: { limitMs: number | null }) {
    this.#client = client;
    this.#devices = devices;
    this.#limitMs = options.limitMs;
    this.#expired = new Promise((_, reject) => {
      this.#expire = reject;
    });
    // It may expire while nobody waits.
    this.#expired.catch(() => undefined);
  }

  /** Resolves when every request that had begun is answered. */
  async begin(): Promise<void> {
    this.#began = performance.now();
    if (this.#limitMs !== null)
      this.#timer = setTimeout(() => this.#expire(tooLong(this.#limitMs!)), this.#limitMs);
    await this.during(Promise.all(this.#devices.map(({ handle }) => this.#client.hold(handle))));
  }

  /** Throws when the limit passes first; the work goes on then. */
  during<T>(work: Promise<T>): Promise<T> {
    // It may fail after the limit has passed.
    this.#pending = work.catch(() => undefined);
    return Promise.race([work, this.#expired]);
  }

  /** Resolves when what went on after the limit has ended too, or does not seem to end. */
  async settled(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const impatience = new Promise((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([this.#pending, impatience]);
    clearTimeout(timer);
  }

  end(): void {
    if (this.#ended !== null) return;
    this.#ended = performance.now();
    if (this.#timer) clearTimeout(this.#timer);
    for (const { handle } of this.#devices) this.#client.plane.release(handle);
  }

  get heldMs(): number {
    return (this.#ended ?? performance.now()) - this.#began;
  }
}

function tooLong(limitMs: number): CellblockError {
  return new CellblockError(
    'hold-expired',
    `The clients would have been held for more than ${limitMs / 1000} s; nothing was changed.`,
    { hint: 'Try again when there is less to write, or end the connections first.' },
  );
}
