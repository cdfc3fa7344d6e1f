// Both copies of a GPT and the MBR in front of them as one table: which sectors it counts in, which copy is believed, what its entries say.
// As Linux does, a GPT without a protective entry in the MBR is taken for what somebody left behind.

import {
  type BadCopy,
  type GptCopy,
  isBad,
  lastLba,
  PRIMARY_LBA,
  readCopy,
  type Sectors,
} from './gpt-copy.js';
import { damaged } from './kind.js';
import { MBR_BYTES, type MbrSector, PROTECTIVE_TYPE, parseMbr } from './mbr-sector.js';
import { type Reading, readAt } from './steps.js';

const SECTOR_SIZES = [512, 4096] as const;
const TYPE_AT = 0;
export const GUID_AT = 16;
const FIRST_AT = 32;
const LAST_AT = 40;
const ATTRIBUTES_AT = 48;
export const NAME_AT = 56;
export const NAME_BYTES = 72;
const BIOS_BOOTABLE = 1n << 2n;

export interface GptTable {
  readonly disk: Sectors;
  readonly mbrSector: Buffer;
  readonly mbr: MbrSector;
  readonly primary: GptCopy | BadCopy;
  readonly backup: GptCopy | BadCopy;
  readonly believed: GptCopy;
  readonly notes: readonly string[];
}

export interface GptEntry {
  readonly index: number;
  readonly type: Buffer;
  readonly guid: Buffer;
  /** Sectors, both included. */
  readonly first: bigint;
  readonly last: bigint;
  readonly bootable: boolean;
  readonly name: string;
}

type Pair = Pick<GptTable, 'disk' | 'primary' | 'backup'>;

/** Null: there is no GPT. Throws `identity-damaged` when there is one of which neither copy can be believed. */
export function* readTable(bytes: bigint): Reading<GptTable | null> {
  const mbrSector = yield* readAt(0n, MBR_BYTES);
  const mbr = parseMbr(mbrSector);
  if (!mbr?.entries.some(({ type }) => type === PROTECTIVE_TYPE)) return null;
  let best: Pair | null = null;
  for (const sectorBytes of SECTOR_SIZES) {
    const pair: Pair = yield* readPair({ bytes, sectorBytes });
    if (isThere(pair) && (best === null || good(pair) > good(best))) best = pair;
  }
  if (best === null) return null;
  const { believed, notes } = believe(best);
  return { ...best, mbrSector, mbr, believed, notes };
}

/** The backup is where the primary says; when that cannot be read, at the end of the disk. */
function* readPair(disk: Sectors): Reading<Pair> {
  const primary = yield* readCopy(disk, PRIMARY_LBA);
  const at = isBad(primary) ? lastLba(disk) : primary.alternate;
  const backup: GptCopy | BadCopy =
    at === PRIMARY_LBA ? { problem: 'has no place', signed: false } : yield* readCopy(disk, at);
  return { disk, primary, backup };
}

function isThere({ primary, backup }: Pair): boolean {
  return [primary, backup].some((copy) => !isBad(copy) || copy.signed);
}

function good({ primary, backup }: Pair): number {
  return [primary, backup].filter((copy) => !isBad(copy)).length;
}

function believe({ primary, backup }: Pair): { believed: GptCopy; notes: string[] } {
  if (isBad(primary)) {
    if (isBad(backup))
      throw damaged(
        `both copies of the GPT are bad: the primary ${primary.problem}, the backup ${backup.problem}`,
      );
    return {
      believed: backup,
      notes: [`The primary copy of the GPT ${primary.problem}; the backup is believed.`],
    };
  }
  if (isBad(backup))
    return {
      believed: primary,
      notes: [`The backup copy of the GPT ${backup.problem}; the primary is believed.`],
    };
  const same = primary.entries.equals(backup.entries);
  return {
    believed: primary,
    notes: same ? [] : ['The two copies of the GPT differ; the primary is believed.'],
  };
}

/** Those in use, in the order of the table. */
export function entriesOf({ entries, entryBytes }: GptCopy): GptEntry[] {
  const found: GptEntry[] = [];
  for (let index = 0; (index + 1) * entryBytes <= entries.length; index++) {
    const entry = entries.subarray(index * entryBytes, (index + 1) * entryBytes);
    const type = entry.subarray(TYPE_AT, TYPE_AT + 16);
    if (type.every((byte) => byte === 0)) continue;
    found.push({
      index,
      type,
      guid: entry.subarray(GUID_AT, GUID_AT + 16),
      first: entry.readBigUInt64LE(FIRST_AT),
      last: entry.readBigUInt64LE(LAST_AT),
      bootable: (entry.readBigUInt64LE(ATTRIBUTES_AT) & BIOS_BOOTABLE) !== 0n,
      name: decodeName(entry.subarray(NAME_AT, NAME_AT + NAME_BYTES)),
    });
  }
  return found;
}

/** UTF-16 up to the first zero. */
function decodeName(bytes: Buffer): string {
  const text = bytes.toString('utf16le');
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
