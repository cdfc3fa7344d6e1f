// Sets of written windows: what is put in comes out, whatever its density, and damage is told.

import { deepStrictEqual, throws } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { parseWrittenKey, writtenBy, writtenKey } from '../../../src/model/keys.js';
import {
  CHUNK_WINDOWS,
  chunkOf,
  indexInChunk,
  LARGEST_SET_BYTES,
  WrittenSet,
  windowAt,
} from '../../../src/model/written-set.js';
import { replay } from '../../support/replay.js';

const index = fc.nat({ max: CHUNK_WINDOWS - 1 });
/** A few anywhere, or runs of many. */
const indexes = fc.oneof(
  fc.array(index, { maxLength: 300 }),
  fc
    .array(fc.tuple(index, fc.nat({ max: 9000 }), fc.integer({ min: 1, max: 3 })), { maxLength: 6 })
    .map((runs) =>
      runs.flatMap(([first, count, step]) =>
        Array.from({ length: count }, (_, at) => (first + at * step) % CHUNK_WINDOWS),
      ),
    ),
);

function setOf(numbers: Iterable<number>): WrittenSet {
  const set = new WrittenSet();
  for (const number of numbers) set.add(number);
  return set;
}

function list(set: WrittenSet): number[] {
  const numbers: number[] = [];
  for (let at = set.next(0); at >= 0; at = set.next(at + 1)) numbers.push(at);
  return numbers;
}

const sorted = (numbers: Iterable<number>): number[] => [...new Set(numbers)].sort((a, b) => a - b);

t.test('a set is read as it was stored, in no more than a bitmap', async (t) => {
  fc.assert(
    fc.property(indexes, indexes, (numbers, others) => {
      const set = setOf(numbers);
      deepStrictEqual(list(set), sorted(numbers));
      const stored = set.encode();
      if (stored.length > LARGEST_SET_BYTES) throw new Error(`${stored.length} bytes`);
      deepStrictEqual(list(WrittenSet.decode(stored)), sorted(numbers));
      set.addAll(setOf(others));
      deepStrictEqual(list(set), sorted([...numbers, ...others]));
    }),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
  t.pass('every set');
});

t.test('few windows take few bytes', async (t) => {
  t.equal(setOf([]).encode().length, 8);
  t.equal(setOf([5, 6, 7, 100]).encode().length, 12);
  t.equal(setOf(Array.from({ length: CHUNK_WINDOWS }, (_, at) => at)).encode().length, LARGEST_SET_BYTES);
  t.equal(setOf(Array.from({ length: 137 }, (_, at) => at * 239)).encode().length, 8 + 1 + 136 * 2);
});

t.test('any damage is told, and counts as full', async (t) => {
  fc.assert(
    fc.property(
      indexes,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.nat({ max: 9 }),
      (numbers, at, bits, cut) => {
        const stored = setOf(numbers).encode();
        const damaged = Buffer.from(stored.subarray(0, stored.length - cut));
        if (cut === 0) damaged[at % damaged.length]! ^= bits;
        throws(() => WrittenSet.decode(damaged), { code: 'record-corrupt' });
        const read = WrittenSet.read(damaged);
        for (const number of numbers) if (!read.has(number)) throw new Error(`${number} is lost`);
      },
    ),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
  t.equal(list(WrittenSet.read(Buffer.from('nonsense'))).length, CHUNK_WINDOWS);
  t.equal(list(WrittenSet.read(undefined)).length, 0);
});

t.test('keys sort by line, version and chunk; a window has one place', async (t) => {
  const keys = [writtenKey(1, 2, 9n), writtenKey(1, 300, 0n), writtenKey(1, 300, 256n), writtenKey(2, 1, 0n)];
  t.strictSame([...keys].reverse().sort(Buffer.compare), keys);
  t.strictSame(parseWrittenKey(keys[2]!), { line: 1, version: 300, chunk: 256n });
  t.equal(parseWrittenKey(Buffer.from('written/short')), null);
  const { gte, lt } = writtenBy(1, 300, 1n);
  t.strictSame(
    keys.map((key) => Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0),
    [false, false, true, false],
  );
  const window = 5n * BigInt(CHUNK_WINDOWS) + 77n;
  t.equal(windowAt(chunkOf(window), indexInChunk(window)), window);
});
