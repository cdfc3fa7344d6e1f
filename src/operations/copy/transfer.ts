// One snapshot over the wire: what has changed is asked from the maps of the source, read in pieces, several in flight over a few connections, and
// written by the data plane's own requests. Zeros are never sent and never written: they become zeros of the map.
//
// Invariants: memory is one piece for each read in flight; when it has ended, however, nothing of it writes any more. Nothing that a piece reads
// is written before the whole of its reply was found to be about it.

import { statusWalk } from '../../nbd-client/status-walk.js';
import { STATE } from '../../nbd-client/wire.js';
import type { PlaneClient } from '../plane-client.js';
import type { RateLimit } from './rate-limit.js';
import type { SourceClient, SourceExport } from './source.js';

/** Reads in flight on one connection. */
const READS = 4;
/** The first bit of a dirty bitmap: it has changed. */
const CHANGED = 1;

export interface Range {
  offset: bigint;
  length: bigint;
}

export interface Transfer {
  source: SourceExport;
  sizeBytes: bigint;
  /** What is told is only what has changed: zeros are to be written too. */
  isIncremental: boolean;
  /** Ascending: was copied before. */
  have: AsyncIterable<readonly Range[]>;
  target: { client: PlaneClient; handle: number };
  rate: RateLimit;
  connections: number;
  signal: AbortSignal;
  /** Bytes that have come. */
  onReceived: (bytes: number) => void;
}

interface Piece {
  kind: 'data' | 'zero';
  offset: bigint;
  length: bigint;
}

/** Bytes of data that the source has to send when nothing was copied before. Asked of its maps. */
export async function bytesToSend(source: SourceExport, sizeBytes: bigint): Promise<bigint> {
  let bytes = 0n;
  for await (const { kind, length } of changes(await source.client(0), source.contexts, sizeBytes))
    if (kind === 'data') bytes += length;
  return bytes;
}

export async function transfer(options: Transfer): Promise<void> {
  const { source, connections, rate, signal } = options;
  const work = pieces(options, rate)[Symbol.asyncIterator]();
  let failure: unknown;
  const lane = async (number: number): Promise<void> => {
    let buffer: Buffer | undefined;
    try {
      while (failure === undefined && !signal.aborted) {
        const { value: piece, done } = await work.next();
        if (done) return;
        if (piece.kind === 'zero') await zero(options, piece);
        else {
          const bytes = Number(piece.length);
          buffer = buffer && buffer.length >= bytes ? buffer : Buffer.allocUnsafeSlow(bytes);
          await rate.pass(bytes, signal);
          await fetch(options, {
            client: await source.client(Math.floor(number / READS)),
            piece,
            buffer: buffer.subarray(0, bytes),
          });
        }
      }
    } catch (error) {
      // The others end at their next step; those that read are told.
      failure ??= error;
      source.end();
    }
  };
  await Promise.all(Array.from({ length: connections * READS }, (_, number) => lane(number)));
  if (failure !== undefined) throw failure;
  signal.throwIfAborted();
}

async function fetch(
  { target, onReceived }: Transfer,
  { client, piece, buffer }: { client: SourceClient; piece: Piece; buffer: Buffer },
): Promise<void> {
  for (const { kind, offset, lengthBytes } of await client.readInto(piece.offset, buffer)) {
    if (kind === 'hole') {
      await target.client.zero(target.handle, offset, BigInt(lengthBytes));
      continue;
    }
    const at = Number(offset - piece.offset);
    onReceived(lengthBytes);
    await target.client.write(target.handle, offset, buffer.subarray(at, at + lengthBytes));
  }
}

function zero({ target }: Transfer, { offset, length }: Piece): Promise<void> {
  return target.client.zero(target.handle, offset, length);
}

/** What is left to do, in pieces; asked for by several at once, they come one after the other. */
async function* pieces(
  { source, sizeBytes, isIncremental, have }: Transfer,
  rate: RateLimit,
): AsyncGenerator<Piece> {
  const copied = new Copied(have);
  for await (const change of changes(await source.client(0), source.contexts, sizeBytes)) {
    if (change.kind === 'zero') {
      // A map that continues nothing reads as zeros wherever nothing is written.
      if (isIncremental) yield change;
      continue;
    }
    for (const { offset, length } of await copied.without(change)) {
      for (let at = offset; at < offset + length; ) {
        const most = BigInt(rate.pieceBytes);
        // Ends where the next large piece begins, so that most are whole and aligned.
        const cut = at - (at % most) + most;
        const end = cut < offset + length ? cut : offset + length;
        yield { kind: 'data', offset: at, length: end - at };
        at = end;
      }
    }
  }
}

async function* changes(
  client: SourceClient,
  contexts: readonly string[],
  sizeBytes: bigint,
): AsyncGenerator<Piece> {
  for await (const ranges of statusWalk(client, contexts, sizeBytes)) {
    for (const { offset, length, flags } of ranges) {
      const [allocation, changed = CHANGED] = flags as [number, number?];
      if ((changed & CHANGED) === 0) continue;
      yield { kind: (allocation & STATE.zero) === 0 ? 'data' : 'zero', offset, length };
    }
  }
}

/** Ranges that were copied before, taken away from others; both ascend. */
class Copied {
  readonly #pages: AsyncIterator<readonly Range[]>;
  #page: readonly Range[] = [];
  #next = 0;

  constructor(ranges: AsyncIterable<readonly Range[]>) {
    this.#pages = ranges[Symbol.asyncIterator]();
  }

  async without({ offset, length }: Range): Promise<Range[]> {
    const left: Range[] = [];
    const end = offset + length;
    let at = offset;
    for (let have = await this.#at(at); have && have.offset < end; have = await this.#at(at)) {
      if (have.offset > at) left.push({ offset: at, length: have.offset - at });
      at = have.offset + have.length;
    }
    if (at < end) left.push({ offset: at, length: end - at });
    return left;
  }

  /** The first that ends behind `at`. */
  async #at(at: bigint): Promise<Range | undefined> {
    for (;;) {
      const have = this.#page[this.#next];
      if (have && have.offset + have.length > at) return have;
      if (have) this.#next++;
      else {
        const { value, done } = await this.#pages.next();
        if (done) return undefined;
        this.#page = value;
        this.#next = 0;
      }
    }
  }
}
