// A pending punch: places that nothing names any more and that wait to be deallocated.
// Stored little-endian: u8 format=1, u8 0, u16 ranges, u32 0, {u64 slot, u16 start, u16 count, u32 0} per range, u32 crc32c.
// Invariant: what stands here is never allocated again, so a punch may be repeated at any time.

import { crc32c } from '../base/crc32c.js';
import { CellblockError } from '../base/errors.js';

/** Blocks [start, start + count) of a slot. */
export interface BlockRange {
  slot: bigint;
  start: number;
  count: number;
}

const FORMAT = 1;
const HEADER_BYTES = 8;
const RANGE_BYTES = 16;

/** Ranges of one stored record at most. */
export const MAX_PUNCH_RANGES = 1000;

export function encodePunch(ranges: readonly BlockRange[]): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + ranges.length * RANGE_BYTES + 4);
  bytes.writeUInt8(FORMAT, 0);
  bytes.writeUInt16LE(ranges.length, 2);
  let at = HEADER_BYTES;
  for (const range of ranges) {
    bytes.writeBigUInt64LE(range.slot, at);
    bytes.writeUInt16LE(range.start, at + 8);
    bytes.writeUInt16LE(range.count, at + 10);
    at += RANGE_BYTES;
  }
  bytes.writeUInt32LE(crc32c(bytes, 0, at), at);
  return bytes;
}

export function decodePunch(stored: Uint8Array): BlockRange[] {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const count = bytes.length >= HEADER_BYTES + 4 ? bytes.readUInt16LE(2) : -1;
  const crcAt = HEADER_BYTES + count * RANGE_BYTES;
  if (
    bytes.length !== crcAt + 4 ||
    bytes.readUInt8(0) !== FORMAT ||
    bytes.readUInt32LE(crcAt) !== crc32c(bytes, 0, crcAt)
  ) {
    throw new CellblockError('record-corrupt', 'A stored pending punch is damaged.', {
      hint: 'Its space is found again by the leak sweep; run `cellblock store check`.',
    });
  }
  return Array.from({ length: count }, (_, index) => {
    const at = HEADER_BYTES + index * RANGE_BYTES;
    return {
      slot: bytes.readBigUInt64LE(at),
      start: bytes.readUInt16LE(at + 8),
      count: bytes.readUInt16LE(at + 10),
    };
  });
}
