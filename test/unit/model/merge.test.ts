import fc from 'fast-check';
import t from 'tap';

import { mergeRecords } from '../../../src/model/merge.js';
import { droppedPlaces, overlay, splitRuns } from '../../../src/model/runs.js';
import type { Run } from '../../../src/model/window-record.js';
import { joinRuns } from '../../../src/model/window-record.js';

const BLOCKS = 12;
/** Per block: undefined nothing is said, null zero, else a slot. */
type Blocks = (bigint | null | undefined)[];

const blocksOf = (slots: bigint[]): fc.Arbitrary<Blocks> =>
  fc.array(fc.constantFrom<bigint | null | undefined>(undefined, undefined, null, ...slots), {
    minLength: BLOCKS,
    maxLength: BLOCKS,
  });

function runsOf(blocks: Blocks): Run[] {
  return joinRuns(
    blocks.flatMap((slot, start): Run[] => (slot === undefined ? [] : [{ start, count: 1, slot }])),
  );
}

function spread(runs: readonly Run[]): Blocks {
  const blocks: Blocks = Array.from({ length: BLOCKS }, () => undefined);
  for (const { start, count, slot } of runs) for (let at = start; at < start + count; at++) blocks[at] = slot;
  return blocks;
}

t.test(
  'HAZARDS 4: the dependent takes data and zeros where it is silent, and what it covers is freed',
  async (t) => {
    fc.assert(
      fc.property(
        blocksOf([1n, 2n]),
        blocksOf([3n, 4n]),
        fc.boolean(),
        fc.boolean(),
        (deleted, dependent, below, cutOff) => {
          const mine = { ownSlot: 3n, runs: runsOf(dependent) };
          const { record, freed } = mergeRecords({
            deleted: { ownSlot: 1n, runs: runsOf(deleted) },
            dependent: mine,
            cutOff,
            below,
          });
          const now = spread((record ?? mine).runs);
          const free = new Set(
            freed.flatMap(({ slot, start, count }) =>
              Array.from({ length: count }, (_, index) => `${slot}/${start + index}`),
            ),
          );
          deleted.forEach((said, block) => {
            const silent = dependent[block] === undefined && !cutOff;
            const taken = silent && (said !== null || below);
            t.equal(now[block], taken ? said : dependent[block], `block ${block}`);
            if (typeof said === 'bigint')
              t.equal(free.has(`${said}/${block}`), !silent, `place of block ${block}`);
          });
          t.equal(record?.ownSlot ?? 3n, 3n, 'new blocks go to the own slot of the dependent');
        },
      ),
      { numRuns: 300 },
    );
  },
);

t.test('a record that moves as a whole has no own slot: its places are never written again', async (t) => {
  const { record } = mergeRecords({
    deleted: { ownSlot: 1n, runs: [{ start: 0, count: 2, slot: 1n }] },
    dependent: null,
    cutOff: false,
    below: false,
  });
  t.strictSame(record, { ownSlot: null, runs: [{ start: 0, count: 2, slot: 1n }] });
});

t.test('overlay and split agree with blocks', async (t) => {
  fc.assert(
    fc.property(blocksOf([1n, 2n]), blocksOf([3n]), (lower, upper) => {
      const laid = spread(overlay(runsOf(lower), runsOf(upper)));
      for (const [block, said] of lower.entries())
        t.equal(laid[block], upper[block] === undefined ? said : upper[block]);
      const { silent, covered } = splitRuns(runsOf(lower), runsOf(upper));
      t.strictSame(spread([...silent, ...covered].sort((a, b) => a.start - b.start)), lower);
      for (const run of silent)
        t.ok(spread([run]).every((said, block) => said === undefined || upper[block] === undefined));
    }),
    { numRuns: 300 },
  );
});

t.test('places of kept slots are never dropped', async (t) => {
  const before: Run[] = [
    { start: 0, count: 4, slot: 1n },
    { start: 4, count: 2, slot: 2n },
  ];
  t.strictSame(droppedPlaces(before, [{ start: 1, count: 1, slot: 1n }], new Set([2n])), [
    { slot: 1n, start: 0, count: 1 },
    { slot: 1n, start: 2, count: 2 },
  ]);
});
