// The content of a file or directory: blocks with their holes, or bytes inside the inode.
// Invariant: at most MAX_CONTENT_BYTES are asked for and held.

import { damaged } from '../kind.js';
import { MAX_STEP_BYTES, type Reading, readAt } from '../steps.js';
import { type Run, runsOf } from './block-map.js';
import { INODE_FLAG, type Inode } from './inode.js';
import type { Superblock } from './superblock.js';

/** Files of identity are small. */
export const MAX_CONTENT_BYTES = MAX_STEP_BYTES;

export const INLINE_BYTES = 60;
const ATTRIBUTE_MAGIC = 0xea020000;
const SYSTEM_INDEX = 7;
const ENTRY_BYTES = 16;

/** The whole content. Its size was compared with MAX_CONTENT_BYTES before. Throws `identity-damaged`. */
export function* readContent(superblock: Superblock, inode: Inode): Reading<Buffer> {
  if (inode.has(INODE_FLAG.inlineData)) return inlineContent(inode);
  const content = Buffer.alloc(inode.size);
  for (const run of yield* runsOf(superblock, inode))
    if (!run.isUnwritten) yield* readRun(superblock, run, content);
  return content;
}

function* readRun(superblock: Superblock, run: Run, content: Buffer): Reading<void> {
  const from = run.first * superblock.blockBytes;
  const bytes = Math.min(run.blocks * superblock.blockBytes, content.length - from);
  if (bytes > 0) content.set(yield* readAt(superblock.blockAt(run.at), bytes), from);
}

/** The first 60 bytes lie where block numbers would, the rest in the attribute system.data. */
function inlineContent(inode: Inode): Buffer {
  const rest = inlineAttribute(inode);
  const whole = rest ? Buffer.concat([inode.blockArea, rest.value]) : inode.blockArea;
  if (inode.size > whole.length)
    throw damaged(`ext4 inode ${inode.number} has less inside than its size says`);
  return Buffer.from(whole.subarray(0, inode.size));
}

export interface InlineAttribute {
  /** Where its entry is in the inode. */
  readonly entry: Buffer;
  readonly value: Buffer;
}

export function inlineAttribute(inode: Inode): InlineAttribute | null {
  const area = inode.attributeArea;
  if (area.length < 8 || area.readUInt32LE(0) !== ATTRIBUTE_MAGIC) return null;
  const entries = area.subarray(4);
  for (let at = 0; at + ENTRY_BYTES <= entries.length && entries.readUInt32LE(at) !== 0; ) {
    const nameBytes = entries[at]!;
    const name = entries.toString('latin1', at + ENTRY_BYTES, at + ENTRY_BYTES + nameBytes);
    if (entries[at + 1] === SYSTEM_INDEX && name === 'data') return attributeAt(inode, entries, at);
    at += ENTRY_BYTES + ((nameBytes + 3) & ~3);
  }
  return null;
}

function attributeAt(inode: Inode, entries: Buffer, at: number): InlineAttribute {
  const offset = entries.readUInt16LE(at + 2);
  const bytes = entries.readUInt32LE(at + 8);
  if (offset + bytes > entries.length)
    throw damaged(`an attribute of ext4 inode ${inode.number} lies outside of it`);
  return { entry: entries.subarray(at, at + ENTRY_BYTES), value: entries.subarray(offset, offset + bytes) };
}

/** A value of no bytes: all of the content is in the first 60. */
export function emptyInlineAttribute(inode: Inode): void {
  const attribute = inlineAttribute(inode);
  if (attribute === null || attribute.value.length === 0) return;
  attribute.entry.writeUInt16LE(0, 2);
  attribute.entry.writeUInt32LE(0, 8);
}
