// Replays the journal of a file system that was not unmounted: the second pass writes the committed blocks to their places, then the
// journal is marked empty and the superblock as recovered. Only then does a change of the superblock last: the log has older copies of it.
// Invariant: nothing is written before the whole log was scanned and understood; the order of writes is that of the log.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { runsOf } from './block-map.js';
import { COMPAT, INCOMPAT, RO_COMPAT } from './features.js';
import { countFree } from './groups.js';
import { readInode } from './inode.js';
import { JOURNAL_MAGIC, type Journal, openJournal } from './journal.js';
import {
  BLOCK_TYPE,
  following,
  hasTrueTailSum,
  isSameOrLater,
  type Scanned,
  scanJournal,
  type Tag,
  tagsOf,
} from './journal-scan.js';
import { rawCrc32c, readSuperblock, type Superblock } from './superblock.js';

/** How a replay ended: with the superblock as it is afterwards (changed in memory, not yet written), or why nothing was done. */
export type Replayed =
  | { readonly superblock: Superblock; readonly blocks: number; readonly transactions: number }
  | { readonly refused: string };

const FAST_COMMIT_HEAD = 9;
/** The kernel refuses a larger orphan file. */
const MAX_ORPHAN_BYTES = 8 << 20;

/** Throws `identity-damaged`. */
export function* replay(bytes: bigint, before: Superblock): Writing<Replayed> {
  const refused = refusal(before);
  if (refused !== null) return { refused };
  const journal = yield* openJournal(before);
  if (journal.unknownFeatures !== 0)
    return { refused: `its journal has unknown features (0x${journal.unknownFeatures.toString(16)})` };
  if (journal.start === 0)
    return { superblock: yield* recovered(before, before), blocks: 0, transactions: 0 };
  const scanned = yield* scanJournal(journal);
  if (yield* hasFastCommit(journal, scanned.end))
    return { refused: 'its journal has fast commits that would have to be replayed' };
  const blocks = yield* writeTransactions(journal, scanned, bytes);
  yield* journal.empty(following(scanned.end));
  const after = yield* readSuperblock(bytes);
  if (after === null)
    throw damaged('the journal of an ext file system puts something else over the superblock');
  return { superblock: yield* recovered(after, before), blocks, transactions: scanned.transactions };
}

function refusal(superblock: Superblock): string | null {
  if (superblock.hasExternalJournal) return 'its journal is on another device and has to be replayed';
  if (!superblock.hasCompat(COMPAT.hasJournal)) return 'it is said to need recovery and has no journal';
  const { incompat } = superblock.unknownFeatures;
  if (incompat !== 0) return `it has a journal to replay and unknown features (0x${incompat.toString(16)})`;
  return null;
}

/** As a mount leaves it: the kernel counts what is free anew, and keeps errors and orphans. */
function* recovered(superblock: Superblock, before: Superblock): Reading<Superblock> {
  superblock.clearIncompat(INCOMPAT.recover);
  superblock.keepErrorsOf(before);
  const free = yield* countFree(superblock);
  superblock.freeBlocks = free.blocks;
  superblock.freeInodes = free.inodes;
  if (superblock.hasRoCompat(RO_COMPAT.orphanPresent) && !(yield* hasOrphans(superblock)))
    superblock.clearRoCompat(RO_COMPAT.orphanPresent);
  return superblock;
}

/** Whether a block of the orphan file names an inode. Four bytes each, and at the end a magic number and a checksum. */
function* hasOrphans(superblock: Superblock): Reading<boolean> {
  if (!superblock.hasCompat(COMPAT.orphanFile)) return true;
  const { blockBytes } = superblock;
  const inode = yield* readInode(superblock, superblock.orphanFileInode);
  const runs = yield* runsOf(superblock, inode);
  if (runs.reduce((all, run) => all + run.blocks, 0) * blockBytes > MAX_ORPHAN_BYTES) return true;
  for (const run of runs)
    for (let at = 0; at < run.blocks; at++) {
      const block = yield* readAt(superblock.blockAt(run.at + at), blockBytes);
      if (block.subarray(0, blockBytes - 8).some((byte) => byte !== 0)) return true;
    }
  return false;
}

/** The fast commits that follow a transaction begin with its number. */
function* hasFastCommit(journal: Journal, transaction: number): Reading<boolean> {
  if (!journal.hasFastCommits || journal.firstFastCommit >= journal.blocks) return false;
  const block = yield* journal.block(journal.firstFastCommit);
  return block.readUInt16LE(0) === FAST_COMMIT_HEAD && block.readUInt32LE(8) === transaction;
}

/** Answers how many blocks were written. */
function* writeTransactions(journal: Journal, scanned: Scanned, bytes: bigint): Writing<number> {
  let written = 0;
  let at = journal.start;
  for (let sequence = journal.sequence; sequence !== scanned.end; ) {
    const block = yield* journal.block(at);
    const type = block.readUInt32BE(4);
    at = journal.after(at);
    if (type === BLOCK_TYPE.commit) sequence = following(sequence);
    if (type !== BLOCK_TYPE.descriptor) continue;
    if (!hasTrueTailSum(journal, block)) throw wrongBlock(sequence);
    for (const tag of tagsOf(journal, block)) {
      if (!isRevoked(scanned, tag.block, sequence)) {
        yield* writeBlock(journal, tag, { at, sequence, bytes });
        written++;
      }
      at = journal.after(at);
    }
  }
  return written;
}

function isRevoked(scanned: Scanned, block: number, sequence: number): boolean {
  const revoked = scanned.revoked.get(block);
  return revoked !== undefined && isSameOrLater(revoked, sequence);
}

interface Place {
  /** Block of the journal. */
  readonly at: number;
  readonly sequence: number;
  /** Size of the disk: the log may have grown the file system beyond what its superblock says. */
  readonly bytes: bigint;
}

function* writeBlock(journal: Journal, tag: Tag, { at, sequence, bytes }: Place): Writing<void> {
  const logged = yield* journal.block(at);
  if (journal.sumsBlocks && tag.sum !== tagSum(journal, logged, sequence)) throw wrongBlock(sequence);
  const to = BigInt(tag.block) * BigInt(journal.blockBytes);
  if (to + BigInt(journal.blockBytes) > bytes)
    throw damaged(`the journal of an ext file system has a block ${tag.block}, which the disk has not`);
  const data = Buffer.from(logged);
  if (tag.isEscaped) data.writeUInt32BE(JOURNAL_MAGIC);
  yield* writeAt(to, data);
}

function tagSum(journal: Journal, block: Buffer, sequence: number): number {
  const number = Buffer.alloc(4);
  number.writeUInt32BE(sequence);
  const crc = rawCrc32c(rawCrc32c(journal.seed, number), block);
  return journal.hasWideTagSums ? crc : crc & 0xffff;
}

function wrongBlock(sequence: number): Error {
  return damaged(
    `a block of transaction ${sequence} in the journal of an ext file system has a wrong checksum`,
  );
}
