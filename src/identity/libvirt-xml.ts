// Identity in the XML by which libvirt defines a domain: names, ids, MACs, where disks lie, ports of the host.
//
// Disks are named by target (`disk/vda/...`), network cards by PCI address or else by number (`nic/0000:01:00.0/mac`, `nic/#2/mac`), all
// others by number. A disk lies where three fields together say: its type, its `<source>`, and the format of what is there, because a raw
// disk that is opened as qcow2 lets its guest read the host.

import { CellblockError } from '../base/errors.js';
import type { ConfigDisk, ConfigDocument, ConfigSlot, Edit } from './config-document.js';
import { invalidValue } from './kind.js';
import {
  attributeOf,
  childAt,
  childrenOf,
  escapeAttribute,
  escapeText,
  parseXml,
  type XmlElement,
} from './xml-text.js';

/** Tables of SMBIOS whose entries name one machine. */
const SYSINFO_SECTIONS = ['system', 'baseBoard', 'chassis', 'bios'];
const SYSINFO_ENTRIES = ['uuid', 'serial', 'asset'];
const GRAPHICS_PORTS = ['port', 'tlsPort', 'websocket', 'listen'];
const CHARACTER_DEVICES = ['serial', 'parallel', 'console', 'channel', 'redirdev'];
const CHARACTER_SOURCES = ['host', 'service', 'path'];

/** Throws `identity-damaged`, `identity-invalid`. */
export function readLibvirt(text: string): ConfigDocument {
  const domain = parseXml(text);
  if (domain.name !== 'domain') throw noDomain(`its root is <${domain.name}>`);
  if (childAt(domain, 'name') === null) throw noDomain('it has no <name>');
  const devices = childAt(domain, 'devices');
  const disks = childrenOf(devices, 'disk');
  const slots = [
    ...ownSlots(text, domain),
    ...sysinfoSlots(domain),
    ...childrenOf(devices, 'interface').flatMap(nicSlots),
    ...disks.flatMap((disk) => diskSlots(text, disk)),
    ...hostSlots(devices),
  ];
  return {
    format: 'libvirt',
    slots: distinct(slots),
    disks: disks.map(diskOf),
    notes: notesOf(domain, devices),
  };
}

function noDomain(why: string): CellblockError {
  return new CellblockError(
    'identity-invalid',
    `The configuration is not that of a libvirt domain: ${why}.`,
    {
      hint: 'Take it from `virsh dumpxml --inactive`.',
    },
  );
}

/** Of several places with one name the first one counts. */
function distinct(slots: readonly ConfigSlot[]): ConfigSlot[] {
  const first = new Map<string, ConfigSlot>();
  for (const slot of slots) if (!first.has(slot.name)) first.set(slot.name, slot);
  return [...first.values()];
}

function ownSlots(text: string, domain: XmlElement): ConfigSlot[] {
  const anchor = childAt(domain, 'name')!;
  const child = (name: string): ConfigSlot => {
    const element = childAt(domain, name);
    return element ? textSlot(name, element) : absentText(text, name, { tag: name, anchor });
  };
  const nvram = childAt(domain, 'os', 'nvram');
  const slots = ['name', 'uuid', 'title', 'description'].map(child);
  const genid = childAt(domain, 'genid');
  if (genid) slots.push(textSlot('genid', genid));
  slots.push(metadataSlot(text, domain, anchor));
  if (nvram)
    slots.push(
      ...(childAt(nvram, 'source')
        ? attributeSlot('nvram', childAt(nvram, 'source'), 'file')
        : [textSlot('nvram', nvram)]),
    );
  return slots;
}

function textSlot(name: string, element: XmlElement): ConfigSlot {
  return { name, value: element.text, put: (value) => inside(element, escapeText(name, value)) };
}

/** The edit that gives an element this markup inside. */
function inside({ name, inner, outer }: XmlElement, markup: string): Edit {
  if (inner !== null) return { ...inner, text: markup };
  // `<name attribute="x"/>`: only its end changes.
  return { start: outer.end - 2, end: outer.end, text: `>${markup}</${name}>` };
}

