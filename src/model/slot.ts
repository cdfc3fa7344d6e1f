// A slot is a window-sized place in an extents file, `file << 24 | place`. Slot numbers are never reused.

const PLACE_BITS = 24n;
const PLACE_MASK = (1n << PLACE_BITS) - 1n;

export function slotOf(file: number, place: number): bigint {
  return (BigInt(file) << PLACE_BITS) | BigInt(place);
}

/** Number of the extents file a slot lies in. */
export function fileOfSlot(slot: bigint): number {
  return Number(slot >> PLACE_BITS);
}

/** Index of the window-sized place in its file. */
export function placeOfSlot(slot: bigint): number {
  return Number(slot & PLACE_MASK);
}

/** Byte offset of a block of a slot in its extents file. */
export function offsetInFile(slot: bigint, block: number, windowBytes: number): bigint {
  return (slot & PLACE_MASK) * BigInt(windowBytes) + BigInt(block) * 4096n;
}
