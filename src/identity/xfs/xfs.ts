// XFS, versions 4 and 5: the UUID and the label of the superblocks. Metadata of version 5 carries the UUID too; it goes on carrying the old one,
// which the superblock then names as `sb_meta_uuid`. The log carries the UUID as well, and replay of a log that was not emptied would bring
// back the superblock it holds, so the log is edited in place: docs/decisions/0011.

import { isUtf8 } from 'node:buffer';
import { formatUuid, parseUuid } from '../formats.js';
import { type Field, type Found, invalidValue, type Kind, type Restored, type Unsupported } from '../kind.js';
import { type Reading, type Writing, writeAt } from '../steps.js';
import { applyLogEdit, type LogEdit, type LogEdited, planLogEdit } from './edit-log.js';
import { findLogState, type LogState } from './head.js';
import { distance, Refusal } from './log-blocks.js';
import {
  AT,
  featureRefusal,
  LABEL_BYTES,
  META_UUID,
  readCopy,
  readSuperblock,
  type Superblock,
  stampChecksum,
  UUID_BYTES,
} from './superblock.js';
import type { SuperblockPatch } from './transactions.js';

export const xfs: Kind = { name: 'xfs', detect, restore };

function* detect(bytes: bigint): Reading<Found | null> {
  const superblock = yield* readSuperblock(bytes);
  if (superblock === null) return null;
  const log = yield* lookAtLog(superblock);
  const refusal = featureRefusal(superblock) ?? log.refusal;
  const fields = fieldsOf(superblock);
  return {
    kind: 'xfs',
    fields,
    unsupported: [
      ...fields.flatMap((field) => refusedField(field, refusal)),
      ...labelThatIsNoText(superblock),
    ],
    notes: [...log.notes, ...realtimeNotes(superblock)],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const values = parseWanted(wanted);
  const superblock = yield* readSuperblock(bytes);
  if (superblock === null || values.size === 0) return { written: [], unsupported: [], notes: [] };
  try {
    return yield* restoreInto(superblock, bytes, values);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { written: [], unsupported: refused(superblock, values, `its log ${error.message}`), notes: [] };
  }
}

type Values = ReadonlyMap<'uuid' | 'label', Buffer>;

function* restoreInto(superblock: Superblock, bytes: bigint, values: Values): Writing<Restored> {
  const refusal = featureRefusal(superblock) ?? valueRefusal(values);
  if (refusal !== null) return { written: [], unsupported: refused(superblock, values, refusal), notes: [] };
  if (superblock.log === null) throw new Refusal(EXTERNAL_LOG);
  const state = yield* findLogState(superblock.log);
  if (state.state === 'dirty' && superblock.version === 4) throw new Refusal(DIRTY_VERSION_4);
  const edit = editOf(superblock, values);
  const plan = yield* planLogEdit(superblock.log, state, edit);
  const inLog = yield* applyLogEdit(superblock.log, plan, edit);
  const groups = yield* editSuperblocks(superblock, bytes, inLog.groups, edit);
  return {
    written: [...values.keys()],
    unsupported: [],
    notes: restoredNotes(superblock, state, inLog, groups),
  };
}

const EXTERNAL_LOG = 'lies on another device, which carries the identity too';
const DIRTY_VERSION_4 =
  'has changes to replay, which is only edited in file systems of version 5: mount and unmount it once, then sync from a new snapshot';

// What is looked for in the log.

interface LogView {
  readonly refusal: string | null;
  readonly notes: readonly string[];
}

function* lookAtLog(superblock: Superblock): Reading<LogView> {
  if (superblock.log === null) return { refusal: `its log ${EXTERNAL_LOG}`, notes: [] };
  try {
    const state = yield* findLogState(superblock.log);
    if (state.state !== 'dirty') return { refusal: null, notes: [] };
    const kib = distance(superblock.log, state.tail, state.head) / 2;
    const notes = [`The log of the XFS was not emptied: ${kib} KiB of it are replayed when it is mounted.`];
    return { refusal: superblock.version === 4 ? `its log ${DIRTY_VERSION_4}` : null, notes };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { refusal: `its log ${error.message}`, notes: [] };
  }
}

function realtimeNotes(superblock: Superblock): string[] {
  return superblock.realtime ? ['The XFS has a realtime section, which carries no identity of its own.'] : [];
}

// Values and fields.

function fieldsOf(superblock: Superblock): Field[] {
  const fields: Field[] = [{ name: 'uuid', group: 'fs', format: 'uuid', value: formatUuid(superblock.uuid) }];
  const label = labelOf(superblock);
  if (label !== null) fields.push({ name: 'label', group: 'fs', format: 'text', value: label });
  return fields;
}

/** Null: it is no text. */
function labelOf(superblock: Superblock): string | null {
  const end = superblock.label.indexOf(0);
  const label = superblock.label.subarray(0, end === -1 ? LABEL_BYTES : end);
  return isUtf8(label) ? label.toString() : null;
}

/** In the form in which the superblock holds them. */
function parseWanted(wanted: ReadonlyMap<string, string>): Values {
  const values = new Map<'uuid' | 'label', Buffer>();
  const uuid = wanted.get('uuid');
  if (uuid !== undefined) values.set('uuid', parseUuid('UUID', uuid));
  const label = wanted.get('label');
  if (label !== undefined) values.set('label', parseLabel(label));
  return values;
}

function parseLabel(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > LABEL_BYTES || bytes.includes(0) || bytes.toString() !== text)
    throw invalidValue('label of XFS', text, 'it has at most 12 bytes');
  return Buffer.concat([bytes, Buffer.alloc(LABEL_BYTES - bytes.length)]);
}

