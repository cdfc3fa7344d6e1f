// Block groups: where their descriptors and the backup superblocks lie, and the checksum of a descriptor.
// Invariant: every block number that is answered for a group of the superblock lies on the disk.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { COMPAT, RO_COMPAT } from './features.js';
import { rawCrc32c, type Superblock } from './superblock.js';

const CHECKSUM_AT = 0x1e;
/** Without sparse_super every group has a copy of the superblock: more than this are not followed. */
const MAX_BACKUPS = 64;

export function firstBlockOf(superblock: Superblock, group: number): number {
  return superblock.firstDataBlock + group * superblock.blocksPerGroup;
}

function isPowerOf(base: number, number: number): boolean {
  let power = base;
  while (power < number) power *= base;
  return power === number;
}

export function hasSuperblock(superblock: Superblock, group: number): boolean {
  if (group === 0) return true;
  if (superblock.hasCompat(COMPAT.sparseSuper2)) return superblock.backupGroups.includes(group);
  if (group === 1 || !superblock.hasRoCompat(RO_COMPAT.sparseSuper)) return true;
  return isPowerOf(3, group) || isPowerOf(5, group) || isPowerOf(7, group);
}

/** Groups other than the first that have a copy of the superblock, from the lowest; not all if there are very many. */
export function backupGroups(superblock: Superblock): number[] {
  const groups = superblock.groups;
  let found: number[];
  if (superblock.hasCompat(COMPAT.sparseSuper2)) found = superblock.backupGroups.filter((group) => group > 0);
  else if (superblock.hasRoCompat(RO_COMPAT.sparseSuper)) found = sparseGroups(groups);
  else found = Array.from({ length: MAX_BACKUPS }, (_, at) => at + 1);
  return [...new Set(found)].filter((group) => group < groups).slice(0, MAX_BACKUPS);
}

function sparseGroups(groups: number): number[] {
  const found = [1];
  for (const base of [3, 5, 7]) for (let group = base; group < groups; group *= base) found.push(group);
  return found.sort((a, b) => a - b);
}

/** Where a group's descriptor is. Blocks of descriptors follow the superblock, or with meta_bg lie in the groups they describe. */
export function descriptorAt(superblock: Superblock, group: number): bigint {
  const { blockBytes, descriptorBytes } = superblock;
  const perBlock = blockBytes / descriptorBytes;
  const index = Math.floor(group / perBlock);
  const within = BigInt((group % perBlock) * descriptorBytes);
  return superblock.blockAt(descriptorBlock(superblock, index, index * perBlock)) + within;
}

function descriptorBlock(superblock: Superblock, index: number, firstGroup: number): number {
  const first = superblock.blockBytes === 1024 ? 2 : 1;
  if (index < superblock.firstMetaBg) return first + index;
  if (firstGroup === 0) return first;
  return firstBlockOf(superblock, firstGroup) + (hasSuperblock(superblock, firstGroup) ? 1 : 0);
}

/** Number of blocks behind a superblock that hold descriptors or are kept for more of them. */
export function descriptorBlocksBehindSuperblock(superblock: Superblock): number {
  const perBlock = superblock.blockBytes / superblock.descriptorBytes;
  const all = Math.ceil(superblock.groups / perBlock);
  if (all > superblock.firstMetaBg) return superblock.firstMetaBg;
  return all + superblock.reservedDescriptorBlocks;
}

const CRC16 = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  return crc;
});

function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC16[(crc ^ byte) & 0xff]!;
  return crc;
}

function little32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

/** The checksum of uninit_bg, which begins with the UUID. */
export function oldChecksum(uuid: Uint8Array, group: number, descriptor: Uint8Array): number {
  const begun = crc16(crc16(0xffff, uuid), little32(group));
  return crc16(crc16(begun, descriptor.subarray(0, CHECKSUM_AT)), descriptor.subarray(CHECKSUM_AT + 2));
}

/** What belongs in the descriptor, or null where descriptors have no checksum. */
function wantedChecksum(superblock: Superblock, group: number, descriptor: Buffer): number | null {
  if (superblock.hasOldGroupChecksums) return oldChecksum(superblock.uuid, group, descriptor);
  if (!superblock.hasChecksums) return null;
  let crc = rawCrc32c(superblock.checksumSeed, little32(group));
  crc = rawCrc32c(crc, descriptor, 0, CHECKSUM_AT);
  crc = rawCrc32c(crc, Buffer.alloc(2));
  return rawCrc32c(crc, descriptor, CHECKSUM_AT + 2) & 0xffff;
}

