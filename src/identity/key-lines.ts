// Texts of lines `key = "value"` or `key=value`, as VMware writes them: where in the text the value of each key stands.

import type { ConfigSlot } from './config-document.js';
import { formatUuid } from './formats.js';
import { type Field, type FieldFormat, type FieldGroup, invalidValue } from './kind.js';

const KEY = /^[A-Za-z0-9_.:]+$/;

export interface KeyLine {
  /** In lower case: keys do not differ by it. */
  readonly key: string;
  /** As it is written, without quotes. */
  readonly raw: string;
  readonly start: number;
}

/** Of several lines with one key the first one counts. In time of the text's length, whatever it is. */
export function keyLines(text: string): KeyLine[] {
  const lines = new Map<string, KeyLine>();
  let start = 0;
  for (const line of text.split('\n')) {
    const found = parseLine(line, start);
    if (found && !lines.has(found.key)) lines.set(found.key, found);
    start += line.length + 1;
  }
  return [...lines.values()];
}

/** Null: it is a comment, or something else. */
function parseLine(line: string, start: number): KeyLine | null {
  const equals = line.indexOf('=');
  const key = line.slice(0, Math.max(0, equals)).trim().toLowerCase();
  const rest = line.slice(equals + 1);
  const said = rest.trim();
  if (!KEY.test(key)) return null;
  const isQuoted = said.length > 1 && said.startsWith('"') && said.endsWith('"');
  const raw = isQuoted ? said.slice(1, -1) : said;
  if (/["\r]/.test(raw) || (!isQuoted && /[\s#]/.test(raw))) return null;
  const before = rest.length - rest.trimStart().length + (isQuoted ? 1 : 0);
  return { key, raw, start: start + equals + 1 + before };
}

/** How the values of one field are written. */
export interface ValueForm {
  readonly format: FieldFormat;
  /** Null: what is written is none. */
  read(raw: string): string | null;
  /** `like`: what was there before. Throws `identity-invalid`. */
  write(field: string, value: string, like: string): string;
}

export interface KeyField extends ConfigSlot {
  readonly field: Field;
}

/** The field that a line holds, or nothing. */
export function keyField(
  line: KeyLine,
  { name, group, form }: { name: string; group: FieldGroup; form: ValueForm },
): KeyField[] {
  const value = form.read(line.raw);
  if (value === null) return [];
  const { start, raw } = line;
  return [
    {
      name,
      value,
      field: { name, group, format: form.format, value },
      put: (wanted) => ({ start, end: start + raw.length, text: form.write(name, wanted, raw) }),
    },
  ];
}

/** Lower-case digits, so many. */
export function hexForm(digits: number, format: FieldFormat): ValueForm {
  const isHex = new RegExp(`^[0-9a-f]{1,${digits}}$`, 'i');
  return {
    format,
    read: (raw) => (isHex.test(raw) ? raw.toLowerCase().padStart(digits, '0') : null),
    write(field, value) {
      if (value.length === digits && isHex.test(value)) return value;
      throw invalidValue(field, value, `it has ${digits} hexadecimal digits`);
    },
  };
}

/** `56 4d 6b 2c ... 6f-7b 9a ...` of VMware, and the usual form. */
export const uuidForm: ValueForm = {
  format: 'uuid',
  read(raw) {
    const digits = raw.replace(/[ -]/g, '');
    return /^[0-9a-f]{32}$/i.test(digits) ? formatUuid(Buffer.from(digits, 'hex')) : null;
  },
  write(field, value, like) {
    const digits = value.replaceAll('-', '').toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits))
      throw invalidValue(field, value, 'a UUID has 32 hexadecimal digits in five parts');
    const form = like.includes(' ') ? spaced(digits) : value.toLowerCase();
    return /[A-F]/.test(like) ? form.toUpperCase() : form;
  },
};

function spaced(digits: string): string {
  const pairs = digits.match(/../g)!;
  return `${pairs.slice(0, 8).join(' ')}-${pairs.slice(8).join(' ')}`;
}
