// Labels and names as they lie on a disk: a field of fixed length, the text in front, zeros behind.
// Invariant: what textOf answers, textBytes turns into bytes that textOf answers the same for.

import { type Field, type FieldGroup, invalidValue, type Unsupported } from './kind.js';

/** Null: the bytes are no UTF-8, and as a text they could not be written back. */
export function textOf(field: Uint8Array): string | null {
  const end = field.indexOf(0);
  const bytes = Buffer.from(end < 0 ? field : field.subarray(0, end));
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : null;
}

export interface TextField {
  readonly name: string;
  /** Of the field. */
  readonly bytes: number;
  /** Of the text: smaller than `bytes` where a zero byte has to follow. */
  readonly longest: number;
}

/** Throws `identity-invalid`. */
export function textBytes(field: TextField, text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > field.longest)
    throw invalidValue(field.name, text, `it has ${bytes.length} bytes, and ${field.longest} fit`);
  if (bytes.includes(0)) throw invalidValue(field.name, text, 'it contains a zero byte');
  return Buffer.concat([bytes, Buffer.alloc(field.bytes - bytes.length)]);
}

/** A field for a text that could be read, a reason for one that could not. */
export function textField(
  name: string,
  group: FieldGroup,
  stored: Uint8Array,
): { fields: Field[]; unsupported: Unsupported[] } {
  const value = textOf(stored);
  if (value !== null) return { fields: [{ name, group, format: 'text', value }], unsupported: [] };
  const seen = Buffer.from(stored).toString('hex');
  return { fields: [], unsupported: [{ field: name, reason: `The ${name} is no UTF-8 text: ${seen}.` }] };
}
