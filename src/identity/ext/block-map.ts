// Which blocks of the disk hold a file's content: from an extent tree, or from direct and indirect block numbers.
// Invariant: runs are in the order of the file, do not overlap, and every block of them lies in the file system; a tree that says
// otherwise, is too deep, or leads in circles throws `identity-damaged`.

import { damaged } from '../kind.js';
import { type Reading, readAt } from '../steps.js';
import { INODE_FLAG, type Inode } from './inode.js';
import { rawCrc32c, type Superblock } from './superblock.js';

/** A piece of a file: `blocks` blocks from `first` of the file lie at `at` of the disk. */
export interface Run {
  readonly first: number;
  readonly at: number;
  readonly blocks: number;
  /** Reserved and never written: reads as zeros. */
  readonly isUnwritten: boolean;
}

/** Bound on memory: a file in more pieces is not followed. */
export const MAX_RUNS = 1 << 16;
const MAX_DEPTH = 5;
const EXTENT_MAGIC = 0xf30a;
const DIRECT = 12;

/** The pieces of a file that are not holes. Throws `identity-damaged`. */
export function* runsOf(superblock: Superblock, inode: Inode): Reading<Run[]> {
  const runs = new RunList(superblock, inode);
  if (inode.has(INODE_FLAG.extents)) {
    const depth = inode.blockArea.readUInt16LE(6);
    if (depth > MAX_DEPTH) throw runs.wrong(`a tree of ${depth} levels`);
    yield* walkExtents(runs, inode.blockArea, depth);
  } else yield* walkBlockNumbers(runs);
  return runs.list;
}

class RunList {
  readonly list: Run[] = [];
  readonly superblock: Superblock;
  readonly inode: Inode;
  /** Blocks of the map itself that were read: what leads in circles comes to more than the file system has. */
  #mapBlocks = 0;

  constructor(superblock: Superblock, inode: Inode) {
    this.superblock = superblock;
    this.inode = inode;
  }

  wrong(what: string): Error {
    return damaged(`the map of ext inode ${this.inode.number} has ${what}`);
  }

  add(run: Run): void {
    const { superblock, list } = this;
    if (run.at <= superblock.firstDataBlock || run.at + run.blocks > superblock.blocks)
      throw this.wrong(`blocks ${run.at} to ${run.at + run.blocks}`);
    const last = list.at(-1);
    if (last && run.first < last.first + last.blocks) throw this.wrong('pieces that overlap');
    if (last && continues(last, run)) list[list.length - 1] = { ...last, blocks: last.blocks + run.blocks };
    else list.push(run);
    if (list.length > MAX_RUNS) throw this.wrong(`more than ${MAX_RUNS} pieces`);
  }

  *mapBlock(block: number): Reading<Buffer> {
    if (block <= this.superblock.firstDataBlock || block >= this.superblock.blocks)
      throw this.wrong(`a block ${block} of its own`);
    // Each block of a sound map leads to at least one piece, or to a hole that some other block makes up for.
    if (++this.#mapBlocks > 2 * MAX_RUNS) throw this.wrong(`more than ${2 * MAX_RUNS} blocks of its own`);
    return Buffer.from(yield* readAt(this.superblock.blockAt(block), this.superblock.blockBytes));
  }
}

function continues(last: Run, next: Run): boolean {
  return (
    last.first + last.blocks === next.first &&
    last.at + last.blocks === next.at &&
    last.isUnwritten === next.isUnwritten
  );
}

function* walkExtents(runs: RunList, node: Buffer, depth: number): Reading<void> {
  const entries = node.readUInt16LE(2);
  const max = node.readUInt16LE(4);
  const room = Math.floor((node.length - 12) / 12);
  if (node.readUInt16LE(0) !== EXTENT_MAGIC || entries > max || max > room || node.readUInt16LE(6) !== depth)
    throw runs.wrong('a node that is none');
  for (let entry = 0; entry < entries; entry++) {
    const at = 12 + 12 * entry;
    if (depth === 0) addExtent(runs, node, at);
    else yield* walkExtents(runs, yield* extentBlock(runs, blockNumber(node, at + 4, at + 8)), depth - 1);
  }
}

function blockNumber(node: Buffer, low: number, high: number): number {
  return node.readUInt16LE(high) * 2 ** 32 + node.readUInt32LE(low);
}

/** Longer than 32768 blocks means unwritten, and so many blocks less. */
function addExtent(runs: RunList, node: Buffer, at: number): void {
  const length = node.readUInt16LE(at + 4);
  const isUnwritten = length > 0x8000;
  const blocks = isUnwritten ? length - 0x8000 : length;
  if (blocks === 0) throw runs.wrong('a piece of no blocks');
  runs.add({ first: node.readUInt32LE(at), at: blockNumber(node, at + 8, at + 6), blocks, isUnwritten });
}

function* extentBlock(runs: RunList, block: number): Reading<Buffer> {
  const { superblock, inode } = runs;
  const node = yield* runs.mapBlock(block);
  const tail = 12 + 12 * node.readUInt16LE(4);
  if (superblock.hasChecksums && tail + 4 <= node.length) {
    const crc = rawCrc32c(inode.seedOf(superblock), node, 0, tail);
    if (crc !== node.readUInt32LE(tail)) throw runs.wrong(`a wrong checksum in block ${block}`);
  }
  return node;
}

/** Twelve block numbers, then one, two and three levels of blocks of numbers. */
function* walkBlockNumbers(runs: RunList): Reading<void> {
  const { inode, superblock } = runs;
  for (let at = 0; at < DIRECT; at++) addBlock(runs, at, inode.blockArea.readUInt32LE(4 * at));
  let first = DIRECT;
  for (let level = 1; level <= 3; level++) {
    const block = inode.blockArea.readUInt32LE(4 * (DIRECT + level - 1));
    const covers = (superblock.blockBytes / 4) ** level;
    if (first * superblock.blockBytes >= inode.size) return;
    if (block !== 0) yield* walkIndirect(runs, block, first, covers);
    first += covers;
  }
}

function* walkIndirect(runs: RunList, block: number, first: number, covers: number): Reading<void> {
  const numbers = yield* runs.mapBlock(block);
  const each = covers / (numbers.length / 4);
  for (let at = 0; at < numbers.length / 4; at++) {
    const next = numbers.readUInt32LE(4 * at);
    if (each === 1) addBlock(runs, first + at, next);
    else if (next !== 0) yield* walkIndirect(runs, next, first + at * each, each);
  }
}

function addBlock(runs: RunList, first: number, at: number): void {
  if (at !== 0) runs.add({ first, at, blocks: 1, isUnwritten: false });
}

/** The run that holds a block of the file, or null for a hole. */
export function runAt(runs: readonly Run[], block: number): Run | null {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runs[middle]!.first + runs[middle]!.blocks <= block) low = middle + 1;
    else high = middle;
  }
  const run = runs[low];
  return run && run.first <= block ? run : null;
}
