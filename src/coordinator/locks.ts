// One at a time for each of many volumes.

import { Mutex } from '../base/mutex.js';

export class Locks {
  readonly #held = new Map<string, { mutex: Mutex; users: number }>();

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const held = this.#held.get(key) ?? { mutex: new Mutex(), users: 0 };
    this.#held.set(key, held);
    held.users += 1;
    return held.mutex.run(work).finally(() => {
      held.users -= 1;
      if (held.users === 0) this.#held.delete(key);
    });
  }

  /** All of them, taken in one order for all callers. */
  runAll<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort();
    return first === undefined ? work() : this.run(first, () => this.runAll(rest, work));
  }
}
