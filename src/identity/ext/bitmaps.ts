// Which blocks and inodes of a group are taken: the bitmap, its checksum, and the counts in the descriptor and the superblock, which
// change together.
// Invariant: a bit is changed only when it was the other way before; a group whose bitmap was never written is not used.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import {
  firstBlockOf,
  freeBlocksOf,
  freeInodesOf,
  readDescriptor,
  wideField,
  writeDescriptor,
} from './groups.js';
import { rawCrc32c, type Superblock } from './superblock.js';

const FLAGS_AT = 0x12;
const INODE_UNINIT = 1;
const BLOCK_UNINIT = 2;
const UNUSED_INODES = { low: 0x1c, high: 0x32 } as const;

/** Which of the two bitmaps of a group, and where the descriptor has its fields. */
interface Sort {
  readonly name: string;
  readonly uninit: number;
  readonly map: { readonly low: number; readonly high: number };
  readonly free: { readonly low: number; readonly high: number };
  readonly sum: { readonly low: number; readonly high: number };
  readonly freeOf: (descriptor: Buffer) => number;
}

const BLOCKS: Sort = {
  name: 'blocks',
  uninit: BLOCK_UNINIT,
  map: { low: 0x0, high: 0x20 },
  free: { low: 0xc, high: 0x2c },
  sum: { low: 0x18, high: 0x38 },
  freeOf: freeBlocksOf,
};
const INODES: Sort = {
  name: 'inodes',
  uninit: INODE_UNINIT,
  map: { low: 0x4, high: 0x24 },
  free: { low: 0xe, high: 0x2e },
  sum: { low: 0x1a, high: 0x3a },
  freeOf: freeInodesOf,
};

/** A run of blocks of the disk. */
export interface Piece {
  readonly at: number;
  readonly blocks: number;
}

class Bitmap {
  readonly group: number;
  readonly descriptor: Buffer;
  readonly #superblock: Superblock;
  readonly #sort: Sort;
  readonly #at: bigint;
  readonly #bits: Buffer;

  private constructor(
    superblock: Superblock,
    sort: Sort,
    group: number,
    descriptor: Buffer,
    at: bigint,
    bits: Buffer,
  ) {
    this.#superblock = superblock;
    this.#sort = sort;
    this.group = group;
    this.descriptor = descriptor;
    this.#at = at;
    this.#bits = bits;
  }

  /** Null: the group has none free, or its bitmap was never written. Throws `identity-damaged`. */
  static *withFree(superblock: Superblock, sort: Sort, group: number): Reading<Bitmap | null> {
    const descriptor = yield* readDescriptor(superblock, group);
    const isUnset = (descriptor.readUInt16LE(FLAGS_AT) & sort.uninit) !== 0 && sums(superblock);
    if (isUnset || sort.freeOf(descriptor) === 0) return null;
    return yield* Bitmap.read(superblock, sort, group, descriptor);
  }

