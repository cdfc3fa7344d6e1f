// How far the copy of a volume is, over all of its snapshots: told now and then, and kept for who asks when something came last.

import type { Clock } from '../../protocol/timing.js';

const TOLD_EVERY_MS = 500;

export class CopyProgress {
  readonly #clock: Clock;
  readonly #tell: (done: bigint, total: bigint) => void;
  #done = 0n;
  #total = 0n;
  #lastToldMs = Number.NEGATIVE_INFINITY;
  /** When data came last, of the monotonic clock. */
  lastCameMs = 0;

  constructor(clock: Clock, tell: (done: bigint, total: bigint) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** Something is begun; nothing has come of it yet. */
  begin(): void {
    this.lastCameMs = this.#clock.now().uptimeMs;
  }

  /** So much more is to come. */
  expect(bytes: bigint): void {
    this.#total = this.#done + bytes;
    this.now();
  }

  came(bytes: number): void {
    const nowMs = this.#clock.now().uptimeMs;
    this.lastCameMs = nowMs;
    this.#done += BigInt(bytes);
    if (nowMs - this.#lastToldMs >= TOLD_EVERY_MS) this.now();
  }

  /** What was expected has come, or was there. */
  all(): void {
    this.#done = this.#total;
  }

  now(): void {
    this.#lastToldMs = this.#clock.now().uptimeMs;
    this.#tell(this.#done, this.#total);
  }
}
