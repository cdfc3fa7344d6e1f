// Identity of a VM in its configuration document: what makes it this VM and not the one whose configuration it was given. Values are put
// into the source's new document, in the text itself.
// Invariants: restoring a document's own identity leaves every byte; outside the values that change no byte does; the result is a document
// that reads back as wanted.

import { CellblockError } from '../base/errors.js';
import {
  applyEdits,
  type ConfigDisk,
  type ConfigDocument,
  type ConfigSlot,
  type Edit,
} from './config-document.js';
import { readJson } from './json-config.js';
import { readLibvirt } from './libvirt-xml.js';

/** In characters. Definitions of libvirt have some thousands. */
export const MAX_CONFIG_LENGTH = 4 << 20;
const NIC_FIELD = /^nic\/([^/]+)\/(.+)$/;

export interface ConfigField {
  readonly name: string;
  readonly value: string;
}

export interface ConfigIdentity {
  readonly format: ConfigDocument['format'];
  /** In the order of the format's list. */
  readonly fields: readonly ConfigField[];
  readonly disks: readonly ConfigDisk[];
  readonly notes: readonly string[];
}

export interface ConfigRestored {
  readonly text: string;
  /** Names of the fields that have the wanted value now. */
  readonly written: readonly string[];
  /** Names of those that have no place in this document. */
  readonly missing: readonly string[];
  readonly notes: readonly string[];
}

/** Throws `identity-damaged` for what cannot be read, `identity-invalid` for what is no configuration of a VM. */
export function inspectConfig(text: string): ConfigIdentity {
  const { slots, ...document } = readConfig(text);
  const fields = slots.flatMap(({ name, value }) => (value === null ? [] : [{ name, value }]));
  return { ...document, fields };
}

function readConfig(text: string): ConfigDocument {
  if (text.length > MAX_CONFIG_LENGTH)
    throw refused(`it has ${text.length} characters, and ${MAX_CONFIG_LENGTH} are taken at most`);
  const first = /^\ufeff?\s*(.)/.exec(text)?.[1];
  if (first === '<') return readLibvirt(text);
  if (first === '{') return readJson(text);
  throw refused('it is neither XML of libvirt nor a JSON object');
}

function refused(why: string): CellblockError {
  return new CellblockError('identity-invalid', `The configuration is not taken: ${why}.`, {
    hint: 'Give the XML that `virsh dumpxml --inactive` prints, or a JSON object as in docs/identity.md.',
  });
}

/**
 * Gives the fields these values. Network cards that have no counterpart at the same address are paired in the order of `wanted` and of
 * the document. Throws as inspectConfig, and `identity-invalid` for a value that the document cannot hold.
 */
export function restoreConfig(text: string, wanted: ReadonlyMap<string, string>): ConfigRestored {
  const document = readConfig(text);
  const paired = pairNics(document, wanted);
  const edits: Edit[] = [];
  const written: string[] = [];
  const missing: string[] = [];
  const values = new Map<string, string>();
  const put = (name: string, slot: ConfigSlot | undefined, value: string): void => {
    if (slot === undefined) missing.push(name);
    else {
      if (slot.value !== value) edits.push(slot.put(value));
      values.set(slot.name, value);
      written.push(name);
    }
  };
  const slots = slotsByName(document);
  for (const [name, value] of wanted) put(name, slots.get(paired.names.get(name) ?? name), value);
  const notes = [...paired.notes, ...followUuid(slots, values, edits)];
  const result = applyEdits(text, edits);
  confirm(result, values);
  return { text: result, written, missing, notes };
}

function slotsByName({ slots }: ConfigDocument): ReadonlyMap<string, ConfigSlot> {
  return new Map(slots.map((slot) => [slot.name, slot]));
}

/** libvirt refuses a domain whose SMBIOS UUID is not its own. */
function followUuid(
  slots: ReadonlyMap<string, ConfigSlot>,
  values: Map<string, string>,
  edits: Edit[],
): string[] {
  const uuid = values.get('uuid');
  const smbios = slots.get('sysinfo/system/uuid');
  if (uuid === undefined || smbios === undefined || values.has(smbios.name)) return [];
  if (smbios.value === uuid || smbios.value !== slots.get('uuid')?.value) return [];
  edits.push(smbios.put(uuid));
  values.set(smbios.name, uuid);
  return ['The UUID of the SMBIOS table follows that of the domain, as libvirt demands.'];
}

/** Last door: what is handed out reads back. */
function confirm(text: string, values: ReadonlyMap<string, string>): void {
  const slots = slotsByName(readConfig(text));
  for (const [name, value] of values) {
    const seen = slots.get(name)?.value;
    if (seen !== value) throw refused(`${name} would read back as ${JSON.stringify(seen)}`);
  }
}

interface Pairing {
  /** From the names in `wanted` to those in the document, where they differ. */
  readonly names: ReadonlyMap<string, string>;
  readonly notes: readonly string[];
}

function pairNics({ slots }: ConfigDocument, wanted: ReadonlyMap<string, string>): Pairing {
  const here = nicsOf(slots.map(({ name }) => name));
  const theirs = nicsOf([...wanted.keys()]);
  const free = [...here].filter((id) => !theirs.has(id));
  const places = new Map<string, string>();
  for (const id of theirs) {
    const place = here.has(id) ? undefined : free.shift();
    if (place !== undefined) places.set(id, place);
  }
  const names = [...wanted.keys()].flatMap((name) => {
    const [, id = '', field] = NIC_FIELD.exec(name) ?? [];
    return places.has(id) ? [[name, `nic/${places.get(id)}/${field}`] as const] : [];
  });
  const notes = [...places].map(
    ([id, place]) => `Network card ${id} is paired with ${place} by order: none is at its address.`,
  );
  return { names: new Map(names), notes };
}

function nicsOf(names: readonly string[]): Set<string> {
  return new Set(names.flatMap((name) => NIC_FIELD.exec(name)?.[1] ?? []));
}

/** The disk a VM boots from: that of the lowest order, or else the first one; null: it has none. */
export function firstBootDisk({ disks }: Pick<ConfigIdentity, 'disks'>): ConfigDisk | null {
  const own = disks.filter(({ device }) => device === 'disk' || device === 'lun');
  const ordered = own.filter(({ bootOrder }) => bootOrder !== null);
  const [first = null] = ordered.length > 0 ? ordered.sort((a, b) => a.bootOrder! - b.bootOrder!) : own;
  return first;
}
