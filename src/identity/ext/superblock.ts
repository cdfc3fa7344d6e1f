// The superblock of ext2, ext3 and ext4: 1 KiB at 1024, little-endian. Offsets are those of the kernel's Documentation/filesystems/ext4.
// Invariant: a Superblock that was read here has a true checksum (where the format has one) and a geometry that stays on the disk, so
// block and group numbers made from it need no further check.

import { crc32c } from '../../base/crc32c.js';
import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';
import {
  COMPAT,
  EXT3_INCOMPAT,
  EXT3_RO_COMPAT,
  INCOMPAT,
  KNOWN_COMPAT,
  KNOWN_INCOMPAT,
  KNOWN_RO_COMPAT,
  RO_COMPAT,
} from './features.js';

export const SUPERBLOCK_AT = 1024n;
export const SUPERBLOCK_BYTES = 1024;

const MAGIC = 0xef53;
const AT = {
  inodes: 0x0,
  blocks: 0x4,
  freeBlocks: 0xc,
  freeInodes: 0x10,
  firstDataBlock: 0x14,
  logBlockSize: 0x18,
  logClusterSize: 0x1c,
  blocksPerGroup: 0x20,
  inodesPerGroup: 0x28,
  magic: 0x38,
  state: 0x3a,
  revision: 0x4c,
  firstInode: 0x54,
  inodeSize: 0x58,
  compat: 0x5c,
  incompat: 0x60,
  roCompat: 0x64,
  uuid: 0x68,
  label: 0x78,
  reservedDescriptorBlocks: 0xce,
  journalUuid: 0xd0,
  journalInode: 0xe0,
  journalDevice: 0xe4,
  hashSeed: 0xec,
  descriptorSize: 0xfe,
  firstMetaBg: 0x104,
  blocksHigh: 0x150,
  freeBlocksHigh: 0x158,
  hashFlags: 0x160,
  checksumType: 0x175,
  errors: 0x194,
  errorsEnd: 0x200,
  backupGroups: 0x24c,
  checksumSeed: 0x270,
  orphanFileInode: 0x280,
  checksum: 0x3fc,
} as const;
export const LABEL_BYTES = 16;
const ERROR_STATE = 0x2;
const CLEAN_STATE = 0x1;

/** CRC-32C as ext4 and jbd2 use it: begun with the seed as it is, and not inverted at the end. */
export function rawCrc32c(seed: number, bytes: Uint8Array, start = 0, end = bytes.length): number {
  return ~crc32c(bytes, start, end, ~seed >>> 0) >>> 0;
}

/** The bytes of a superblock and what they mean. Changes are made in `raw`, and are complete after `seal`. */
export class Superblock {
  readonly raw: Buffer;

  constructor(raw: Buffer) {
    this.raw = raw;
  }

  get isMarked(): boolean {
    return this.raw.readUInt16LE(AT.magic) === MAGIC;
  }

  hasCompat(bit: number): boolean {
    return (this.raw.readUInt32LE(AT.compat) & bit) !== 0;
  }

  hasIncompat(bit: number): boolean {
    return (this.raw.readUInt32LE(AT.incompat) & bit) !== 0;
  }

  hasRoCompat(bit: number): boolean {
    return (this.raw.readUInt32LE(AT.roCompat) & bit) !== 0;
  }

  /** Bits of no feature that is known here. */
  get unknownFeatures(): { compat: number; incompat: number; roCompat: number } {
    return {
      compat: (this.raw.readUInt32LE(AT.compat) & ~KNOWN_COMPAT) >>> 0,
      incompat: (this.raw.readUInt32LE(AT.incompat) & ~KNOWN_INCOMPAT) >>> 0,
      roCompat: (this.raw.readUInt32LE(AT.roCompat) & ~KNOWN_RO_COMPAT) >>> 0,
    };
  }

