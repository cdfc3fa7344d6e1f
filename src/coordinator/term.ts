// One time of leading. What was begun in it ends with it: everything asks the term after each wait.
//
// Invariant: the store refuses the writes of whoever does not lead; the term only spares them the asking, and refuses those of an earlier term of the same
// coordinator (term-store.ts).

import { CellblockError } from '../base/errors.js';
import type { Clock } from '../protocol/timing.js';
import type { Leadership } from './store.js';

export class Term {
  readonly #clock: Clock;
  readonly #leadership: Leadership;
  readonly #endings = new Set<() => void>();
  #isOver = false;

  constructor(clock: Clock, leadership: Leadership) {
    this.#clock = clock;
    this.#leadership = leadership;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Throws when it is over. */
  check(): void {
    if (this.#isOver) throw notLeader(this.#leadership);
  }

  /** Resolves after that time, or at once when the term ends. */
  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isOver) return resolve();
      const done = () => {
        cancel();
        this.#endings.delete(done);
        resolve();
      };
      const cancel = this.#clock.after(milliseconds, done);
      this.#endings.add(done);
    });
  }

  end(): void {
    this.#isOver = true;
    for (const done of [...this.#endings]) done();
  }
}

export function notLeader({ leader }: Leadership): CellblockError {
  return new CellblockError('not-leader', 'This coordinator does not lead.', {
    hint: leader ? `Ask ${leader.coordinator} at ${leader.address}.` : 'Ask again when another one leads.',
    ...(leader ? { facts: { leader: leader.address } } : {}),
  });
}
