// Where the log ends and which part of it is live, found as the kernel finds it at mount: by the cycle numbers of blocks first, then by the
// checksums of the records at the end. What is edited must be what the kernel will look at.
// Invariant: only reads, a few MiB at most; the ring is searched by halving.

import type { Reading } from '../steps.js';
import {
  cycleOf,
  distance,
  isHeader,
  type Log,
  mostRecordBlocks,
  RECORDS_IN_FLIGHT,
  Refusal,
  readBlocks,
} from './log-blocks.js';
import { isSound, LogRecord, parseHeader } from './record.js';

const UNMOUNT = 0x20;
/** How much is read at once where a header is looked for: of a clean log it lies a few blocks away. */
const SEEK_BLOCKS = 32;

/** `checked` is the header whose UUID the kernel compares while it looks for the end; it may be one of a torn record behind it. */
export type LogState =
  /** Never written. */
  | { readonly state: 'empty' }
  /** Ends with an unmount record. Nothing before it is looked at again. */
  | { readonly state: 'clean'; readonly record: number; readonly checked: number }
  /** To be replayed from `tail` up to `head`. */
  | { readonly state: 'dirty'; readonly tail: number; readonly head: number; readonly checked: number };

/** Throws Refusal. */
export function* findLogState(log: Log): Reading<LogState> {
  const border = yield* findBorder(log);
  if (border === null) return { state: 'empty' };
  // An unmount record is written when everything before it is on the disk, so behind it no holes need to be looked for.
  const [last] = yield* headersBefore(log, recordBefore(log, border.head));
  if (last !== undefined && (yield* isUnmount(log, last, border.head % log.blocks)))
    return { state: 'clean', record: last, checked: last };
  const end = yield* lastWholeRecord(log, (yield* findHole(log, border)) ?? border.head);
  return yield* stateBefore(log, { ...end, head: end.head % log.blocks });
}

interface End {
  /** The first block that the next record would take. */
  readonly head: number;
  readonly checked: number;
}

function* stateBefore(log: Log, end: End): Reading<LogState> {
  const scan = Math.min(mostInFlight(log), log.blocks);
  const limit = (end.head + log.blocks - scan) % log.blocks;
  const record = yield* lastHeader(log, { end: end.head, limit, count: 1 });
  if (yield* isUnmount(log, record, end.head)) return { state: 'clean', record, checked: end.checked };
  const { tail } = parseHeader(log, yield* readBlocks(log, record, 1));
  if (tail >= log.blocks || tail === end.head)
    throw new Refusal(`ends at block ${end.head} and starts at ${tail} of ${log.blocks}`);
  return yield* withoutTornRecords(log, { state: 'dirty', tail, ...end });
}

/** Where the newer cycle gives way to the older one, or to zeros in the first round; the end of the ring when all is of one cycle. */
interface Border {
  readonly head: number;
  readonly first: number;
  readonly last: number;
}

/** Null: no block was ever written. */
function* findBorder(log: Log): Reading<Border | null> {
  const first = cycleOf(yield* readBlocks(log, 0, 1));
  const last = cycleOf(yield* readBlocks(log, log.blocks - 1, 1));
  if (first === 0) return null;
  if (last === 0 && first !== 1) throw new Refusal(`starts with cycle ${first} and ends with zeros`);
  const head = first === last ? log.blocks : yield* firstOfCycle(log, log.blocks - 1, last);
  return { head, first, last };
}

/** Records are written several at a time, and a later one may have come to the disk first: the log ends before the earliest gap. */
function* findHole(log: Log, border: Border): Reading<number | null> {
  const { head, first, last } = border;
  const stop = first === last ? last - 1 : last;
  const scan = Math.min(log.blocks, mostInFlight(log));
  if (head >= scan) return yield* findCycle(log, { first: head - scan, count: scan, cycle: stop });
  const beforeHead = { first: 0, count: head, cycle: stop };
  if (last === 0) return yield* findCycle(log, beforeHead);
  const behind = scan - head;
  const hole = yield* findCycle(log, { first: log.blocks - behind, count: behind, cycle: stop - 1 });
  return hole ?? (yield* findCycle(log, beforeHead));
}

/** By halving: a block of this cycle with one of another cycle before it. `last` is of this cycle. */
function* firstOfCycle(log: Log, last: number, cycle: number): Reading<number> {
  let before = 0;
  let found = last;
  for (
    let middle = (before + found) >> 1;
    middle !== before && middle !== found;
    middle = (before + found) >> 1
  ) {
    if (cycleOf(yield* readBlocks(log, middle, 1)) === cycle) found = middle;
    else before = middle;
  }
  return found;
}