  get hasChecksums(): boolean {
    return this.hasRoCompat(RO_COMPAT.metadataChecksum);
  }

  /** uninit_bg without metadata_csum: only the group descriptors have checksums, made with the UUID. */
  get hasOldGroupChecksums(): boolean {
    return this.hasRoCompat(RO_COMPAT.groupChecksum) && !this.hasChecksums;
  }

  get needsRecovery(): boolean {
    return this.hasIncompat(INCOMPAT.recover);
  }

  get isJournalDevice(): boolean {
    return this.hasIncompat(INCOMPAT.journalDevice);
  }

  get hasExternalJournal(): boolean {
    const named = this.raw.subarray(AT.journalUuid, AT.journalUuid + 16).some((byte) => byte !== 0);
    return this.hasCompat(COMPAT.hasJournal) && (named || this.raw.readUInt32LE(AT.journalDevice) !== 0);
  }

  /** As blkid tells them apart: by features alone. */
  get kind(): 'ext2' | 'ext3' | 'ext4' | 'jbd' {
    if (this.isJournalDevice) return 'jbd';
    const beyond = this.hasIncompat(~EXT3_INCOMPAT) || this.hasRoCompat(~EXT3_RO_COMPAT);
    if (beyond) return 'ext4';
    return this.hasCompat(COMPAT.hasJournal) ? 'ext3' : 'ext2';
  }

  get uuid(): Buffer {
    return this.raw.subarray(AT.uuid, AT.uuid + 16);
  }

  /** Up to its first zero byte. */
  get label(): Buffer {
    const field = this.raw.subarray(AT.label, AT.label + LABEL_BYTES);
    const end = field.indexOf(0);
    return end < 0 ? field : field.subarray(0, end);
  }

  setLabel(label: Uint8Array): void {
    this.raw.fill(0, AT.label, AT.label + LABEL_BYTES);
    this.raw.set(label, AT.label);
  }

  /** What every checksum of metadata begins with. */
  get checksumSeed(): number {
    if (this.hasIncompat(INCOMPAT.checksumSeed)) return this.raw.readUInt32LE(AT.checksumSeed);
    return rawCrc32c(0xffffffff, this.uuid);
  }

  /** From now on the seed is written down, and no longer follows the UUID. */
  pinChecksumSeed(seed: number): void {
    this.raw.writeUInt32LE(seed, AT.checksumSeed);
    this.setIncompat(INCOMPAT.checksumSeed);
  }

  setIncompat(bit: number): void {
    this.raw.writeUInt32LE((this.raw.readUInt32LE(AT.incompat) | bit) >>> 0, AT.incompat);
  }

  clearIncompat(bit: number): void {
    this.raw.writeUInt32LE((this.raw.readUInt32LE(AT.incompat) & ~bit) >>> 0, AT.incompat);
  }

  /** Errors that were noted in this superblock are kept over a replay, which brings back an older one. */
  keepErrorsOf(before: Superblock): void {
    before.raw.copy(this.raw, AT.errors, AT.errors, AT.errorsEnd);
    const error = before.raw.readUInt16LE(AT.state) & ERROR_STATE;
    this.raw.writeUInt16LE(this.raw.readUInt16LE(AT.state) | error, AT.state);
  }

  /** The read-only feature, or blocks that several files share and nobody may write. */
  get isReadOnly(): boolean {
    return this.hasRoCompat(0x1000 | 0x4000);
  }

  /** Unmounted in order, and without noted errors. */
  get isClean(): boolean {
    const state = this.raw.readUInt16LE(AT.state);
    return (state & (CLEAN_STATE | ERROR_STATE)) === CLEAN_STATE && !this.needsRecovery;
  }

  get checksum(): number {
    return rawCrc32c(0xffffffff, this.raw, 0, AT.checksum);
  }

  get hasTrueChecksum(): boolean {
    if (!this.hasChecksums) return true;
    return this.raw[AT.checksumType] === 1 && this.raw.readUInt32LE(AT.checksum) === this.checksum;
  }

