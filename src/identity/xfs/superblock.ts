// The superblock of XFS: where identity and geometry stand in it, and what makes one believable. Every allocation group starts with a
// copy in its first sector; the first one counts.
// Invariant: what `readSuperblock` returns has a right checksum (version 5) and a geometry that lies inside the disk.

import { crc32c } from '../../base/crc32c.js';
import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';

export const LABEL_BYTES = 12;
export const UUID_BYTES = 16;
/** Places of identity in a superblock, on the disk and in the copies the log holds. */
export const AT = { agCount: 88, uuid: 32, label: 108, incompat: 216, metaUuid: 248 } as const;
/** Says that metadata carries `sb_meta_uuid` and not `sb_uuid`. The field is big-endian, the bit in its last byte. */
export const META_UUID = 0x4;

const MAGIC = 0x58465342;
const SMALLEST_SECTOR = 512;
const CRC_AT = 224;
const KNOWN_RO_COMPAT = 0xf;
const METADIR = 0x100;
const KNOWN_INCOMPAT = 0x7ff;
const NEEDS_REPAIR = 0x10;
const LOG_VERSION_2 = 0x400;
const MOST_LOG_BYTES = 1n << 31n;

export interface Superblock {
  /** The whole first sector. */
  readonly sector: Buffer;
  readonly version: 4 | 5;
  readonly groups: number;
  readonly groupBytes: bigint;
  readonly uuid: Buffer;
  /** The UUID that metadata carries. */
  readonly metaUuid: Buffer;
  /** 12 bytes, padded with zeros. */
  readonly label: Buffer;
  /** Null: it lies on another device. */
  readonly log: { readonly at: bigint; readonly blocks: number; readonly version: 1 | 2 } | null;
  readonly realtime: boolean;
}

/** Null: the magic is absent. Throws `identity-damaged`. */
export function* readSuperblock(bytes: bigint): Reading<Superblock | null> {
  const start = yield* readAt(0n, SMALLEST_SECTOR);
  if (start.readUInt32BE(0) !== MAGIC) return null;
  const sectorBytes = start.readUInt16BE(102);
  if (!isPowerOfTwo(sectorBytes, 512, 32768))
    throw damaged(`the superblock of XFS has sectors of ${sectorBytes} bytes`);
  const sector = sectorBytes === SMALLEST_SECTOR ? start : yield* readAt(0n, sectorBytes);
  return parse(sector, bytes);
}

/** A copy at the start of another group; null when it cannot be believed. */
export function* readCopy(superblock: Superblock, group: number): Reading<Buffer | null> {
  const sector = yield* readAt(BigInt(group) * superblock.groupBytes, superblock.sector.length);
  const whole = sector.readUInt32BE(0) === MAGIC && (superblock.version === 4 || checksumIsRight(sector));
  return whole ? sector : null;
}

export function stampChecksum(sector: Buffer): void {
  sector.writeUInt32LE(checksum(sector), CRC_AT);
}

/** Why identity in such a file system is not touched, or null. */
export function featureRefusal(superblock: Superblock): string | null {
  if (superblock.version === 4) return null;
  const roCompat = superblock.sector.readUInt32BE(212);
  const incompat = superblock.sector.readUInt32BE(AT.incompat);
  if ((roCompat & ~KNOWN_RO_COMPAT) !== 0 || (incompat & ~KNOWN_INCOMPAT) !== 0)
    return `it has features that are not known here (ro_compat 0x${roCompat.toString(16)}, incompat 0x${incompat.toString(16)})`;
  if ((incompat & NEEDS_REPAIR) !== 0) return 'it is marked as in need of xfs_repair';
  if ((incompat & METADIR) !== 0 && superblock.realtime)
    return 'its realtime section has a superblock of its own, which carries the identity too';
  return null;
}

