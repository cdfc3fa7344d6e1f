// Superblocks of Linux RAID, 0.90 and 1.x: where they lie, whether they can be believed, and their fields.
// Invariant: a superblock in the list of readSuperblocks has its checksum and names its own place.

import { formatUuid } from '../formats.js';
import { type Reading, readAt } from '../steps.js';

export const SUPER_BYTES = 4096;
const MAGIC = 0xa92b4efc;
const SECTOR = 512n;
const OLD_UNIT = 64n << 10n;

/** Of 1.x, little-endian as all of it. */
const NEW = {
  major: 4,
  features: 8,
  uuid: 16,
  name: 32,
  disks: 92,
  bitmapOffset: 96,
  superOffset: 144,
  number: 160,
  deviceUuid: 168,
  checksum: 216,
  maxDevices: 220,
  roles: 256,
} as const;
export const NAME_BYTES = 32;
const MAX_DEVICES = (SUPER_BYTES - NEW.roles) / 2;
const BITMAP = 1;
/** A bitmap, a list of bad blocks and the layout of RAID0 do not care for the ids; what else there is might. */
const HARMLESS = BITMAP | 8 | 4096;

/** Of 0.90; the UUID is four words that do not lie together. */
const OLD = {
  major: 4,
  minor: 8,
  uuid: [20, 52, 56, 60],
  all: 36,
  disks: 40,
  state: 132,
  checksum: 152,
} as const;
const OLD_BITMAP = 1 << 8;

export interface Superblock {
  /** As mdadm names it. */
  readonly version: '0.90' | '1.0' | '1.1' | '1.2';
  readonly at: bigint;
  readonly data: Buffer;
}

export interface Superblocks {
  readonly sound: readonly Superblock[];
  /** Sentences without a full stop, of those with a magic that cannot be believed. */
  readonly faults: readonly string[];
}

export function* readSuperblocks(bytes: bigint): Reading<Superblocks> {
  const sound: Superblock[] = [];
  const faults: string[] = [];
  for (const [version, at] of placesOf(bytes)) {
    if (at < 0n || at + BigInt(SUPER_BYTES) > bytes) continue;
    const magic = (yield* readAt(at, 4)).readUInt32LE(0);
    if (magic !== MAGIC) continue;
    const superblock: Superblock = { version, at, data: yield* readAt(at, SUPER_BYTES) };
    const fault = faultOf(superblock);
    if (fault === null) sound.push(superblock);
    else faults.push(`the RAID superblock ${version} at ${at} ${fault}`);
  }
  return { sound, faults };
}

function placesOf(bytes: bigint): [Superblock['version'], bigint][] {
  const sectors = bytes / SECTOR;
  return [
    ['1.2', 4096n],
    ['1.1', 0n],
    ['1.0', ((sectors - 16n) & ~7n) * SECTOR],
    ['0.90', bytes - (bytes % OLD_UNIT) - OLD_UNIT],
  ];
}

const isOld = ({ version }: Superblock): boolean => version === '0.90';

function faultOf(superblock: Superblock): string | null {
  const { at, data } = superblock;
  if (isOld(superblock)) {
    if (data.readUInt32LE(OLD.major) !== 0) return 'is of another version';
  } else {
    if (data.readUInt32LE(NEW.major) !== 1) return 'is of another version';
    if (data.readBigUInt64LE(NEW.superOffset) * SECTOR !== at) return 'names another place as its own';
    if (data.readUInt32LE(NEW.maxDevices) > MAX_DEVICES) return 'names too many devices';
  }
  return checksum(superblock) === data.readUInt32LE(placeOfChecksum(superblock))
    ? null
    : 'has a wrong checksum';
}

const placeOfChecksum = (superblock: Superblock): number => (isOld(superblock) ? OLD.checksum : NEW.checksum);

/** A sum of words, its own place as zero, the carry added once. */
function checksum(superblock: Superblock): number {
  const { data } = superblock;
  const end = isOld(superblock) ? SUPER_BYTES : NEW.roles + 2 * data.readUInt32LE(NEW.maxDevices);
  let sum = -data.readUInt32LE(placeOfChecksum(superblock));
  let at = 0;
  for (; at + 4 <= end; at += 4) sum += data.readUInt32LE(at);
  if (at < end) sum += data.readUInt16LE(at);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) % 2 ** 32;
}

export function arrayUuidOf(superblock: Superblock): string {
  if (!isOld(superblock)) return formatUuid(superblock.data.subarray(NEW.uuid, NEW.uuid + 16));
  const words = Buffer.alloc(16);
  for (const [index, at] of OLD.uuid.entries())
    words.writeUInt32BE(superblock.data.readUInt32LE(at), 4 * index);
  return formatUuid(words);
}

/** 1.x only. */
export const nameOf = ({ data }: Superblock): Buffer => data.subarray(NEW.name, NEW.name + NAME_BYTES);
export const deviceUuidOf = ({ data }: Superblock): Buffer =>
  data.subarray(NEW.deviceUuid, NEW.deviceUuid + 16);

/** Why it must not be changed, without a full stop, or null. */
export function whyNot(superblock: Superblock): string | null {
  return isOld(superblock) ? whyNotOld(superblock.data) : whyNotNew(superblock.data);
}

function whyNotOld(data: Buffer): string | null {
  const [disks, all, minor] = [
    data.readUInt32LE(OLD.disks),
    data.readUInt32LE(OLD.all),
    data.readUInt32LE(OLD.minor),
  ];
  if (disks !== 1 || all !== 1)
    return `the RAID array has ${Math.max(disks, all)} members, and each names it`;
  if (minor !== 90) return `the RAID superblock is of version 0.${minor}: a reshape is under way`;
  return (data.readUInt32LE(OLD.state) & OLD_BITMAP) === 0
    ? null
    : 'the RAID array has a bitmap of version 0.90';
}

function whyNotNew(data: Buffer): string | null {
  const disks = data.readUInt32LE(NEW.disks);
  const features = data.readUInt32LE(NEW.features);
  const number = data.readUInt32LE(NEW.number);
  if (disks !== 1) return `the RAID array has ${disks} members, and each names it`;
  if ((features & ~HARMLESS) !== 0) return `the RAID superblock has the features 0x${features.toString(16)}`;
  const role = number < data.readUInt32LE(NEW.maxDevices) ? data.readUInt16LE(NEW.roles + 2 * number) : -1;
  return role === 0 ? null : `the RAID member is not the active one (role ${role})`;
}

/** Null: there is none. It names the array too. */
export function bitmapOf(superblock: Superblock): bigint | null {
  const { at, data } = superblock;
  if (isOld(superblock) || (data.readUInt32LE(NEW.features) & BITMAP) === 0) return null;
  return at + BigInt(data.readInt32LE(NEW.bitmapOffset)) * SECTOR;
}

export interface Change {
  readonly uuid: Buffer | null;
  readonly name: Buffer | null;
  readonly deviceUuid: Buffer | null;
}

/** With its checksum. */
export function changed(superblock: Superblock, { uuid, name, deviceUuid }: Change): Superblock {
  const data = Buffer.from(superblock.data);
  const copy = { ...superblock, data };
  if (isOld(superblock))
    for (const [index, at] of OLD.uuid.entries()) {
      if (uuid !== null) data.writeUInt32LE(uuid.readUInt32BE(4 * index), at);
    }
  else {
    uuid?.copy(data, NEW.uuid);
    name?.copy(data, NEW.name);
    deviceUuid?.copy(data, NEW.deviceUuid);
  }
  data.writeUInt32LE(checksum(copy), placeOfChecksum(copy));
  return copy;
}
