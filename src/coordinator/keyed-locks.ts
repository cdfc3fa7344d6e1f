// One at a time for each key, in the order of asking; who wants several keys gets all of them at once, so that nobody waits in a circle.

export class KeyedLocks {
  /** Per key: ends when the last one that asked for it has ended. */
  readonly #last = new Map<string, Promise<void>>();

  /** Resolves when everything that was asked for with this key has ended; null: nothing was. */
  ended(key: string): Promise<void> | null {
    return this.#last.get(key) ?? null;
  }

  /** Runs `work` when everything asked for before with one of these keys has ended; answers or throws what it does. */
  async run<T>(keys: Iterable<string>, work: () => Promise<T>): Promise<T> {
    const wanted = new Set(keys);
    let release!: () => void;
    const ended = new Promise<void>((resolve) => {
      release = resolve;
    });
    const before = [...wanted].map((key) => this.#last.get(key));
    for (const key of wanted) this.#last.set(key, ended);
    try {
      await Promise.all(before);
      return await work();
    } finally {
      for (const key of wanted) if (this.#last.get(key) === ended) this.#last.delete(key);
      release();
    }
  }
}