  seal(): void {
    if (this.hasChecksums) this.raw.writeUInt32LE(this.checksum, AT.checksum);
  }

  clearRoCompat(bit: number): void {
    this.raw.writeUInt32LE((this.raw.readUInt32LE(AT.roCompat) & ~bit) >>> 0, AT.roCompat);
  }

  get blockBytes(): number {
    return 1024 << this.raw.readUInt32LE(AT.logBlockSize);
  }

  get blocks(): number {
    return this.#wide(AT.blocks, AT.blocksHigh);
  }

  get freeBlocks(): number {
    return this.#wide(AT.freeBlocks, AT.freeBlocksHigh);
  }

  /** Throws `identity-damaged`: more were taken than it said to be free, or freed than there are. */
  set freeBlocks(blocks: number) {
    if (blocks < 0 || blocks > this.blocks)
      throw damaged('the count of free blocks in the superblock of the ext file system is wrong');
    this.raw.writeUInt32LE(blocks % 2 ** 32, AT.freeBlocks);
    if (this.hasIncompat(INCOMPAT.bits64))
      this.raw.writeUInt32LE(Math.floor(blocks / 2 ** 32), AT.freeBlocksHigh);
  }

  #wide(low: number, high: number): number {
    const upper = this.hasIncompat(INCOMPAT.bits64) ? this.raw.readUInt32LE(high) : 0;
    return upper * 2 ** 32 + this.raw.readUInt32LE(low);
  }

  get freeInodes(): number {
    return this.raw.readUInt32LE(AT.freeInodes);
  }

  /** Throws `identity-damaged`. */
  set freeInodes(inodes: number) {
    if (inodes < 0 || inodes > 0xffffffff)
      throw damaged('the count of free inodes in the superblock of the ext file system is wrong');
    this.raw.writeUInt32LE(inodes, AT.freeInodes);
  }

  get inodes(): number {
    return this.raw.readUInt32LE(AT.inodes);
  }

  get firstDataBlock(): number {
    return this.raw.readUInt32LE(AT.firstDataBlock);
  }

  get blocksPerGroup(): number {
    return this.raw.readUInt32LE(AT.blocksPerGroup);
  }

  get inodesPerGroup(): number {
    return this.raw.readUInt32LE(AT.inodesPerGroup);
  }

  get blocksPerCluster(): number {
    if (!this.hasRoCompat(RO_COMPAT.bigAlloc)) return 1;
    return 2 ** (this.raw.readUInt32LE(AT.logClusterSize) - this.raw.readUInt32LE(AT.logBlockSize));
  }

  get groups(): number {
    return Math.ceil((this.blocks - this.firstDataBlock) / this.blocksPerGroup);
  }

  get isRevision0(): boolean {
    return this.raw.readUInt32LE(AT.revision) === 0;
  }

  get inodeBytes(): number {
    return this.isRevision0 ? 128 : this.raw.readUInt16LE(AT.inodeSize);
  }

  /** The first inode that is not reserved. */
  get firstInode(): number {
    return this.isRevision0 ? 11 : this.raw.readUInt32LE(AT.firstInode);
  }

  get descriptorBytes(): number {
    return this.hasIncompat(INCOMPAT.bits64) ? this.raw.readUInt16LE(AT.descriptorSize) : 32;
  }

  /** Number of descriptor blocks that stand behind the superblock although meta_bg is on; all of them when it is off. */
  get firstMetaBg(): number {
    return this.hasIncompat(INCOMPAT.metaBg) ? this.raw.readUInt32LE(AT.firstMetaBg) : Infinity;
  }

  get reservedDescriptorBlocks(): number {
    return this.raw.readUInt16LE(AT.reservedDescriptorBlocks);
  }

  get journalInode(): number {
    return this.raw.readUInt32LE(AT.journalInode);
  }

  get orphanFileInode(): number {
    return this.raw.readUInt32LE(AT.orphanFileInode);
  }

  /** The two groups with a backup superblock under sparse_super2. */
  get backupGroups(): [number, number] {
    return [this.raw.readUInt32LE(AT.backupGroups), this.raw.readUInt32LE(AT.backupGroups + 4)];
  }

  get hashSeed(): Buffer {
    return this.raw.subarray(AT.hashSeed, AT.hashSeed + 16);
  }

  /** Names are hashed as signed characters (x86) or not. */
  get hashesUnsigned(): boolean {
    return (this.raw.readUInt32LE(AT.hashFlags) & 2) !== 0;
  }

  blockAt(block: number): bigint {
    return BigInt(block) * BigInt(this.blockBytes);
  }
}

