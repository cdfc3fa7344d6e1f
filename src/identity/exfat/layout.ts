// The boot regions of exFAT: twelve sectors, of which the last repeats the checksum of the others; twice.
// Invariant: a layout that readLayout answers lies wholly within the disk, and its main boot region had the right checksum.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';

const REGION_SECTORS = 12;
const NAME = 'EXFAT   ';
/** Flags and percentage in use change without a new checksum. */
const UNCHECKED = new Set([106, 107, 112]);
const SERIAL = 100;

export interface Layout {
  readonly region: Buffer;
  readonly backupAt: bigint;
  readonly rootCluster: number;
  readonly clusters: number;
  readonly clusterBytes: number;
  readonly tableAt: bigint;
  /** Of cluster 2, the first there is. */
  readonly dataAt: bigint;
}

/** Null: no exFAT. Throws `identity-damaged`. */
export function* readLayout(bytes: bigint): Reading<Layout | null> {
  if (bytes < 512n) return null;
  const boot = yield* readAt(0n, 512);
  if (boot.toString('latin1', 3, 11) !== NAME || boot.readUInt16LE(510) !== 0xaa55) return null;
  const fault = faultOf(boot, bytes);
  if (fault !== null) throw damaged(`the boot sector of the exFAT file system ${fault}`);
  const region = yield* readRegion(0n, boot[108]!);
  if (!hasChecksum(region))
    throw damaged('the checksum of the boot region of the exFAT file system is wrong');
  return layoutOf(region);
}

export function* readRegion(at: bigint, sectorShift: number): Reading<Buffer> {
  return yield* readAt(at, REGION_SECTORS << sectorShift);
}

export const serialOf = (region: Buffer): Buffer => region.subarray(SERIAL, SERIAL + 4);
export const sectorShiftOf = (region: Buffer): number => region[108]!;
export const isDirty = (region: Buffer): boolean => (region.readUInt16LE(106) & 2) !== 0;

/** The same file system's, and believable. */
export function isBackupOf(region: Buffer, backup: Buffer): boolean {
  return hasChecksum(backup) && backup.subarray(0, SERIAL).equals(region.subarray(0, SERIAL));
}

export function withSerial(region: Buffer, serial: Buffer): Buffer {
  const data = Buffer.from(region);
  serial.copy(data, SERIAL);
  checksumSector(data).copy(data, data.length - checksumBytes(data));
  return data;
}

const checksumBytes = (region: Buffer): number => region.length / REGION_SECTORS;

function hasChecksum(region: Buffer): boolean {
  return checksumSector(region).equals(region.subarray(region.length - checksumBytes(region)));
}

function checksumSector(region: Buffer): Buffer {
  let sum = 0;
  const end = region.length - checksumBytes(region);
  for (let at = 0; at < end; at++)
    if (!UNCHECKED.has(at)) sum = (((sum << 31) | (sum >>> 1)) + region[at]!) >>> 0;
  const sector = Buffer.alloc(checksumBytes(region));
  for (let at = 0; at < sector.length; at += 4) sector.writeUInt32LE(sum, at);
  return sector;
}

function faultOf(boot: Buffer, bytes: bigint): string | null {
  const [sectorShift, clusterShift] = [boot[108]!, boot[109]!];
  if (sectorShift < 9 || sectorShift > 12) return `names sectors of 2^${sectorShift} bytes`;
  if (sectorShift + clusterShift > 25) return `names clusters of 2^${sectorShift + clusterShift} bytes`;
  const sectors = boot.readBigUInt64LE(72);
  if (sectors << BigInt(sectorShift) > bytes)
    return `names ${sectors} sectors of 2^${sectorShift} bytes, more than the ${bytes} bytes there are`;
  const clusters = boot.readUInt32LE(92);
  const dataEnd = BigInt(boot.readUInt32LE(88)) + (BigInt(clusters) << BigInt(clusterShift));
  if (dataEnd > sectors) return `names ${clusters} clusters, more than fit in`;
  const tables = boot[110]!;
  if (tables !== 1 && tables !== 2) return `names ${tables} tables`;
  const [tableAt, tableSectors] = [boot.readUInt32LE(80), boot.readUInt32LE(84)];
  if (tableAt < 2 * REGION_SECTORS || tableAt + tables * tableSectors > boot.readUInt32LE(88))
    return 'names tables that lie over something else';
  const tableBytes = BigInt(tableSectors) << BigInt(sectorShift);
  if (tableBytes < 4n * (BigInt(clusters) + 2n)) return 'names a table that is too small';
  const root = boot.readUInt32LE(96);
  return root < 2 || root - 2 >= clusters ? `names cluster ${root} as its root directory` : null;
}

function layoutOf(region: Buffer): Layout {
  const sectorShift = sectorShiftOf(region);
  const place = (sectors: number): bigint => BigInt(sectors) << BigInt(sectorShift);
  const second = region[110] === 2 && (region.readUInt16LE(106) & 1) !== 0;
  return {
    region,
    backupAt: place(REGION_SECTORS),
    rootCluster: region.readUInt32LE(96),
    clusters: region.readUInt32LE(92),
    clusterBytes: 2 ** (sectorShift + region[109]!),
    tableAt: place(region.readUInt32LE(80)) + (second ? place(region.readUInt32LE(84)) : 0n),
    dataAt: place(region.readUInt32LE(88)),
  };
}