  static *read(superblock: Superblock, sort: Sort, group: number, descriptor: Buffer): Reading<Bitmap> {
    const block = wideField(superblock, descriptor, sort.map.low, sort.map.high);
    if (block <= superblock.firstDataBlock || block >= superblock.blocks)
      throw damaged(
        `the bitmap of ${sort.name} of ext block group ${group} is said to lie at block ${block}`,
      );
    const at = superblock.blockAt(block);
    const bits = Buffer.from(yield* readAt(at, superblock.blockBytes));
    const bitmap = new Bitmap(superblock, sort, group, descriptor, at, bits);
    if (!bitmap.#hasTrueSum())
      throw damaged(`the bitmap of ${sort.name} of ext4 block group ${group} has a wrong checksum`);
    return bitmap;
  }

  /** Bits that stand for something. */
  get length(): number {
    const { blocks, blocksPerGroup, inodesPerGroup } = this.#superblock;
    if (this.#sort === INODES) return inodesPerGroup;
    return Math.min(blocksPerGroup, blocks - firstBlockOf(this.#superblock, this.group));
  }

  isTaken(bit: number): boolean {
    return (this.#bits[bit >>> 3]! & (1 << (bit & 7))) !== 0;
  }

  /** The first so many free bits in a row at or behind `from`, or null. */
  freeRun(wanted: number, from: number): number | null {
    let found = 0;
    for (let bit = from; bit < this.length; bit++) {
      found = this.isTaken(bit) ? 0 : found + 1;
      if (found === wanted) return bit - wanted + 1;
    }
    return null;
  }

  change(first: number, count: number, to: 'taken' | 'free'): void {
    for (let bit = first; bit < first + count; bit++) {
      if (this.isTaken(bit) === (to === 'taken'))
        throw damaged(`of the ${this.#sort.name} of ext block group ${this.group}, ${bit} is ${to} already`);
      this.#bits[bit >>> 3]! ^= 1 << (bit & 7);
    }
    const free = this.#sort.freeOf(this.descriptor) + (to === 'free' ? count : -count);
    if (free < 0)
      throw damaged(`ext block group ${this.group} has fewer free ${this.#sort.name} than its bitmap says`);
    this.#setWide(this.#sort.free, free);
  }

  #setWide({ low, high }: { low: number; high: number }, value: number): void {
    this.descriptor.writeUInt16LE(value & 0xffff, low);
    if (this.descriptor.length >= 64) this.descriptor.writeUInt16LE(value >>> 16, high);
  }

  #sum(): number {
    const bits = this.#sort === INODES ? this.#superblock.inodesPerGroup : this.#superblock.blocksPerGroup;
    const crc = rawCrc32c(this.#superblock.checksumSeed, this.#bits, 0, bits >>> 3);
    return this.descriptor.length >= 64 ? crc : crc & 0xffff;
  }

  #hasTrueSum(): boolean {
    if (!this.#superblock.hasChecksums) return true;
    const { low, high } = this.#sort.sum;
    const upper = this.descriptor.length >= 64 ? this.descriptor.readUInt16LE(high) : 0;
    return upper * 2 ** 16 + this.descriptor.readUInt16LE(low) === this.#sum();
  }

  /** Inodes behind the last that was ever used need not be looked at by e2fsck. */
  raiseUsedInodes(index: number): void {
    if (!sums(this.#superblock)) return;
    const { low, high } = UNUSED_INODES;
    const upper = this.descriptor.length >= 64 ? this.descriptor.readUInt16LE(high) * 2 ** 16 : 0;
    const unused = Math.min(upper + this.descriptor.readUInt16LE(low), this.length - index - 1);
    this.#setWide(UNUSED_INODES, unused);
  }

  *write(): Writing<void> {
    if (this.#superblock.hasChecksums) this.#setWide(this.#sort.sum, this.#sum());
    yield* writeAt(this.#at, this.#bits);
    yield* writeDescriptor(this.#superblock, this.group, this.descriptor);
  }
}

/** Group descriptors have flags and counts of unused inodes. */
function sums(superblock: Superblock): boolean {
  return superblock.hasChecksums || superblock.hasOldGroupChecksums;
}

/** Groups from one on, round to the one before it. */
function* groupsFrom(superblock: Superblock, first: number): Generator<number> {
  for (let group = 0; group < superblock.groups; group++) yield (first + group) % superblock.groups;
}

/** So many free blocks in one piece, near a group, or null. Nothing is written. */
export function* findFreeBlocks(superblock: Superblock, blocks: number, near: number): Reading<Piece | null> {
  for (const group of groupsFrom(superblock, near)) {
    const bitmap = yield* Bitmap.withFree(superblock, BLOCKS, group);
    const bit = bitmap?.freeRun(blocks, 0) ?? null;
    if (bit !== null) return { at: firstBlockOf(superblock, group) + bit, blocks };
  }
  return null;
}

/** Marks blocks and counts them; the superblock is changed in memory only. */
export function* changeBlocks(superblock: Superblock, piece: Piece, to: 'taken' | 'free'): Writing<void> {
  let { at, blocks } = piece;
  while (blocks > 0) {
    const group = Math.floor((at - superblock.firstDataBlock) / superblock.blocksPerGroup);
    const bit = at - firstBlockOf(superblock, group);
    const count = Math.min(blocks, superblock.blocksPerGroup - bit);
    const bitmap = yield* Bitmap.read(superblock, BLOCKS, group, yield* readDescriptor(superblock, group));
    bitmap.change(bit, count, to);
    yield* bitmap.write();
    superblock.freeBlocks += to === 'free' ? count : -count;
    at += count;
    blocks -= count;
  }
}

/** A free inode near a group, or null. Nothing is written. */
export function* findFreeInode(superblock: Superblock, near: number): Reading<number | null> {
  for (const group of groupsFrom(superblock, near)) {
    const bitmap = yield* Bitmap.withFree(superblock, INODES, group);
    const bit = bitmap?.freeRun(1, group === 0 ? superblock.firstInode - 1 : 0) ?? null;
    if (bit !== null) return group * superblock.inodesPerGroup + bit + 1;
  }
  return null;
}

/** Marks an inode as taken; the superblock is changed in memory only. */
export function* takeInode(superblock: Superblock, inode: number): Writing<void> {
  const group = Math.floor((inode - 1) / superblock.inodesPerGroup);
  const index = (inode - 1) % superblock.inodesPerGroup;
  const bitmap = yield* Bitmap.read(superblock, INODES, group, yield* readDescriptor(superblock, group));
  bitmap.change(index, 1, 'taken');
  bitmap.raiseUsedInodes(index);
  yield* bitmap.write();
  superblock.freeInodes -= 1;
}
