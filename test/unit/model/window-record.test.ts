import fc from 'fast-check';
import t from 'tap';

import { crc32c } from '../../../src/base/crc32c.js';
import type { Run } from '../../../src/model/window-record.js';
import { decodeWindowRecord, encodeWindowRecord, joinRuns } from '../../../src/model/window-record.js';

const BLOCKS = 512;

const runs = fc
  .array(
    fc.record({
      gap: fc.nat(20),
      count: fc.integer({ min: 1, max: 30 }),
      slot: fc.option(fc.bigInt({ min: 1n, max: 5n })),
    }),
    { maxLength: 10 },
  )
  .map((parts): Run[] => {
    let at = 0;
    return parts.map(({ gap, count, slot }) => {
      const run = { start: at + gap, count, slot };
      at = run.start + count;
      return run;
    });
  });

t.test('what is encoded is decoded', async (t) => {
  fc.assert(
    fc.property(runs, fc.option(fc.bigInt({ min: 1n, max: 5n })), (runs, ownSlot) => {
      t.strictSame(decodeWindowRecord(encodeWindowRecord({ ownSlot, runs }), BLOCKS), { ownSlot, runs });
    }),
    { numRuns: 200 },
  );
});

t.test('the layout is the one of docs/architecture.md', async (t) => {
  const bytes = encodeWindowRecord({
    ownSlot: 0x0102n,
    runs: [
      { start: 1, count: 2, slot: 0x0102n },
      { start: 7, count: 1, slot: null },
    ],
  });
  const body = '01010100020000000201000000000000' + '010002000000' + '07000100ffff';
  t.equal(bytes.toString('hex', 0, bytes.length - 4), body);
  t.equal(bytes.readUInt32LE(bytes.length - 4), crc32c(Buffer.from(body, 'hex')));
});

t.test('CRC-32C has its known value', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
});

t.test('every flipped bit and every cut is refused', async (t) => {
  const bytes = encodeWindowRecord({
    ownSlot: 3n,
    runs: [
      { start: 0, count: 9, slot: 3n },
      { start: 20, count: 4, slot: null },
    ],
  });
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    t.throws(() => decodeWindowRecord(damaged, BLOCKS), { code: 'record-corrupt' }, `bit ${bit}`);
  }
  for (let length = 0; length < bytes.length; length++) {
    t.throws(
      () => decodeWindowRecord(bytes.subarray(0, length), BLOCKS),
      { code: 'record-corrupt' },
      `length ${length}`,
    );
  }
});

t.test('runs that overlap or leave the window are refused', async (t) => {
  const overlapping = encodeWindowRecord({
    ownSlot: null,
    runs: [
      { start: 0, count: 3, slot: 1n },
      { start: 2, count: 1, slot: 1n },
    ],
  });
  t.throws(() => decodeWindowRecord(overlapping, BLOCKS), { code: 'record-corrupt' });
  const outside = encodeWindowRecord({ ownSlot: null, runs: [{ start: 510, count: 3, slot: 1n }] });
  t.throws(() => decodeWindowRecord(outside, BLOCKS), { code: 'record-corrupt' });
});

t.test('neighbours of one slot are joined', async (t) => {
  t.strictSame(
    joinRuns([
      { start: 0, count: 1, slot: 1n },
      { start: 1, count: 2, slot: 1n },
      { start: 3, count: 1, slot: null },
    ]),
    [
      { start: 0, count: 3, slot: 1n },
      { start: 3, count: 1, slot: null },
    ],
  );
});
