// BLAKE2b with 32 bytes of output and no key (RFC 7693): one of the four checksums of btrfs. node:crypto has only the form of 64 bytes,
// whose first half is another value.

const OUTPUT_BYTES = 32;
const BLOCK_BYTES = 128;
const START = [
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
];
const ORDERS = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const ROUNDS = 12;
/** Which four words each of the eight steps of a round mixes: columns first, then diagonals. */
const MIXES = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
] as const;

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotated = (value: bigint, right: bigint): bigint => u64((value >> right) | (value << (64n - right)));

export function blake2b256(bytes: Buffer): Buffer {
  const state = [...START];
  state[0] = state[0]! ^ 0x01010000n ^ BigInt(OUTPUT_BYTES);
  let done = 0;
  for (; bytes.length - done > BLOCK_BYTES; done += BLOCK_BYTES)
    compress(state, bytes.subarray(done, done + BLOCK_BYTES), { total: done + BLOCK_BYTES, last: false });
  const rest = Buffer.alloc(BLOCK_BYTES);
  bytes.copy(rest, 0, done);
  compress(state, rest, { total: bytes.length, last: true });
  const output = Buffer.alloc(OUTPUT_BYTES);
  for (let word = 0; word < OUTPUT_BYTES / 8; word++) output.writeBigUInt64LE(state[word]!, 8 * word);
  return output;
}

function compress(state: bigint[], block: Buffer, place: { total: number; last: boolean }): void {
  const words = Array.from({ length: 16 }, (_, word) => block.readBigUInt64LE(8 * word));
  const v = [...state, ...START];
  v[12] = v[12]! ^ BigInt(place.total);
  if (place.last) v[14] = u64(~v[14]!);
  for (let round = 0; round < ROUNDS; round++) {
    const order = ORDERS[round % ORDERS.length]!;
    MIXES.forEach((at, step) => {
      mix(v, at, words[order[2 * step]!]!, words[order[2 * step + 1]!]!);
    });
  }
  for (let word = 0; word < 8; word++) state[word] = state[word]! ^ v[word]! ^ v[word + 8]!;
}

function mix(
  v: bigint[],
  [a, b, c, d]: readonly [number, number, number, number],
  x: bigint,
  y: bigint,
): void {
  v[a] = u64(v[a]! + v[b]! + x);
  v[d] = rotated(v[d]! ^ v[a]!, 32n);
  v[c] = u64(v[c]! + v[d]!);
  v[b] = rotated(v[b]! ^ v[c]!, 24n);
  v[a] = u64(v[a]! + v[b]! + y);
  v[d] = rotated(v[d]! ^ v[a]!, 16n);
  v[c] = u64(v[c]! + v[d]!);
  v[b] = rotated(v[b]! ^ v[c]!, 63n);
}
