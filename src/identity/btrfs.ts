// btrfs: the fsid and the label, in every copy of the superblock.
// Invariant: the blocks of the trees and the device item name the metadata UUID, which never changes here. Where the fsid is another
// one, the superblock says so with an incompat flag and keeps both.

import {
  believe,
  COPIES,
  deviceBytesOf,
  deviceUuidOf,
  faultOf,
  fsidOf,
  hasLog,
  hasMagic,
  keepsBothUuids,
  LABEL,
  labelOf,
  SUPER_BYTES,
  setChecksum,
  setFsid,
  setLabel,
  treeUuidOf,
  whyNot,
} from './btrfs/superblock.js';
import { formatUuid, parseUuid } from './formats.js';
import type { Found, Kind, Restored, Unsupported } from './kind.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';
import { textBytes, textField } from './texts.js';

export const btrfs: Kind = { name: 'btrfs', detect, restore };

interface Copy {
  readonly at: bigint;
  readonly data: Buffer;
}

function* detect(bytes: bigint): Reading<Found | null> {
  const first = yield* readFirst(bytes);
  if (first === null) return null;
  const refused = whyNot(first.data);
  const label = textField('label', 'fs', labelOf(first.data));
  return {
    kind: 'btrfs',
    fields: [
      { name: 'uuid', group: 'fs', format: 'uuid', value: formatUuid(fsidOf(first.data)) },
      ...label.fields,
    ],
    unsupported: [
      ...label.unsupported,
      deviceUuid(first.data),
      ...(refused === null ? [] : refusals(['uuid', 'label'], refused, first.data)),
    ],
    notes: hasLog(first.data) ? ['The btrfs was not unmounted; its log is replayed by the next mount.'] : [],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const fsid = wanted.get('uuid');
  const label = wanted.get('label');
  const change = {
    fsid: fsid === undefined ? null : parseUuid('uuid', fsid),
    label: label === undefined ? null : textBytes(LABEL, label),
  };
  const names = ['uuid', 'label'].filter((name) => wanted.has(name));
  const first = yield* readFirst(bytes);
  if (first === null || names.length === 0) return { written: [], unsupported: [], notes: [] };
  const refused = whyNot(first.data);
  if (refused !== null) return { written: [], unsupported: refusals(names, refused, first.data), notes: [] };
  const { copies, notes } = yield* readOthers(bytes, first);
  for (const copy of copies) yield* rewrite(copy, change);
  return { written: names, unsupported: [], notes: [...notes, ...told(first.data)] };
}

function* readFirst(bytes: bigint): Reading<Copy | null> {
  const at = COPIES[0];
  if (at + BigInt(SUPER_BYTES) > bytes) return null;
  const data = yield* readAt(at, SUPER_BYTES);
  if (!hasMagic(data)) return null;
  believe(data, at);
  return { at, data };
}

/** The copies that belong to the first one. Another's, or none, is what a smaller file system leaves behind its end. */
function* readOthers(bytes: bigint, first: Copy): Reading<{ copies: Copy[]; notes: string[] }> {
  const copies = [first];
  const notes: string[] = [];
  const device = deviceBytesOf(first.data);
  const end = device < bytes ? device : bytes;
  for (const at of COPIES.slice(1)) {
    if (at + BigInt(SUPER_BYTES) > end) break;
    const data = yield* readAt(at, SUPER_BYTES);
    const fault = hasMagic(data) ? faultOf(data, at) : `there is no btrfs superblock at ${at}`;
    if (fault === null && fsidOf(data).equals(fsidOf(first.data))) copies.push({ at, data });
    else notes.push(`A copy was left as it is: ${fault ?? `the one at ${at} is of another btrfs`}.`);
  }
  return { copies, notes };
}

function* rewrite(copy: Copy, change: { fsid: Buffer | null; label: Buffer | null }): Writing<void> {
  const before = Buffer.from(copy.data);
  if (change.fsid !== null) setFsid(copy.data, change.fsid);
  if (change.label !== null) setLabel(copy.data, change.label);
  if (copy.data.equals(before)) return;
  setChecksum(copy.data);
  yield* writeAt(copy.at, copy.data);
}

function told(copy: Buffer): string[] {
  if (!keepsBothUuids(copy)) return [];
  const trees = formatUuid(treeUuidOf(copy));
  return [`The btrfs keeps ${trees} as its metadata UUID; kernels since 5.0 know of that.`];
}

/** Every chunk names it, so it cannot change with the superblock alone. Two file systems of different UUIDs may share it. */
function deviceUuid(copy: Buffer): Unsupported {
  const seen = formatUuid(deviceUuidOf(copy));
  return {
    field: 'device-uuid',
    reason: `The UUID of the btrfs device, ${seen}, is also in every chunk and stays.`,
  };
}

function refusals(names: readonly string[], why: string, copy: Buffer): Unsupported[] {
  const where = `superblock at ${COPIES[0]}, UUID ${formatUuid(fsidOf(copy))}`;
  return names.map((field) => ({ field, reason: `Not written: ${why} (${where}).` }));
}
