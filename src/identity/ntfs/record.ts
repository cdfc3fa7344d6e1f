// File records of NTFS: their attributes, and the update sequence that shows whether a record was written whole.
// Invariant: a record that readRecord answers was whole, and its attributes follow one another up to the end mark. Only resident ones
// are looked into.

import { type Reading, readAt } from '../steps.js';

const BLOCK = 512;
const END = 0xffffffff;
const RESIDENT_HEADER = 24;
const AT = {
  sequenceAt: 4,
  sequenceCount: 6,
  attributes: 0x14,
  used: 0x18,
  size: 0x1c,
  nextInstance: 0x28,
  number: 0x2c,
};

export interface Attribute {
  readonly type: number;
  readonly at: number;
  readonly bytes: number;
  readonly resident: boolean;
  readonly named: boolean;
  readonly instance: number;
}

export interface FileRecord {
  /** With the true bytes at the ends of its blocks. */
  readonly data: Buffer;
  readonly attributes: readonly Attribute[];
  /** Where the end mark is. */
  readonly end: number;
}

/** Null: there is none with this number, or not all of it was written. */
export function* readRecord(
  tableAt: bigint,
  recordBytes: number,
  number: number,
): Reading<FileRecord | null> {
  const data = yield* readAt(tableAt + BigInt(number * recordBytes), recordBytes);
  if (data.toString('latin1', 0, 4) !== 'FILE' || !unprotect(data)) return null;
  // Older than Windows XP: no number, the update sequence begins where it would be.
  if (data.readUInt16LE(AT.sequenceAt) > AT.number && data.readUInt32LE(AT.number) !== number) return null;
  return parsed(data);
}

/** The last two bytes of every block are kept apart, and a number is in their place. */
function unprotect(data: Buffer): boolean {
  const at = data.readUInt16LE(AT.sequenceAt);
  const count = data.readUInt16LE(AT.sequenceCount);
  if (count !== data.length / BLOCK + 1 || at < 0x28 || at + 2 * count > BLOCK - 2) return false;
  for (let block = 1; block < count; block++) {
    const last = block * BLOCK - 2;
    if (data.readUInt16LE(last) !== data.readUInt16LE(at)) return false;
    data.copyWithin(last, at + 2 * block, at + 2 * block + 2);
  }
  return true;
}

/** The bytes to write, with the next number. */
export function protectedBytes({ data: whole }: FileRecord): Buffer {
  const data = Buffer.from(whole);
  const at = data.readUInt16LE(AT.sequenceAt);
  const before = data.readUInt16LE(at);
  const next = before >= 0xfffe ? 1 : before + 1;
  data.writeUInt16LE(next, at);
  for (let block = 1; block < data.readUInt16LE(AT.sequenceCount); block++) {
    const last = block * BLOCK - 2;
    data.copyWithin(at + 2 * block, last, last + 2);
    data.writeUInt16LE(next, last);
  }
  return data;
}

function parsed(data: Buffer): FileRecord | null {
  const used = data.readUInt32LE(AT.used);
  if (used > data.length || data.readUInt32LE(AT.size) !== data.length) return null;
  const attributes: Attribute[] = [];
  let at = data.readUInt16LE(AT.attributes);
  while (at + 4 <= used && data.readUInt32LE(at) !== END) {
    const attribute = attributeAt(data, at, used);
    if (attribute === null) return null;
    attributes.push(attribute);
    at += attribute.bytes;
  }
  return at + 4 <= used ? { data, attributes, end: at } : null;
}

function attributeAt(data: Buffer, at: number, used: number): Attribute | null {
  if (at + RESIDENT_HEADER > used) return null;
  const bytes = data.readUInt32LE(at + 4);
  if (bytes < RESIDENT_HEADER || bytes % 8 !== 0 || at + bytes > used) return null;
  const resident = data[at + 8] === 0;
  const [length, from] = [data.readUInt32LE(at + 16), data.readUInt16LE(at + 20)];
  if (resident && from + length > bytes) return null;
  const common = { type: data.readUInt32LE(at), at, bytes, resident };
  return { ...common, named: data[at + 9] !== 0, instance: data.readUInt16LE(at + 14) };
}

export function attributeOf(record: FileRecord, type: number): Attribute | null {
  return record.attributes.find((one) => one.type === type && !one.named) ?? null;
}

/** Of a resident attribute. */
export function residentValue({ data }: FileRecord, { at }: Attribute): Buffer {
  const from = at + data.readUInt16LE(at + 20);
  return data.subarray(from, from + data.readUInt32LE(at + 16));
}

/** The record with this value, in place of an old one or as a new attribute. Null: it does not fit in. */
export function withValue(record: FileRecord, type: number, value: Buffer): FileRecord | null {
  const old = attributeOf(record, type);
  const at = old?.at ?? record.attributes.find((one) => one.type > type)?.at ?? record.end;
  const instance = old?.instance ?? record.data.readUInt16LE(AT.nextInstance);
  const attribute = resident(type, instance, value);
  const used = record.data.readUInt32LE(AT.used) + attribute.length - (old?.bytes ?? 0);
  if (used > record.data.length) return null;
  const rest = record.data.subarray(at + (old?.bytes ?? 0), record.data.readUInt32LE(AT.used));
  const data = Buffer.concat([record.data.subarray(0, at), attribute, rest], record.data.length);
  data.writeUInt32LE(used, AT.used);
  if (old === null) data.writeUInt16LE((instance + 1) & 0xffff, AT.nextInstance);
  return parsed(data);
}

function resident(type: number, instance: number, value: Buffer): Buffer {
  const attribute = Buffer.alloc(RESIDENT_HEADER + Math.ceil(value.length / 8) * 8);
  attribute.writeUInt32LE(type, 0);
  attribute.writeUInt32LE(attribute.length, 4);
  attribute.writeUInt16LE(RESIDENT_HEADER, 10);
  attribute.writeUInt16LE(instance, 14);
  attribute.writeUInt32LE(value.length, 16);
  attribute.writeUInt16LE(RESIDENT_HEADER, 20);
  value.copy(attribute, RESIDENT_HEADER);
  return attribute;
}
