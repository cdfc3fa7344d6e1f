// Adds zeros to a hash without reading them from anywhere.

import type { Hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

const ZEROS = Buffer.alloc(1024 * 1024);

/** Lets other work go on in between: hashing terabytes takes its time, wherever they come from. */
export async function hashZeros(hash: Hash, count: bigint): Promise<void> {
  for (let left = count; left > 0n; ) {
    const now = left < BigInt(ZEROS.length) ? Number(left) : ZEROS.length;
    hash.update(ZEROS.subarray(0, now));
    left -= BigInt(now);
    await setImmediate();
  }
}
