// One at a time, in order of asking.

export class Mutex {
  #last: Promise<void> = Promise.resolve();

  /** Runs `work` when everything asked for before has ended; answers or throws what it does. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}

/** Takes several mutexes in the order given (one order for all callers, else they wait for one another for ever). */
export function runWithAll<T>(mutexes: readonly Mutex[], work: () => Promise<T>): Promise<T> {
  const [first, ...rest] = mutexes;
  return first ? first.run(() => runWithAll(rest, work)) : work();
}
