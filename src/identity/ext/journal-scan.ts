// The first pass over a journal: which transactions are whole, and which blocks they revoke. It writes nothing.
//
// Where the log ends is decided as the kernel does: at the first block that does not carry on the sequence of numbers, or is of no known
// type. A wrong checksum before that point is judged by the time of the commit: older than the commit before it, the block is a left-over
// of an earlier file system on the same blocks and the log ends there; otherwise committed changes are damaged, the kernel refuses to
// mount, and so the scan throws `identity-damaged`. e2fsck would replay what precedes the damage, mark the file system as faulty and
// check all of it; without that check the result is no state the file system ever had, so it is left to e2fsck. An interrupted last
// transaction is no damage: nothing of it counts.

import { damaged } from '../kind.js';
import type { Reading } from '../steps.js';
import { JOURNAL_MAGIC, type Journal } from './journal.js';
import { rawCrc32c } from './superblock.js';

export const BLOCK_TYPE = { descriptor: 1, commit: 2, revoke: 5 } as const;
const HEADER_BYTES = 12;
const REVOKE_HEADER_BYTES = 16;
const COMMIT_SUM = { type: 0xc, size: 0xd, value: 0x10, seconds: 0x30 } as const;
const CRC32_TYPE = 1;
/** Bound on memory. So many blocks of metadata freed and not yet checkpointed do not fit in a journal of the usual sizes. */
const MAX_REVOKES = 1 << 20;

const TAG_FLAG = { escaped: 1, sameUuid: 2, last: 8 } as const;

export interface Tag {
  /** Block of the file system. */
  readonly block: number;
  /** The content in the log has zeros where the block begins with the journal's magic number. */
  readonly isEscaped: boolean;
  readonly sum: number;
}

export interface Scanned {
  /** Number of the first transaction that does not count. */
  readonly end: number;
  readonly transactions: number;
  /** The last transaction in which a block was revoked: its earlier contents do not count. */
  readonly revoked: ReadonlyMap<number, number>;
}

/** Whether a transaction's number is the same or later than another's; they wrap around. */
export const isSameOrLater = (one: number, other: number): boolean => ((one - other) | 0) >= 0;
export const following = (sequence: number): number => (sequence + 1) >>> 0;

export function tagsOf(journal: Journal, descriptor: Buffer): Tag[] {
  const tags: Tag[] = [];
  for (let at = HEADER_BYTES; at + journal.tagBytes <= journal.recordEnd; ) {
    const flags = descriptor.readUInt16BE(at + 6);
    tags.push(tagAt(journal, descriptor, at, flags));
    at += journal.tagBytes + (flags & TAG_FLAG.sameUuid ? 0 : 16);
    if (flags & TAG_FLAG.last) break;
  }
  return tags;
}

function tagAt(journal: Journal, descriptor: Buffer, at: number, flags: number): Tag {
  const upper = journal.hasWideNumbers ? descriptor.readUInt32BE(at + 8) : 0;
  return {
    block: upper * 2 ** 32 + descriptor.readUInt32BE(at),
    isEscaped: (flags & TAG_FLAG.escaped) !== 0,
    sum: journal.hasWideTagSums ? descriptor.readUInt32BE(at + 12) : descriptor.readUInt16BE(at + 4),
  };
}

/** The checksum at the end of a descriptor or revoke block, or in a commit block. */
function hasTrueSum(journal: Journal, block: Buffer, at: number): boolean {
  if (!journal.sumsBlocks) return true;
  let crc = rawCrc32c(journal.seed, block, 0, at);
  crc = rawCrc32c(crc, Buffer.alloc(4));
  return rawCrc32c(crc, block, at + 4) === block.readUInt32BE(at);
}

export function hasTrueTailSum(journal: Journal, block: Buffer): boolean {
  return hasTrueSum(journal, block, journal.blockBytes - 4);
}

/** Throws `identity-damaged`. */
export function* scanJournal(journal: Journal): Reading<Scanned> {
  const scan = new Scan(journal);
  let at = journal.start;
  let walked = 0;
  while (!scan.isOver) {
    const blocks = yield* scan.take(yield* journal.block(at), at);
    at = journal.after(at, blocks);
    walked += blocks;
    if (walked > journal.end - journal.first)
      throw damaged('the journal of an ext file system goes round without an end');
  }
  return { end: scan.end, transactions: (scan.end - journal.sequence) >>> 0, revoked: scan.revoked };
}

