// LVM2: the id of a physical volume, and name and ids of the volume group that lies on it alone. They are in the label and in the
// metadata text; LVs cannot be found by one of them only.
// Invariant: label and text name the same id of the physical volume; no two logical volumes have one id. A volume group over several
// disks is never changed: its other members would not know.

import { formatLvmId, parseLvmId } from './formats.js';
import { type Field, type Found, invalidValue, type Kind, type Restored, type Unsupported } from './kind.js';
import {
  hasRoom,
  type MetadataArea,
  type PhysicalVolume,
  readPhysicalVolume,
  readText,
  writeId,
  writeText,
} from './lvm/physical-volume.js';
import { readVolumeGroup, rewritten, type VolumeGroup, type Word } from './lvm/volume-group.js';
import type { Reading, Writing } from './steps.js';

export const lvm: Kind = { name: 'LVM2_member', detect, restore };

const PV_UUID = 'pv-uuid';
const VG_UUID = 'vg-uuid';
const VG_NAME = 'vg-name';
const LV_FIELD = /^lv\/([^/]+)\/uuid$/;
/** The pool of names LVM itself allows. */
const NAME = /^(?!-|\.{1,2}$)[\w+.-]{1,127}$/;

interface Contents {
  readonly volume: PhysicalVolume;
  /** Of every metadata area, in order. */
  readonly texts: readonly string[];
  readonly group: VolumeGroup | null;
}

