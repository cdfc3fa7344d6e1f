// Keys of the store in LevelDB. All keys are bytes; numbers inside `window/`, `written/` and `punch/` are big-endian so that they sort.
// Invariant: one range scan over window/<line><first> .. window/<line><end> yields every version of these windows, newest first.

const WINDOW_PREFIX = Buffer.from('window/');
const WRITTEN_PREFIX = Buffer.from('written/');
const PUNCH_PREFIX = Buffer.from('punch/');
const WINDOW_KEY_BYTES = WINDOW_PREFIX.length + 8 + 8 + 4;
const WRITTEN_KEY_BYTES = WRITTEN_PREFIX.length + 8 + 4 + 8;

/** First byte after a prefix's last: the end of its range. */
export function prefixEnd(prefix: Uint8Array): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]! += 1;
  return end;
}

export function windowKey(line: number, window: bigint, version: number): Buffer {
  const key = Buffer.allocUnsafe(WINDOW_KEY_BYTES);
  WINDOW_PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(line), 7);
  key.writeBigUInt64BE(window, 15);
  key.writeUInt32BE(~version >>> 0, 23);
  return key;
}

/** Where the records of a line's windows from `window` on begin (or end, as an exclusive bound). */
export function windowBound(line: number, window: bigint): Buffer {
  const key = Buffer.allocUnsafe(WINDOW_KEY_BYTES - 4);
  WINDOW_PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(line), 7);
  key.writeBigUInt64BE(window, 15);
  return key;
}

/** End of all records of a line. */
export function lineEnd(line: number): Buffer {
  return windowBound(line + 1, 0n);
}

export interface WindowKey {
  line: number;
  window: bigint;
  version: number;
}

/** Null when the bytes are no window key (a damaged store). */
export function parseWindowKey(key: Uint8Array): WindowKey | null {
  if (key.length !== WINDOW_KEY_BYTES) return null;
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  if (bytes.compare(WINDOW_PREFIX, 0, WINDOW_PREFIX.length, 0, WINDOW_PREFIX.length) !== 0) return null;
  return {
    line: Number(bytes.readBigUInt64BE(7)),
    window: bytes.readBigUInt64BE(15),
    version: ~bytes.readUInt32BE(23) >>> 0,
  };
}

/** Where it is noted which windows of a chunk a version has written; see written-set.ts. */
export function writtenKey(line: number, version: number, chunk: bigint): Buffer {
  const key = Buffer.allocUnsafe(WRITTEN_KEY_BYTES);
  WRITTEN_PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(line), 8);
  key.writeUInt32BE(version, 16);
  key.writeBigUInt64BE(chunk, 20);
  return key;
}

export interface WrittenKey {
  line: number;
  version: number;
  chunk: bigint;
}

/** Null when the bytes are no such key (a damaged store). */
export function parseWrittenKey(key: Uint8Array): WrittenKey | null {
  if (key.length !== WRITTEN_KEY_BYTES) return null;
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  if (bytes.compare(WRITTEN_PREFIX, 0, WRITTEN_PREFIX.length, 0, WRITTEN_PREFIX.length) !== 0) return null;
  return {
    line: Number(bytes.readBigUInt64BE(8)),
    version: bytes.readUInt32BE(16),
    chunk: bytes.readBigUInt64BE(20),
  };
}

/** Range of the chunks of one version, from `chunk` on. */
export function writtenBy(line: number, version: number, chunk = 0n): { gte: Buffer; lt: Buffer } {
  return { gte: writtenKey(line, version, chunk), lt: writtenKey(line, version + 1, 0n) };
}

/** Range of every chunk of written windows in the store. */
export const ALL_WRITTEN = { gte: WRITTEN_PREFIX, lt: prefixEnd(WRITTEN_PREFIX) } as const;
/** Range of every window record in the store. */
export const ALL_WINDOWS = { gte: WINDOW_PREFIX, lt: prefixEnd(WINDOW_PREFIX) } as const;
/** Range of every pending punch in the store. */
export const ALL_PUNCHES = { gte: PUNCH_PREFIX, lt: prefixEnd(PUNCH_PREFIX) } as const;

export function punchKey(id: number): Buffer {
  const key = Buffer.allocUnsafe(PUNCH_PREFIX.length + 8);
  PUNCH_PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(id), PUNCH_PREFIX.length);
  return key;
}

export function parsePunchKey(key: Uint8Array): number | null {
  if (key.length !== PUNCH_PREFIX.length + 8) return null;
  return Number(Buffer.from(key.buffer, key.byteOffset, key.byteLength).readBigUInt64BE(PUNCH_PREFIX.length));
}

/** The families of JSON records. */
export type Family =
  | 'meta'
  | 'container'
  | 'line'
  | 'snapshot'
  | 'file'
  | 'task'
  | 'applied'
  | 'sync'
  | 'vm'
  | 'vm-snapshot'
  | 'attachment'
  | 'copy'
  | 'lineage'
  | 'lineage-id'
  | 'group-cut';

export function jsonKey(family: Family, id: string | number): Buffer {
  return Buffer.from(`${family}/${id}`);
}

/** Range of a family of JSON records. */
export function familyRange(family: Family): { gte: Buffer; lt: Buffer } {
  const prefix = Buffer.from(`${family}/`);
  return { gte: prefix, lt: prefixEnd(prefix) };
}
