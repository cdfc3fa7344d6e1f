// The root directory of exFAT: where its volume label is, or could be.
// Invariant: reads stop at the end mark of the directory, or at MAX_BYTES, whatever the table says.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';
import type { Layout } from './layout.js';

export const ENTRY_BYTES = 32;
/** The format allows 256 MiB; label and volume GUID are among the first entries whoever made it. */
const MAX_BYTES = 2 << 20;
const PIECE_BYTES = 64 << 10;
const IN_USE = 0x80;
const LABEL = 0x83;
const VOLUME_GUID = 0xa0;

export interface Entry {
  readonly at: bigint;
  readonly data: Buffer;
}

export interface RootDirectory {
  readonly label: Entry | null;
  readonly volumeGuid: Entry | null;
  /** Not in use. With 64 bytes where it holds the end mark, which then moves on. */
  readonly free: Entry | null;
}

type Finds = { -readonly [Name in keyof RootDirectory]: RootDirectory[Name] };

/** Throws `identity-damaged`. */
export function* readRoot(layout: Layout): Reading<RootDirectory> {
  const found: Finds = { label: null, volumeGuid: null, free: null };
  const pieceBytes = Math.min(layout.clusterBytes, PIECE_BYTES);
  let cluster = layout.rootCluster;
  for (let read = 0; read < MAX_BYTES; ) {
    const at = layout.dataAt + BigInt(cluster - 2) * BigInt(layout.clusterBytes);
    for (let offset = 0; offset < layout.clusterBytes && read < MAX_BYTES; offset += pieceBytes) {
      read += pieceBytes;
      const piece = { at: at + BigInt(offset), data: yield* readAt(at + BigInt(offset), pieceBytes) };
      if (scan(piece, found)) return found;
    }
    const next = yield* after(layout, cluster);
    if (next === null) return found;
    cluster = next;
  }
  return found;
}

function* after(layout: Layout, cluster: number): Reading<number | null> {
  const next = (yield* readAt(layout.tableAt + BigInt(4 * cluster), 4)).readUInt32LE(0);
  if (next === 0xffffffff) return null;
  if (next >= 2 && next - 2 < layout.clusters) return next;
  throw damaged(`the root directory of the exFAT file system goes on in cluster ${next}, which there is not`);
}

/** @returns whether the directory ends here. */
function scan(piece: Entry, found: Finds): boolean {
  for (let offset = 0; offset < piece.data.length; offset += ENTRY_BYTES) {
    const type = piece.data[offset]!;
    if (type === 0) {
      found.free ??= slice(piece, offset, 2 * ENTRY_BYTES);
      return true;
    }
    if ((type & IN_USE) === 0) found.free ??= slice(piece, offset, ENTRY_BYTES);
    if (type === LABEL) found.label ??= slice(piece, offset, ENTRY_BYTES);
    if (type === VOLUME_GUID) found.volumeGuid ??= slice(piece, offset, ENTRY_BYTES);
  }
  return false;
}

/** Null: not all of it is at hand. */
function slice(piece: Entry, offset: number, bytes: number): Entry | null {
  if (offset + bytes > piece.data.length) return null;
  return { at: piece.at + BigInt(offset), data: Buffer.from(piece.data.subarray(offset, offset + bytes)) };
}

export function labelText({ data }: Entry): string {
  const characters = Math.min(data[1]!, MAX_CHARACTERS);
  return data.toString('utf16le', 2, 2 + 2 * characters);
}

export const MAX_CHARACTERS = 11;

/** The entry with this label, at the place of an old one or of one that is not in use. */
export function labelled({ at, data }: Entry, label: string): Entry {
  const entry = Buffer.alloc(data.length);
  entry[0] = LABEL;
  entry[1] = label.length;
  entry.write(label, 2, 'utf16le');
  return { at, data: entry };
}
