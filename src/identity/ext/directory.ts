// Directories: names in blocks, in blocks under an index of hashes (which are read one after the other like the others), or inside
// the inode.
// Invariant: an entry that is handed out lies inside its block, and a block with a checksum has the right one.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';
import { type Run, runsOf } from './block-map.js';
import { INLINE_BYTES, inlineAttribute } from './content.js';
import { INCOMPAT } from './features.js';
import { INODE_FLAG, type Inode } from './inode.js';
import { rawCrc32c, type Superblock } from './superblock.js';

const HEADER_BYTES = 8;
const TAIL_BYTES = 12;
const TAIL_TYPE = 0xde;

export interface Entry {
  readonly inode: number;
  readonly name: string;
  /** Where it begins in its block, its length with the room behind it, and how much of that it needs. */
  readonly at: number;
  readonly bytes: number;
  readonly used: number;
}

/** A block of a directory with the place it came from. */
export interface DirectoryBlock {
  readonly at: bigint;
  /** Number in the directory. */
  readonly index: number;
  readonly data: Buffer;
}

export const entryBytes = (nameBytes: number): number => (HEADER_BYTES + nameBytes + 3) & ~3;

/** All entries with an inode, and places without one (0). Throws `identity-damaged`. */
export function entriesOf(superblock: Superblock, directory: Inode, data: Buffer): Entry[] {
  const found: Entry[] = [];
  for (let at = 0; at + HEADER_BYTES <= data.length; ) {
    const bytes = lengthAt(superblock, data, at);
    const nameBytes = data[at + 6]!;
    const inode = data.readUInt32LE(at);
    if (
      bytes < HEADER_BYTES ||
      bytes % 4 !== 0 ||
      at + bytes > data.length ||
      (inode && entryBytes(nameBytes) > bytes)
    )
      throw damaged(`a name in ext directory ${directory.number} leads outside of its block`);
    const name = inode ? data.toString('utf8', at + HEADER_BYTES, at + HEADER_BYTES + nameBytes) : '';
    found.push({ inode, name, at, bytes, used: inode ? entryBytes(nameBytes) : 0 });
    at += bytes;
  }
  return found;
}

/** Blocks of 64 KiB have lengths that do not fit in 16 bits. */
function lengthAt(superblock: Superblock, data: Buffer, at: number): number {
  const stored = data.readUInt16LE(at + 4);
  if (superblock.blockBytes < 65536) return stored;
  if (stored === 65535 || stored === 0) return superblock.blockBytes;
  return (stored & 65532) | ((stored & 3) << 16);
}

/** The blocks of a directory, one after the other. Throws `identity-damaged`. */
export function* eachBlock<T>(
  superblock: Superblock,
  directory: Inode,
  visit: (block: DirectoryBlock) => T | null,
): Reading<T | null> {
  for (const run of yield* runsOf(superblock, directory)) {
    const blocks = Math.min(run.blocks, Math.ceil(directory.size / superblock.blockBytes) - run.first);
    for (let at = 0; at < blocks; at++) {
      const found = visit(yield* readBlock(superblock, directory, run, at));
      if (found !== null) return found;
    }
  }
  return null;
}

function* readBlock(
  superblock: Superblock,
  directory: Inode,
  run: Run,
  within: number,
): Reading<DirectoryBlock> {
  const at = superblock.blockAt(run.at + within);
  const data = Buffer.from(yield* readAt(at, superblock.blockBytes));
  if (
    hasTail(superblock, data) &&
    data.readUInt32LE(data.length - 4) !== tailSum(superblock, directory, data)
  )
    throw damaged(`a block of ext4 directory ${directory.number} has a wrong checksum`);
  return { at, index: run.first + within, data };
}

/** Blocks of names end in an entry that holds their checksum; blocks of the index do not. */
export function hasTail(superblock: Superblock, data: Buffer): boolean {
  const at = data.length - TAIL_BYTES;
  return (
    superblock.hasChecksums &&
    data.readUInt32LE(at) === 0 &&
    data.readUInt16LE(at + 4) === TAIL_BYTES &&
    data[at + 6] === 0 &&
    data[at + 7] === TAIL_TYPE
  );
}

function tailSum(superblock: Superblock, directory: Inode, data: Buffer): number {
  return rawCrc32c(directory.seedOf(superblock), data, 0, data.length - TAIL_BYTES);
}

export function sealTail(superblock: Superblock, directory: Inode, data: Buffer): void {
  if (hasTail(superblock, data)) data.writeUInt32LE(tailSum(superblock, directory, data), data.length - 4);
}

/** The pieces of a directory inside its inode: behind the number of the parent, and in an attribute. */
function inlinePieces(directory: Inode): Buffer[] {
  const rest = inlineAttribute(directory);
  return [directory.blockArea.subarray(4, INLINE_BYTES), ...(rest ? [rest.value] : [])];
}

/** Visits all names until one is found. Throws `identity-damaged`. */
export function* eachEntry<T>(
  superblock: Superblock,
  directory: Inode,
  visit: (entry: Entry) => T | null,
): Reading<T | null> {
  const visitAll = (data: Buffer): T | null => {
    for (const entry of entriesOf(superblock, directory, data)) {
      const found = entry.inode === 0 ? null : visit(entry);
      if (found !== null) return found;
    }
    return null;
  };
  if (!directory.has(INODE_FLAG.inlineData))
    return yield* eachBlock(superblock, directory, ({ data }) => visitAll(data));
  for (const piece of inlinePieces(directory)) {
    const found = visitAll(piece);
    if (found !== null) return found;
  }
  return null;
}

/** The inode a name stands for, or null. */
export function* lookUp(superblock: Superblock, directory: Inode, name: string): Reading<number | null> {
  if (directory.has(INODE_FLAG.inlineData)) {
    if (name === '.') return directory.number;
    if (name === '..') return directory.blockArea.readUInt32LE(0);
  }
  return yield* eachEntry(superblock, directory, (entry) => (entry.name === name ? entry.inode : null));
}

/** Puts a name into the room that entries of a block leave; false: there is not enough. */
export function insertEntry(
  superblock: Superblock,
  directory: Inode,
  data: Buffer,
  { inode, name }: { inode: number; name: string },
): boolean {
  const needed = entryBytes(Buffer.byteLength(name));
  const end = hasTail(superblock, data) ? data.length - TAIL_BYTES : data.length;
  const entry = entriesOf(superblock, directory, data).find(
    ({ at, bytes, used }) => at < end && bytes - used >= needed,
  );
  if (!entry) return false;
  const at = entry.at + entry.used;
  if (entry.used > 0) data.writeUInt16LE(entry.used, entry.at + 4);
  data.writeUInt32LE(inode, at);
  data.writeUInt16LE(entry.bytes - entry.used, at + 4);
  data[at + 6] = Buffer.byteLength(name);
  data[at + 7] = superblock.hasIncompat(INCOMPAT.fileType) ? 1 : 0;
  data.write(name, at + HEADER_BYTES);
  sealTail(superblock, directory, data);
  return true;
}
