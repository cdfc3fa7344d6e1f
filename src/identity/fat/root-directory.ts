// The root directory of a FAT file system: where its volume label is, or could be.
// Invariant: reads stop at the end mark of the directory, at the label, or at MAX_BYTES, whatever the table says.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';
import type { ChainedRoot, Layout } from './layout.js';

export const ENTRY_BYTES = 32;
export const NAME_BYTES = 11;
/** The format allows a directory no more. */
const MAX_BYTES = 65536 * ENTRY_BYTES;
const UNUSED = 0xe5;
const ATTRIBUTES = 11;
const LONG_NAME = 0x0f;
const VOLUME = 0x08;
const DIRECTORY = 0x10;
const END_OF_CHAIN = 0x0ffffff8;

export interface Entry {
  readonly at: bigint;
  readonly data: Buffer;
}

export interface RootDirectory {
  /** The volume label, with its 32 bytes. */
  readonly label: Entry | null;
  /** Where one can be put: an entry that is not in use. With 64 bytes where it holds the end mark, which then moves on. */
  readonly free: Entry | null;
}

/** Throws `identity-damaged`. */
export function* readRoot({ root }: Layout): Reading<RootDirectory> {
  if (!root.chained) {
    const data = yield* readAt(root.area.at, Number(root.area.bytes));
    const { label, free } = scan({ at: root.area.at, data });
    return { label, free };
  }
  return yield* readChain(root);
}

function* readChain(root: ChainedRoot): Reading<RootDirectory> {
  let cluster = root.first;
  let free: Entry | null = null;
  for (let read = 0; read < MAX_BYTES; read += root.clusterBytes) {
    const at = root.dataAt + BigInt(cluster - 2) * BigInt(root.clusterBytes);
    const found = scan({ at, data: yield* readAt(at, root.clusterBytes) });
    free ??= found.free;
    if (found.label !== null || found.ended) return { label: found.label, free };
    const next = (yield* readAt(root.tableAt + BigInt(4 * cluster), 4)).readUInt32LE(0) & 0x0fffffff;
    if (next >= END_OF_CHAIN) return { label: null, free };
    if (next < 2 || next - 2 >= root.clusters)
      throw damaged(
        `the root directory of the FAT file system goes on in cluster ${next}, which there is not`,
      );
    cluster = next;
  }
  throw damaged(`the root directory of the FAT file system has more than ${MAX_BYTES} bytes`);
}

function scan(block: Entry): RootDirectory & { ended: boolean } {
  let free: Entry | null = null;
  for (let offset = 0; offset + ENTRY_BYTES <= block.data.length; offset += ENTRY_BYTES) {
    const first = block.data[offset]!;
    if (first === 0) return { label: null, free: free ?? endMark(block, offset), ended: true };
    if (first === UNUSED) free ??= slice(block, offset, ENTRY_BYTES);
    else if (isLabel(block.data[offset + ATTRIBUTES]!))
      return { label: slice(block, offset, ENTRY_BYTES), free, ended: false };
  }
  return { label: null, free, ended: false };
}

/** Only where the next entry is at hand: what follows the mark is unknown and would come into use. */
function endMark(block: Entry, offset: number): Entry | null {
  const bytes = 2 * ENTRY_BYTES;
  return offset + bytes <= block.data.length ? slice(block, offset, bytes) : null;
}

function isLabel(attributes: number): boolean {
  return (attributes & LONG_NAME) !== LONG_NAME && (attributes & (VOLUME | DIRECTORY)) === VOLUME;
}

function slice(block: Entry, offset: number, bytes: number): Entry {
  return { at: block.at + BigInt(offset), data: Buffer.from(block.data.subarray(offset, offset + bytes)) };
}

export function renamed({ at, data }: Entry, name: Buffer): Entry {
  const entry = Buffer.from(data);
  name.copy(entry);
  return { at, data: entry };
}

export function removed({ at, data }: Entry): Entry {
  const entry = Buffer.from(data);
  entry[0] = UNUSED;
  return { at, data: entry };
}

/** Dated 1980-01-01, the first day there is: a restore knows no clock. */
export function created(free: Entry, name: Buffer): Entry {
  const data = Buffer.alloc(free.data.length);
  name.copy(data);
  data[ATTRIBUTES] = VOLUME;
  data.writeUInt16LE(0x21, 24);
  return { at: free.at, data };
}
