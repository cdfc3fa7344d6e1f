// Gives the live part of a log another identity in place: the UUID in each record's header, the copies of the superblock in the payload, and
// the records' checksums. Replay by the kernel then brings back the new identity and everything else as it was.
// Invariant: nothing is written before a first pass over the same records found that all of them can be edited.

import type { Reading, Writing } from '../steps.js';
import { headerFrom, type LogState, readRecord } from './head.js';
import {
  BLOCK,
  distance,
  isHeader,
  type Log,
  RECORDS_IN_FLIGHT,
  Refusal,
  readBlocks,
  writeBlocks,
} from './log-blocks.js';
import { isSound, LogRecord, mostBlocks, parseHeader, setHeaderUuid } from './record.js';
import { type SuperblockPatch, Transactions } from './transactions.js';

const WINDOW_BLOCKS = (1 << 20) / BLOCK;

export interface LogEdit {
  /** Null: it stays. */
  readonly uuid: Buffer | null;
  readonly patches: readonly SuperblockPatch[];
  /** Whether a superblock lies at this block of 512 bytes of the disk. */
  readonly isSuperblock: (block: bigint) => boolean;
}

export interface LogEdited {
  readonly records: number;
  readonly bytesWritten: number;
  /** Copies of superblocks in the log. */
  readonly copies: number;
  /** The most allocation groups that a copy counts: the file system may have grown. */
  readonly groups: number;
}

/** What will be edited; `edited` is what applying it will do. */
export interface LogPlan {
  readonly live: Live | null;
  readonly headers: readonly number[];
  readonly edited: LogEdited;
}

/** Records from `start` up to `head`, over the end of the ring. */
interface Live {
  readonly start: number;
  readonly head: number;
}

class BadRecord extends Refusal {
  readonly at: number;
  constructor(at: number) {
    super(`has a damaged record at block ${at}`);
    this.at = at;
  }
}

/** Throws Refusal. */
export function* planLogEdit(log: Log, state: LogState, edit: LogEdit): Reading<LogPlan> {
  const nothing: LogEdited = { records: 0, bytesWritten: 0, copies: 0, groups: 0 };
  if (state.state === 'empty') return { live: null, headers: [], edited: nothing };
  if (state.state === 'clean') {
    const headers = [...new Set([state.record, state.checked])];
    return { live: null, headers, edited: { ...nothing, records: headers.length, bytesWritten: headers.length * BLOCK } };
  }
  const { live, edited } = yield* checkLive(log, state, edit);
  const isLive = distance(log, live.start, (state.checked + 1) % log.blocks) <= distance(log, live.start, live.head);
  return { live, headers: isLive ? [] : [state.checked], edited };
}

/** The same edit as the plan's, on the same bytes. */
export function* applyLogEdit(log: Log, plan: LogPlan, edit: LogEdit): Writing<void> {
  if (plan.live !== null) yield* editLive(log, plan.live, edit);
  if (edit.uuid === null) return;
  for (const at of plan.headers) yield* editHeader(log, at, edit.uuid);
}

type Dirty = Extract<LogState, { state: 'dirty' }>;

/**
 * A head that had caught up with the tail may have overwritten it with a record that was not finished. So bad records close to the head are
 * passed over at the tail, by the kernel as here; others are damage.
 */
function* checkLive(log: Log, dirty: Dirty, edit: LogEdit): Reading<{ live: Live; edited: LogEdited }> {
  const { head } = dirty;
  for (let from = dirty.tail; ; ) {
    const start = yield* headerFrom(log, from, head);
    if (start === null) throw new Refusal(`has no record between block ${from} and ${head}`);
    const live = { start, head };
    try {
      return { live, edited: yield* withoutWrites(editLive(log, live, edit)) };
    } catch (error) {
      if (!(error instanceof BadRecord) || distance(log, head, error.at) > mostBlocks(log) * RECORDS_IN_FLIGHT) throw error;
      from = (error.at + 1) % log.blocks;
      if (from === head) throw error;
    }
  }
}

