// The forms in which values of identity fields are written, to bytes and back, and new ones. See FieldFormat.

import { type FieldFormat, invalidValue } from './kind.js';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const LVM_ID = /^[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}$/;
const LVM_PARTS = [6, 4, 4, 4, 4, 4, 6] as const;
const LVM_CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** 16 bytes, in the order in which they are stored. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** Throws `identity-invalid`. */
export function parseUuid(field: string, text: string): Buffer {
  if (!UUID.test(text)) throw invalidValue(field, text, 'a UUID has 32 hexadecimal digits in five parts');
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

/** 16 bytes of which the first three parts are little-endian. */
export function formatGuid(bytes: Uint8Array): string {
  return formatUuid(swapped(bytes)).toUpperCase();
}

/** Throws `identity-invalid`. */
export function parseGuid(field: string, text: string): Buffer {
  return swapped(parseUuid(field, text));
}

function swapped(bytes: Uint8Array): Buffer {
  const copy = Buffer.from(bytes.subarray(0, 16));
  copy.subarray(0, 4).swap32();
  copy.subarray(4, 8).swap16();
  return copy;
}

/** 32 characters as LVM stores them, with its dashes. */
export function formatLvmId(stored: string): string {
  const parts: string[] = [];
  let at = 0;
  for (const length of LVM_PARTS) {
    parts.push(stored.slice(at, at + length));
    at += length;
  }
  return parts.join('-');
}

/** Throws `identity-invalid`. 32 characters. */
export function parseLvmId(field: string, text: string): string {
  if (!LVM_ID.test(text))
    throw invalidValue(field, text, 'an id of LVM has 32 letters and digits in seven parts');
  return text.replaceAll('-', '');
}

/** A new value, or null: this form has none (texts). `random` answers so many random bytes. */
export function freshValue(format: FieldFormat, random: (bytes: number) => Uint8Array): string | null {
  switch (format) {
    case 'uuid':
      return formatUuid(version4(random(16)));
    case 'guid':
      return formatUuid(version4(random(16))).toUpperCase();
    case 'hex32':
      return Buffer.from(random(4)).toString('hex');
    case 'hex64':
      return Buffer.from(random(8)).toString('hex');
    case 'hex128':
      return Buffer.from(random(16)).toString('hex');
    case 'fat': {
      const hex = Buffer.from(random(4)).toString('hex').toUpperCase();
      return `${hex.slice(0, 4)}-${hex.slice(4)}`;
    }
    case 'lvm': {
      // 62 characters of 256 values: those that would favour the first ones are passed over.
      let stored = '';
      while (stored.length < 32)
        for (const byte of random(32))
          if (byte < 248 && stored.length < 32) stored += LVM_CHARACTERS[byte % LVM_CHARACTERS.length];
      return formatLvmId(stored);
    }
    case 'text':
      return null;
  }
}

function version4(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[6] = (copy[6]! & 0x0f) | 0x40;
  copy[8] = (copy[8]! & 0x3f) | 0x80;
  return copy;
}
