// The boot sector of NTFS and its copy in the sector behind the volume.
// Invariant: a volume that readVolume answers lies wholly within the disk.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';

export const BOOT_BYTES = 512;
const NAME = 'NTFS    ';
const SERIAL = 0x48;
const SERIAL_BYTES = 8;

export interface Volume {
  readonly boot: Buffer;
  readonly backupAt: bigint;
  readonly clusterBytes: bigint;
  readonly clusters: bigint;
  readonly recordBytes: number;
  /** Of the first record of the master file table, and of its mirror. */
  readonly tableAt: bigint;
  readonly mirrorAt: bigint;
}

/** Null: no NTFS. Throws `identity-damaged`. */
export function* readVolume(bytes: bigint): Reading<Volume | null> {
  if (bytes < BigInt(BOOT_BYTES)) return null;
  const boot = yield* readAt(0n, BOOT_BYTES);
  if (boot.toString('latin1', 3, 11) !== NAME || boot.readUInt16LE(510) !== 0xaa55) return null;
  const sector = boot.readUInt16LE(11);
  const perCluster = boot[13]! <= 0x80 ? boot[13]! : 2 ** (256 - boot[13]!);
  if (![512, 1024, 2048, 4096].includes(sector)) throw wrong(`names sectors of ${sector} bytes`);
  if (perCluster === 0 || (perCluster & (perCluster - 1)) !== 0 || perCluster * sector > 2 << 20)
    throw wrong(`names clusters of ${perCluster} sectors`);
  return placed(bytes, boot, { sector, clusterBytes: perCluster * sector });
}

function placed(bytes: bigint, boot: Buffer, units: { sector: number; clusterBytes: number }): Volume {
  const sectors = boot.readBigUInt64LE(0x28);
  const end = sectors * BigInt(units.sector);
  if (end === 0n || end > bytes) throw wrong(`names ${sectors} sectors, and there are ${bytes} bytes`);
  const size = boot.readInt8(0x40);
  const recordBytes = size < 0 ? 2 ** -size : size * units.clusterBytes;
  if (![1024, 2048, 4096].includes(recordBytes)) throw wrong(`names file records of ${recordBytes} bytes`);
  const clusterBytes = BigInt(units.clusterBytes);
  const clusters = end / clusterBytes;
  const [table, mirror] = [boot.readBigUInt64LE(0x30), boot.readBigUInt64LE(0x38)];
  const room = BigInt(4 * recordBytes);
  for (const cluster of [table, mirror])
    if (cluster === 0n || cluster >= clusters || cluster * clusterBytes + room > end)
      throw wrong(`names cluster ${cluster} of the master file table`);
  const places = { tableAt: table * clusterBytes, mirrorAt: mirror * clusterBytes, backupAt: end };
  return { boot, clusterBytes, clusters, recordBytes, ...places };
}

function wrong(what: string): Error {
  return damaged(`the boot sector of the NTFS volume ${what}`);
}

export const serialOf = (boot: Buffer): string => boot.readBigUInt64LE(SERIAL).toString(16).padStart(16, '0');

export function withSerial(boot: Buffer, serial: string): Buffer {
  const data = Buffer.from(boot);
  data.writeBigUInt64LE(BigInt(`0x${serial}`), SERIAL);
  return data;
}

/** The same but for the serial, which may have fallen apart before. */
export function isBackupOf(boot: Buffer, backup: Buffer): boolean {
  return withSerial(backup, serialOf(boot))
    .subarray(3, SERIAL + SERIAL_BYTES)
    .equals(boot.subarray(3, SERIAL + SERIAL_BYTES));
}
