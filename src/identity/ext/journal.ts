// The journal of ext3 and ext4 (jbd2) as a file inside the file system: its superblock, its blocks in a circle, its checksums. All
// numbers are big-endian.
// Invariant: at most one window of blocks is in memory, however large the journal.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { type Run, runAt, runsOf } from './block-map.js';
import { INODE_FLAG, readInode } from './inode.js';
import { rawCrc32c, type Superblock } from './superblock.js';

export const JOURNAL_MAGIC = 0xc03b3998;
const SUPERBLOCK_V1 = 3;
const SUPERBLOCK_V2 = 4;
const SUPERBLOCK_BYTES = 1024;
const CRC32C_TYPE = 4;
const DEFAULT_FAST_COMMIT_BLOCKS = 256;
/** Read ahead of the walk: the log is mostly read from one end to the other. */
const WINDOW_BYTES = 256 << 10;

const FEATURE = {
  compatChecksum: 0x1,
  revoke: 0x1,
  bits64: 0x2,
  asyncCommit: 0x4,
  checksumV2: 0x8,
  checksumV3: 0x10,
  fastCommit: 0x20,
} as const;
const KNOWN_INCOMPAT = 0x3f;

const AT = {
  magic: 0x0,
  type: 0x4,
  blockBytes: 0xc,
  blocks: 0x10,
  first: 0x14,
  sequence: 0x18,
  start: 0x1c,
  compat: 0x24,
  incompat: 0x28,
  roCompat: 0x2c,
  uuid: 0x30,
  checksumType: 0x50,
  fastCommitBlocks: 0x54,
  checksum: 0xfc,
} as const;

export class Journal {
  readonly blockBytes: number;
  readonly #raw: Buffer;
  readonly #runs: readonly Run[];
  readonly #superblock: Superblock;
  #window: { first: number; data: Buffer } = { first: 0, data: Buffer.alloc(0) };

  constructor(superblock: Superblock, runs: readonly Run[], raw: Buffer) {
    this.#superblock = superblock;
    this.blockBytes = superblock.blockBytes;
    this.#runs = runs;
    this.#raw = raw;
  }

