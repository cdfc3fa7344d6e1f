// Chance of a run: of each purpose its own stream of numbers, so that what happens in one of them does not change the others.

import { randomOf } from '../support/random.js';

export class Chance {
  readonly #seed: number;
  readonly #streams = new Map<string, () => number>();

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** In [0, 1). */
  next(purpose: string): number {
    let stream = this.#streams.get(purpose);
    if (!stream) {
      stream = randomOf(mixed(this.#seed, purpose));
      this.#streams.set(purpose, stream);
    }
    return stream();
  }

  isSo(purpose: string, probability: number): boolean {
    return this.next(purpose) < probability;
  }

  below(purpose: string, end: number): number {
    return Math.floor(this.next(purpose) * end);
  }

  between(purpose: string, from: number, to: number): number {
    return from + this.next(purpose) * (to - from);
  }

  of<T>(purpose: string, from: readonly T[]): T {
    return from[this.below(purpose, from.length)]!;
  }
}

function mixed(seed: number, purpose: string): number {
  let hash = seed ^ 0x811c9dc5;
  for (const letter of purpose) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  return hash;
}
