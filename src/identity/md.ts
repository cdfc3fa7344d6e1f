// Members of Linux RAID: UUID and name of the array, UUID of the device.
// Invariant: an array of several members is never changed: they find each other by what is written here. One of a single member is, with
// its bitmap, which names the array too.

import { formatUuid, parseUuid } from './formats.js';
import { damaged, type Field, type Found, type Kind, type Restored, type Unsupported } from './kind.js';
import {
  arrayUuidOf,
  bitmapOf,
  type Change,
  changed,
  deviceUuidOf,
  NAME_BYTES,
  nameOf,
  readSuperblocks,
  type Superblock,
  whyNot,
} from './md/superblock.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';
import { textBytes, textField } from './texts.js';

export const md: Kind = { name: 'linux_raid_member', detect, restore };

const NAME = { name: 'name', bytes: NAME_BYTES, longest: NAME_BYTES } as const;
const BITMAP_MAGIC = 0x6d746962;
const BITMAP_UUID = 8;

interface Member {
  readonly superblock: Superblock;
  /** Of the bitmap, if there is one: where its UUID lies. */
  readonly bitmapUuidAt: bigint | null;
  /** Without a full stop. */
  readonly refused: string | null;
}

function* detect(bytes: bigint): Reading<Found | null> {
  const member = yield* readMember(bytes);
  if (member === null) return null;
  const { superblock, refused } = member;
  const { fields, unsupported } = fieldsOf(superblock);
  const names = fields.map(({ name }) => name);
  return {
    kind: 'linux_raid_member',
    fields,
    unsupported: [...unsupported, ...(refused === null ? [] : refusals(names, refused, superblock))],
    notes: [`The RAID superblock is of version ${superblock.version}, at ${superblock.at}.`],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const change = changeOf(wanted);
  const member = yield* readMember(bytes);
  if (member === null) return { written: [], unsupported: [], notes: [] };
  const { superblock, bitmapUuidAt, refused } = member;
  const names = ['uuid', 'name', 'device-uuid'].slice(0, superblock.version === '0.90' ? 1 : 3);
  const written = names.filter((name) => wanted.has(name));
  if (written.length === 0) return { written, unsupported: [], notes: [] };
  if (refused !== null)
    return { written: [], unsupported: refusals(written, refused, superblock), notes: [] };
  const after = changed(superblock, change);
  if (!after.data.equals(superblock.data)) yield* writeAt(after.at, after.data);
  if (bitmapUuidAt !== null && change.uuid !== null) yield* writeAt(bitmapUuidAt, change.uuid);
  return { written, unsupported: [], notes: [] };
}

/** Throws `identity-invalid`. */
function changeOf(wanted: ReadonlyMap<string, string>): Change {
  const [uuid, name, deviceUuid] = [wanted.get('uuid'), wanted.get('name'), wanted.get('device-uuid')];
  return {
    uuid: uuid === undefined ? null : parseUuid('uuid', uuid),
    name: name === undefined ? null : textBytes(NAME, name),
    deviceUuid: deviceUuid === undefined ? null : parseUuid('device-uuid', deviceUuid),
  };
}

function fieldsOf(superblock: Superblock): { fields: Field[]; unsupported: Unsupported[] } {
  const uuid: Field = { name: 'uuid', group: 'md', format: 'uuid', value: arrayUuidOf(superblock) };
  if (superblock.version === '0.90') return { fields: [uuid], unsupported: [] };
  const name = textField('name', 'md', nameOf(superblock));
  const device: Field = {
    name: 'device-uuid',
    group: 'md',
    format: 'uuid',
    value: formatUuid(deviceUuidOf(superblock)),
  };
  return { fields: [uuid, ...name.fields, device], unsupported: name.unsupported };
}

/** Throws `identity-damaged`. */
function* readMember(bytes: bigint): Reading<Member | null> {
  const { sound, faults } = yield* readSuperblocks(bytes);
  const superblock = sound[0];
  if (superblock === undefined) {
    if (faults[0] !== undefined) throw damaged(faults[0]);
    return null;
  }
  const bitmap = bitmapOf(superblock);
  const hasBitmap = bitmap !== null && (yield* isBitmap(bytes, bitmap));
  return {
    superblock,
    bitmapUuidAt: bitmap !== null && hasBitmap ? bitmap + BigInt(BITMAP_UUID) : null,
    refused: refusedOf(superblock, sound, bitmap !== null && !hasBitmap),
  };
}

function refusedOf(
  superblock: Superblock,
  sound: readonly Superblock[],
  lacksBitmap: boolean,
): string | null {
  if (sound.length > 1)
    return `there are RAID superblocks ${sound.map(({ version }) => version).join(' and ')}`;
  return whyNot(superblock) ?? (lacksBitmap ? 'the RAID array has no bitmap where it names one' : null);
}

function* isBitmap(bytes: bigint, at: bigint): Reading<boolean> {
  if (at < 0n || at + 256n > bytes) return false;
  return (yield* readAt(at, 4)).readUInt32LE(0) === BITMAP_MAGIC;
}

function refusals(names: readonly string[], why: string, superblock: Superblock): Unsupported[] {
  const where = `array ${arrayUuidOf(superblock)}, superblock ${superblock.version} at ${superblock.at}`;
  return names.map((field) => ({ field, reason: `Not written: ${why} (${where}).` }));
}
