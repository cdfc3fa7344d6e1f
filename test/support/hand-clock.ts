// A clock that a test moves: timers fire when the test lets their time come, and never by themselves.

import type { Clock } from '../../src/protocol/timing.js';

interface Timer {
  dueMs: number;
  everyMs: number | null;
  callback: () => void;
}

export class HandClock implements Clock {
  #uptimeMs = 1_000;
  #clockMs = 1_800_000_000_000;
  readonly #timers = new Set<Timer>();

  now() {
    return { clockMs: this.#clockMs, uptimeMs: this.#uptimeMs };
  }

  every(everyMs: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#uptimeMs + everyMs, everyMs, callback });
  }

  after(milliseconds: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#uptimeMs + milliseconds, everyMs: null, callback });
  }

  /** Time passes; timers fire in order. */
  pass(milliseconds: number): void {
    const end = this.#uptimeMs + milliseconds;
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.dueMs - b.dueMs)[0];
      if (!next || next.dueMs > end) break;
      this.#move(Math.max(0, next.dueMs - this.#uptimeMs));
      if (next.everyMs === null) this.#timers.delete(next);
      else next.dueMs += next.everyMs;
      next.callback();
    }
    this.#move(end - this.#uptimeMs);
  }

  /** Somebody sets the time of day. */
  setBy(milliseconds: number): void {
    this.#clockMs += milliseconds;
  }

  #move(milliseconds: number): void {
    this.#uptimeMs += milliseconds;
    this.#clockMs += milliseconds;
  }

  #add(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
}
