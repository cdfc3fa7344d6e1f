// NTFS: the serial in both boot sectors, the label in the record of $Volume and its mirror.
// Invariant: record and mirror get the same bytes, or Windows and ntfs-3g call the volume damaged. The label is left alone while the log has
// something to replay.

import { type Found, invalidValue, type Kind, type Restored, type Unsupported } from './kind.js';
import { BOOT_BYTES, isBackupOf, readVolume, serialOf, type Volume, withSerial } from './ntfs/boot.js';
import { isLogClean } from './ntfs/log.js';
import {
  attributeOf,
  type FileRecord,
  protectedBytes,
  readRecord,
  residentValue,
  withValue,
} from './ntfs/record.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';

export const ntfs: Kind = { name: 'ntfs', detect, restore };

const VOLUME = 3;
const VOLUME_NAME = 0x60;
const VOLUME_INFORMATION = 0x70;
const MAX_CHARACTERS = 128;

function* detect(bytes: bigint): Reading<Found | null> {
  const volume = yield* readVolume(bytes);
  if (volume === null) return null;
  const record = yield* readVolumeRecord(volume);
  return {
    kind: 'ntfs',
    fields: [
      { name: 'serial', group: 'fs', format: 'hex64', value: serialOf(volume.boot) },
      ...(record === null
        ? []
        : [{ name: 'label', group: 'fs', format: 'text', value: labelOf(record) } as const]),
    ],
    unsupported: record === null ? [noRecord(volume)] : [],
    notes: record !== null && isDirty(record) ? ['The NTFS volume is marked to be checked.'] : [],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const serial = wanted.get('serial');
  const label = wanted.get('label');
  checkValues(serial, label);
  const volume = yield* readVolume(bytes);
  if (volume === null) return { written: [], unsupported: [], notes: [] };
  const notes = serial === undefined ? [] : yield* writeSerial(volume, serial.toLowerCase());
  const unsupported = label === undefined ? [] : yield* writeLabel(volume, label);
  const written = ['serial', 'label'].filter(
    (name) => wanted.has(name) && !unsupported.some(({ field }) => field === name),
  );
  return { written, unsupported, notes };
}

/** Throws `identity-invalid`. */
function checkValues(serial: string | undefined, label: string | undefined): void {
  if (serial !== undefined && !/^[0-9a-f]{16}$/i.test(serial))
    throw invalidValue('serial', serial, 'a serial of NTFS has 16 hexadecimal digits');
  if (label !== undefined && label.length > MAX_CHARACTERS)
    throw invalidValue('label', label, `it has ${label.length} UTF-16 characters, and ${MAX_CHARACTERS} fit`);
}

/** Null: it is not whole, or not that of $Volume. */
function* readVolumeRecord(volume: Volume): Reading<FileRecord | null> {
  const record = yield* readRecord(volume.tableAt, volume.recordBytes, VOLUME);
  const information = record && attributeOf(record, VOLUME_INFORMATION);
  if (record === null || information === null || !information.resident) return null;
  const name = attributeOf(record, VOLUME_NAME);
  if (residentValue(record, information).length < 12 || name?.resident === false) return null;
  return record;
}

function labelOf(record: FileRecord): string {
  const name = attributeOf(record, VOLUME_NAME);
  return name === null ? '' : residentValue(record, name).toString('utf16le');
}

function isDirty(record: FileRecord): boolean {
  const information = attributeOf(record, VOLUME_INFORMATION);
  return information !== null && (residentValue(record, information).readUInt16LE(10) & 1) !== 0;
}

function* writeSerial({ boot, backupAt }: Volume, serial: string): Writing<string[]> {
  if (serialOf(boot) !== serial) yield* writeAt(0n, withSerial(boot, serial));
  const backup = yield* readAt(backupAt, BOOT_BYTES);
  if (!isBackupOf(boot, backup)) return [`There is no copy of the boot sector at ${backupAt} to be written.`];
  if (serialOf(backup) !== serial) yield* writeAt(backupAt, withSerial(backup, serial));
  return [];
}

function* writeLabel(volume: Volume, label: string): Writing<Unsupported[]> {
  const record = yield* readVolumeRecord(volume);
  if (record === null) return [noRecord(volume)];
  if (labelOf(record) === label) return [];
  const mirror = yield* readRecord(volume.mirrorAt, volume.recordBytes, VOLUME);
  if (mirror === null || !mirror.data.equals(sameSequence(record.data, mirror.data)))
    return [refusal('the record of $Volume and its mirror differ', record)];
  if (!(yield* isLogClean(volume)))
    return [refusal('the log of the NTFS volume has something to replay', record)];
  const changed = withValue(record, VOLUME_NAME, Buffer.from(label, 'utf16le'));
  if (changed === null) return [refusal('the record of $Volume has no room for it', record)];
  const bytes = protectedBytes(changed);
  for (const at of [volume.tableAt, volume.mirrorAt])
    yield* writeAt(at + BigInt(VOLUME * volume.recordBytes), bytes);
  return [];
}

/** The mirror may be at another number of its update sequence. */
function sameSequence(record: Buffer, mirror: Buffer): Buffer {
  const data = Buffer.from(record);
  const at = mirror.readUInt16LE(4);
  mirror.copy(data, at, at, at + 2 * mirror.readUInt16LE(6));
  return data;
}

function noRecord(volume: Volume): Unsupported {
  const at = volume.tableAt + BigInt(VOLUME * volume.recordBytes);
  return {
    field: 'label',
    reason: `Neither read nor written: there is no whole record of $Volume at ${at}.`,
  };
}

function refusal(why: string, record: FileRecord): Unsupported {
  return { field: 'label', reason: `Not written: ${why}; the label is ${JSON.stringify(labelOf(record))}.` };
}
