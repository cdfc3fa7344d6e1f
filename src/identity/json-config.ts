// Identity in a plain JSON document of a VM, for managers other than libvirt. These keys are looked at, and no others:
//
//   /name /uuid /title /description /serial /nvram   texts
//   /metadata                                        any value
//   /macs/N                                          texts, by number
//   /nics/N/mac                                      by /nics/N/slot, or else by number
//   /disks/N/source /disks/N/serial                  by /disks/N/target, or else by number; also target, slot, device, bootOrder
//   /ports/KEY                                       numbers or texts: ports of the host
//
// Field names are those of libvirt-xml.ts where they mean the same.

import { CellblockError } from '../base/errors.js';
import type { ConfigDisk, ConfigDocument, ConfigSlot } from './config-document.js';
import { type JsonNode, parseJson } from './json-text.js';
import { invalidValue } from './kind.js';

const TEXTS = ['name', 'uuid', 'title', 'description', 'serial', 'nvram'];

/** Throws `identity-damaged`, `identity-invalid`. */
export function readJson(text: string): ConfigDocument {
  const root = parseJson(text);
  const name = root.members.get('name');
  if (root.type !== 'object' || name?.type !== 'string') throw noConfiguration();
  const disks = itemsOf(root, 'disks');
  const slots = [
    ...TEXTS.flatMap((key) => textSlot(key, root.members.get(key))),
    ...anySlot(text, 'metadata', root.members.get('metadata')),
    ...itemsOf(root, 'macs').flatMap((mac, index) => textSlot(`nic/#${index + 1}/mac`, mac)),
    ...itemsOf(root, 'nics').flatMap((nic, index) =>
      textSlot(`nic/${textOf(nic, 'slot') ?? `#${index + 1}`}/mac`, nic.members.get('mac')),
    ),
    ...disks.flatMap(diskSlots),
    ...[...(root.members.get('ports')?.members ?? [])].flatMap(([key, port]) =>
      anySlot(text, `ports/${key}`, port),
    ),
  ];
  const names = new Set<string>();
  const distinct = slots.filter((slot) => !names.has(slot.name) && names.add(slot.name));
  return { format: 'json', slots: distinct, disks: disks.map(diskOf), notes: [] };
}

function noConfiguration(): CellblockError {
  return new CellblockError(
    'identity-invalid',
    'The configuration is not that of a VM: it has no text /name.',
    {
      hint: 'docs/identity.md lists the keys of a JSON configuration.',
    },
  );
}

function itemsOf(root: JsonNode, key: string): JsonNode[] {
  const list = root.members.get(key);
  return list?.type === 'array' ? [...list.members.values()] : [];
}

function textOf(node: JsonNode, key: string): string | null {
  const value = node.members.get(key)?.value;
  return typeof value === 'string' ? value : null;
}

function textSlot(name: string, node: JsonNode | undefined): ConfigSlot[] {
  if (node?.type !== 'string') return [];
  const { start, end } = node;
  return [{ name, value: String(node.value), put: (value) => ({ start, end, text: JSON.stringify(value) }) }];
}

/** A value of whatever type, as the JSON it is written in. */
function anySlot(text: string, name: string, node: JsonNode | undefined): ConfigSlot[] {
  if (node === undefined) return [];
  const { start, end } = node;
  const put = (value: string): { start: number; end: number; text: string } => {
    try {
      JSON.parse(value);
    } catch {
      throw invalidValue(name, value, 'it is written as JSON');
    }
    return { start, end, text: value };
  };
  return [{ name, value: text.slice(start, end), put }];
}

function diskSlots(disk: JsonNode, index: number): ConfigSlot[] {
  const prefix = `disk/${textOf(disk, 'target') ?? `#${index + 1}`}`;
  return ['source', 'serial'].flatMap((key) => textSlot(`${prefix}/${key}`, disk.members.get(key)));
}

function diskOf(disk: JsonNode, index: number): ConfigDisk {
  const order = disk.members.get('bootOrder')?.value;
  return {
    target: textOf(disk, 'target') ?? `#${index + 1}`,
    slot: textOf(disk, 'slot'),
    device: textOf(disk, 'device') ?? 'disk',
    source: textOf(disk, 'source'),
    serial: textOf(disk, 'serial'),
    bootOrder: typeof order === 'number' ? order : null,
  };
}
