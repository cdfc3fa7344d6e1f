// Which parts of a buffer are zero, in blocks of 4 KiB: what an import need not send.

export const BLOCK_BYTES = 4096;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

export interface Run {
  start: number;
  end: number;
  zero: boolean;
}

/** Cuts the buffer into runs that alternate between zero and not; they cover it. A short last block counts by itself. */
export function zeroRuns(bytes: Buffer): Run[] {
  const runs: Run[] = [];
  for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
    const end = Math.min(start + BLOCK_BYTES, bytes.length);
    const zero = isZero(bytes, start, end);
    const last = runs[runs.length - 1];
    if (last !== undefined && last.zero === zero) last.end = end;
    else runs.push({ start, end, zero });
  }
  return runs;
}

function isZero(bytes: Buffer, start: number, end: number): boolean {
  return bytes[start] === 0 && bytes.compare(ZERO_BLOCK, 0, end - start, start, end) === 0;
}