function* editLive(log: Log, live: Live, edit: LogEdit): Writing<LogEdited> {
  const transactions = new Transactions(edit.patches, edit.isSuperblock);
  const window = new Window(log);
  let records = 0;
  let bytesWritten = 0;
  let at = live.start;
  for (let left = distance(log, live.start, live.head); left > 0; records++) {
    const before = yield* window.record(at, left);
    if (before === null) throw new BadRecord(at);
    const record = editRecord(log, before, edit, transactions);
    if (record === null) throw new BadRecord(at);
    bytesWritten += yield* writeChanges(log, at, before, record.raw);
    at = (at + record.header.blocks) % log.blocks;
    left -= record.header.blocks;
  }
  return { records, bytesWritten, copies: transactions.copies, groups: transactions.groups };
}

/** Null: its checksum is wrong. */
function editRecord(log: Log, before: Buffer, edit: LogEdit, transactions: Transactions): LogRecord | null {
  const record = new LogRecord(log, Buffer.from(before));
  if (!record.checksumIsRight) return null;
  if (!record.isLittleEndian) throw new Refusal('was written by a machine of another byte order');
  if (edit.uuid !== null) record.setUuid(edit.uuid);
  if (!record.isWithoutWords) transactions.take(record);
  else if (record.header.operations !== 1) throw new Refusal('has a record with more blocks than its headers describe');
  record.stampChecksum();
  return record;
}

/** Writes the blocks that differ, neighbours together. Returns their bytes. */
function* writeChanges(log: Log, at: number, before: Buffer, after: Buffer): Writing<number> {
  let bytes = 0;
  for (let first = 0; first < after.length; first += BLOCK) {
    let end = first;
    while (end < after.length && !sameBlock(before, after, end)) end += BLOCK;
    if (end === first) continue;
    yield* writeBlocks(log, (at + first / BLOCK) % log.blocks, after.subarray(first, end));
    bytes += end - first;
    first = end;
  }
  return bytes;
}

function sameBlock(before: Buffer, after: Buffer, at: number): boolean {
  return before.compare(after, at, at + BLOCK, at, at + BLOCK) === 0;
}

/** The header of an unmount record, or of a torn one, whose checksum stays as wrong as it is. */
function* editHeader(log: Log, at: number, uuid: Buffer): Writing<void> {
  const whole = yield* readRecord(log, at);
  if (whole?.checksumIsRight === true) {
    whole.setUuid(uuid);
    whole.stampChecksum();
    return yield* writeBlocks(log, at, whole.raw.subarray(0, BLOCK));
  }
  const block = yield* readBlocks(log, at, 1);
  setHeaderUuid(block, uuid);
  yield* writeBlocks(log, at, block);
}

/** The same computation on a disk that forgets what is written to it. */
function* withoutWrites<T>(work: Writing<T>): Reading<T> {
  for (let next = work.next(NOTHING); ; ) {
    if (next.done) return next.value;
    next = work.next(next.value.do === 'read' ? yield next.value : NOTHING);
  }
}

const NOTHING = new Uint8Array(0);

/** Reads the log ahead, in its order. */
class Window {
  readonly #log: Log;
  #blocks: Buffer = Buffer.alloc(0);

  constructor(log: Log) {
    this.#log = log;
  }

  /** All blocks of the record at `at`, which follows the one before; null: there is no sound one within `left` blocks. */
  *record(at: number, left: number): Reading<Buffer | null> {
    if (this.#blocks.length < Math.min(left, mostBlocks(this.#log)) * BLOCK)
      this.#blocks = yield* readBlocks(this.#log, at, Math.min(left, WINDOW_BLOCKS));
    if (!isHeader(this.#blocks)) return null;
    const header = parseHeader(this.#log, this.#blocks);
    if (!isSound(this.#log, header) || header.blocks > left) return null;
    const record = this.#blocks.subarray(0, header.blocks * BLOCK);
    this.#blocks = this.#blocks.subarray(record.length);
    return record;
  }
}
