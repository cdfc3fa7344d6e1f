// The boot sector of a FAT file system: where its parts lie. Knows nothing of labels.
// Invariant: a layout that readLayout answers lies wholly within the disk, and every number in it has been checked.

import { damaged } from '../kind.js';
import { type Area, type Reading, readAt } from '../steps.js';

export const BOOT_BYTES = 512;
const ENTRY_BYTES = 32;
const MAX_CLUSTERS_12 = 4084;
const SECTORS = [512, 1024, 2048, 4096];
/** Others that begin like a FAT: NTFS, exFAT, BitLocker. */
const STRANGERS = ['NTFS    ', 'EXFAT   ', '-FVE-FS-'];

export interface Layout {
  /** The first sector as it lies there; of 512 bytes whatever a sector has. */
  readonly boot: Buffer;
  /** Where the extended part of it begins: signature, serial, label, name of the type. */
  readonly extended: number;
  /** FAT32 only. */
  readonly backupAt: bigint | null;
  readonly root: FixedRoot | ChainedRoot;
  readonly data: DataArea;
}

/** Where files lie, in clusters that begin with number 2. */
export interface DataArea {
  /** Of an entry of the table. */
  readonly bits: 12 | 16 | 32;
  readonly clusters: number;
  readonly clusterBytes: number;
  /** Of the table that is kept up. */
  readonly tableAt: bigint;
  /** Of cluster 2. */
  readonly dataAt: bigint;
}

/** FAT12 and FAT16. */
export interface FixedRoot {
  readonly chained: false;
  readonly area: Area;
}

/** FAT32: clusters as any directory has. */
export interface ChainedRoot extends DataArea {
  readonly chained: true;
  readonly first: number;
}

interface Numbers {
  readonly sector: number;
  readonly clusterSectors: number;
  readonly reserved: number;
  readonly tables: number;
  readonly rootEntries: number;
  readonly tableSectors: number;
  readonly totalSectors: number;
  readonly is32: boolean;
}

/** Null: no FAT. Throws `identity-damaged`. */
export function* readLayout(bytes: bigint): Reading<Layout | null> {
  if (bytes < BigInt(BOOT_BYTES)) return null;
  const boot = yield* readAt(0n, BOOT_BYTES);
  if (boot.readUInt16LE(510) !== 0xaa55 || (boot[0] !== 0xeb && boot[0] !== 0xe9)) return null;
  if (STRANGERS.includes(boot.toString('latin1', 3, 11))) return null;
  const numbers = numbersOf(boot);
  const fault = faultOf(numbers, boot, bytes);
  if (fault === null) return layoutOf(numbers, boot);
  // Boot code of others has a jump and 55AA too; only the name makes it a FAT that is damaged.
  if (isNamed(boot)) throw damaged(`the boot sector of the FAT file system ${fault}`);
  return null;
}

function isNamed(boot: Buffer): boolean {
  return boot.toString('latin1', 0x36, 0x39) === 'FAT' || boot.toString('latin1', 0x52, 0x5a) === 'FAT32   ';
}

function numbersOf(boot: Buffer): Numbers {
  const tableSectors16 = boot.readUInt16LE(0x16);
  return {
    sector: boot.readUInt16LE(0x0b),
    clusterSectors: boot[0x0d]!,
    reserved: boot.readUInt16LE(0x0e),
    tables: boot[0x10]!,
    rootEntries: boot.readUInt16LE(0x11),
    tableSectors: tableSectors16 || boot.readUInt32LE(0x24),
    totalSectors: boot.readUInt16LE(0x13) || boot.readUInt32LE(0x20),
    is32: tableSectors16 === 0,
  };
}

function faultOf(numbers: Numbers, boot: Buffer, bytes: bigint): string | null {
  const { sector, clusterSectors, reserved, tables, totalSectors, is32 } = numbers;
  if (!SECTORS.includes(sector)) return `names sectors of ${sector} bytes`;
  if (clusterSectors === 0 || (clusterSectors & (clusterSectors - 1)) !== 0)
    return `names clusters of ${clusterSectors} sectors`;
  if (reserved === 0 || tables === 0 || numbers.tableSectors === 0) return 'names no room for its tables';
  if (boot[0x15] !== 0xf0 && boot[0x15]! < 0xf8) return `names the medium 0x${boot[0x15]!.toString(16)}`;
  if (is32 === numbers.rootEntries > 0) return `names ${numbers.rootEntries} entries of the root directory`;
  if (dataSector(numbers) >= totalSectors) return `leaves no room for data in ${totalSectors} sectors`;
  if (BigInt(totalSectors) * BigInt(sector) > bytes)
    return `names ${totalSectors} sectors of ${sector} bytes, more than the ${bytes} bytes there are`;
  const first = boot.readUInt32LE(0x2c);
  if (is32 && (first < 2 || first - 2 >= clustersOf(numbers)))
    return `names cluster ${first} as its root directory`;
  return null;
}

function dataSector({ sector, reserved, tables, tableSectors, rootEntries }: Numbers): number {
  return reserved + tables * tableSectors + Math.ceil((rootEntries * ENTRY_BYTES) / sector);
}

/** Not more than the table has entries for: the numbers may disagree. */
function clustersOf(numbers: Numbers): number {
  const byTable = Math.floor((numbers.tableSectors * numbers.sector * 8) / bitsOf(numbers)) - 2;
  return Math.min(byData(numbers), byTable);
}

function byData(numbers: Numbers): number {
  return Math.floor((numbers.totalSectors - dataSector(numbers)) / numbers.clusterSectors);
}

/** The number of clusters alone tells the two older ones apart. */
function bitsOf(numbers: Numbers): 12 | 16 | 32 {
  if (numbers.is32) return 32;
  return byData(numbers) > MAX_CLUSTERS_12 ? 16 : 12;
}

function layoutOf(numbers: Numbers, boot: Buffer): Layout {
  const data = dataArea(numbers, boot);
  if (!numbers.is32) return { boot, extended: 0x26, backupAt: null, root: fixedRoot(numbers), data };
  const backup = boot.readUInt16LE(0x32);
  const hasBackup = backup > 0 && backup < numbers.reserved;
  return {
    boot,
    extended: 0x42,
    backupAt: hasBackup ? BigInt(backup * numbers.sector) : null,
    root: { chained: true, first: boot.readUInt32LE(0x2c), ...data },
    data,
  };
}

function fixedRoot({ sector, reserved, tables, tableSectors, rootEntries }: Numbers): FixedRoot {
  const at = BigInt((reserved + tables * tableSectors) * sector);
  return { chained: false, area: { at, bytes: BigInt(rootEntries * ENTRY_BYTES) } };
}

/** Bit 7 of the flags, which only FAT32 has: one table only is kept up, that of the lowest bits. */
function dataArea(numbers: Numbers, boot: Buffer): DataArea {
  const { sector, reserved, tables, tableSectors } = numbers;
  const flags = numbers.is32 ? boot.readUInt16LE(0x28) : 0;
  const active = (flags & 0x80) !== 0 && (flags & 0xf) < tables ? flags & 0xf : 0;
  return {
    bits: bitsOf(numbers),
    clusters: clustersOf(numbers),
    clusterBytes: numbers.clusterSectors * sector,
    tableAt: BigInt(reserved + active * tableSectors) * BigInt(sector),
    dataAt: BigInt(dataSector(numbers)) * BigInt(sector),
  };
}
