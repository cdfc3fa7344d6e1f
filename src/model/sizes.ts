// Sizes as people write them: bytes, or a number with K, M, G, T, P or E (powers of 1024; `GiB` and `G` mean the same).

import { CellblockError } from '../base/errors.js';
import { MAX_VOLUME_BYTES } from './units.js';

const FACTORS: Record<string, bigint> = {
  '': 1n,
  K: 1n << 10n,
  M: 1n << 20n,
  G: 1n << 30n,
  T: 1n << 40n,
  P: 1n << 50n,
  E: 1n << 60n,
};

/** Reads `10G`, `1.5T`, `4096`. Throws one sentence for everything that is no size of a volume. */
export function parseSize(text: string): bigint {
  const match = /^([+-]?)(\d+)(?:\.(\d{1,18}))?\s*(?:([KMGTPE])(?:i?B)?|B)?$/i.exec(text.trim());
  if (!match) throw bad('size-not-a-number', `${JSON.stringify(text)} is not a size.`);
  const [, sign, whole, fraction, unit] = match;
  const factor = FACTORS[(unit ?? '').toUpperCase()]!;
  let bytes = BigInt(whole!) * factor;
  if (fraction) bytes += (BigInt(fraction) * factor) / 10n ** BigInt(fraction.length);
  if (sign === '-' && bytes > 0n) throw bad('size-negative', `The size ${text.trim()} is negative.`);
  checkSize(bytes, text.trim());
  return bytes;
}

/** Throws one sentence when a volume cannot have so many bytes; `shown`: as somebody wrote them. */
export function checkSize(bytes: bigint, shown = String(bytes)): void {
  if (bytes < 0n) throw bad('size-negative', `The size ${shown} is negative.`);
  if (bytes === 0n) throw bad('size-zero', 'The size is 0.');
  if (bytes > MAX_VOLUME_BYTES) throw bad('size-too-large', `The size ${shown} is 8 EiB or more.`);
}

function bad(
  code: 'size-not-a-number' | 'size-negative' | 'size-zero' | 'size-too-large',
  message: string,
): CellblockError {
  return new CellblockError(code, message, {
    hint: 'A size is a number of bytes, or a number with K, M, G, T, P or E, from 1 byte to just under 8 EiB (for example 10G).',
  });
}
