// One inode: where it lies, its fields, its checksum.
// Invariant: an inode that was read has a true checksum (with metadata_csum), and its number is one of the file system.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { RO_COMPAT } from './features.js';
import { readDescriptor, wideField } from './groups.js';
import { rawCrc32c, type Superblock } from './superblock.js';

const AT = {
  mode: 0x0,
  size: 0x4,
  changed: 0xc,
  modified: 0x10,
  links: 0x1a,
  blocks: 0x1c,
  flags: 0x20,
  block: 0x28,
  generation: 0x64,
  sizeHigh: 0x6c,
  blocksHigh: 0x74,
  checksum: 0x7c,
  extraBytes: 0x80,
  checksumHigh: 0x82,
  changedExtra: 0x84,
  modifiedExtra: 0x88,
  accessed: 0x8,
  accessedExtra: 0x8c,
  created: 0x90,
  createdExtra: 0x94,
  uid: 0x2,
  gid: 0x18,
  uidHigh: 0x78,
  gidHigh: 0x7a,
} as const;
/** Fields behind the first 128 bytes that every new inode has, up to the project. */
const NEW_EXTRA_BYTES = 32;
/** Where the part behind the first 128 bytes begins, and the upper half of the checksum ends in it. */
const EXTRA = 128;
const CHECKSUM_HIGH_END = 4;

export const INODE_FLAG = {
  immutable: 0x10,
  append: 0x20,
  encrypted: 0x800,
  index: 0x1000,
  hugeFile: 0x40000,
  extents: 0x80000,
  verity: 0x100000,
  eaInode: 0x200000,
  inlineData: 0x10000000,
  caseFold: 0x40000000,
} as const;

const TYPE_MASK = 0xf000;
const TYPE = { directory: 0x4000, file: 0x8000, symlink: 0xa000 } as const;

/** Seconds since 1970 and nanoseconds. */
export interface InodeTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface NewInode {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly time: InodeTime;
  readonly hasExtents: boolean;
}

export class Inode {
  readonly number: number;
  readonly at: bigint;
  readonly raw: Buffer;

  constructor(number: number, at: bigint, raw: Buffer) {
    this.number = number;
    this.at = at;
    this.raw = raw;
  }

  get isDirectory(): boolean {
    return this.#type === TYPE.directory;
  }

  get isFile(): boolean {
    return this.#type === TYPE.file;
  }

  get isSymlink(): boolean {
    return this.#type === TYPE.symlink;
  }

