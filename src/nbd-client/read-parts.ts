// What the chunks of a READ's reply say together. Pure.

import { ProtocolViolation } from './handshake.js';
import { CHUNK } from './wire.js';

/** A part of a range that was read: `data` is in the buffer, a `hole` reads as zeros. */
export interface ReadPart {
  kind: 'data' | 'hole';
  offset: bigint;
  lengthBytes: number;
}

/** Every byte of the range exactly once, in order; a reply that leaves some out, or says some twice, is none. */
export function tile(
  chunks: readonly { type: number; offset: bigint; lengthBytes: number }[],
  offset: bigint,
  lengthBytes: number,
): ReadPart[] {
  const parts = chunks
    .filter(({ type }) => type === CHUNK.offsetData || type === CHUNK.offsetHole)
    .sort((a, b) => (a.offset < b.offset ? -1 : 1))
    .map(({ type, offset: at, lengthBytes: bytes }): ReadPart => {
      return { kind: type === CHUNK.offsetData ? 'data' : 'hole', offset: at, lengthBytes: bytes };
    });
  let at = offset;
  for (const part of parts) {
    if (part.offset !== at)
      throw new ProtocolViolation('the reply to a read does not say every byte exactly once');
    at += BigInt(part.lengthBytes);
  }
  if (at !== offset + BigInt(lengthBytes))
    throw new ProtocolViolation('the reply to a read leaves out a part of what was asked for');
  return parts;
}