/** Throws `identity-damaged`. */
export function* readDescriptor(superblock: Superblock, group: number): Reading<Buffer> {
  const { descriptorBytes } = superblock;
  const descriptor = Buffer.from(yield* readAt(descriptorAt(superblock, group), descriptorBytes));
  const wanted = wantedChecksum(superblock, group, descriptor);
  if (wanted !== null && wanted !== descriptor.readUInt16LE(CHECKSUM_AT))
    throw damaged(`the checksum of the descriptor of ext4 block group ${group} is wrong`);
  return descriptor;
}

export function* writeDescriptor(superblock: Superblock, group: number, descriptor: Buffer): Writing<void> {
  const wanted = wantedChecksum(superblock, group, descriptor);
  if (wanted !== null) descriptor.writeUInt16LE(wanted, CHECKSUM_AT);
  yield* writeAt(descriptorAt(superblock, group), descriptor);
}

/** A field of a descriptor whose upper part is in the second half of a 64-byte one. */
export function wideField(superblock: Superblock, descriptor: Buffer, low: number, high: number): number {
  const upper = superblock.descriptorBytes >= 64 ? descriptor.readUInt32LE(high) : 0;
  return upper * 2 ** 32 + descriptor.readUInt32LE(low);
}

/** What all groups have free, which is true when what the superblock says may be late. Clusters count as their blocks. */
export function* countFree(superblock: Superblock): Reading<{ blocks: number; inodes: number }> {
  const { descriptorBytes, blocksPerCluster } = superblock;
  const free = { blocks: 0, inodes: 0 };
  for (const { first, groups } of blocksOfDescriptors(superblock)) {
    const block = yield* readAt(descriptorAt(superblock, first), groups * descriptorBytes);
    for (let at = 0; at < groups; at++) {
      const descriptor = block.subarray(at * descriptorBytes, (at + 1) * descriptorBytes);
      free.blocks += freeBlocksOf(descriptor) * blocksPerCluster;
      free.inodes += freeInodesOf(descriptor);
    }
  }
  return free;
}

const isWide = (descriptor: Buffer): boolean => descriptor.length >= 64;

/** In clusters, where there are some. */
export function freeBlocksOf(descriptor: Buffer): number {
  return descriptor.readUInt16LE(0xc) + (isWide(descriptor) ? descriptor.readUInt16LE(0x2c) * 2 ** 16 : 0);
}

export function freeInodesOf(descriptor: Buffer): number {
  return descriptor.readUInt16LE(0xe) + (isWide(descriptor) ? descriptor.readUInt16LE(0x2e) * 2 ** 16 : 0);
}

/** Groups whose descriptors lie one behind the other in one block. */
function* blocksOfDescriptors(superblock: Superblock): Generator<{ first: number; groups: number }> {
  const perBlock = superblock.blockBytes / superblock.descriptorBytes;
  for (let first = 0; first < superblock.groups; first += perBlock)
    yield { first, groups: Math.min(perBlock, superblock.groups - first) };
}

/** The first group whose old checksum does not fit, or null. */
export function* wrongOldChecksum(superblock: Superblock): Reading<number | null> {
  const { descriptorBytes, uuid } = superblock;
  for (const { first, groups } of blocksOfDescriptors(superblock)) {
    const block = yield* readAt(descriptorAt(superblock, first), groups * descriptorBytes);
    for (let at = 0; at < groups; at++) {
      const descriptor = block.subarray(at * descriptorBytes, (at + 1) * descriptorBytes);
      if (oldChecksum(uuid, first + at, descriptor) !== descriptor.readUInt16LE(CHECKSUM_AT))
        return first + at;
    }
  }
  return null;
}

/** Makes the old checksums of all groups anew, for the UUID that the superblock has now. */
export function* renewOldChecksums(superblock: Superblock): Writing<void> {
  const { descriptorBytes, uuid } = superblock;
  for (const { first, groups } of blocksOfDescriptors(superblock)) {
    const at = descriptorAt(superblock, first);
    const block = Buffer.from(yield* readAt(at, groups * descriptorBytes));
    for (let one = 0; one < groups; one++) {
      const descriptor = block.subarray(one * descriptorBytes, (one + 1) * descriptorBytes);
      descriptor.writeUInt16LE(oldChecksum(uuid, first + one, descriptor), CHECKSUM_AT);
    }
    yield* writeAt(at, block);
  }
}
