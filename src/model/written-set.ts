// Which windows of one chunk a version has written: a set of numbers below 32,768, as a bitmap in memory.
// Stored little-endian: u8 format=1, u8 kind (0 list, 1 bitmap), u16 0, then the numbers as gaps to the one before (LEB128, the first
// from 0) or 4096 bytes of bitmap, then u32 crc32c of all before it. The shorter of the two is taken.
// Invariant: a superset. A window is in it before the first record of it can be durable, and stays in it while the version lives; so
// what cannot be read counts as full.

import { crc32c } from '../base/crc32c.js';
import { CellblockError } from '../base/errors.js';

export const CHUNK_WINDOWS = 32_768;
const BITMAP_BYTES = CHUNK_WINDOWS / 8;
const FORMAT = 1;
const LIST = 0;
const BITMAP = 1;
const HEADER_BYTES = 4;

/** Bytes of a stored set at most. */
export const LARGEST_SET_BYTES = HEADER_BYTES + BITMAP_BYTES + 4;

export function chunkOf(window: bigint): bigint {
  return window / BigInt(CHUNK_WINDOWS);
}

/** Index of a window in its chunk. */
export function indexInChunk(window: bigint): number {
  return Number(window % BigInt(CHUNK_WINDOWS));
}

/** The window a set has under an index. */
export function windowAt(chunk: bigint, index: number): bigint {
  return chunk * BigInt(CHUNK_WINDOWS) + BigInt(index);
}

export class WrittenSet {
  readonly #bits: Uint8Array;

  constructor(bits = new Uint8Array(BITMAP_BYTES)) {
    this.#bits = bits;
  }

  static full(): WrittenSet {
    return new WrittenSet(new Uint8Array(BITMAP_BYTES).fill(0xff));
  }

  /** Throws `record-corrupt` with what is wrong; never answers a guess. */
  static decode(stored: Uint8Array): WrittenSet {
    const payload = payloadOf(stored);
    if (stored[1] === LIST) return new WrittenSet(bitmapOf(decodeList(payload)));
    if (stored[1] !== BITMAP || payload.length !== BITMAP_BYTES) throw corrupt('it is no set');
    return new WrittenSet(Uint8Array.from(payload));
  }

  /** Of what is not there nothing was written; what is damaged may hold anything. */
  static read(stored: Uint8Array | undefined): WrittenSet {
    if (!stored) return new WrittenSet();
    try {
      return WrittenSet.decode(stored);
    } catch {
      return WrittenSet.full();
    }
  }

  /** The indexes of what read() answers, ascending. Without a bitmap in between: most sets hold a few of 32,768. */
  static indexes(stored: Uint8Array): number[] {
    try {
      if (stored[1] === LIST) return decodeList(payloadOf(stored));
    } catch {
      // Full, as read() says.
    }
    return WrittenSet.read(stored).all();
  }

  has(index: number): boolean {
    return (this.#bits[index >>> 3]! & (1 << (index & 7))) !== 0;
  }

  /** False: it was in it before. */
  add(index: number): boolean {
    if (this.has(index)) return false;
    this.#bits[index >>> 3]! |= 1 << (index & 7);
    return true;
  }

  addAll(other: WrittenSet): void {
    for (let at = 0; at < BITMAP_BYTES; at++) this.#bits[at]! |= other.#bits[at]!;
  }

  count(): number {
    let count = 0;
    for (let at = this.next(0); at >= 0; at = this.next(at + 1)) count++;
    return count;
  }

  /** Ascending. */
  all(): number[] {
    const indexes: number[] = [];
    for (let at = this.next(0); at >= 0; at = this.next(at + 1)) indexes.push(at);
    return indexes;
  }

  /** The first at or after `from`, or -1. */
  next(from: number): number {
    for (let at = from; at < CHUNK_WINDOWS; ) {
      if (this.#bits[at >>> 3] === 0) at = (at | 7) + 1;
      else if (this.has(at)) return at;
      else at++;
    }
    return -1;
  }

  encode(): Buffer {
    const list = this.#list();
    const payload = list ?? this.#bits;
    const bytes = Buffer.alloc(HEADER_BYTES + payload.length + 4);
    bytes.writeUInt8(FORMAT, 0);
    bytes.writeUInt8(list ? LIST : BITMAP, 1);
    bytes.set(payload, HEADER_BYTES);
    const crcAt = HEADER_BYTES + payload.length;
    bytes.writeUInt32LE(crc32c(bytes, 0, crcAt), crcAt);
    return bytes;
  }

  /** Null: a bitmap is as short. */
  #list(): number[] | null {
    const list: number[] = [];
    let last = 0;
    for (let index = this.next(0); index >= 0; index = this.next(index + 1)) {
      let gap = index - last;
      for (; gap > 0x7f; gap >>>= 7) list.push((gap & 0x7f) | 0x80);
      list.push(gap);
      if (list.length >= BITMAP_BYTES) return null;
      last = index;
    }
    return list;
  }
}

/** What lies between header and checksum. Throws `record-corrupt`. */
function payloadOf(stored: Uint8Array): Uint8Array {
  const crcAt = stored.length - 4;
  if (crcAt < HEADER_BYTES) throw corrupt('it is too short');
  if (stored[0] !== FORMAT) throw corrupt(`its format is ${stored[0]}`);
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.readUInt32LE(crcAt) !== crc32c(bytes, 0, crcAt)) throw corrupt('its checksum is wrong');
  return bytes.subarray(HEADER_BYTES, crcAt);
}

function bitmapOf(indexes: readonly number[]): Uint8Array<ArrayBuffer> {
  const bits = new Uint8Array(BITMAP_BYTES);
  for (const index of indexes) bits[index >>> 3]! |= 1 << (index & 7);
  return bits;
}

/** Ascending. */
function decodeList(payload: Uint8Array): number[] {
  const indexes: number[] = [];
  let index = 0;
  let gap = 0;
  let shift = 0;
  for (const byte of payload) {
    gap |= (byte & 0x7f) << shift;
    shift += 7;
    if (byte & 0x80 && shift < 21) continue;
    index += gap;
    if (byte & 0x80 || index >= CHUNK_WINDOWS) throw corrupt('it names windows of another chunk');
    indexes.push(index);
    gap = 0;
    shift = 0;
  }
  if (shift > 0) throw corrupt('it ends in the middle of a number');
  return indexes;
}

function corrupt(what: string): CellblockError {
  return new CellblockError('record-corrupt', `A stored set of written windows is damaged: ${what}.`, {
    hint: 'Nothing is lost by it; check the disk, and run `cellblock store check`.',
  });
}
