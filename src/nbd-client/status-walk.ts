// BLOCK_STATUS over any range, of several contexts at once: as many requests as it takes, one after the other.
//
// Invariant: what is told is contiguous and covers the range asked for, each byte once; a server that tells nothing, leaves out a context, or tells
// of bytes behind the end of the export is not believed in anything.

import { ProtocolViolation } from './handshake.js';
import type { Extent } from './wire.js';

/** The largest length of one request in 32 bits, a multiple of any size of a block. */
const MOST_BYTES = 0xffff_0000;

/** A range and the flags that each context has for it, in the order the contexts were asked for. */
export interface StatusRange {
  offset: bigint;
  length: bigint;
  flags: number[];
}

/** Who answers: an NbdClient. */
export interface StatusSource {
  readonly sizeBytes: bigint;
  blockStatus(offset: bigint, length: number): Promise<ReadonlyMap<string, Extent[]>>;
}

/** Of [0, end) of the export; one list for each reply, neighbours of the same flags joined within it. */
export async function* statusWalk(
  source: StatusSource,
  contexts: readonly string[],
  end: bigint,
): AsyncGenerator<StatusRange[]> {
  for (let at = 0n; at < end; ) {
    const left = end - at;
    const length = left < BigInt(MOST_BYTES) ? Number(left) : MOST_BYTES;
    const told = await source.blockStatus(at, length);
    const lists = contexts.map((context) => {
      const extents = told.get(context);
      if (!extents) throw new ProtocolViolation(`the server says nothing of ${context}`);
      return extents;
    });
    const ranges = together(lists, at, source.sizeBytes, at + BigInt(length));
    yield ranges;
    const last = ranges[ranges.length - 1]!;
    at = last.offset + last.length;
  }
}

/** As far as all of them say something. */
function together(
  lists: readonly (readonly Extent[])[],
  begin: bigint,
  size: bigint,
  until: bigint,
): StatusRange[] {
  for (const list of lists) refuseImpossible(list, begin, size);
  const ranges: StatusRange[] = [];
  const next = lists.map(() => 0);
  const ends = lists.map((list) => begin + BigInt(list[0]!.lengthBytes));
  for (let at = begin; at < until; ) {
    const flags = lists.map((list, index) => list[next[index]!]!.flags);
    let stop = until;
    for (const end of ends) if (end < stop) stop = end;
    add(ranges, { offset: at, length: stop - at, flags });
    at = stop;
    for (const [index, list] of lists.entries()) {
      if (ends[index]! > at) continue;
      const following = list[++next[index]!];
      if (!following) return ranges;
      ends[index]! += BigInt(following.lengthBytes);
    }
  }
  return ranges;
}

function refuseImpossible(list: readonly Extent[], begin: bigint, size: bigint): void {
  let end = begin;
  for (const { lengthBytes } of list) {
    if (lengthBytes === 0) throw new ProtocolViolation('an extent of no length');
    end += BigInt(lengthBytes);
  }
  if (list.length === 0) throw new ProtocolViolation('a block status without extents');
  if (end > size) throw new ProtocolViolation(`an extent that ends at ${end} of an export of ${size} bytes`);
}

function add(ranges: StatusRange[], range: StatusRange): void {
  const last = ranges[ranges.length - 1];
  if (last?.flags.every((flags, index) => flags === range.flags[index])) last.length += range.length;
  else ranges.push(range);
}
