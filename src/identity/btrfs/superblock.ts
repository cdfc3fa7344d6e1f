// One copy of the superblock of btrfs: where its fields lie, and whether it can be believed.
// Invariant: a Buffer that `checkedCopy` has let through has its checksum, its own address and agreeing UUIDs.

import { createHash } from 'node:crypto';
import { crc32c } from '../../base/crc32c.js';
import { formatUuid } from '../formats.js';
import { damaged } from '../kind.js';
import { blake2b256 } from './blake2b.js';
import { xxhash64 } from './xxhash64.js';

export const SUPER_BYTES = 4096;
/** Where the copies lie; a device has those that lie wholly within it. */
export const COPIES = [64n << 10n, 64n << 20n, 256n << 30n] as const;

const MAGIC = Buffer.from('_BHRfS_M', 'latin1');
const CHECKSUM_BYTES = 32;
const AT = {
  checksum: 0,
  fsid: 0x20,
  address: 0x30,
  flags: 0x38,
  magic: 0x40,
  logRoot: 0x60,
  devices: 0x88,
  incompat: 0xbc,
  checksumType: 0xc4,
  deviceBytes: 0xd1,
  deviceUuid: 0x10b,
  deviceFsid: 0x11b,
  label: 0x12b,
  metadataUuid: 0x23b,
} as const;
const LABEL_BYTES = 256;
const METADATA_UUID = 0x400n;
const SEEDING = 1n << 32n;
/** METADUMP, METADUMP_V2: an image of the metadata only. CHANGING_FSID, its V2: an interrupted btrfstune. */
const UNUSABLE = 0xfn << 33n;

export const LABEL = { name: 'label', bytes: LABEL_BYTES, longest: LABEL_BYTES - 1 } as const;

export const hasMagic = (copy: Buffer): boolean => copy.subarray(AT.magic, AT.magic + 8).equals(MAGIC);
export const fsidOf = (copy: Buffer): Buffer => copy.subarray(AT.fsid, AT.fsid + 16);
export const deviceUuidOf = (copy: Buffer): Buffer => copy.subarray(AT.deviceUuid, AT.deviceUuid + 16);
export const labelOf = (copy: Buffer): Buffer => copy.subarray(AT.label, AT.label + LABEL.longest);
export const deviceBytesOf = (copy: Buffer): bigint => copy.readBigUInt64LE(AT.deviceBytes);
export const hasLog = (copy: Buffer): boolean => copy.readBigUInt64LE(AT.logRoot) !== 0n;
export const keepsBothUuids = (copy: Buffer): boolean =>
  (copy.readBigUInt64LE(AT.incompat) & METADATA_UUID) !== 0n;

/** The UUID in the blocks of the trees. */
export function treeUuidOf(copy: Buffer): Buffer {
  return keepsBothUuids(copy) ? copy.subarray(AT.metadataUuid, AT.metadataUuid + 16) : fsidOf(copy);
}

/** Why the superblock must not be changed, without a full stop, or null. */
export function whyNot(copy: Buffer): string | null {
  const devices = copy.readBigUInt64LE(AT.devices);
  const flags = copy.readBigUInt64LE(AT.flags);
  if (devices !== 1n) return `the btrfs has ${devices} devices, and each holds it`;
  if ((flags & SEEDING) !== 0n) return 'the btrfs is a seed, and those grown from it name it';
  if ((flags & UNUSABLE) !== 0n)
    return `the btrfs has the flags 0x${flags.toString(16)}: a change of its UUID was interrupted, or it is a metadump`;
  return null;
}

/** @returns why the copy that should lie there cannot be believed, without a full stop, or null. */
export function faultOf(copy: Buffer, at: bigint): string | null {
  const where = `the btrfs superblock at ${at}`;
  const type = copy.readUInt16LE(AT.checksumType);
  const sum = checksum(copy);
  if (sum === null) return `${where} has the unknown checksum type ${type}`;
  if (!sum.equals(copy.subarray(0, sum.length))) return `the checksum of ${where} is wrong`;
  if (copy.readBigUInt64LE(AT.address) !== at) return `${where} names another address as its own`;
  if (copy.readBigUInt64LE(AT.devices) === 0n) return `${where} names no devices`;
  const device = copy.subarray(AT.deviceFsid, AT.deviceFsid + 16);
  if (!device.equals(treeUuidOf(copy)))
    return `${where} has the metadata UUID ${formatUuid(treeUuidOf(copy))}, its device item ${formatUuid(device)}`;
  return null;
}

/** Throws `identity-damaged`. */
export function believe(copy: Buffer, at: bigint): void {
  const fault = faultOf(copy, at);
  if (fault !== null) throw damaged(fault);
}

/** Equal to the metadata UUID: back to the form without the flag, which is how it was made. */
export function setFsid(copy: Buffer, fsid: Buffer): void {
  const trees = Buffer.from(treeUuidOf(copy));
  const incompat = copy.readBigUInt64LE(AT.incompat);
  const plain = trees.equals(fsid);
  copy.writeBigUInt64LE(plain ? incompat & ~METADATA_UUID : incompat | METADATA_UUID, AT.incompat);
  (plain ? Buffer.alloc(16) : trees).copy(copy, AT.metadataUuid);
  fsid.copy(copy, AT.fsid);
}

export function setLabel(copy: Buffer, label: Buffer): void {
  label.copy(copy, AT.label);
}

/** Only for copies that were believed. */
export function setChecksum(copy: Buffer): void {
  checksum(copy)?.copy(copy, AT.checksum);
}

function checksum(copy: Buffer): Buffer | null {
  const covered = copy.subarray(CHECKSUM_BYTES, SUPER_BYTES);
  switch (copy.readUInt16LE(AT.checksumType)) {
    case 0:
      return littleEndian(BigInt(crc32c(covered)), 4);
    case 1:
      return littleEndian(xxhash64(covered), 8);
    case 2:
      return createHash('sha256').update(covered).digest();
    case 3:
      return blake2b256(covered);
    default:
      return null;
  }
}

function littleEndian(value: bigint, bytes: 4 | 8): Buffer {
  const stored = Buffer.alloc(8);
  stored.writeBigUInt64LE(value);
  return stored.subarray(0, bytes);
}
