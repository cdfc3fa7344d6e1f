// The GUID partition table: the GUID of the disk, the GUID and name of each partition, and the signature of the MBR in front. Partitions are
// paired by start and type, which is why both are in the names of their fields.
// Invariant: after restore both copies say the same, the backup is at the end of the disk, and all four checksums are right.

import { formatGuid, parseGuid } from './formats.js';
import {
  changedHeader,
  entriesSectors,
  type GptCopy,
  HEADER,
  isBad,
  lastLba,
  PRIMARY_LBA,
} from './gpt-copy.js';
import {
  entriesOf,
  type GptEntry,
  type GptTable,
  GUID_AT,
  NAME_AT,
  NAME_BYTES,
  readTable,
} from './gpt-table.js';
import { type Field, invalidValue, type Restored, type Unsupported } from './kind.js';
import { signatureField } from './mbr.js';
import { PROTECTIVE_TYPE, parseSignature, withLength, withSignature } from './mbr-sector.js';
import {
  admitted,
  BIOS_BOOT_TYPE,
  bootReason,
  ESP_TYPE,
  type FoundTable,
  type Partition,
  type TableKind,
} from './partitions.js';
import { replaceAt } from './replace.js';
import type { Reading, Writing } from './steps.js';

const MAX_UINT32 = 0xffffffffn;

export const gpt: TableKind = { name: 'gpt', detect, restore };

function* detect(bytes: bigint): Reading<FoundTable | null> {
  const table = yield* readTable(bytes);
  if (table === null) return null;
  const { disk, believed, mbr } = table;
  const entries = entriesOf(believed);
  const { partitions, notes } = admitted(
    entries.map((entry) => partition(entry, disk.sectorBytes)),
    { bytes, from: believed.firstUsable * BigInt(disk.sectorBytes) },
  );
  return {
    kind: 'gpt',
    fields: [diskGuid(believed), signatureField(mbr), ...partitionFields(entries)],
    unsupported: [],
    notes: [...table.notes, ...tableNotes(table), ...notes],
    partitions,
    bootable: bootReason(partitions) ?? protectiveReason(table),
  };
}

function diskGuid({ header }: GptCopy): Field {
  const value = formatGuid(header.subarray(HEADER.guid, HEADER.guid + 16));
  return { name: 'disk-guid', group: 'disk', format: 'guid', value };
}

function keyOf({ first, type }: GptEntry): string {
  return `${first}:${formatGuid(type)}`;
}

/** Of several entries with one start and type the first one has the fields. */
function partitionFields(entries: readonly GptEntry[]): Field[] {
  const fields = new Map<string, Field>();
  for (const entry of entries) {
    const name = `partition/${keyOf(entry)}`;
    if (fields.has(`${name}/guid`)) continue;
    const guid = { group: 'partition', format: 'guid', value: formatGuid(entry.guid) } as const;
    fields.set(`${name}/guid`, { name: `${name}/guid`, ...guid });
    fields.set(`${name}/name`, {
      name: `${name}/name`,
      group: 'partition',
      format: 'text',
      value: entry.name,
    });
  }
  return [...fields.values()];
}

function partition(entry: GptEntry, sectorBytes: number): Partition {
  const type = formatGuid(entry.type);
  const unit = BigInt(sectorBytes);
  return {
    at: entry.first * unit,
    bytes: (entry.last - entry.first + 1n) * unit,
    number: entry.index + 1,
    key: keyOf(entry),
    type,
    role: type === ESP_TYPE ? 'esp' : type === BIOS_BOOT_TYPE ? 'bios-boot' : null,
    active: entry.bootable,
  };
}

function tableNotes({ disk, believed, mbr }: GptTable): string[] {
  const notes: string[] = [];
  if (mbr.entries.length > 1)
    notes.push('The MBR in front of the GPT is a hybrid: it has partitions of its own.');
  const end = lastLba(disk);
  if ((believed.lba === PRIMARY_LBA ? believed.alternate : believed.lba) !== end)
    notes.push(
      `The GPT is that of a disk of another size: its backup is not at sector ${end}, the last one.`,
    );
  return notes;
}

function protectiveReason({ mbr }: GptTable): string | null {
  return mbr.entries.some(({ active }) => active) ? 'its protective MBR is active' : null;
}

interface Layout {
  readonly backupLba: bigint;
  readonly primaryEntriesLba: bigint;
  readonly backupEntriesLba: bigint;
  readonly lastUsable: bigint;
  readonly moved: boolean;
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const table = yield* readTable(bytes);
  if (table === null) return { written: [], unsupported: [], notes: [] };
  const layout = layOut(table);
  if (typeof layout === 'string') return refused(table, wanted, layout);
  const { entries, written } = changedEntries(table.believed, wanted);
  const { guid, mbrSector, ...disk } = changedDisk(table, wanted);
  const wrote =
    (yield* writeCopies(table, layout, { entries, guid })) +
    (yield* replaceAt(0n, layout.moved ? withDiskLength(table, mbrSector) : mbrSector));
  return {
    written: [...disk.written, ...written],
    unsupported: [],
    notes: restoreNotes(table, layout, wrote),
  };
}

