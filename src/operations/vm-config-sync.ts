// The configuration of a VM in a sync: the source's document with the identity of the target's put back. Pure.

import { inspectConfig, restoreConfig } from '../identity/vm-config.js';

export interface ConfigReport {
  /** Values of the target that the source's document had otherwise. */
  restored: { field: string; target: string; source: string | null }[];
  same: string[];
  /** Of the target, without a place in the document. */
  missing: { field: string; target: string }[];
  /** Of the source, which the target has not: they stay. */
  foreign: { field: string; source: string }[];
  notes: string[];
}

export interface SyncedDocument {
  text: string;
  report: ConfigReport;
}

/** `target`: the document as it is; `source`: the one that comes. Byte for byte the same when they are. */
export function syncConfig(target: string, source: string): SyncedDocument {
  const mine = new Map(inspectConfig(target).fields.map(({ name, value }) => [name, value]));
  const theirs = new Map(inspectConfig(source).fields.map(({ name, value }) => [name, value]));
  const { text, missing, notes } = restoreConfig(source, mine);
  const lacking = new Set(missing);
  const kept = [...mine].filter(([field]) => !lacking.has(field));
  return {
    text,
    report: {
      restored: kept
        .filter(([field, value]) => theirs.get(field) !== value)
        .map(([field, value]) => ({ field, target: value, source: theirs.get(field) ?? null })),
      same: kept.filter(([field, value]) => theirs.get(field) === value).map(([field]) => field),
      missing: missing.map((field) => ({ field, target: mine.get(field)! })),
      foreign: [...theirs]
        .filter(([field]) => !mine.has(field))
        .map(([field, value]) => ({ field, source: value })),
      notes: [...notes],
    },
  };
}
