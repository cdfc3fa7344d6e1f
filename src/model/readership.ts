// Sets of versions as one number, small enough to keep one for every block of a window: whom a count is about is decided here, how
// the blocks are gone through in usage.ts.

import type { Line } from './entities.js';

/** NOBODY, one version, several that count together, or MANY. */
export type Readers = number;
export const NOBODY = 0;
export const MANY = -1;

/** A version: the index of its line in the family, and its position there. */
export interface Place {
  index: number;
  at: number;
}

export interface Readership {
  /** Code at each position of a line; NOBODY: it only passes through what is below it. */
  codesOf(index: number): Readers[];
  join(a: Readers, b: Readers): Readers;
  /** All of one line at positions [from, to), of which at least two are somebody. */
  together(index: number, from: number, to: number): Readers;
  /** A run of blocks with data, of a version of `owner`, is of exactly these. */
  tally(owner: Line, readers: Readers, blocks: number): void;
}
