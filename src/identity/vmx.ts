// The configuration of a VM of VMware (`.vmx`): ids, name, addresses of its network cards. Lines `key = "value"`.
// Invariant: the file keeps its length; blank lines at its end make up for a value of another length.

import { type KeyField, keyField, keyLines, uuidForm, type ValueForm } from './key-lines.js';
import { type Found, invalidValue, type Kind, type Restored } from './kind.js';
import { type Reading, readAt, type Writing } from './steps.js';
import { type AreaText, readText, restoreSlots } from './text-area.js';

export const vmx: Kind = { name: 'vmx', detect, restore };

const MAX_BYTES = 1n << 20n;
const HEAD_BYTES = 512;
/** One of these is in every configuration. */
const MARKS = ['config.version', 'virtualhw.version'];

/** `|22` stands for a quote; what cannot stand between quotes is written so. */
const textForm: ValueForm = {
  format: 'text',
  read: (raw) =>
    raw.replace(/\|([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are the ones that are looked for
  write: (_field, value) => value.replace(/["|#\0-\x1f]/g, (one) => `|${hexOf(one)}`),
};

const macForm: ValueForm = {
  format: 'text',
  read: (raw) => (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(raw) ? raw : null),
  write(field, value) {
    if (this.read(value) !== null) return value;
    throw invalidValue(field, value, 'an address of a network card has six parts of two hexadecimal digits');
  },
};

function hexOf(character: string): string {
  return character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
}

function* detect(bytes: bigint): Reading<Found | null> {
  const area = yield* readConfiguration(bytes);
  if (area === null) return null;
  const fields = fieldsOf(area).map(({ field }) => field);
  return { kind: 'vmx', fields, unsupported: [], notes: [] };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const area = yield* readConfiguration(bytes);
  if (area === null) return { written: [], unsupported: [], notes: [] };
  return yield* restoreSlots(area, { slots: fieldsOf(area), filler: '\n' }, wanted);
}

/** Null: it is none. */
function* readConfiguration(bytes: bigint): Reading<AreaText | null> {
  if (bytes > MAX_BYTES) return null;
  const head = (yield* readAt(0n, HEAD_BYTES)).toString('latin1').replace(/^\xef\xbb\xbf/, '');
  if (!/^(?:#!|\s*[.A-Za-z0-9_:#])/.test(head)) return null;
  const area = yield* readText({ at: 0n, bytes });
  if (area.text.includes('\0')) return null;
  return keyLines(area.text).some(({ key }) => MARKS.includes(key)) ? area : null;
}

function fieldsOf({ text }: AreaText): KeyField[] {
  return keyLines(text).flatMap((line) => {
    const of = (name: string, form: ValueForm) => keyField(line, { name, group: 'vm', form });
    const [, card, which] = /^(ethernet\d{1,3})\.(generatedaddress|address)$/.exec(line.key) ?? [];
    if (card !== undefined)
      return of(`nic/${card}/${which === 'address' ? 'mac' : 'generated-mac'}`, macForm);
    switch (line.key) {
      case 'displayname':
        return of('name', textForm);
      case 'uuid.bios':
        return of('uuid', uuidForm);
      case 'uuid.location':
        return of('location-uuid', uuidForm);
      default:
        return [];
    }
  });
}