function* findCycle(
  log: Log,
  range: { first: number; count: number; cycle: number },
): Reading<number | null> {
  if (range.count === 0) return null;
  const blocks = yield* readBlocks(log, range.first, range.count);
  for (let index = 0; index < range.count; index++)
    if (cycleOf(blocks, index) === range.cycle) return range.first + index;
  return null;
}

/** The last header before the end; when its record does not reach exactly to the end, the end is that header. */
function* lastWholeRecord(log: Log, head: number): Reading<End> {
  const checked = yield* lastHeader(log, recordBefore(log, head));
  const record = parseHeader(log, yield* readBlocks(log, checked, 1));
  const whole = distance(log, checked, head) === record.blocks;
  return { head: whole ? head : checked, checked };
}

/** Looks back from `end` as far as `limit`; a whole round when they are the same. */
interface Look {
  readonly end: number;
  readonly limit: number;
  readonly count: number;
}

function recordBefore(log: Log, end: number): Look {
  return {
    end,
    limit: (end + log.blocks - Math.min(mostRecordBlocks(log), log.blocks)) % log.blocks,
    count: 1,
  };
}

function* lastHeader(log: Log, look: Look): Reading<number> {
  const [found] = yield* headersBefore(log, look);
  if (found === undefined) throw new Refusal(`has no record before its end at block ${look.end}`);
  return found;
}

/** Blocks of record headers, the last one first. */
function* headersBefore(log: Log, look: Look): Reading<number[]> {
  const found: number[] = [];
  let left = distance(log, look.limit, look.end % log.blocks);
  for (let end = look.end; left > 0; ) {
    const count = Math.min(left, SEEK_BLOCKS);
    const first = (end + log.blocks - count) % log.blocks;
    const blocks = yield* readBlocks(log, first, count);
    for (let index = count - 1; index >= 0; index--)
      if (isHeader(blocks, index) && found.push((first + index) % log.blocks) === look.count) return found;
    end = first;
    left -= count;
  }
  return found;
}

function* isUnmount(log: Log, record: number, head: number): Reading<boolean> {
  const header = parseHeader(log, yield* readBlocks(log, record, 1));
  if (header.operations !== 1 || (record + header.blocks) % log.blocks !== head) return false;
  const payload = yield* readBlocks(log, (record + header.headerBlocks) % log.blocks, 1);
  return (payload.readUInt8(9) & UNMOUNT) !== 0;
}

type Dirty = Extract<LogState, { state: 'dirty' }>;

/** Records that were on their way when the machine stopped may be torn; the log ends before the first of them. */
function* withoutTornRecords(log: Log, dirty: Dirty): Reading<LogState> {
  const headers = yield* headersBefore(log, { end: dirty.head, limit: dirty.tail, count: RECORDS_IN_FLIGHT });
  const start = headers.at(-1);
  if (start === undefined) throw new Refusal(`has no record between block ${dirty.tail} and ${dirty.head}`);
  const torn = yield* firstBadRecord(log, start, dirty.head);
  if (torn === null) return dirty;
  const record = yield* lastHeader(log, { end: torn, limit: dirty.tail, count: 1 });
  if (yield* isUnmount(log, record, torn)) return { state: 'clean', record, checked: dirty.checked };
  const { tail } = parseHeader(log, yield* readBlocks(log, record, 1));
  if (tail >= log.blocks || tail === torn)
    throw new Refusal(`is torn at block ${torn} and has no sound record before it`);
  return { state: 'dirty', tail, head: torn, checked: dirty.checked };
}

function* firstBadRecord(log: Log, start: number, head: number): Reading<number | null> {
  let at = start;
  for (let left = distance(log, start, head); left > 0; ) {
    const record = yield* readRecord(log, at);
    if (record === null || !record.checksumIsRight()) return at;
    at = (at + record.header.blocks) % log.blocks;
    left -= record.header.blocks;
  }
  return null;
}

/** Null: there is no record that can be followed. */
export function* readRecord(log: Log, at: number): Reading<LogRecord | null> {
  const block = yield* readBlocks(log, at, 1);
  if (!isHeader(block)) return null;
  const header = parseHeader(log, block);
  if (!isSound(log, header)) return null;
  return new LogRecord(log, yield* readBlocks(log, at, header.blocks));
}

/** The first header at or behind `start`, before `head`; null: there is none. */
export function* headerFrom(log: Log, start: number, head: number): Reading<number | null> {
  let at = start;
  for (let left = distance(log, start, head); left > 0; ) {
    const count = Math.min(left, SEEK_BLOCKS);
    const blocks = yield* readBlocks(log, at, count);
    for (let index = 0; index < count; index++) if (isHeader(blocks, index)) return (at + index) % log.blocks;
    at = (at + count) % log.blocks;
    left -= count;
  }
  return null;
}

function mostInFlight(log: Log): number {
  return mostRecordBlocks(log) * RECORDS_IN_FLIGHT;
}
