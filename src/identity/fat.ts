// FAT12, FAT16 and FAT32: serial and label. The label is the entry of the root directory, which everybody shows; the boot sector has a
// second one, and FAT32 a copy of the boot sector.
// Invariant: the label in the boot sector follows that of the directory, and the backup follows the boot sector.

import { BOOT_BYTES, type Layout, readLayout } from './fat/layout.js';
import {
  created,
  type Entry,
  NAME_BYTES,
  type RootDirectory,
  readRoot,
  removed,
  renamed,
} from './fat/root-directory.js';
import { type Field, type Found, invalidValue, type Kind, type Restored, type Unsupported } from './kind.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';

export const fat: Kind = { name: 'fat', detect, restore };

/** Behind Layout.extended, whose own byte is the signature; the byte before it has the flags. */
const SERIAL = 1;
const LABEL = 5;
const NO_NAME = Buffer.from('NO NAME    ');
/** A first byte of 0xE5 would mark the entry as unused. */
const ESCAPED = 0x05;
const UNUSED = 0xe5;

function* detect(bytes: bigint): Reading<Found | null> {
  const layout = yield* readLayout(bytes);
  if (layout === null) return null;
  const { label } = yield* readRoot(layout);
  const fields: Field[] = [{ name: 'label', group: 'fs', format: 'text', value: label ? nameOf(label) : '' }];
  if (hasSerial(layout))
    fields.unshift({ name: 'serial', group: 'fs', format: 'fat', value: formatSerial(serialOf(layout)) });
  return { kind: 'vfat', fields, unsupported: [], notes: notesOf(layout) };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const serial = wanted.get('serial');
  const label = wanted.get('label');
  const newSerial = serial === undefined ? null : parseSerial('serial', serial);
  const newName = label === undefined ? null : nameBytes(label);
  const layout = yield* readLayout(bytes);
  if (layout === null) return { written: [], unsupported: [], notes: [] };
  const unsupported = newName === null ? [] : yield* writeLabel(layout, newName);
  const change: BootChange = {
    serial: hasSerial(layout) ? newSerial : null,
    label: unsupported.length === 0 && hasBootLabel(layout) ? newName : null,
  };
  const notes = yield* writeBoot(layout, change);
  const written = [
    ...(change.serial ? ['serial'] : []),
    ...(newName && !unsupported.length ? ['label'] : []),
  ];
  return { written, unsupported, notes };
}

interface BootChange {
  readonly serial: Buffer | null;
  readonly label: Buffer | null;
}

const hasSerial = ({ boot, extended }: Layout): boolean => boot[extended] === 0x29 || boot[extended] === 0x28;
const hasBootLabel = ({ boot, extended }: Layout): boolean => boot[extended] === 0x29;
const serialOf = ({ boot, extended }: Layout): Buffer =>
  boot.subarray(extended + SERIAL, extended + SERIAL + 4);

function notesOf({ boot, extended }: Layout): string[] {
  return (boot[extended - 1]! & 1) === 0 ? [] : ['The FAT file system was not unmounted.'];
}

/** Stored from its last digits to its first. Throws `identity-invalid`. */
export function parseSerial(field: string, text: string): Buffer {
  if (!/^[0-9A-F]{4}-[0-9A-F]{4}$/i.test(text))
    throw invalidValue(field, text, 'a serial has eight hexadecimal digits in two parts');
  return Buffer.from(text.replace('-', ''), 'hex').reverse();
}

export function formatSerial(stored: Buffer): string {
  const digits = Buffer.from(stored).reverse().toString('hex').toUpperCase();
  return `${digits.slice(0, 4)}-${digits.slice(4)}`;
}

/** One character a byte, whatever code page it was written in: so it goes back as it came. */
function nameOf({ data }: Entry): string {
  const name = Buffer.from(data.subarray(0, NAME_BYTES));
  if (name[0] === ESCAPED) name[0] = UNUSED;
  const end = name.indexOf(0);
  return name.toString('latin1', 0, end < 0 ? NAME_BYTES : end).replace(/ +$/, '');
}

/** Throws `identity-invalid`. Empty: none. */
function nameBytes(label: string): Buffer {
  if (label.length > NAME_BYTES)
    throw invalidValue('label', label, `it has more than ${NAME_BYTES} characters`);
  if (/[\0\u0100-\uffff]/.test(label))
    throw invalidValue('label', label, 'a label of FAT has one byte a character');
  const name = Buffer.from(label.padEnd(NAME_BYTES), 'latin1');
  if (name[0] === UNUSED) name[0] = ESCAPED;
  return name;
}

const isEmpty = (name: Buffer): boolean => name.every((byte) => byte === 0x20);

function* writeLabel(layout: Layout, name: Buffer): Writing<Unsupported[]> {
  const root = yield* readRoot(layout);
  if (root.label === null && isEmpty(name)) return [];
  const entry = entryFor(root, name);
  if (entry === null) {
    const reason = 'Not written: the root directory of the FAT file system has no label and no room for one.';
    return [{ field: 'label', reason }];
  }
  yield* writeAt(entry.at, entry.data);
  return [];
}

function entryFor({ label, free }: RootDirectory, name: Buffer): Entry | null {
  if (label !== null) return isEmpty(name) ? removed(label) : renamed(label, name);
  return free && created(free, name);
}

function* writeBoot(layout: Layout, change: BootChange): Writing<string[]> {
  if (change.serial === null && change.label === null) return [];
  yield* writeAt(0n, changed(layout, layout.boot, change));
  if (layout.backupAt === null) return [];
  const backup = yield* readAt(layout.backupAt, BOOT_BYTES);
  if (!isBackup(layout, backup))
    return [`The backup of the boot sector at ${layout.backupAt} was left: it is another one's, or damaged.`];
  yield* writeAt(layout.backupAt, changed(layout, backup, change));
  return [];
}

/** The same geometry; serial and label may have fallen apart before. */
function isBackup({ boot, extended }: Layout, backup: Buffer): boolean {
  return (
    backup.readUInt16LE(510) === 0xaa55 &&
    backup[extended] === boot[extended] &&
    backup.subarray(11, 0x34).equals(boot.subarray(11, 0x34))
  );
}

function changed({ extended }: Layout, sector: Buffer, { serial, label }: BootChange): Buffer {
  const data = Buffer.from(sector);
  serial?.copy(data, extended + SERIAL);
  if (label !== null) (isEmpty(label) ? NO_NAME : label).copy(data, extended + LABEL);
  return data;
}