/** Where the copies go on this disk; when they do not fit, why. The places of a good copy are kept. */
function layOut({ disk, primary, backup, believed }: GptTable): Layout | string {
  const sectors = entriesSectors(believed.entries, disk.sectorBytes);
  const backupLba = lastLba(disk);
  const moved = (isBad(backup) ? believed.alternate : backup.lba) !== backupLba;
  const stays = !isBad(backup) && !moved && backup.entriesLba + sectors <= backupLba;
  const backupEntriesLba = stays ? backup.entriesLba : backupLba - sectors;
  const primaryEntriesLba = isBad(primary) ? PRIMARY_LBA + 1n : primary.entriesLba;
  const lastUsable = moved ? backupEntriesLba - 1n : believed.lastUsable;
  const lastUsed = lastUsedSector(believed);
  if (lastUsed >= backupEntriesLba || believed.firstUsable > lastUsable)
    return `the disk is too small for its GPT: partitions reach to sector ${lastUsed}, and the backup has to begin at ${backupEntriesLba}`;
  if (lastUsable >= backupEntriesLba || primaryEntriesLba + sectors > believed.firstUsable)
    return 'there is no room for the bad copy of the GPT where it belongs';
  return { backupLba, primaryEntriesLba, backupEntriesLba, lastUsable, moved };
}

function lastUsedSector(believed: GptCopy): bigint {
  let latest = 0n;
  for (const { last } of entriesOf(believed)) if (last > latest) latest = last;
  return latest;
}

/** Nothing is written, and nobody may think it was. */
function refused({ believed, mbr }: GptTable, wanted: ReadonlyMap<string, string>, reason: string): Restored {
  const there = [diskGuid(believed), signatureField(mbr), ...partitionFields(entriesOf(believed))];
  const unsupported: Unsupported[] = there
    .filter(({ name }) => wanted.has(name))
    .map(({ name, value }) => ({ field: name, reason: `It stays ${JSON.stringify(value)}: ${reason}.` }));
  unsupported.push({
    field: 'backup',
    reason: `The backup copy was not moved to the end of the disk: ${reason}.`,
  });
  return { written: [], unsupported, notes: [] };
}

function changedEntries(
  believed: GptCopy,
  wanted: ReadonlyMap<string, string>,
): { entries: Buffer; written: string[] } {
  const entries = Buffer.from(believed.entries);
  const written = new Set<string>();
  for (const entry of entriesOf(believed)) {
    const at = entry.index * believed.entryBytes;
    const [guidName, nameName] = [`partition/${keyOf(entry)}/guid`, `partition/${keyOf(entry)}/name`];
    if (written.has(guidName) || written.has(nameName)) continue;
    const [guid, name] = [wanted.get(guidName), wanted.get(nameName)];
    if (guid !== undefined) parseGuid(guidName, guid).copy(entries, at + GUID_AT);
    // What stands behind the end of a name stays when the name does.
    if (name !== undefined && name !== entry.name) encodeName(nameName, name).copy(entries, at + NAME_AT);
    if (guid !== undefined) written.add(guidName);
    if (name !== undefined) written.add(nameName);
  }
  return { entries, written: [...written] };
}

function encodeName(field: string, name: string): Buffer {
  const bytes = Buffer.from(name, 'utf16le');
  if (bytes.length > NAME_BYTES || name.includes('\0'))
    throw invalidValue(field, name, `it has at most ${NAME_BYTES / 2} characters, none of them zero`);
  return Buffer.concat([bytes], NAME_BYTES);
}

function changedDisk(
  { believed, mbrSector }: GptTable,
  wanted: ReadonlyMap<string, string>,
): { guid: Buffer; mbrSector: Buffer; written: string[] } {
  const guid = wanted.get('disk-guid');
  const signature = wanted.get('signature');
  return {
    guid:
      guid === undefined
        ? believed.header.subarray(HEADER.guid, HEADER.guid + 16)
        : parseGuid('disk-guid', guid),
    mbrSector:
      signature === undefined ? mbrSector : withSignature(mbrSector, parseSignature('signature', signature)),
    written: ['disk-guid', 'signature'].filter((name) => wanted.has(name)),
  };
}

function* writeCopies(
  { disk, believed }: GptTable,
  layout: Layout,
  { entries, guid }: { entries: Buffer; guid: Buffer },
): Writing<number> {
  const { lastUsable, backupLba } = layout;
  const copies = [
    { lba: PRIMARY_LBA, alternate: backupLba, entriesLba: layout.primaryEntriesLba },
    { lba: backupLba, alternate: PRIMARY_LBA, entriesLba: layout.backupEntriesLba },
  ];
  const unit = BigInt(disk.sectorBytes);
  let wrote = 0;
  for (const { lba, alternate, entriesLba } of copies) {
    const header = changedHeader(believed, { lba, alternate, lastUsable, entriesLba, guid, entries });
    wrote += yield* replaceAt(entriesLba * unit, entries);
    wrote += yield* replaceAt(lba * unit, header);
  }
  return wrote;
}

/** The protective entry covers the whole disk, or as much as it can say. That of a hybrid covers what its maker wanted. */
function withDiskLength({ disk, mbr }: GptTable, sector: Buffer): Buffer {
  const [only, ...others] = mbr.entries;
  if (only?.type !== PROTECTIVE_TYPE || others.length > 0 || BigInt(only.start) !== PRIMARY_LBA)
    return sector;
  const length = lastLba(disk);
  return withLength(sector, only.slot, Number(length < MAX_UINT32 ? length : MAX_UINT32));
}

function restoreNotes({ primary, backup }: GptTable, { moved }: Layout, wrote: number): string[] {
  const notes: string[] = [];
  if (moved) notes.push('The backup copy of the GPT was moved to the end of the disk.');
  if (isBad(primary) || isBad(backup))
    notes.push(`The ${isBad(primary) ? 'primary' : 'backup'} copy of the GPT was bad and was written anew.`);
  if (wrote > 0) notes.push(`${wrote} bytes of the partition table were written.`);
  return notes;
}
