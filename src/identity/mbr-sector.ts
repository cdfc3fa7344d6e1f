// The sector at LBA 0: 440 bytes of code, the disk signature, four entries, 0x55AA. A boot sector of FAT or NTFS ends in 0x55AA too, and
// a GPT disk has such a sector to protect itself; mbr.ts and gpt.ts share what tells them apart.

import { invalidValue } from './kind.js';

export const MBR_BYTES = 512;
export const PROTECTIVE_TYPE = 0xee;
const SIGNATURE_AT = 0x1b8;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const ACTIVE = 0x80;
const HEX32 = /^[0-9a-f]{8}$/i;
/** OEM names of boot sectors that are no FAT but have its shape: NTFS, exFAT, BitLocker. */
const OEM_NAMES = ['NTFS    ', 'EXFAT   ', '-FVE-FS-'];

export interface MbrEntry {
  /** 0 to 3. */
  readonly slot: number;
  readonly active: boolean;
  readonly type: number;
  /** In sectors. */
  readonly start: number;
  readonly sectors: number;
}

export interface MbrSector {
  readonly signature: number;
  /** Those in use. */
  readonly entries: readonly MbrEntry[];
}

/** Null: no such sector. Entries whose flag is neither 0 nor 0x80 say that these bytes are something else (code, text). */
export function parseMbr(sector: Buffer): MbrSector | null {
  if (sector.readUInt16BE(510) !== 0x55aa) return null;
  const entries: MbrEntry[] = [];
  for (let slot = 0; slot < 4; slot++) {
    const at = ENTRIES_AT + slot * ENTRY_BYTES;
    const flag = sector[at]!;
    if (flag !== 0 && flag !== ACTIVE) return null;
    const entry = {
      slot,
      active: flag === ACTIVE,
      type: sector[at + 4]!,
      start: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    };
    if (entry.type !== 0 && entry.sectors !== 0) entries.push(entry);
  }
  return { signature: sector.readUInt32LE(SIGNATURE_AT), entries };
}

/** Whether the sector starts a file system of the FAT family or NTFS, by its own words. */
export function isBootSector(sector: Buffer): boolean {
  if (OEM_NAMES.includes(sector.toString('latin1', 3, 11))) return true;
  const jumps = sector[0] === 0xe9 || (sector[0] === 0xeb && sector[2] === 0x90);
  const sectorBytes = sector.readUInt16LE(11);
  const clusterSectors = sector[13]!;
  const fats = sector[16]!;
  const media = sector[21]!;
  return (
    jumps &&
    isPowerOfTwo(sectorBytes) &&
    sectorBytes >= 512 &&
    sectorBytes <= 4096 &&
    isPowerOfTwo(clusterSectors) &&
    sector.readUInt16LE(14) !== 0 &&
    (fats === 1 || fats === 2) &&
    (media === 0xf0 || media >= 0xf8)
  );
}

function isPowerOfTwo(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

/** As blkid prints PTUUID; zero means that there is none. */
export function formatSignature(signature: number): string {
  return signature === 0 ? '' : signature.toString(16).padStart(8, '0');
}

/** Throws `identity-invalid`. Empty: none. */
export function parseSignature(field: string, text: string): number {
  if (text !== '' && !HEX32.test(text)) throw invalidValue(field, text, 'it has eight hexadecimal digits');
  return text === '' ? 0 : Number.parseInt(text, 16);
}

/** A copy of the sector with another signature. */
export function withSignature(sector: Buffer, signature: number): Buffer {
  const copy = Buffer.from(sector);
  copy.writeUInt32LE(signature, SIGNATURE_AT);
  return copy;
}

/** A copy of the sector with another length of one of its partitions. */
export function withLength(sector: Buffer, slot: number, sectors: number): Buffer {
  const copy = Buffer.from(sector);
  copy.writeUInt32LE(sectors, ENTRIES_AT + slot * ENTRY_BYTES + 12);
  return copy;
}