function* detect(bytes: bigint): Reading<Found | null> {
  const contents = yield* readContents(bytes);
  if (contents === null) return null;
  const why = whyNot(contents);
  const fields = fieldsOf(contents);
  return {
    kind: 'LVM2_member',
    fields,
    unsupported:
      why === null
        ? []
        : refusals(
            fields.map(({ name }) => name),
            why,
          ),
    notes:
      contents.group === null
        ? ['The physical volume belongs to no volume group that could be read here.']
        : [],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  for (const [name, value] of wanted) checkValue(name, value);
  const contents = yield* readContents(bytes);
  if (contents === null) return { written: [], unsupported: [], notes: [] };
  const fields = fieldsOf(contents).map(({ name }) => name);
  const asked = fields.filter((name) => wanted.has(name));
  const why = whyNot(contents);
  if (asked.length > 0 && why !== null) return { written: [], unsupported: refusals(asked, why), notes: [] };
  const clashing = clashes(contents.group, wanted);
  const chosen = new Map(
    asked.filter((name) => !clashing.has(name)).map((name) => [name, wanted.get(name)!]),
  );
  const { unsupported, notes } = yield* write(contents, chosen);
  const doubles = [...clashing].map((field) => ({
    field,
    reason: `Not written: another logical volume has the id ${wanted.get(field)}.`,
  }));
  const written = [...chosen.keys()].filter((name) => !unsupported.some(({ field }) => field === name));
  return { written, unsupported: [...unsupported, ...doubles], notes };
}

/** Throws `identity-invalid`. */
function checkValue(name: string, value: string): void {
  if (name === PV_UUID || name === VG_UUID || LV_FIELD.test(name)) parseLvmId(name, value);
  if (name === VG_NAME && !NAME.test(value))
    throw invalidValue(name, value, 'a volume group is named with letters, digits and +_.-');
}

function* readContents(bytes: bigint): Reading<Contents | null> {
  const volume = yield* readPhysicalVolume(bytes);
  if (volume === null) return null;
  const texts: string[] = [];
  for (const area of volume.areas)
    if (area.current !== null && !area.ignored) texts.push(yield* readText(area, area.current));
  return { volume, texts, group: texts[0] === undefined ? null : readVolumeGroup(texts[0]) };
}

function fieldsOf({ volume, group }: Contents): Field[] {
  const fields: Field[] = [{ name: PV_UUID, group: 'lvm', format: 'lvm', value: formatLvmId(volume.id) }];
  if (group === null) return fields;
  fields.push({ name: VG_UUID, group: 'lvm', format: 'lvm', value: group.id.text });
  fields.push({ name: VG_NAME, group: 'lvm', format: 'text', value: group.name.text });
  for (const [name, { text }] of group.logical)
    fields.push({ name: `lv/${name}/uuid`, group: 'lvm', format: 'lvm', value: text });
  return fields;
}

/** Why nothing may be changed, without a full stop, or null. */
function whyNot({ volume, texts, group }: Contents): string | null {
  if (volume.areas.some(({ pending }) => pending)) return 'a change of the LVM2 metadata was under way';
  if (volume.areas.some(({ ignored }) => ignored))
    return 'a metadata area of the physical volume is set to be ignored';
  if (group === null)
    return volume.used ? 'the physical volume is in use, and its volume group is described elsewhere' : null;
  const name = `the volume group ${group.name.text}`;
  if (texts.length < volume.areas.length || texts.some((text) => text !== texts[0]))
    return `the metadata areas say different things of ${name}`;
  if (group.physical.size !== 1)
    return `${name} lies on ${group.physical.size} physical volumes, and each describes it`;
  if (group.lock !== '' && group.lock !== 'none') return `${name} is shared between hosts (${group.lock})`;
  const [id] = group.physical.values();
  return id?.text === formatLvmId(volume.id) ? null : `${name} lies on another physical volume, ${id?.text}`;
}

/** Wanted ids of logical volumes that others have already, and keep: a target whose volumes have changed their names. */
function clashes(group: VolumeGroup | null, wanted: ReadonlyMap<string, string>): Set<string> {
  const clashing = new Set<string>();
  const names = [...(group?.logical.keys() ?? [])];
  for (let round = 0; round <= names.length; round++) {
    const holders = new Map<string, string[]>();
    for (const name of names) {
      const field = `lv/${name}/uuid`;
      const id = (clashing.has(field) ? undefined : wanted.get(field)) ?? group!.logical.get(name)!.text;
      holders.set(id, [...(holders.get(id) ?? []), field]);
    }
    const doubles = [...holders.values()].filter((fields) => fields.length > 1).flat();
    const more = doubles.filter((field) => wanted.has(field) && !clashing.has(field));
    if (more.length === 0) break;
    for (const field of more) clashing.add(field);
  }
  return clashing;
}

function* write(
  { volume, texts, group }: Contents,
  chosen: ReadonlyMap<string, string>,
): Writing<{ unsupported: Unsupported[]; notes: string[] }> {
  const changes = group === null ? new Map<Word, string>() : changesOf(group, chosen);
  const text = group === null || changes.size === 0 ? null : rewritten(texts[0]!, group, changes);
  if (text !== null && !volume.areas.every((area) => hasRoomFor(area, text))) {
    const why = `the LVM2 metadata area has no room for a text of ${text.length} bytes`;
    return { unsupported: refusals([...chosen.keys()], why), notes: [] };
  }
  if (text !== null)
    for (const area of volume.areas) if (area.current !== null) yield* writeText(area, area.current, text);
  const id = chosen.get(PV_UUID);
  if (id !== undefined && id !== formatLvmId(volume.id)) yield* writeId(volume, parseLvmId(PV_UUID, id));
  return { unsupported: [], notes: text === null ? [] : [told(volume, text)] };
}

function hasRoomFor(area: MetadataArea, text: string): boolean {
  return area.current !== null && hasRoom(area, area.current, text);
}

/** Only what differs. */
function changesOf(group: VolumeGroup, chosen: ReadonlyMap<string, string>): Map<Word, string> {
  const places: [string, Word][] = [
    ...[...group.physical.values()].map((word): [string, Word] => [PV_UUID, word]),
    [VG_UUID, group.id],
    [VG_NAME, group.name],
    ...[...group.logical].map(([name, word]): [string, Word] => [`lv/${name}/uuid`, word]),
  ];
  const changes = new Map<Word, string>();
  for (const [field, word] of places) {
    const value = chosen.get(field);
    if (value !== undefined && value !== word.text) changes.set(word, value);
  }
  return changes;
}

function told(volume: PhysicalVolume, text: string): string {
  return `A new LVM2 metadata text of ${text.length + 1} bytes was put in ${volume.areas.length} metadata area(s).`;
}

function refusals(names: readonly string[], why: string): Unsupported[] {
  return names.map((field) => ({ field, reason: `Not written: ${why}.` }));
}
