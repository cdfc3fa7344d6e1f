// XXH64 with seed 0: one of the four checksums of btrfs.

const P1 = 0x9e3779b185ebca87n;
const P2 = 0xc2b2ae3d27d4eb4fn;
const P3 = 0x165667b19e3779f9n;
const P4 = 0x85ebca77c2b2ae63n;
const P5 = 0x27d4eb2f165667c5n;

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotated = (value: bigint, by: bigint): bigint => u64((value << by) | (value >> (64n - by)));
const round = (lane: bigint, input: bigint): bigint => u64(rotated(u64(lane + input * P2), 31n) * P1);

export function xxhash64(bytes: Buffer): bigint {
  const striped = bytes.length - (bytes.length % 32);
  const start = striped === 0 ? P5 : stripes(bytes.subarray(0, striped));
  return avalanche(tail(bytes.subarray(striped), u64(start + BigInt(bytes.length))));
}

function stripes(bytes: Buffer): bigint {
  const lanes = [u64(P1 + P2), P2, 0n, u64(-P1)];
  for (let at = 0; at < bytes.length; at += 32)
    lanes.forEach((lane, index) => {
      lanes[index] = round(lane, bytes.readBigUInt64LE(at + 8 * index));
    });
  const [a, b, c, d] = lanes as [bigint, bigint, bigint, bigint];
  const joined = u64(rotated(a, 1n) + rotated(b, 7n) + rotated(c, 12n) + rotated(d, 18n));
  return lanes.reduce((hash, lane) => u64((hash ^ round(0n, lane)) * P1 + P4), joined);
}

function tail(bytes: Buffer, start: bigint): bigint {
  let hash = start;
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8)
    hash = u64(rotated(hash ^ round(0n, bytes.readBigUInt64LE(at)), 27n) * P1 + P4);
  if (at + 4 <= bytes.length) {
    hash = u64(rotated(u64(hash ^ (BigInt(bytes.readUInt32LE(at)) * P1)), 23n) * P2 + P3);
    at += 4;
  }
  for (; at < bytes.length; at++) hash = u64(rotated(u64(hash ^ (BigInt(bytes[at]!) * P5)), 11n) * P1);
  return hash;
}

function avalanche(start: bigint): bigint {
  let hash = u64((start ^ (start >> 33n)) * P2);
  hash = u64((hash ^ (hash >> 29n)) * P3);
  return hash ^ (hash >> 32n);
}
