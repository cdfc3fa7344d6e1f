// Cut-offs against a list that is never joined and looked through whole; and many of them at once.

import { deepStrictEqual, strictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { addCutOff, addCutOffs, covers, newestCutOff, renumberCutOffs } from '../../../src/model/cut-offs.js';
import type { CutOff } from '../../../src/model/entities.js';
import { replay } from '../../support/replay.js';

const LAST = 24;
const cutOff: fc.Arbitrary<CutOff> = fc
  .tuple(
    fc.nat({ max: LAST }),
    fc.option(fc.integer({ min: 1, max: 6 }), { freq: 8 }),
    fc.integer({ min: 1, max: 4 }),
  )
  .map(([first, count, version]) => {
    return { first: BigInt(first), end: count === null ? null : BigInt(first + count), version };
  });
const cutOffs = fc.array(cutOff, { maxLength: 12 });

function naive(list: readonly CutOff[], window: bigint, upTo: number, above: number): number {
  let newest = 0;
  for (const one of list) {
    if (one.version > above && one.version <= upTo && covers(one, window))
      newest = Math.max(newest, one.version);
  }
  return newest;
}

function sameAnswers(list: readonly CutOff[], all: readonly CutOff[]): void {
  for (let window = 0n; window <= BigInt(LAST) + 8n; window++) {
    for (let upTo = 0; upTo <= 5; upTo++)
      for (let above = 0; above <= upTo; above++)
        strictEqual(newestCutOff(list, window, upTo, above), naive(all, window, upTo, above));
  }
}

t.test('however they come, the answers are those of the whole list', async (t) => {
  fc.assert(
    fc.property(cutOffs, cutOffs, (some, more) => {
      const all = [...some, ...more];
      const atOnce = addCutOffs(addCutOffs([], some), more);
      let oneByOne: CutOff[] = [];
      for (const one of all) oneByOne = addCutOff(oneByOne, one);
      deepStrictEqual(atOnce, oneByOne);
      sameAnswers(atOnce, all);
      sameAnswers(all, all);
      atOnce.forEach(({ first, end, version }, at) => {
        const next = atOnce[at + 1];
        if (next?.version === version && (end === null || end >= next.first))
          throw new Error(`[${first}, ${end}) touches the next one`);
      });
      const moved = all.map((one) => (one.version === 2 ? { ...one, version: 3 } : one));
      sameAnswers(renumberCutOffs(atOnce, 2, 3), moved);
    }),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
  t.pass('every list');
});

t.test('16,000 ranges that do not touch are added and asked in a moment', async (t) => {
  const many = Array.from({ length: 16_000 }, (_, at): CutOff => {
    return { first: BigInt(at) * 128n, end: BigInt(at) * 128n + 64n, version: 7 };
  });
  const began = performance.now();
  const list = addCutOffs([], many);
  let covered = 0;
  for (let window = 0n; window < 100_000n; window++) if (newestCutOff(list, window, 9) === 7) covered++;
  t.equal(list.length, 16_000);
  t.equal(covered, 50_016);
  const seconds = (performance.now() - began) / 1000;
  t.ok(seconds < 5, `${seconds} s`);
});
