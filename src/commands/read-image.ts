// Export: the content of an export in order, as pieces of data and stretches of zeros, with many reads in flight. Holes are
// learned from BLOCK_STATUS and never read.

import type { NbdClient } from '../nbd-client/nbd-client.js';
import { STATE } from '../nbd-client/wire.js';
import { PIECE_BYTES } from './buffer-pool.js';

const READS_IN_FLIGHT = 16;
const STATUS_AT_ONCE = 1n << 30n;
const CONTEXT = 'base:allocation';

export type ImagePiece = { offset: bigint; lengthBytes: bigint; data: Buffer | undefined };

/** Yields pieces that cover the export; `data` undefined means zeros. */
export async function* readImage(client: NbdClient, signal: AbortSignal): AsyncGenerator<ImagePiece> {
  const waiting: Promise<ImagePiece>[] = [];
  try {
    for await (const range of ranges(client)) {
      signal.throwIfAborted();
      for (const piece of range.zero ? [range] : inPieces(range)) {
        if (waiting.length >= READS_IN_FLIGHT) yield await (waiting.shift() as Promise<ImagePiece>);
        const read = readPiece(client, piece);
        // Awaited in order further up; a failure must not count as unhandled until then.
        read.catch(() => undefined);
        waiting.push(read);
      }
    }
    for (const piece of waiting) yield await piece;
  } finally {
    await Promise.allSettled(waiting);
  }
}

interface Range {
  offset: bigint;
  lengthBytes: bigint;
  zero: boolean;
}

/** The export as ranges of data and zeros, neighbours joined within what one BLOCK_STATUS says. */
async function* ranges(client: NbdClient): AsyncGenerator<Range> {
  const known = [...client.contexts.values()].includes(CONTEXT);
  for (let offset = 0n; offset < client.sizeBytes; ) {
    const asked = smaller(client.sizeBytes - offset, STATUS_AT_ONCE);
    const extents = known ? (await client.blockStatus(offset, Number(asked))).get(CONTEXT) : undefined;
    const found: Range[] = [];
    for (const { lengthBytes, flags } of extents ?? [{ lengthBytes: Number(asked), flags: 0 }]) {
      const zero = (flags & STATE.zero) !== 0;
      const length = smaller(BigInt(lengthBytes), client.sizeBytes - offset);
      const last = found[found.length - 1];
      if (last !== undefined && last.zero === zero) last.lengthBytes += length;
      else found.push({ offset, lengthBytes: length, zero });
      offset += length;
    }
    yield* found;
  }
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function* inPieces(range: Range): Generator<Range> {
  const end = range.offset + range.lengthBytes;
  for (let offset = range.offset; offset < end; ) {
    // Pieces end at multiples of their size, so that large reads stay aligned.
    const boundary = (offset / BigInt(PIECE_BYTES) + 1n) * BigInt(PIECE_BYTES);
    const next = boundary < end ? boundary : end;
    yield { offset, lengthBytes: next - offset, zero: false };
    offset = next;
  }
}

async function readPiece(client: NbdClient, { offset, lengthBytes, zero }: Range): Promise<ImagePiece> {
  return { offset, lengthBytes, data: zero ? undefined : await client.read(offset, Number(lengthBytes)) };
}