function absentText(
  text: string,
  name: string,
  { tag, anchor }: { tag: string; anchor: XmlElement },
): ConfigSlot {
  return {
    name,
    value: null,
    put: (value) => after(text, anchor, `<${tag}>${escapeText(name, value)}</${tag}>`),
  };
}

/** Puts markup behind an element, as far to the right as that. */
function after(text: string, { outer }: XmlElement, markup: string): Edit {
  const indent = /[ \t\r\n]*$/.exec(text.slice(Math.max(0, outer.start - 256), outer.start))![0];
  return { start: outer.end, end: outer.end, text: `${indent}${markup}` };
}

/** The markup inside <metadata>, as it is. */
function metadataSlot(text: string, domain: XmlElement, anchor: XmlElement): ConfigSlot {
  const name = 'metadata';
  const element = childAt(domain, name);
  const checked = (value: string): string => {
    fragment(name, `<metadata>${value}</metadata>`);
    return value;
  };
  if (element === null)
    return {
      name,
      value: null,
      put: (value) => after(text, anchor, `<metadata>${checked(value)}</metadata>`),
    };
  return { name, value: innerOf(text, element), put: (value) => inside(element, checked(value)) };
}

function innerOf(text: string, { inner }: XmlElement): string {
  return inner === null ? '' : text.slice(inner.start, inner.end);
}

/** One element of the name it begins with, and nothing behind it. Throws `identity-invalid`. */
function fragment(field: string, markup: string): XmlElement {
  try {
    return parseXml(markup);
  } catch (error) {
    if (!(error instanceof CellblockError)) throw error;
    throw invalidValue(field, markup, error.message.replace(/\.$/, ''));
  }
}

/** The attributes that are there, each as a field of its own under the prefix. */
function attributeSlots(prefix: string, element: XmlElement | null, names: readonly string[]): ConfigSlot[] {
  return names.flatMap((attribute) => attributeSlot(`${prefix}/${attribute}`, element, attribute));
}

function attributeSlot(name: string, element: XmlElement | null, attribute: string): ConfigSlot[] {
  const there = element?.attributes.get(attribute);
  if (there === undefined) return [];
  const { start, end, value } = there;
  return [{ name, value, put: (wanted) => ({ start, end, text: escapeAttribute(name, wanted) }) }];
}

function sysinfoSlots(domain: XmlElement): ConfigSlot[] {
  return childrenOf(domain, 'sysinfo').flatMap((sysinfo) =>
    SYSINFO_SECTIONS.flatMap((section) =>
      childrenOf(sysinfo, section).flatMap((element, index) =>
        childrenOf(element, 'entry')
          .filter((entry) => SYSINFO_ENTRIES.includes(attributeOf(entry, 'name') ?? ''))
          .map((entry) =>
            textSlot(`sysinfo/${numbered(section, index)}/${attributeOf(entry, 'name')}`, entry),
          ),
      ),
    ),
  );
}

function numbered(name: string, index: number): string {
  return index === 0 ? name : `${name}#${index + 1}`;
}

function nicSlots(nic: XmlElement, index: number): ConfigSlot[] {
  const prefix = `nic/${addressOf(nic) ?? `#${index + 1}`}`;
  return [
    ...attributeSlot(`${prefix}/mac`, childAt(nic, 'mac'), 'address'),
    ...attributeSlot(`${prefix}/dev`, childAt(nic, 'target'), 'dev'),
  ];
}

/** The PCI address, or that on another bus, or null. */
function addressOf(device: XmlElement): string | null {
  const address = childAt(device, 'address');
  const number = (name: string, digits: number): string | null => {
    const value = Number(attributeOf(address, name) ?? '0');
    return Number.isSafeInteger(value) && value >= 0 ? value.toString(16).padStart(digits, '0') : null;
  };
  const type = attributeOf(address, 'type');
  if (type === 'pci')
    return `${number('domain', 4)}:${number('bus', 2)}:${number('slot', 2)}.${number('function', 1)}`;
  if (type === 'drive')
    return ['controller', 'bus', 'target', 'unit'].map((name) => number(name, 1)).join(':');
  return null;
}