/** Null: nothing here is marked as a file system of this family. Throws `identity-damaged`. */
export function* readSuperblock(bytes: bigint): Reading<Superblock | null> {
  if (bytes < SUPERBLOCK_AT + BigInt(SUPERBLOCK_BYTES)) return null;
  const superblock = new Superblock(Buffer.from(yield* readAt(SUPERBLOCK_AT, SUPERBLOCK_BYTES)));
  if (!superblock.isMarked) return null;
  if (!superblock.hasTrueChecksum) throw damaged('the checksum of the ext4 superblock at 1024 is wrong');
  const wrong = wrongSizes(superblock) ?? (superblock.isJournalDevice ? null : wrongGroups(superblock));
  if (wrong !== null) throw damaged(`the ext superblock at 1024 has ${wrong}`);
  if (superblock.blockAt(superblock.blocks) > bytes)
    throw damaged(
      `the ext superblock at 1024 says ${superblock.blocks} blocks of ${superblock.blockBytes} bytes, which is more than the disk has`,
    );
  return superblock;
}

const isPowerOf2 = (number: number): boolean => number > 0 && (number & (number - 1)) === 0;

function wrongSizes(superblock: Superblock): string | null {
  const logBlockSize = superblock.raw.readUInt32LE(AT.logBlockSize);
  if (logBlockSize > 6) return `a block size of 2^${logBlockSize} KiB`;
  if (superblock.blocks === 0 || superblock.blocks >= 2 ** 48) return `${superblock.blocks} blocks`;
  const cluster = superblock.blocksPerCluster;
  if (cluster < 1 || cluster > 2 ** 20) return `clusters of ${cluster} blocks`;
  return null;
}

function wrongGroups(superblock: Superblock): string | null {
  const { blockBytes, blocksPerGroup, inodesPerGroup, inodeBytes, descriptorBytes } = superblock;
  const first = blockBytes === 1024 && superblock.blocksPerCluster === 1 ? 1 : 0;
  if (superblock.firstDataBlock !== first || superblock.blocks <= first)
    return `its first data block at ${superblock.firstDataBlock}`;
  if (blocksPerGroup === 0 || blocksPerGroup > 8 * blockBytes * superblock.blocksPerCluster)
    return `${blocksPerGroup} blocks in a group`;
  if (inodesPerGroup === 0 || inodesPerGroup > 8 * blockBytes) return `${inodesPerGroup} inodes in a group`;
  if (!isPowerOf2(inodeBytes) || inodeBytes < 128 || inodeBytes > blockBytes)
    return `inodes of ${inodeBytes} bytes`;
  const leastDescriptor = superblock.hasIncompat(INCOMPAT.bits64) ? 64 : 32;
  if (!isPowerOf2(descriptorBytes) || descriptorBytes < leastDescriptor || descriptorBytes > 1024)
    return `group descriptors of ${descriptorBytes} bytes`;
  if (superblock.groups * inodesPerGroup !== superblock.inodes)
    return `${superblock.inodes} inodes in ${superblock.groups} groups of ${inodesPerGroup}`;
  return null;
}