class Scan {
  isOver = false;
  readonly revoked = new Map<number, number>();
  readonly #journal: Journal;
  #sequence: number;
  /** Of the transaction at hand; they count when it is committed. */
  #pending: number[] = [];
  #sum = 0xffffffff;
  /** A block of the transaction at hand has a wrong checksum. */
  #isDoubtful = false;
  #lastCommit = 0n;
  /** The first transaction with a wrong sum, in a journal where that may be an interrupted commit. */
  #interrupted: number | null = null;

  constructor(journal: Journal) {
    this.#journal = journal;
    this.#sequence = journal.sequence;
  }

  get end(): number {
    return this.#interrupted ?? this.#sequence;
  }

  /** Answers how many blocks of the log this one stands for. */
  *take(block: Buffer, at: number): Reading<number> {
    const continues = block.readUInt32BE(0) === JOURNAL_MAGIC && block.readUInt32BE(8) === this.#sequence;
    switch (continues ? block.readUInt32BE(4) : 0) {
      case BLOCK_TYPE.descriptor:
        return yield* this.#descriptor(block, at);
      case BLOCK_TYPE.revoke:
        this.#revoke(block);
        return 1;
      case BLOCK_TYPE.commit:
        this.#commit(block);
        return 1;
      default:
        this.isOver = true;
        return 0;
    }
  }

  *#descriptor(block: Buffer, at: number): Reading<number> {
    const journal = this.#journal;
    if (!hasTrueTailSum(journal, block)) this.#isDoubtful = true;
    const tags = tagsOf(journal, block).length;
    if (journal.sumsTransactions && this.#interrupted === null) {
      this.#sum = crc32Be(this.#sum, block);
      for (let tag = 1; tag <= tags; tag++)
        this.#sum = crc32Be(this.#sum, yield* journal.block(journal.after(at, tag)));
    }
    return 1 + tags;
  }

  #revoke(block: Buffer): void {
    const journal = this.#journal;
    if (!hasTrueTailSum(journal, block)) this.#isDoubtful = true;
    const bytes = journal.hasWideNumbers ? 8 : 4;
    const end = Math.min(block.readUInt32BE(HEADER_BYTES), journal.recordEnd);
    for (let at = REVOKE_HEADER_BYTES; at + bytes <= end; at += bytes)
      this.#pending.push(bytes === 8 ? Number(block.readBigUInt64BE(at)) : block.readUInt32BE(at));
    if (this.#pending.length + this.revoked.size > MAX_REVOKES)
      throw damaged(`the journal of an ext file system revokes more than ${MAX_REVOKES} blocks`);
  }

  #commit(block: Buffer): void {
    const time = block.readBigUInt64BE(COMMIT_SUM.seconds);
    const isTrue = hasTrueSum(this.#journal, block, COMMIT_SUM.value) && this.#hasTrueTransactionSum(block);
    if (this.#isDoubtful || !isTrue) {
      if (time < this.#lastCommit) {
        this.isOver = true;
        return;
      }
      if (this.#isDoubtful || !this.#journal.hasAsyncCommits) throw this.#damage();
    }
    // A commit behind one that seemed interrupted: it was not.
    if (this.#interrupted !== null) throw this.#damage();
    if (!isTrue) this.#interrupted = this.#sequence;
    else this.#commitRevokes();
    this.#lastCommit = time;
    this.#sum = 0xffffffff;
    this.#sequence = following(this.#sequence);
  }

  #hasTrueTransactionSum(block: Buffer): boolean {
    if (!this.#journal.sumsTransactions) return true;
    const [type, size, value] = [
      block[COMMIT_SUM.type],
      block[COMMIT_SUM.size],
      block.readUInt32BE(COMMIT_SUM.value),
    ];
    if (type === 0 && size === 0 && value === 0) return true;
    return type === CRC32_TYPE && size === 4 && value === this.#sum;
  }

  #commitRevokes(): void {
    for (const block of this.#pending) this.revoked.set(block, this.#sequence);
    this.#pending = [];
  }

  #damage(): Error {
    return damaged(`transaction ${this.#sequence} in the journal of an ext file system has a wrong checksum`);
  }
}

const CRC32_BE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc >>> 0;
});

/** CRC-32 with the highest bit first, not inverted at the end. */
function crc32Be(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = ((crc << 8) ^ CRC32_BE[(crc >>> 24) ^ byte]!) >>> 0;
  return crc;
}
