// exFAT: the serial in both boot regions with their checksums, the label in the root directory.
// Invariant: a boot region is written whole with its checksum, or not at all.

import {
  isBackupOf,
  isDirty,
  type Layout,
  readLayout,
  readRegion,
  sectorShiftOf,
  serialOf,
  withSerial,
} from './exfat/layout.js';
import { labelled, labelText, MAX_CHARACTERS, type RootDirectory, readRoot } from './exfat/root-directory.js';
import { formatSerial, parseSerial } from './fat.js';
import { formatGuid } from './formats.js';
import { type Found, invalidValue, type Kind, type Restored, type Unsupported } from './kind.js';
import { type Reading, type Writing, writeAt } from './steps.js';

export const exfat: Kind = { name: 'exfat', detect, restore };

function* detect(bytes: bigint): Reading<Found | null> {
  const layout = yield* readLayout(bytes);
  if (layout === null) return null;
  const root = yield* readRoot(layout);
  return {
    kind: 'exfat',
    fields: [
      { name: 'serial', group: 'fs', format: 'fat', value: formatSerial(serialOf(layout.region)) },
      { name: 'label', group: 'fs', format: 'text', value: root.label === null ? '' : labelText(root.label) },
    ],
    unsupported: volumeGuid(root),
    notes: isDirty(layout.region) ? ['The exFAT file system was not unmounted.'] : [],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const serial = wanted.get('serial');
  const label = wanted.get('label');
  const newSerial = serial === undefined ? null : parseSerial('serial', serial);
  if (label !== undefined) checkLabel(label);
  const layout = yield* readLayout(bytes);
  if (layout === null) return { written: [], unsupported: [], notes: [] };
  const notes = newSerial === null ? [] : yield* writeSerial(layout, newSerial);
  const unsupported = label === undefined ? [] : yield* writeLabel(layout, label);
  const written = ['serial', 'label'].filter(
    (name) => wanted.has(name) && !unsupported.some(({ field }) => field === name),
  );
  return { written, unsupported, notes };
}

/** Optional, and made by few: it has a checksum of its own and nobody mounts by it. */
function volumeGuid({ volumeGuid: entry }: RootDirectory): Unsupported[] {
  if (entry === null) return [];
  const seen = formatGuid(entry.data.subarray(6, 22));
  return [{ field: 'volume-guid', reason: `The volume GUID entry at ${entry.at}, ${seen}, is not written.` }];
}

/** Throws `identity-invalid`. */
function checkLabel(label: string): void {
  if (label.length > MAX_CHARACTERS)
    throw invalidValue('label', label, `it has ${label.length} UTF-16 characters, and ${MAX_CHARACTERS} fit`);
}

function* writeSerial(layout: Layout, serial: Buffer): Writing<string[]> {
  const { region, backupAt } = layout;
  if (!serialOf(region).equals(serial)) yield* writeAt(0n, withSerial(region, serial));
  const backup = yield* readRegion(backupAt, sectorShiftOf(region));
  if (!isBackupOf(region, backup))
    return [`The backup of the boot region at ${backupAt} was left: it is another one's, or damaged.`];
  if (!serialOf(backup).equals(serial)) yield* writeAt(backupAt, withSerial(backup, serial));
  return [];
}

function* writeLabel(layout: Layout, label: string): Writing<Unsupported[]> {
  const root = yield* readRoot(layout);
  if ((root.label === null ? '' : labelText(root.label)) === label) return [];
  const place = root.label ?? root.free;
  if (place === null) {
    const reason =
      'Not written: the root directory of the exFAT file system has no label and no room for one.';
    return [{ field: 'label', reason }];
  }
  const entry = labelled(place, label);
  yield* writeAt(entry.at, entry.data);
  return [];
}
