// Images of VMware disks: the ids in the descriptor, a text that is a file of its own or lies inside a sparse extent, where its header says.
// Invariant: the area of the descriptor keeps its length; behind the text in an extent there are zeros, in a file blank lines.

import { hexForm, type KeyField, keyField, keyLines, uuidForm, type ValueForm } from './key-lines.js';
import { damaged, type Found, type Kind, type Restored } from './kind.js';
import { type Area, type Reading, readAt, type Writing } from './steps.js';
import { type AreaText, type Filler, readText, restoreSlots } from './text-area.js';

export const vmdk: Kind = { name: 'vmdk', detect, restore };

const SECTOR_BYTES = 512n;
const MAX_DESCRIPTOR_BYTES = 1n << 20n;
const EXTENT_MAGIC = 'KDMV';
const DESCRIPTOR_MARK = /^\s*# *Disk DescriptorFile/i;
/** In the header of a sparse extent, little-endian, in sectors. */
const AT = { version: 4, descriptor: 28, descriptorSectors: 36 } as const;
const NO_PARENT = 'ffffffff';

const FIELDS: Readonly<Record<string, { name: string; form: ValueForm }>> = {
  cid: { name: 'cid', form: hexForm(8, 'hex32') },
  'ddb.uuid': { name: 'uuid', form: uuidForm },
  'ddb.uuid.image': { name: 'image-uuid', form: uuidForm },
  'ddb.longcontentid': { name: 'long-content-id', form: hexForm(32, 'hex128') },
};

interface Descriptor {
  readonly area: AreaText;
  readonly filler: Filler;
}

function* detect(bytes: bigint): Reading<Found | null> {
  const place = yield* findDescriptor(bytes);
  if (place === null) return null;
  if (place === 'elsewhere')
    return {
      kind: 'vmdk',
      fields: [],
      unsupported: [],
      notes: ['It is an extent of a VMDK whose descriptor, with the ids, is a file of its own.'],
    };
  const { text } = place.area;
  return {
    kind: 'vmdk',
    fields: fieldsOf(text).map(({ field }) => field),
    unsupported: [],
    notes: parentNotes(text),
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const place = yield* findDescriptor(bytes);
  if (place === null || place === 'elsewhere') return { written: [], unsupported: [], notes: [] };
  const { area, filler } = place;
  return yield* restoreSlots(area, { slots: fieldsOf(area.text), filler }, wanted);
}

/** Null: it is no VMDK. Throws `identity-damaged`. */
function* findDescriptor(bytes: bigint): Reading<Descriptor | 'elsewhere' | null> {
  const head = yield* readAt(0n, Number(SECTOR_BYTES));
  if (DESCRIPTOR_MARK.test(head.toString('latin1'))) {
    const length = bytes < MAX_DESCRIPTOR_BYTES ? bytes : MAX_DESCRIPTOR_BYTES;
    return { area: yield* readText({ at: 0n, bytes: length }), filler: '\n' };
  }
  if (head.subarray(0, 4).toString('latin1') !== EXTENT_MAGIC) return null;
  const place = placeIn(head, bytes);
  if (place === null) return 'elsewhere';
  const area = yield* readText(place);
  if (DESCRIPTOR_MARK.test(area.text)) return { area, filler: '\0' };
  // An extent of a split disk may have an empty place for one.
  if (area.text === '') return 'elsewhere';
  throw damaged(`the VMDK has no descriptor at ${place.at}, where its header says`);
}

function placeIn(head: Buffer, bytes: bigint): Area | null {
  const version = head.readUInt32LE(AT.version);
  if (version < 1 || version > 3) throw damaged(`the sparse extent of the VMDK has version ${version}`);
  const at = head.readBigUInt64LE(AT.descriptor) * SECTOR_BYTES;
  const length = head.readBigUInt64LE(AT.descriptorSectors) * SECTOR_BYTES;
  if (at === 0n || length === 0n) return null;
  if (length > MAX_DESCRIPTOR_BYTES || at + length > bytes)
    throw damaged(`the descriptor of the VMDK would have ${length} bytes at ${at}`);
  return { at, bytes: length };
}

function fieldsOf(text: string): KeyField[] {
  return keyLines(text).flatMap((line) => {
    const known = FIELDS[line.key];
    return known ? keyField(line, { ...known, group: 'image' }) : [];
  });
}

/** Its parent is found by a name and a CID that came with the content. */
function parentNotes(text: string): string[] {
  const parent = keyLines(text)
    .find(({ key }) => key === 'parentcid')
    ?.raw.toLowerCase();
  if (parent === undefined || parent === NO_PARENT) return [];
  return [`The VMDK continues another image, of CID ${parent}, which it names as it came.`];
}
