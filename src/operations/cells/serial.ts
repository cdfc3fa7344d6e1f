// One thing at a time for each volume: commands, operations, steps of groups, and what the puller reports.

import { Mutex, runWithAll } from '../../base/mutex.js';

export class Serial {
  readonly #mutexes = new Map<string, Mutex>();

  run<T>(volume: string, work: () => Promise<T>): Promise<T> {
    return this.runAll([volume], work);
  }

  runAll<T>(volumes: readonly string[], work: () => Promise<T>): Promise<T> {
    // One order for everyone who takes several.
    const ordered = [...new Set(volumes)].sort();
    return runWithAll(
      ordered.map((volume) => this.#of(volume)),
      work,
    );
  }

  #of(volume: string): Mutex {
    const mutex = this.#mutexes.get(volume) ?? new Mutex();
    this.#mutexes.set(volume, mutex);
    return mutex;
  }
}
