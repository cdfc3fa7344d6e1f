// What one version says about one window: runs of blocks that lie in pieces (slots) or are zero; the rest is asked further down.
// Stored little-endian: u8 format=1, u8 flags (bit 0: piece 0 is the window's own slot), u16 pieces, u16 runs, u16 0, u64 slot per
// piece, {u16 start, u16 count, u16 piece (0xffff = zero)} per run, u32 crc32c of all before it.
// Invariant: runs are sorted, do not overlap and are never empty; a block of a piece lies at its own offset in the slot.

import { crc32c } from '../base/crc32c.js';
import { CellblockError } from '../base/errors.js';

/** Blocks [start, start + count): in `slot`, or zero when null. */
export interface Run {
  start: number;
  count: number;
  slot: bigint | null;
}

export interface WindowRecord {
  /** The slot new blocks of this window and version go to; null: none yet. */
  ownSlot: bigint | null;
  runs: Run[];
}

const FORMAT = 1;
const OWN_FLAG = 1;
const ZERO_PIECE = 0xffff;
const HEADER_BYTES = 8;

export function isEmpty(record: WindowRecord): boolean {
  return record.runs.length === 0;
}

/** Neighbours that continue one another become one run. Takes sorted runs. */
export function joinRuns(runs: Run[]): Run[] {
  const joined: Run[] = [];
  for (const run of runs) {
    const last = joined[joined.length - 1];
    if (last && last.start + last.count === run.start && last.slot === run.slot) last.count += run.count;
    else joined.push({ ...run });
  }
  return joined;
}

export function encodeWindowRecord(record: WindowRecord): Buffer {
  const pieces: bigint[] = record.ownSlot === null ? [] : [record.ownSlot];
  const index = new Map<bigint, number>(pieces.map((slot, at) => [slot, at]));
  for (const run of record.runs) {
    if (run.slot === null || index.has(run.slot)) continue;
    index.set(run.slot, pieces.length);
    pieces.push(run.slot);
  }
  const bytes = Buffer.alloc(HEADER_BYTES + pieces.length * 8 + record.runs.length * 6 + 4);
  bytes.writeUInt8(FORMAT, 0);
  bytes.writeUInt8(record.ownSlot === null ? 0 : OWN_FLAG, 1);
  bytes.writeUInt16LE(pieces.length, 2);
  bytes.writeUInt16LE(record.runs.length, 4);
  let at = HEADER_BYTES;
  for (const slot of pieces) at = bytes.writeBigUInt64LE(slot, at);
  for (const run of record.runs) {
    at = bytes.writeUInt16LE(run.start, at);
    at = bytes.writeUInt16LE(run.count, at);
    at = bytes.writeUInt16LE(run.slot === null ? ZERO_PIECE : index.get(run.slot)!, at);
  }
  bytes.writeUInt32LE(crc32c(bytes, 0, at), at);
  return bytes;
}

/** Throws `record-corrupt` with what is wrong; never answers a guess. */
export function decodeWindowRecord(stored: Uint8Array, blocksPerWindow: number): WindowRecord {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < HEADER_BYTES + 4) throw corrupt('it is too short');
  if (bytes.readUInt8(0) !== FORMAT) throw corrupt(`its format is ${bytes.readUInt8(0)}`);
  const pieceCount = bytes.readUInt16LE(2);
  const runCount = bytes.readUInt16LE(4);
  const runsAt = HEADER_BYTES + pieceCount * 8;
  const crcAt = runsAt + runCount * 6;
  if (bytes.length !== crcAt + 4) throw corrupt('its length does not match its counts');
  if (bytes.readUInt32LE(crcAt) !== crc32c(bytes, 0, crcAt)) throw corrupt('its checksum is wrong');
  const flags = bytes.readUInt8(1);
  if (flags & ~OWN_FLAG || (flags & OWN_FLAG && pieceCount === 0)) throw corrupt('its flags are unknown');
  const pieces = Array.from({ length: pieceCount }, (_, at) => bytes.readBigUInt64LE(HEADER_BYTES + at * 8));
  const runs: Run[] = [];
  let end = 0;
  for (let at = runsAt; at < crcAt; at += 6) {
    const run = decodeRun(bytes, at, pieces);
    if (run.count === 0 || run.start < end) throw corrupt('its runs overlap or are empty');
    end = run.start + run.count;
    runs.push(run);
  }
  if (end > blocksPerWindow) throw corrupt('its runs reach over the end of the window');
  return { ownSlot: flags & OWN_FLAG ? pieces[0]! : null, runs };
}

function decodeRun(bytes: Buffer, at: number, pieces: bigint[]): Run {
  const piece = bytes.readUInt16LE(at + 4);
  if (piece !== ZERO_PIECE && piece >= pieces.length) throw corrupt('a run names a piece it does not have');
  return {
    start: bytes.readUInt16LE(at),
    count: bytes.readUInt16LE(at + 2),
    slot: piece === ZERO_PIECE ? null : pieces[piece]!,
  };
}

function corrupt(what: string): CellblockError {
  return new CellblockError('record-corrupt', `A stored window record is damaged: ${what}.`, {
    hint: 'Run `cellblock store check` to see what is affected, and restore it from a copy.',
  });
}
