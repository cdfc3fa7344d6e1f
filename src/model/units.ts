// Sizes every part agrees on. The same numbers stand in native/base/units.h.

export const BLOCK_BYTES = 4096;
export const MIN_WINDOW_BYTES = 64 << 10;
export const MAX_WINDOW_BYTES = 4 << 20;
export const DEFAULT_WINDOW_BYTES = 2 << 20;
export const MAX_VOLUME_BYTES = (1n << 63n) - 1n;

export function blocksPerWindow(windowBytes: number): number {
  return windowBytes / BLOCK_BYTES;
}

/** Windows needed to hold so many bytes. */
export function windowsOf(sizeBytes: bigint, windowBytes: number): bigint {
  const bytes = BigInt(windowBytes);
  return (sizeBytes + bytes - 1n) / bytes;
}