function parse(sector: Buffer, bytes: bigint): Superblock {
  const version = sector.readUInt16BE(100) & 0xf;
  if (version !== 4 && version !== 5) throw damaged(`the superblock of XFS has version ${version}`);
  if (version === 5 && !checksumIsRight(sector))
    throw damaged('the checksum of the XFS superblock at 0 is wrong');
  if (sector.readUInt8(126) !== 0) throw damaged('the XFS at 0 was not made to its end');
  const hasMetaUuid = version === 5 && (sector.readUInt32BE(AT.incompat) & META_UUID) !== 0;
  const uuid = sector.subarray(AT.uuid, AT.uuid + UUID_BYTES);
  return {
    sector,
    version,
    uuid,
    metaUuid: hasMetaUuid ? sector.subarray(AT.metaUuid, AT.metaUuid + UUID_BYTES) : uuid,
    label: sector.subarray(AT.label, AT.label + LABEL_BYTES),
    realtime: sector.readBigUInt64BE(16) !== 0n || sector.readBigUInt64BE(24) !== 0n,
    ...parseGeometry(sector, bytes),
  };
}

function parseGeometry(sector: Buffer, bytes: bigint): Pick<Superblock, 'groups' | 'groupBytes' | 'log'> {
  const blockBytes = sector.readUInt32BE(4);
  const blocks = sector.readBigUInt64BE(8);
  const groupBlocks = sector.readUInt32BE(84);
  const groups = sector.readUInt32BE(AT.agCount);
  if (
    !isPowerOfTwo(blockBytes, 512, 65536) ||
    sector.readUInt8(120) !== Math.log2(blockBytes) ||
    groupBlocks < 64
  )
    throw damaged(`the XFS at 0 has blocks of ${blockBytes} bytes and groups of ${groupBlocks} blocks`);
  if (
    blockBytes < sector.length ||
    groups === 0 ||
    BigInt(groups) !== ceilDivide(blocks, BigInt(groupBlocks))
  )
    throw damaged(`the XFS at 0 has ${blocks} blocks in ${groups} groups of ${groupBlocks}`);
  if (blocks * BigInt(blockBytes) > bytes)
    throw damaged(
      `the XFS at 0 has ${blocks} blocks of ${blockBytes} bytes, more than the disk of ${bytes} bytes`,
    );
  return {
    groups,
    groupBytes: BigInt(groupBlocks) * BigInt(blockBytes),
    log: parseLog(sector, { blockBytes, groupBlocks, groups, blocks }),
  };
}

interface Geometry {
  readonly blockBytes: number;
  readonly groupBlocks: number;
  readonly groups: number;
  readonly blocks: bigint;
}

/** The start is a group's number and a block's number in the group, in one value. */
function parseLog(sector: Buffer, geometry: Geometry): Superblock['log'] {
  const start = sector.readBigUInt64BE(48);
  const blocks = BigInt(sector.readUInt32BE(96));
  if (start === 0n) return null;
  const bits = BigInt(sector.readUInt8(124));
  const group = start >> bits;
  const first = group * BigInt(geometry.groupBlocks) + (start & ((1n << bits) - 1n));
  const bytes = blocks * BigInt(geometry.blockBytes);
  if (
    group >= BigInt(geometry.groups) ||
    blocks === 0n ||
    first + blocks > geometry.blocks ||
    bytes > MOST_LOG_BYTES
  )
    throw damaged(`the XFS at 0 has a log of ${blocks} blocks at block ${first}, of ${geometry.blocks}`);
  const version2 = (sector.readUInt16BE(100) & LOG_VERSION_2) !== 0 || (sector.readUInt16BE(100) & 0xf) === 5;
  return { at: first * BigInt(geometry.blockBytes), blocks: Number(bytes / 512n), version: version2 ? 2 : 1 };
}

function checksumIsRight(sector: Buffer): boolean {
  return sector.readUInt32LE(CRC_AT) === checksum(sector);
}

function checksum(sector: Buffer): number {
  return crc32c(sector, CRC_AT + 4, sector.length, crc32c(Buffer.alloc(4), 0, 4, crc32c(sector, 0, CRC_AT)));
}

function isPowerOfTwo(value: number, least: number, most: number): boolean {
  return value >= least && value <= most && (value & (value - 1)) === 0;
}

function ceilDivide(value: bigint, by: bigint): bigint {
  return (value + by - 1n) / by;
}