  get #isV2(): boolean {
    return this.#raw.readUInt32BE(AT.type) === SUPERBLOCK_V2;
  }

  #hasIncompat(bit: number): boolean {
    return this.#isV2 && (this.#raw.readUInt32BE(AT.incompat) & bit) !== 0;
  }

  /** Block numbers in tags and revokes have 64 bits. */
  get hasWideNumbers(): boolean {
    return this.#hasIncompat(FEATURE.bits64);
  }

  /** A commit need not wait for what it commits: a wrong checksum of the last one means that it was interrupted. */
  get hasAsyncCommits(): boolean {
    return this.#hasIncompat(FEATURE.asyncCommit);
  }

  get hasFastCommits(): boolean {
    return this.#hasIncompat(FEATURE.fastCommit);
  }

  /** Version 1: one checksum over all blocks of a transaction, in its commit block. */
  get sumsTransactions(): boolean {
    return this.#isV2 && (this.#raw.readUInt32BE(AT.compat) & FEATURE.compatChecksum) !== 0;
  }

  /** Versions 2 and 3: every block of the log has a checksum, and every tag one of its block. */
  get sumsBlocks(): boolean {
    return this.#hasIncompat(FEATURE.checksumV2 | FEATURE.checksumV3);
  }

  get hasWideTagSums(): boolean {
    return this.#hasIncompat(FEATURE.checksumV3);
  }

  get tagBytes(): number {
    if (this.hasWideTagSums) return 16;
    const sum = this.#hasIncompat(FEATURE.checksumV2) ? 2 : 0;
    return (this.hasWideNumbers ? 12 : 8) + sum;
  }

  /** What a descriptor or revoke block has for its records: with checksums, all but the last four bytes. */
  get recordEnd(): number {
    return this.blockBytes - (this.sumsBlocks ? 4 : 0);
  }

  get blocks(): number {
    return this.#raw.readUInt32BE(AT.blocks);
  }

  /** First block of the circle, which goes up to `end`. */
  get first(): number {
    return this.#raw.readUInt32BE(AT.first);
  }

  get end(): number {
    return this.blocks - (this.hasFastCommits ? this.#fastCommitBlocks : 0);
  }

  get #fastCommitBlocks(): number {
    return this.#raw.readUInt32BE(AT.fastCommitBlocks) || DEFAULT_FAST_COMMIT_BLOCKS;
  }

  /** Where fast commits begin, the block behind `end` being left out. */
  get firstFastCommit(): number {
    return this.end + 1;
  }

  /** Block where the oldest transaction begins; 0: there is nothing to replay. */
  get start(): number {
    return this.#raw.readUInt32BE(AT.start);
  }

  /** Number of the oldest transaction. */
  get sequence(): number {
    return this.#raw.readUInt32BE(AT.sequence);
  }

  get seed(): number {
    return rawCrc32c(0xffffffff, this.#raw, AT.uuid, AT.uuid + 16);
  }

  /** The place in the circle that many blocks after `block`. */
  after(block: number, blocks = 1): number {
    const next = block + blocks;
    return next >= this.end ? next - (this.end - this.first) : next;
  }

  get #checksum(): number {
    const copy = Buffer.from(this.#raw);
    copy.writeUInt32BE(0, AT.checksum);
    return rawCrc32c(0xffffffff, copy);
  }

  /** The bytes of a block of the journal, good until the next call. */
  *block(number: number): Reading<Buffer> {
    const { blockBytes } = this;
    const at = (number - this.#window.first) * blockBytes;
    if (at >= 0 && at < this.#window.data.length) return this.#window.data.subarray(at, at + blockBytes);
    const run = runAt(this.#runs, number);
    if (run === null) throw damaged(`the journal of an ext file system has no block ${number}`);
    const ahead = Math.min(run.first + run.blocks - number, Math.max(1, WINDOW_BYTES / blockBytes));
    const from = this.#superblock.blockAt(run.at + number - run.first);
    this.#window = { first: number, data: yield* readAt(from, ahead * blockBytes) };
    return this.#window.data.subarray(0, blockBytes);
  }

  /** What is wrong with the superblock of the journal, or null. */
  fault(): string | null {
    if (this.#raw.readUInt32BE(AT.magic) !== JOURNAL_MAGIC) return 'no magic number';
    const type = this.#raw.readUInt32BE(AT.type);
    if (type !== SUPERBLOCK_V1 && type !== SUPERBLOCK_V2) return `a superblock of type ${type}`;
    if (this.#raw.readUInt32BE(AT.blockBytes) !== this.blockBytes) return 'another block size';
    return this.#checksumFault() ?? this.#sizeFault();
  }

  #checksumFault(): string | null {
    if (this.#hasIncompat(FEATURE.checksumV2) && this.#hasIncompat(FEATURE.checksumV3))
      return 'two kinds of checksums';
    if (this.sumsBlocks && this.sumsTransactions) return 'two kinds of checksums';
    if (!this.sumsBlocks) return null;
    if (this.#raw[AT.checksumType] !== CRC32C_TYPE) return 'checksums of an unknown type';
    return this.#raw.readUInt32BE(AT.checksum) === this.#checksum
      ? null
      : 'a wrong checksum in its superblock';
  }

  #sizeFault(): string | null {
    const last = this.#runs.at(-1);
    if (!last || this.blocks > last.first + last.blocks)
      return `${this.blocks} blocks, which its file has not`;
    if (this.first < 1 || this.first >= this.end) return `a circle from block ${this.first} to ${this.end}`;
    if (this.start !== 0 && (this.start < this.first || this.start >= this.end))
      return `its start at block ${this.start}`;
    return null;
  }

  /** Features that are not known here; of such a journal nothing is understood. */
  get unknownFeatures(): number {
    if (!this.#isV2) return 0;
    return (
      (this.#raw.readUInt32BE(AT.incompat) & ~KNOWN_INCOMPAT) >>> 0 || this.#raw.readUInt32BE(AT.roCompat)
    );
  }

  /** Nothing is to be replayed any more; the next transaction has this number. */
  *empty(sequence: number): Writing<void> {
    this.#raw.writeUInt32BE(0, AT.start);
    this.#raw.writeUInt32BE(sequence, AT.sequence);
    if (this.sumsBlocks) this.#raw.writeUInt32BE(this.#checksum, AT.checksum);
    yield* writeAt(this.#superblock.blockAt(this.#runs[0]!.at), this.#raw);
  }
}

/** The journal inside a file system. Throws `identity-damaged`. */
export function* openJournal(superblock: Superblock): Reading<Journal> {
  const inode = yield* readInode(superblock, superblock.journalInode);
  if (!inode.isFile || inode.links === 0 || inode.has(INODE_FLAG.encrypted))
    throw damaged(`ext inode ${inode.number}, said to be the journal, is none`);
  const runs = yield* runsOf(superblock, inode);
  const first = runs[0];
  if (first?.first !== 0 || runs.some((run) => run.isUnwritten))
    throw damaged('the journal of an ext file system has holes');
  const raw = Buffer.from(yield* readAt(superblock.blockAt(first.at), SUPERBLOCK_BYTES));
  const journal = new Journal(superblock, runs, raw);
  const fault = journal.unknownFeatures === 0 ? journal.fault() : null;
  if (fault !== null) throw damaged(`the journal of an ext file system has ${fault}`);
  return journal;
}
