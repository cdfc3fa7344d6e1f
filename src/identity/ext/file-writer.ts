// Gives a regular file other content in place: its blocks are used again from the first on, more are taken in one piece when it grows,
// and those it no longer needs are freed.
// Invariant: whether it can be done is decided before anything is written.

import { type Reading, type Writing, writeAt } from '../steps.js';
import { changeBlocks, findFreeBlocks, type Piece } from './bitmaps.js';
import { type Run, runsOf } from './block-map.js';
import { emptyInlineAttribute, INLINE_BYTES } from './content.js';
import { RO_COMPAT } from './features.js';
import { INODE_FLAG, type Inode, type InodeTime, unitsPerBlock, writeInode } from './inode.js';
import type { Superblock } from './superblock.js';

/** A reason, as one sentence. */
export interface Refused {
  readonly unsupported: string;
}

const MAX_EXTENTS = 4;
const MAX_DIRECT = 12;
const EXTENT_MAGIC = 0xf30a;

/** What becomes of a file's blocks. */
export interface Plan {
  /** The content lies here, in this order. */
  readonly pieces: readonly Piece[];
  readonly taken: Piece | null;
  readonly freed: readonly Piece[];
}

/** Of a file whose blocks are mapped in its inode alone. Throws `identity-damaged`. */
export function* planBlocks(superblock: Superblock, inode: Inode, bytes: number): Reading<Plan | Refused> {
  if (hasMapBlocks(inode))
    return { unsupported: `The blocks of inode ${inode.number} are mapped by further blocks.` };
  const wanted = Math.ceil(bytes / superblock.blockBytes);
  const { kept, freed } = share(yield* runsOf(superblock, inode), wanted);
  const missing = wanted - kept.reduce((all, piece) => all + piece.blocks, 0);
  if ((missing > 0 || freed.length > 0) && superblock.hasRoCompat(RO_COMPAT.quota | RO_COMPAT.bigAlloc))
    return { unsupported: 'The number of blocks of a file is not changed where quotas or clusters are on.' };
  const taken = missing > 0 ? yield* findFreeBlocks(superblock, missing, groupOf(superblock, inode)) : null;
  if (missing > 0 && taken === null)
    return { unsupported: `There are no ${missing} free blocks in one piece.` };
  const plan = { pieces: taken ? joined([...kept, taken]) : kept, taken, freed };
  const most = inode.has(INODE_FLAG.extents) ? plan.pieces.length <= MAX_EXTENTS : wanted <= MAX_DIRECT;
  return most
    ? plan
    : { unsupported: `The content needs more pieces than the inode ${inode.number} can name.` };
}

export function groupOf(superblock: Superblock, inode: Inode): number {
  return Math.floor((inode.number - 1) / superblock.inodesPerGroup);
}

function hasMapBlocks(inode: Inode): boolean {
  if (inode.has(INODE_FLAG.extents)) return inode.blockArea.readUInt16LE(6) !== 0;
  return inode.blockArea.subarray(4 * MAX_DIRECT).some((byte) => byte !== 0);
}

/** The first blocks are kept, wherever in the file they were. */
function share(runs: readonly Run[], wanted: number): { kept: Piece[]; freed: Piece[] } {
  const kept: Piece[] = [];
  const freed: Piece[] = [];
  let left = wanted;
  for (const { at, blocks } of runs) {
    const used = Math.min(blocks, left);
    if (used > 0) kept.push({ at, blocks: used });
    if (used < blocks) freed.push({ at: at + used, blocks: blocks - used });
    left -= used;
  }
  return { kept: joined(kept), freed };
}

function joined(pieces: readonly Piece[]): Piece[] {
  const found: Piece[] = [];
  for (const piece of pieces) {
    const last = found.at(-1);
    if (last && last.at + last.blocks === piece.at)
      found[found.length - 1] = { at: last.at, blocks: last.blocks + piece.blocks };
    else found.push(piece);
  }
  return found;
}

/** Carries a plan out. The superblock is changed in memory only. */
export function* writeBlocks(
  superblock: Superblock,
  inode: Inode,
  content: Buffer,
  plan: Plan,
): Writing<void> {
  if (plan.taken) yield* changeBlocks(superblock, plan.taken, 'taken');
  for (const piece of plan.freed) yield* changeBlocks(superblock, piece, 'free');
  const freed = plan.freed.reduce((all, piece) => all + piece.blocks, 0);
  inode.usedUnits += ((plan.taken?.blocks ?? 0) - freed) * unitsPerBlock(superblock, inode);
  if (inode.has(INODE_FLAG.extents)) mapExtents(inode, plan.pieces);
  else mapDirect(inode, plan.pieces);
  yield* writePieces(superblock, content, plan.pieces);
}

function mapExtents(inode: Inode, pieces: readonly Piece[]): void {
  const area = inode.blockArea;
  area.fill(0);
  area.writeUInt16LE(EXTENT_MAGIC, 0);
  area.writeUInt16LE(pieces.length, 2);
  area.writeUInt16LE(MAX_EXTENTS, 4);
  let first = 0;
  for (const [index, piece] of pieces.entries()) {
    const at = 12 + 12 * index;
    area.writeUInt32LE(first, at);
    area.writeUInt16LE(piece.blocks, at + 4);
    area.writeUInt16LE(Math.floor(piece.at / 2 ** 32), at + 6);
    area.writeUInt32LE(piece.at % 2 ** 32, at + 8);
    first += piece.blocks;
  }
}

function mapDirect(inode: Inode, pieces: readonly Piece[]): void {
  inode.blockArea.fill(0);
  let index = 0;
  for (const piece of pieces)
    for (let at = 0; at < piece.blocks; at++) inode.blockArea.writeUInt32LE(piece.at + at, 4 * index++);
}

/** Whole blocks; zeros behind the end. */
function* writePieces(superblock: Superblock, content: Buffer, pieces: readonly Piece[]): Writing<void> {
  let from = 0;
  for (const piece of pieces) {
    const data = Buffer.alloc(piece.blocks * superblock.blockBytes);
    content.copy(data, 0, from);
    yield* writeAt(superblock.blockAt(piece.at), data);
    from += data.length;
  }
}

/** Content inside the inode stays there. */
export function* replaceInline(
  superblock: Superblock,
  inode: Inode,
  content: Buffer,
  time: InodeTime,
): Writing<Refused | null> {
  if (content.length > INLINE_BYTES)
    return {
      unsupported: `The content of inode ${inode.number} is in the inode itself, and ${content.length} bytes do not fit there.`,
    };
  emptyInlineAttribute(inode);
  inode.blockArea.fill(0);
  inode.blockArea.set(content);
  inode.size = content.length;
  inode.touch(time);
  yield* writeInode(superblock, inode);
  return null;
}
