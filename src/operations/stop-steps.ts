// The steps of a stop, which all together may not take longer than a stop may: a disk that never answers holds up nobody for ever.
// Invariant: a step that fails or is not waited for any more is named in the log and keeps no other step from its turn.

import type { Logger } from './types.js';

/** Most steps take no time, and have it also when others took it all. */
const LEAST_MS = 200;

export class StopSteps {
  readonly undone: string[] = [];
  readonly #log: Logger;
  readonly #endsAtMs: number;

  /** `endsAtMs`: as performance.now() counts. */
  constructor(log: Logger, endsAtMs: number) {
    this.#log = log;
    this.#endsAtMs = endsAtMs;
  }

  /** What was not even tried. */
  leave(step: string): void {
    this.undone.push(step);
  }

  async run(step: string, work: () => Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const impatience = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), Math.max(LEAST_MS, this.#endsAtMs - performance.now()));
    });
    try {
      if ((await Promise.race([work(), impatience])) !== 'late') return;
      this.#log.error({ step }, 'a step of the stop did not end in time; it is not waited for');
    } catch (error) {
      this.#log.warn({ err: error, step }, 'a step of the stop did not work');
    } finally {
      clearTimeout(timer);
    }
    this.undone.push(step);
  }
}
