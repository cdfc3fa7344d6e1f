// The log of XFS as a ring of blocks of 512 bytes, each stamped with the cycle in which it was written.
// A log is never damaged identity: what cannot be read or changed safely in it is a Refusal, which becomes a sentence in the report.

import { type Reading, readAt, type Writing, writeAt } from '../steps.js';

export const BLOCK = 512;
/** The first word of a record's header; no cycle has this number. */
export const RECORD_MAGIC = 0xfeedbabe;
/** How many records may be on their way to the disk at once, and so be torn. */
export const RECORDS_IN_FLIGHT = 8;

export interface Log {
  /** In bytes from the start of the disk. */
  readonly at: bigint;
  readonly blocks: number;
  readonly version: 1 | 2;
}

/** Why a log is left as it is: a part of a sentence, "its log ...". */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

/** The most blocks that one record takes without its header. */
export function mostRecordBlocks(log: Log): number {
  return log.version === 2 ? 512 : 64;
}

/** Runs over the end of the ring. At most 4 MiB. */
export function* readBlocks(log: Log, first: number, count: number): Reading<Buffer> {
  const straight = Math.min(count, log.blocks - first);
  const head = yield* readAt(log.at + BigInt(first * BLOCK), straight * BLOCK);
  if (straight === count) return head;
  return Buffer.concat([head, yield* readAt(log.at, (count - straight) * BLOCK)]);
}

/** `data` is whole blocks and may run over the end of the ring. */
export function* writeBlocks(log: Log, first: number, data: Buffer): Writing<void> {
  const straight = Math.min(data.length, (log.blocks - first) * BLOCK);
  yield* writeAt(log.at + BigInt(first * BLOCK), data.subarray(0, straight));
  if (straight < data.length) yield* writeAt(log.at, data.subarray(straight));
}

export function cycleOf(blocks: Buffer, index = 0): number {
  const word = blocks.readUInt32BE(index * BLOCK);
  return word === RECORD_MAGIC ? blocks.readUInt32BE(index * BLOCK + 4) : word;
}

export function isHeader(blocks: Buffer, index = 0): boolean {
  return blocks.readUInt32BE(index * BLOCK) === RECORD_MAGIC;
}

/** Blocks from `first` forward to `end`, over the end of the ring; a whole round when they are the same. */
export function distance(log: Log, first: number, end: number): number {
  return end > first ? end - first : end + log.blocks - first;
}
