// So many bytes a second, evenly: each piece waits for the time at which the pieces before it have used up theirs.
//
// Invariant: in any stretch of time no more passes than the rate allows for it, and what BURST_MS allow besides.

import { CellblockError } from '../../base/errors.js';
import type { Clock } from '../../protocol/timing.js';

/** Time that was not used is kept so long: a timer that fires late costs nothing. */
const BURST_MS = 50;
const PIECES_A_SECOND = 16;
const SMALLEST_PIECE = 16 << 10;

export class RateLimit {
  readonly #clock: Clock;
  readonly #largestPiece: number;
  readonly #within: RateLimit | null;
  #bytesPerSecond: number | null;
  /** When the next piece may pass. */
  #freeMs = 0;

  /** Null: no limit. `within`: what all of several have together. */
  constructor(
    bytesPerSecond: number | null,
    { clock, largestPiece, within = null }: { clock: Clock; largestPiece: number; within?: RateLimit | null },
  ) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
    this.#largestPiece = largestPiece;
    this.#within = within;
  }

  /** From the next piece on. */
  set(bytesPerSecond: number | null): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Bytes to ask for at once: few enough that a slow copy does not stand still for seconds, whole blocks. */
  get pieceBytes(): number {
    const most = this.#within?.pieceBytes ?? this.#largestPiece;
    if (this.#bytesPerSecond === null) return most;
    const wanted = Math.floor(this.#bytesPerSecond / PIECES_A_SECOND / 4096) * 4096;
    return Math.min(most, Math.max(SMALLEST_PIECE, wanted));
  }

  /** Resolves when so many bytes may pass. Throws `task-cancelled` after the signal. */
  async pass(bytes: number, signal: AbortSignal): Promise<void> {
    await this.#within?.pass(bytes, signal);
    if (this.#bytesPerSecond === null) return;
    const nowMs = this.#clock.now().uptimeMs;
    const startMs = Math.max(this.#freeMs, nowMs - BURST_MS);
    this.#freeMs = startMs + (bytes * 1000) / this.#bytesPerSecond;
    if (startMs > nowMs) await pause(startMs - nowMs, { clock: this.#clock, signal });
  }
}

/** Throws `task-cancelled` after the signal. */
export function pause(
  milliseconds: number,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancelled = () => {
      end();
      reject(stopped());
    };
    const end = clock.after(milliseconds, () => {
      signal.removeEventListener('abort', cancelled);
      resolve();
    });
    if (signal.aborted) cancelled();
    else signal.addEventListener('abort', cancelled, { once: true });
  });
}

export function stopped(): CellblockError {
  return new CellblockError('task-cancelled', 'The copy was stopped.', { hint: 'Nothing has to be undone.' });
}
