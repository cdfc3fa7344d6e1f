// One copy of a GPT: a header of one sector and an array of entries, each with a CRC. There are two, at the start of the disk and at its end.
// Invariant: a copy that was read here lies on the disk, away from its own header, and both of its checksums are right.

import { crc32 } from '../base/crc32.js';
import { type Reading, readAt } from './steps.js';

const MAGIC = 'EFI PART';
export const MIN_HEADER_BYTES = 92;
const MIN_ENTRY_BYTES = 128;
const MAX_ENTRY_BYTES = 4096;
/** 8192 partitions; 128 are usual. */
const MAX_ENTRIES_BYTES = 1 << 20;
export const PRIMARY_LBA = 1n;

/** Where fields are in the header. */
export const HEADER = {
  headerBytes: 0x0c,
  headerCrc: 0x10,
  lba: 0x18,
  alternate: 0x20,
  firstUsable: 0x28,
  lastUsable: 0x30,
  guid: 0x38,
  entriesLba: 0x48,
  entryCount: 0x50,
  entryBytes: 0x54,
  entriesCrc: 0x58,
} as const;

/** A disk counted in logical sectors. */
export interface Sectors {
  readonly bytes: bigint;
  readonly sectorBytes: number;
}

export interface GptCopy {
  /** The whole sector. */
  readonly header: Buffer;
  readonly entries: Buffer;
  readonly lba: bigint;
  readonly alternate: bigint;
  readonly firstUsable: bigint;
  readonly lastUsable: bigint;
  readonly entriesLba: bigint;
  readonly entryBytes: number;
  readonly headerBytes: number;
}

/** A copy that cannot be believed: why, as part of a sentence; `signed` when there is something that calls itself one. */
export interface BadCopy {
  readonly problem: string;
  readonly signed: boolean;
}

export function isBad(copy: GptCopy | BadCopy): copy is BadCopy {
  return 'problem' in copy;
}

export function lastLba({ bytes, sectorBytes }: Sectors): bigint {
  return bytes / BigInt(sectorBytes) - 1n;
}

/** How many sectors the entries take. */
export function entriesSectors(entries: Buffer, sectorBytes: number): bigint {
  return BigInt(Math.ceil(entries.length / sectorBytes));
}

/** The copy whose header is at this sector. */
export function* readCopy(disk: Sectors, lba: bigint): Reading<GptCopy | BadCopy> {
  if (lba < PRIMARY_LBA || lba > lastLba(disk)) return { problem: 'does not lie on the disk', signed: false };
  const { sectorBytes } = disk;
  const header = yield* readAt(lba * BigInt(sectorBytes), sectorBytes);
  if (header.toString('latin1', 0, 8) !== MAGIC) return { problem: 'has no signature', signed: false };
  const problem = headerProblem(header, lba);
  if (problem !== null) return { problem, signed: true };
  const bytes = header.readUInt32LE(HEADER.entryCount) * header.readUInt32LE(HEADER.entryBytes);
  const copy = { ...fieldsOf(header), header, entries: Buffer.alloc(bytes) };
  const misplaced = placeProblem(copy, disk);
  if (misplaced !== null) return { problem: misplaced, signed: true };
  const entries = yield* readAt(copy.entriesLba * BigInt(sectorBytes), bytes);
  if (crc32(entries) !== header.readUInt32LE(HEADER.entriesCrc))
    return { problem: 'has a wrong checksum of its entries', signed: true };
  return { ...copy, entries };
}

function fieldsOf(header: Buffer): Omit<GptCopy, 'header' | 'entries'> {
  return {
    lba: header.readBigUInt64LE(HEADER.lba),
    alternate: header.readBigUInt64LE(HEADER.alternate),
    firstUsable: header.readBigUInt64LE(HEADER.firstUsable),
    lastUsable: header.readBigUInt64LE(HEADER.lastUsable),
    entriesLba: header.readBigUInt64LE(HEADER.entriesLba),
    entryBytes: header.readUInt32LE(HEADER.entryBytes),
    headerBytes: header.readUInt32LE(HEADER.headerBytes),
  };
}

function headerProblem(header: Buffer, lba: bigint): string | null {
  const headerBytes = header.readUInt32LE(HEADER.headerBytes);
  if (headerBytes < MIN_HEADER_BYTES || headerBytes > header.length)
    return 'has a header of an impossible length';
  if (headerCrc(header, headerBytes) !== header.readUInt32LE(HEADER.headerCrc))
    return 'has a wrong checksum of its header';
  if (header.readBigUInt64LE(HEADER.lba) !== lba) return 'was written for another place';
  const entryBytes = header.readUInt32LE(HEADER.entryBytes);
  if (entryBytes < MIN_ENTRY_BYTES || entryBytes > MAX_ENTRY_BYTES || entryBytes % 8 !== 0)
    return 'has entries of an impossible length';
  const count = header.readUInt32LE(HEADER.entryCount);
  if (count === 0 || count * entryBytes > MAX_ENTRIES_BYTES) return 'has an impossible number of entries';
  return null;
}

/** What restore writes must not lie on anything else. */
function placeProblem(copy: Omit<GptCopy, 'problem'>, disk: Sectors): string | null {
  const { lba, firstUsable, lastUsable, entriesLba } = copy;
  const end = entriesLba + entriesSectors(copy.entries, disk.sectorBytes);
  if (firstUsable > lastUsable) return 'has no usable sectors';
  if (end > lastLba(disk) + 1n) return 'has entries that lead outside the disk';
  const fits =
    lba === PRIMARY_LBA ? entriesLba > lba && end <= firstUsable : entriesLba > lastUsable && end <= lba;
  return fits ? null : 'has entries that lie on something else';
}

/** With the field of the checksum itself taken as zero. */
function headerCrc(header: Buffer, headerBytes: number): number {
  const copy = Buffer.from(header.subarray(0, headerBytes));
  copy.writeUInt32LE(0, HEADER.headerCrc);
  return crc32(copy);
}

export interface HeaderChange {
  readonly lba: bigint;
  readonly alternate: bigint;
  readonly lastUsable: bigint;
  readonly entriesLba: bigint;
  readonly guid: Buffer;
  readonly entries: Buffer;
}

/** The header of `copy` with these fields, and its checksums. */
export function changedHeader(copy: GptCopy, change: HeaderChange): Buffer {
  const header = Buffer.from(copy.header);
  header.writeBigUInt64LE(change.lba, HEADER.lba);
  header.writeBigUInt64LE(change.alternate, HEADER.alternate);
  header.writeBigUInt64LE(change.lastUsable, HEADER.lastUsable);
  header.writeBigUInt64LE(change.entriesLba, HEADER.entriesLba);
  change.guid.copy(header, HEADER.guid);
  header.writeUInt32LE(crc32(change.entries), HEADER.entriesCrc);
  header.writeUInt32LE(headerCrc(header, copy.headerBytes), HEADER.headerCrc);
  return header;
}
