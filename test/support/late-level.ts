// A database that answers some turns later than asked, so that others come in between. How many turns says the caller's generator:
// no time decides anything.

import type { Level } from '../../src/catalog/level.js';

const MOST_TURNS = 5;

/** A turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export async function turns(count: number): Promise<void> {
  for (let passed = 0; passed < count; passed++) await turn();
}

/** `below(n)` gives a number from 0 to n - 1. */
export function answerLate(level: Level, below: (n: number) => number): void {
  const wait = () => turns(below(MOST_TURNS + 1));
  const { batch, get, getMany, scan } = level;
  level.batch = async (operations) => {
    await wait();
    return batch.call(level, operations);
  };
  level.get = async (key) => {
    await wait();
    return get.call(level, key);
  };
  level.getMany = async (keys, options) => {
    await wait();
    return getMany.call(level, keys, options);
  };
  level.scan = async function* (range, options) {
    for await (const page of scan.call(level, range, options)) {
      await wait();
      yield page;
    }
  };
}
