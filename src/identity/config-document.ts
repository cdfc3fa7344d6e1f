// A configuration document of a VM as a list of places that hold identity: what both formats (libvirt's XML, JSON) are read into.
// Invariant: a document is changed only by edits of disjoint ranges; outside them it stays byte for byte.

import type { Span } from './xml-text.js';

export interface Edit extends Span {
  readonly text: string;
}

/** One place in a document. */
export interface ConfigSlot {
  /** `uuid`, `nic/0000:01:00.0/mac`. */
  readonly name: string;
  /** Null: it is not in the document, and could be put in. */
  readonly value: string | null;
  /** What has to change for it to have this value. Throws `identity-invalid`. */
  put(value: string): Edit;
}

export interface ConfigDisk {
  /** The device as the guest sees it: `vda`; by it disks are paired. */
  readonly target: string;
  /** Its address on a bus, or null. */
  readonly slot: string | null;
  /** `disk`, `cdrom`, `lun`, `floppy`. */
  readonly device: string;
  /** What it lies on, for people: a path, a device, an address; null: an empty drive. */
  readonly source: string | null;
  readonly serial: string | null;
  /** Lower boots earlier; null: not named in the order. */
  readonly bootOrder: number | null;
}

export interface ConfigDocument {
  readonly format: 'libvirt' | 'json';
  readonly slots: readonly ConfigSlot[];
  readonly disks: readonly ConfigDisk[];
  /** What belongs to one host or one VM and is not in `slots`. One sentence each. */
  readonly notes: readonly string[];
}

/** Several edits may stand at one place when they only put something in; they follow each other as given. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  let done = '';
  let at = 0;
  for (const { start, end, text: put } of [...edits].sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (start < at || end < start || end > text.length)
      throw new RangeError(`an edit of ${start} to ${end} behind ${at}`);
    done += text.slice(at, start) + put;
    at = end;
  }
  return done + text.slice(at);
}