  get #type(): number {
    return this.raw.readUInt16LE(AT.mode) & TYPE_MASK;
  }

  get links(): number {
    return this.raw.readUInt16LE(AT.links);
  }

  has(flag: number): boolean {
    return (this.raw.readUInt32LE(AT.flags) & flag) !== 0;
  }

  /** Bytes; behind 2^53 the number is not exact, and no such file is read. */
  get size(): number {
    return this.raw.readUInt32LE(AT.sizeHigh) * 2 ** 32 + this.raw.readUInt32LE(AT.size);
  }

  set size(bytes: number) {
    this.raw.writeUInt32LE(bytes % 2 ** 32, AT.size);
    this.raw.writeUInt32LE(Math.floor(bytes / 2 ** 32), AT.sizeHigh);
  }

  /** The count of blocks it uses, in units of 512 bytes or, with the huge_file flag, of blocks. */
  get usedUnits(): number {
    return this.raw.readUInt16LE(AT.blocksHigh) * 2 ** 32 + this.raw.readUInt32LE(AT.blocks);
  }

  set usedUnits(units: number) {
    this.raw.writeUInt32LE(units % 2 ** 32, AT.blocks);
    this.raw.writeUInt16LE(Math.floor(units / 2 ** 32), AT.blocksHigh);
  }

  get generation(): number {
    return this.raw.readUInt32LE(AT.generation);
  }

  /** The 60 bytes that hold the root of an extent tree, block numbers, or content. */
  get blockArea(): Buffer {
    return this.raw.subarray(AT.block, AT.block + 60);
  }

  /** Bytes behind the first 128 that are fields; what follows them are extended attributes. */
  get extraBytes(): number {
    return this.raw.length > EXTRA ? this.raw.readUInt16LE(AT.extraBytes) : 0;
  }

  /** Extended attributes that are stored in the inode itself. */
  get attributeArea(): Buffer {
    const from = EXTRA + this.extraBytes;
    return this.raw.subarray(Math.min(from, this.raw.length));
  }

  /** Content was changed at this time. */
  touch(time: InodeTime): void {
    this.#setTime(AT.changed, AT.changedExtra, time);
    this.#setTime(AT.modified, AT.modifiedExtra, time);
  }

  /** A new regular file without content. */
  begin({ mode, uid = 0, gid = 0, time, hasExtents }: NewInode): void {
    this.raw.writeUInt16LE(TYPE.file | (mode & 0o7777), AT.mode);
    this.raw.writeUInt16LE(uid & 0xffff, AT.uid);
    this.raw.writeUInt16LE(uid >>> 16, AT.uidHigh);
    this.raw.writeUInt16LE(gid & 0xffff, AT.gid);
    this.raw.writeUInt16LE(gid >>> 16, AT.gidHigh);
    this.raw.writeUInt16LE(1, AT.links);
    if (hasExtents) this.#beginExtents();
    if (this.raw.length > EXTRA) this.raw.writeUInt16LE(NEW_EXTRA_BYTES, AT.extraBytes);
    this.touch(time);
    this.#setTime(AT.accessed, AT.accessedExtra, time);
    if (this.raw.length > EXTRA) this.#setTime(AT.created, AT.createdExtra, time);
  }

  #beginExtents(): void {
    this.raw.writeUInt32LE(INODE_FLAG.extents, AT.flags);
    this.blockArea.writeUInt16LE(0xf30a, 0);
    this.blockArea.writeUInt16LE(4, 4);
  }

  #setTime(at: number, extraAt: number, { seconds, nanoseconds }: InodeTime): void {
    this.raw.writeUInt32LE(seconds % 2 ** 32, at);
    if (this.extraBytes < extraAt + 4 - EXTRA) return;
    // Two more bits of the seconds, counted from the signed 32-bit value, and the nanoseconds.
    const signed = (seconds | 0) >= 0 ? seconds % 2 ** 32 : (seconds % 2 ** 32) - 2 ** 32;
    const epoch = ((seconds - signed) / 2 ** 32) & 3;
    this.raw.writeUInt32LE(((nanoseconds << 2) | epoch) >>> 0, extraAt);
  }

  /** What checksums of this inode, its directory blocks and its extent blocks begin with. */
  seedOf(superblock: Superblock): number {
    const start = Buffer.alloc(8);
    start.writeUInt32LE(this.number);
    start.writeUInt32LE(this.generation, 4);
    return rawCrc32c(superblock.checksumSeed, start);
  }

  #hasHighChecksum(): boolean {
    return this.extraBytes >= CHECKSUM_HIGH_END;
  }

  #checksum(superblock: Superblock): number {
    const copy = Buffer.from(this.raw);
    copy.writeUInt16LE(0, AT.checksum);
    if (this.#hasHighChecksum()) copy.writeUInt16LE(0, AT.checksumHigh);
    const crc = rawCrc32c(this.seedOf(superblock), copy);
    return this.#hasHighChecksum() ? crc : crc & 0xffff;
  }

  hasTrueChecksum(superblock: Superblock): boolean {
    if (!superblock.hasChecksums) return true;
    const high = this.#hasHighChecksum() ? this.raw.readUInt16LE(AT.checksumHigh) : 0;
    return high * 2 ** 16 + this.raw.readUInt16LE(AT.checksum) === this.#checksum(superblock);
  }

  seal(superblock: Superblock): void {
    if (!superblock.hasChecksums) return;
    const crc = this.#checksum(superblock);
    this.raw.writeUInt16LE(crc & 0xffff, AT.checksum);
    if (this.#hasHighChecksum()) this.raw.writeUInt16LE(crc >>> 16, AT.checksumHigh);
  }
}

/** Throws `identity-damaged`. */
export function* readInode(superblock: Superblock, number: number): Reading<Inode> {
  if (number < 1 || number > superblock.inodes) throw damaged(`there is no ext inode ${number}`);
  const at = yield* inodeAt(superblock, number);
  const inode = new Inode(number, at, Buffer.from(yield* readAt(at, superblock.inodeBytes)));
  if (inode.extraBytes > superblock.inodeBytes - EXTRA)
    throw damaged(`ext inode ${number} has fields of ${inode.extraBytes} bytes more than the first 128`);
  if (!inode.hasTrueChecksum(superblock)) throw damaged(`the checksum of ext4 inode ${number} is wrong`);
  return inode;
}

export function* writeInode(superblock: Superblock, inode: Inode): Writing<void> {
  inode.seal(superblock);
  yield* writeAt(inode.at, inode.raw);
}

function* inodeAt(superblock: Superblock, number: number): Reading<bigint> {
  const { inodesPerGroup, inodeBytes } = superblock;
  const group = Math.floor((number - 1) / inodesPerGroup);
  const table = inodeTable(superblock, yield* readDescriptor(superblock, group));
  return superblock.blockAt(table) + BigInt(((number - 1) % inodesPerGroup) * inodeBytes);
}

/** The first block of a group's inodes. Throws `identity-damaged`. */
export function inodeTable(superblock: Superblock, descriptor: Buffer): number {
  const table = wideField(superblock, descriptor, 0x8, 0x28);
  const blocks = Math.ceil((superblock.inodesPerGroup * superblock.inodeBytes) / superblock.blockBytes);
  if (table <= superblock.firstDataBlock || table + blocks > superblock.blocks)
    throw damaged(`a table of ext inodes is said to lie at block ${table}`);
  return table;
}

/** Blocks that this count of `usedUnits` stands for are this many for one block. */
export function unitsPerBlock(superblock: Superblock, inode: Inode): number {
  const inBlocks = superblock.hasRoCompat(RO_COMPAT.hugeFile) && inode.has(INODE_FLAG.hugeFile);
  return inBlocks ? 1 : superblock.blockBytes / 512;
}
