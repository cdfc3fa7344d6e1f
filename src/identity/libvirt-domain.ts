// The definition of a libvirt domain as the content of a file: what vm-config.ts finds in it, with the file's length kept. White space
// behind a document is legal XML, so a document that becomes shorter is followed by blank lines, and a longer one takes of them.

import { CellblockError } from '../base/errors.js';
import type { Field, FieldFormat, Found, Kind, Restored } from './kind.js';
import { type Reading, readAt, type Writing } from './steps.js';
import { type AreaText, fits, noRoom, readText, writeText } from './text-area.js';
import { type ConfigRestored, inspectConfig, MAX_CONFIG_LENGTH, restoreConfig } from './vm-config.js';

export const libvirtDomain: Kind = { name: 'libvirt', detect, restore };

const HEAD_BYTES = 4096;
/** A comment ends at its first end: else many of them could be taken in very many ways. */
const BEGINNING = /^\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->)[\s\S])*-->\s*)*<domain[\s>]/;
const MAX_TRIALS = 8;

function* detect(bytes: bigint): Reading<Found | null> {
  const area = yield* readDocument(bytes);
  if (area === null) return null;
  const { fields, notes } = inspectConfig(area.text);
  return {
    kind: 'libvirt',
    fields: fields.map(({ name, value }): Field => ({ name, group: 'vm', format: formatOf(name), value })),
    unsupported: [],
    notes,
  };
}

function formatOf(name: string): FieldFormat {
  return name === 'uuid' ? 'uuid' : 'text';
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const area = yield* readDocument(bytes);
  if (area === null || wanted.size === 0) return { written: [], unsupported: [], notes: [] };
  const { put, left } = asFits(area, wanted);
  if (put !== null) yield* writeText(area, put.text, '\n');
  return {
    written: put?.written ?? [],
    unsupported: [...left].map(([name, value]) => noRoom(name, value)),
    notes: put?.notes ?? [],
  };
}

/** Null: it does not begin as one, or what begins so is XML of something else. Throws `identity-damaged`. */
function* readDocument(bytes: bigint): Reading<AreaText | null> {
  if (bytes > BigInt(MAX_CONFIG_LENGTH)) return null;
  const head = (yield* readAt(0n, HEAD_BYTES)).toString('utf8');
  if (!BEGINNING.test(head)) return null;
  const area = yield* readText({ at: 0n, bytes });
  if (area.encoding !== 'utf8') return null;
  try {
    inspectConfig(area.text);
    return area;
  } catch (error) {
    // Not taken, as it says: a DOCTYPE, or a domain without a name.
    if (error instanceof CellblockError && error.code === 'identity-invalid') return null;
    throw error;
  }
}

interface Fitting {
  readonly put: ConfigRestored | null;
  /** Without a place for it. */
  readonly left: ReadonlyMap<string, string>;
}

/** As many of the values as there is room for: those that make the document longest are left first. */
function asFits(area: AreaText, wanted: ReadonlyMap<string, string>): Fitting {
  const there = new Map(inspectConfig(area.text).fields.map(({ name, value }) => [name, value]));
  const left = new Map<string, string>();
  const kept = new Map(wanted);
  for (let trial = 0; trial < MAX_TRIALS && kept.size > 0; trial++) {
    const put = restoreConfig(area.text, kept);
    if (fits(area, put.text)) return { put, left };
    for (const name of longest(kept, there)) {
      left.set(name, kept.get(name)!);
      kept.delete(name);
    }
  }
  return { put: null, left: wanted };
}

/** What says together where a disk lies is kept or left together: half of it could open a disk as what it is not. */
function longest(kept: ReadonlyMap<string, string>, there: ReadonlyMap<string, string>): string[] {
  const groups = new Map<string, { names: string[]; growth: number }>();
  for (const [name, value] of kept) {
    const key = /^disk\/[^/]+\/(?=type|format|source)/.exec(name)?.[0] ?? name;
    const group = groups.get(key) ?? { names: [], growth: 0 };
    group.names.push(name);
    group.growth += Buffer.byteLength(value) - Buffer.byteLength(there.get(name) ?? '');
    groups.set(key, group);
  }
  return [...groups.values()].sort((a, b) => b.growth - a.growth)[0]?.names ?? [];
}