function valueRefusal(values: Values): string | null {
  return values.get('uuid')?.every((byte) => byte === 0)
    ? 'XFS with a UUID of zeros cannot be mounted'
    : null;
}

function refused(superblock: Superblock, values: Values, reason: string): Unsupported[] {
  return fieldsOf(superblock)
    .filter((field) => values.has(field.name as 'uuid' | 'label'))
    .map((field) => unsupported(field.name, field.value, reason));
}

function refusedField(field: Field, reason: string | null): Unsupported[] {
  return reason === null ? [] : [unsupported(field.name, field.value, reason)];
}

function labelThatIsNoText(superblock: Superblock): Unsupported[] {
  return labelOf(superblock) === null
    ? [unsupported('label', superblock.label.toString('hex'), 'its bytes are no text')]
    : [];
}

function unsupported(field: string, value: string, reason: string): Unsupported {
  return {
    field,
    reason: `The ${field} of the XFS at 0, ${JSON.stringify(value)}, is not changed: ${reason}.`,
  };
}

// What is changed.

function editOf(superblock: Superblock, values: Values): LogEdit {
  const uuid = values.get('uuid');
  const label = values.get('label');
  const newUuid = uuid === undefined || uuid.equals(superblock.uuid) ? null : uuid;
  const patches: SuperblockPatch[] = [];
  if (label !== undefined) patches.push(bytesAt(AT.label, label));
  if (newUuid !== null) patches.push(bytesAt(AT.uuid, newUuid));
  if (newUuid !== null && superblock.version === 5)
    patches.push(bytesAt(AT.metaUuid, Buffer.from(superblock.metaUuid)), {
      at: AT.incompat + 3,
      bytes: 1,
      change: (old) => old | META_UUID,
    });
  return {
    uuid: newUuid,
    patches,
    isSuperblock: (block) => block >= 0n && (block * 512n) % superblock.groupBytes === 0n,
  };
}

function bytesAt(at: number, bytes: Buffer): SuperblockPatch {
  return { at, bytes: bytes.length, change: (_, index) => bytes[index]! };
}

interface EditedGroups {
  readonly written: number;
  readonly damaged: readonly number[];
}

/** The log may tell of more groups than the superblock does not know yet; their superblocks are there before the log tells. */
function* editSuperblocks(
  superblock: Superblock,
  bytes: bigint,
  groupsInLog: number,
  edit: LogEdit,
): Writing<EditedGroups> {
  const damaged: number[] = [];
  let written = 0;
  const room = Number((bytes - BigInt(superblock.sector.length)) / superblock.groupBytes) + 1;
  const groups = Math.min(Math.max(superblock.groups, groupsInLog), room);
  for (let group = 0; group < groups; group++) {
    const copy = yield* readCopy(superblock, group);
    if (copy === null || (group >= superblock.groups && !isOfSame(superblock, copy))) {
      if (group < superblock.groups) damaged.push(group);
    } else if (patchSuperblock(superblock, copy, edit)) {
      yield* writeAt(BigInt(group) * superblock.groupBytes, copy);
      written++;
    }
  }
  return { written, damaged };
}

function isOfSame(superblock: Superblock, copy: Buffer): boolean {
  return superblock.uuid.equals(copy.subarray(AT.uuid, AT.uuid + UUID_BYTES));
}

/** False: nothing had to be changed. */
function patchSuperblock(superblock: Superblock, sector: Buffer, edit: LogEdit): boolean {
  const before = Buffer.from(sector);
  for (const patch of edit.patches)
    for (let index = 0; index < patch.bytes; index++)
      sector[patch.at + index] = patch.change(sector[patch.at + index]!, index);
  if (superblock.version === 5) stampChecksum(sector);
  return !sector.equals(before);
}

function restoredNotes(
  superblock: Superblock,
  state: LogState,
  inLog: LogEdited,
  groups: EditedGroups,
): string[] {
  const notes: string[] = [];
  if (state.state === 'dirty')
    notes.push(
      `The log of the XFS was not emptied: ${inLog.records} records with ${inLog.copies} copies of superblocks in them were gone through, and ${inLog.bytesWritten} bytes written.`,
    );
  if (groups.damaged.length > 0)
    notes.push(
      `Of the ${superblock.groups} superblocks of the XFS those of the groups ${firstOf(groups.damaged)} are damaged and were left.`,
    );
  return notes;
}

function firstOf(groups: readonly number[]): string {
  return groups.length > 8
    ? `${groups.slice(0, 8).join(', ')} and ${groups.length - 8} more`
    : groups.join(', ');
}
