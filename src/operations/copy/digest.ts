// A hash of what a version changed, the same wherever its snapshot is: docs/coordinator-protocol.md, "Digests".
//
// Invariant: it is of the bytes as they are read from the store, never of what was meant to be written; memory is a few pieces, and other work
// gets its turn between two of them.

import { createHash } from 'node:crypto';
import type { Catalog } from '../../catalog/catalog.js';
import type { Base } from '../../model/entities.js';
import type { Digest } from '../../protocol/exchange.js';
import { throwIfCancelled } from '../cancellation.js';
import { type DiffSide, diff } from '../diff.js';
import type { PlaneClient } from '../plane-client.js';

const PIECE_BYTES = 1n << 20n;
/** Read ahead of the hash. */
const READS = 4;

export interface DigestParts {
  catalog: Catalog;
  client: PlaneClient;
  windowBytes: number;
}

interface Range {
  offset: bigint;
  length: bigint;
}

/**
 * Of a version that does not change any more, open as `handle`; it and `since` are pinned, and what they say is in LevelDB. `since` null: of everything
 * allocated.
 */
export async function digestOf(
  { catalog, client, windowBytes }: DigestParts,
  of: DiffSide & { handle: number },
  options: { since: DiffSide | null; signal?: AbortSignal },
): Promise<Digest> {
  const { since, signal } = options;
  const hash = createHash('sha256');
  const head = Buffer.alloc(16);
  let bytes = 0n;
  const hashNext = async (piece: Piece): Promise<void> => {
    const data = await piece.data;
    throwIfCancelled(signal);
    head.writeBigUInt64BE(piece.offset, 0);
    head.writeBigUInt64BE(piece.length, 8);
    hash.update(head).update(data);
    bytes += piece.length;
  };
  const ahead: Piece[] = [];
  const changed = diff(catalog, since, of, { windowBytes, ...(signal ? { signal } : {}) });
  for await (const { offset, length } of pieces(joined(changed, of.sizeBytes))) {
    const data = client.read(of.handle, offset, Number(length));
    // It is asked for when its turn comes; a failure before that is told then.
    data.catch(() => undefined);
    ahead.push({ offset, length, data });
    if (ahead.length === READS) await hashNext(ahead.shift()!);
  }
  for (const piece of ahead) await hashNext(piece);
  return { sha256: hash.digest('hex'), bytes: bytes.toString() };
}

interface Piece extends Range {
  data: Promise<Uint8Array>;
}

/** Ranges that touch become one, whatever pages they came in and whether they are data; what lies behind the end is left out. */
async function* joined(pages: AsyncIterable<readonly Range[]>, sizeBytes: bigint): AsyncGenerator<Range> {
  let open: Range | null = null;
  for await (const page of pages) {
    for (const { offset, length } of page) {
      const end = offset + length < sizeBytes ? offset + length : sizeBytes;
      if (end <= offset) continue;
      if (open && open.offset + open.length === offset) open.length = end - open.offset;
      else {
        if (open) yield open;
        open = { offset, length: end - offset };
      }
    }
  }
  if (open) yield open;
}

/** Cut at multiples of the size of a piece. */
async function* pieces(ranges: AsyncIterable<Range>): AsyncGenerator<Range> {
  for await (const { offset, length } of ranges) {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const cut = (at / PIECE_BYTES + 1n) * PIECE_BYTES;
      const until = cut < end ? cut : end;
      yield { offset: at, length: until - at };
      at = until;
    }
  }
}

export function sameDigest(a: Digest, b: Digest): boolean {
  return a.sha256 === b.sha256 && a.bytes === b.bytes;
}

export function sideOf({ line, version, sizeBytes }: Base & { sizeBytes: bigint }): DiffSide {
  return { line, version, sizeBytes };
}
