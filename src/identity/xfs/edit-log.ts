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

const WINDOW_BLOCKS = (2 << 20) / BLOCK;

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

/** What will be edited: whole records, and headers alone. */
export interface LogPlan {
  readonly live: Live | null;
  readonly headers: readonly number[];
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
  if (state.state === 'empty') return { live: null, headers: [] };
  if (state.state === 'clean') return { live: null, headers: [...new Set([state.record, state.checked])] };
  const live = yield* checkLive(log, state, edit);
  const toChecked = distance(log, live.start, (state.checked + 1) % log.blocks);
  return { live, headers: toChecked <= distance(log, live.start, live.head) ? [] : [state.checked] };
}

/** The edit that the plan was made for, on the same bytes. */
export function* applyLogEdit(log: Log, plan: LogPlan, edit: LogEdit): Writing<LogEdited> {
  if (edit.uuid !== null) for (const at of plan.headers) yield* editHeader(log, at, edit.uuid);
  if (plan.live === null) return { records: 0, bytesWritten: 0, copies: 0, groups: 0 };
  return yield* editLive(log, plan.live, edit, 'apply');
}

type Dirty = Extract<LogState, { state: 'dirty' }>;

/**
 * A head that had caught up with the tail may have overwritten it with a record that was not finished. So bad records close to the head are
 * passed over at the tail, by the kernel as here; others are damage.
 */
function* checkLive(log: Log, dirty: Dirty, edit: LogEdit): Reading<Live> {
  const { head } = dirty;
  for (let from = dirty.tail; ; ) {
    const start = yield* headerFrom(log, from, head);
    if (start === null) throw new Refusal(`has no record between block ${from} and ${head}`);
    const live = { start, head };
    try {
      yield* withoutWrites(editLive(log, live, edit, 'check'));
      return live;
    } catch (error) {
      if (
        !(error instanceof BadRecord) ||
        distance(log, head, error.at) > mostBlocks(log) * RECORDS_IN_FLIGHT
      )
        throw error;
      from = (error.at + 1) % log.blocks;
      if (from === head) throw error;
    }
  }
}

/** Checksums are looked at in the first pass and made in the second: they are most of the work. */
type Pass = 'check' | 'apply';

function* editLive(log: Log, live: Live, edit: LogEdit, pass: Pass): Writing<LogEdited> {
  const transactions = new Transactions(edit.patches, edit.isSuperblock);
  const window = new Window(log);
  let records = 0;
  let bytesWritten = 0;
  let at = live.start;
  for (let left = distance(log, live.start, live.head); left > 0; records++) {
    const before = yield* window.record(at, left);
    if (before === null) throw new BadRecord(at);
    const record = new LogRecord(log, Buffer.from(before));
    if (pass === 'check' && !record.checksumIsRight()) throw new BadRecord(at);
    editRecord(record, edit, transactions);
    if (pass === 'apply' && !record.raw.equals(before)) record.stampChecksum();
    bytesWritten += yield* writeChanges(log, at, before, record.raw);
    at = (at + record.header.blocks) % log.blocks;
    left -= record.header.blocks;
  }
  return { records, bytesWritten, copies: transactions.copies, groups: transactions.groups };
}

function editRecord(record: LogRecord, edit: LogEdit, transactions: Transactions): void {
  if (!record.isLittleEndian) throw new Refusal('was written by a machine of another byte order');
  if (edit.uuid !== null) record.setUuid(edit.uuid);
  if (!record.isWithoutWords) transactions.take(record);
  else if (record.header.operations !== 1)
    throw new Refusal('has a record with more blocks than its headers describe');
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
  if (whole?.checksumIsRight()) {
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
