// The MBR partition table: its disk signature, by which fstab (PARTUUID=<signature>-01) and the boot configuration of Windows name a
// disk, and where its partitions are, logical ones too. Sectors are taken to have 512 bytes: the table does not say.
// Invariant: restore changes four bytes and nothing else.

import type { Field, Restored } from './kind.js';
import {
  formatSignature,
  isBootSector,
  MBR_BYTES,
  type MbrEntry,
  type MbrSector,
  PROTECTIVE_TYPE,
  parseMbr,
  parseSignature,
  withSignature,
} from './mbr-sector.js';
import { admitted, bootReason, type FoundTable, type Partition, type TableKind } from './partitions.js';
import { replaceAt } from './replace.js';
import { type Reading, readAt, type Writing } from './steps.js';

const SECTOR_BYTES = 512n;
const EXTENDED_TYPES = [0x05, 0x0f, 0x85];
const ESP_MBR_TYPE = 0xef;
const FIRST_LOGICAL = 5;
/** Linux stops at 100 links too; a chain without end would be read without end. */
const MAX_LOGICAL = 128;

export const mbr: TableKind = { name: 'mbr', detect, restore };

function* detect(bytes: bigint): Reading<FoundTable | null> {
  const sector = yield* readAt(0n, MBR_BYTES);
  const parsed = admit(sector, bytes);
  if (parsed === null) return null;
  const logical = yield* readLogical(parsed, bytes);
  const all = [...parsed.entries.map((entry) => partition(entry.slot + 1, entry, 0)), ...logical.partitions];
  const { partitions, notes } = admitted(
    all.filter(({ type }) => !EXTENDED_TYPES.includes(Number.parseInt(type, 16))),
    { bytes, from: SECTOR_BYTES },
  );
  return {
    kind: 'mbr',
    fields: [signatureField(parsed)],
    unsupported: [],
    notes: [...logical.notes, ...notes],
    partitions,
    bootable: bootReason(partitions),
  };
}

/**
 * The table, or null where there is none. A boot sector of a file system counts as a table only when every one of its entries
 * could be a partition, which is how Linux takes it: code or zeros at that place do not make one.
 */
function admit(sector: Buffer, bytes: bigint): MbrSector | null {
  const parsed = parseMbr(sector);
  if (parsed === null || parsed.entries.some(({ type }) => type === PROTECTIVE_TYPE)) return null;
  const { entries } = parsed;
  if (isBootSector(sector) && (entries.length === 0 || !entries.every((entry) => fits(entry, bytes))))
    return null;
  return parsed;
}

function fits({ start, sectors }: MbrEntry, bytes: bigint): boolean {
  return start !== 0 && BigInt(start + sectors) * SECTOR_BYTES <= bytes;
}

function partition(number: number, entry: MbrEntry, base: number): Partition {
  const start = base + entry.start;
  const type = entry.type.toString(16).padStart(2, '0');
  return {
    at: BigInt(start) * SECTOR_BYTES,
    bytes: BigInt(entry.sectors) * SECTOR_BYTES,
    number,
    key: `${start}:${type}`,
    type,
    role: entry.type === ESP_MBR_TYPE ? 'esp' : null,
    active: entry.active,
  };
}

interface Logical {
  readonly partitions: Partition[];
  readonly notes: string[];
}

/** Walks the chain of the first extended partition: each link holds a partition and where the next link is. */
function* readLogical({ entries }: MbrSector, bytes: bigint): Reading<Logical> {
  const found: Logical = { partitions: [], notes: [] };
  const extended = entries.find(isExtended);
  if (extended === undefined) return found;
  const seen = new Set<number>();
  for (let at: number | null = extended.start; at !== null; ) {
    const link: MbrSector | string = yield* readLink(extended, at, { bytes, seen });
    if (typeof link === 'string') {
      found.notes.push(`The chain of logical partitions breaks at sector ${at}: ${link}.`);
      break;
    }
    const base = at;
    const data = link.entries.find((entry) => !isExtended(entry));
    if (data) found.partitions.push(partition(FIRST_LOGICAL + found.partitions.length, data, base));
    const next: MbrEntry | undefined = link.entries.find(isExtended);
    at = next ? extended.start + next.start : null;
  }
  return found;
}

/** A link of the chain, or what is wrong with it. */
function* readLink(
  extended: MbrEntry,
  at: number,
  { bytes, seen }: { bytes: bigint; seen: Set<number> },
): Reading<MbrSector | string> {
  if (at < extended.start || at >= extended.start + extended.sectors)
    return 'it leaves the extended partition';
  if (BigInt(at + 1) * SECTOR_BYTES > bytes) return 'it leaves the disk';
  if (seen.has(at)) return 'it comes back to an earlier place';
  if (seen.size >= MAX_LOGICAL) return `it has more than ${MAX_LOGICAL} links`;
  seen.add(at);
  const sector = yield* readAt(BigInt(at) * SECTOR_BYTES, MBR_BYTES);
  return parseMbr(sector) ?? 'there is no partition table';
}

function isExtended({ type }: MbrEntry): boolean {
  return EXTENDED_TYPES.includes(type);
}

/** The field of the signature; GPT disks may have one as well. */
export function signatureField({ signature }: MbrSector): Field {
  return { name: 'signature', group: 'disk', format: 'hex32', value: formatSignature(signature) };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const nothing: Restored = { written: [], unsupported: [], notes: [] };
  const value = wanted.get('signature');
  if (value === undefined) return nothing;
  const signature = parseSignature('signature', value);
  const sector = yield* readAt(0n, MBR_BYTES);
  if (admit(sector, bytes) === null) return nothing;
  yield* replaceAt(0n, withSignature(sector, signature));
  return { ...nothing, written: ['signature'] };
}