function diskSlots(text: string, disk: XmlElement): ConfigSlot[] {
  const target = attributeOf(childAt(disk, 'target'), 'dev');
  if (target === null) return [];
  const prefix = `disk/${target}`;
  const serial = childAt(disk, 'serial');
  const anchor = childAt(disk, 'target')!;
  return [
    ...attributeSlot(`${prefix}/type`, disk, 'type'),
    ...attributeSlot(`${prefix}/format`, childAt(disk, 'driver'), 'type'),
    sourceSlot(text, `${prefix}/source`, disk),
    serial
      ? textSlot(`${prefix}/serial`, serial)
      : absentText(text, `${prefix}/serial`, { tag: 'serial', anchor }),
  ];
}

/** The whole `<source .../>`: what is in it depends on the type. */
function sourceSlot(text: string, name: string, disk: XmlElement): ConfigSlot {
  const source = childAt(disk, 'source');
  const checked = (value: string): string => {
    const { name: tag, outer } = fragment(name, value);
    if (tag !== 'source' || outer.start !== 0 || outer.end !== value.length)
      throw invalidValue(name, value, 'it is one <source> element');
    return value;
  };
  if (source === null)
    return { name, value: null, put: (value) => after(text, childAt(disk, 'target')!, checked(value)) };
  const { outer } = source;
  return {
    name,
    value: text.slice(outer.start, outer.end),
    put: (value) => ({ ...outer, text: checked(value) }),
  };
}

function diskOf(disk: XmlElement): ConfigDisk {
  const source = childAt(disk, 'source');
  const order = Number(attributeOf(childAt(disk, 'boot'), 'order') ?? Number.NaN);
  const place = ['file', 'dev', 'dir', 'name', 'volume', 'path'].map((name) => attributeOf(source, name));
  return {
    target: attributeOf(childAt(disk, 'target'), 'dev') ?? '',
    slot: addressOf(disk),
    device: attributeOf(disk, 'device') ?? 'disk',
    source: place.find((value) => value !== null) ?? null,
    serial: childAt(disk, 'serial')?.text ?? null,
    bootOrder: Number.isSafeInteger(order) ? order : null,
  };
}

/** What may be there once on a host: ports, sockets, devices. */
function hostSlots(devices: XmlElement | null): ConfigSlot[] {
  const graphics = childrenOf(devices, 'graphics').flatMap((element, index) => [
    ...attributeSlots(`graphics/#${index + 1}`, element, GRAPHICS_PORTS),
    ...childrenOf(element, 'listen').flatMap((listen, number) =>
      attributeSlots(`graphics/#${index + 1}/${numbered('listen', number)}`, listen, ['address', 'socket']),
    ),
  ]);
  const characters = CHARACTER_DEVICES.flatMap((tag) =>
    childrenOf(devices, tag).flatMap((element, index) =>
      childrenOf(element, 'source').flatMap((source, number) =>
        attributeSlots(`${tag}/#${index + 1}/${numbered('source', number)}`, source, CHARACTER_SOURCES),
      ),
    ),
  );
  const tpms = childrenOf(devices, 'tpm').flatMap((element, index) => tpmSlots(`tpm/#${index + 1}`, element));
  return [
    ...graphics,
    ...characters,
    ...tpms,
    ...attributeSlot('vsock/cid', devices && childAt(devices, 'vsock', 'cid'), 'address'),
  ];
}

function tpmSlots(prefix: string, tpm: XmlElement): ConfigSlot[] {
  return [
    ...attributeSlot(`${prefix}/device`, childAt(tpm, 'backend', 'device'), 'path'),
    ...attributeSlot(`${prefix}/source`, childAt(tpm, 'backend', 'source'), 'path'),
    ...attributeSlot(`${prefix}/secret`, childAt(tpm, 'backend', 'encryption'), 'secret'),
  ];
}

function notesOf(domain: XmlElement, devices: XmlElement | null): string[] {
  const notes: string[] = [];
  const hostdevs = childrenOf(devices, 'hostdev').length;
  if (hostdevs > 0)
    notes.push(`${hostdevs} host devices are named as they came: they belong to one VM at a time.`);
  if (childAt(domain, 'qemu:commandline') !== null)
    notes.push('Arguments of qemu:commandline stay as they came, with the ports and paths they may have.');
  return notes;
}
