// Writes of which only the sectors that change become steps: what is not written costs no block of the new map.

import { readAt, type Writing, writeAt } from './steps.js';

const SECTOR_BYTES = 512;

/** Makes the bytes at `at` be `data`. Answers how many bytes it wrote. */
export function* replaceAt(at: bigint, data: Buffer): Writing<number> {
  const before = yield* readAt(at, data.length);
  let wrote = 0;
  for (let from = 0; from < data.length; ) {
    let end = from;
    while (end < data.length && !sameSector(before, data, end)) end += SECTOR_BYTES;
    const changed = data.subarray(from, end);
    if (changed.length > 0) yield* writeAt(at + BigInt(from), changed);
    wrote += changed.length;
    from = end + SECTOR_BYTES;
  }
  return wrote;
}

function sameSector(a: Buffer, b: Buffer, at: number): boolean {
  return a.subarray(at, at + SECTOR_BYTES).equals(b.subarray(at, at + SECTOR_BYTES));
}
