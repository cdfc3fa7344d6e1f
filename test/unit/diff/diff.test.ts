// Differences of two versions against a model that reads both block by block.

import { strictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import type { DiffRange } from '../../../src/model/diff.js';
import type { Base } from '../../../src/model/entities.js';
import type { DiffSide } from '../../../src/operations/diff.js';
import { changedBesides, diff, diffPage } from '../../../src/operations/diff.js';
import { replay } from '../../support/replay.js';
import { BLOCKS, history, SmallStore, WINDOW_BYTES, WINDOWS } from '../usage/small-store.js';

const SIZE = BigInt(WINDOWS * WINDOW_BYTES);
const options = { windowBytes: WINDOW_BYTES };

function side({ line, version }: Base): DiffSide {
  return { line, version, sizeBytes: SIZE };
}

async function all(
  store: SmallStore,
  from: Base | null,
  to: Base,
  rangesAtOnce = 4096,
  lookupCost = 16,
): Promise<DiffRange[]> {
  const ranges: DiffRange[] = [];
  for await (const page of diff(store.catalog, from && side(from), side(to), {
    ...options,
    rangesAtOnce,
    lookupCost,
  }))
    ranges.push(...page);
  return ranges;
}

/** One letter a block: same, data, zero. */
function paint(ranges: readonly DiffRange[]): string {
  const blocks = Array<string>(WINDOWS * BLOCKS).fill('.');
  for (const { offset, length, kind } of ranges) {
    for (let at = offset; at < offset + length; at += 4096n)
      blocks[Number(at / 4096n)] = kind === 'data' ? 'd' : 'z';
  }
  return blocks.join('');
}

function expected(store: SmallStore, from: Base | null, to: Base): string {
  let blocks = '';
  for (let window = 0; window < WINDOWS; window++) {
    for (let block = 0; block < BLOCKS; block++) {
      const before = from ? store.read(from, window, block) : null;
      const after = store.read(to, window, block);
      blocks += before === after ? '.' : after === null ? 'z' : 'd';
    }
  }
  return blocks;
}

t.test('any two versions differ exactly where they read from different places', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      history,
      fc.nat(),
      fc.nat(),
      fc.integer({ min: 1, max: 3 }),
      // Seldom, as a damaged index has every window of a chunk looked at.
      fc.nat({ max: 19 }),
      // By the index alone, by scans alone, or by what is cheaper.
      fc.constantFrom(0, 1, 1e9),
      async (steps, a, b, rangesAtOnce, damage, lookupCost) => {
        const store = await SmallStore.of(steps);
        if (damage === 0) await store.damageIndex();
        const readers = store.readers();
        const from = readers[a % readers.length]!;
        const to = readers[b % readers.length]!;
        const ranges = await all(store, from, to, rangesAtOnce, lookupCost);
        strictEqual(paint(ranges), expected(store, from, to));
        for (const [at, range] of ranges.entries()) {
          const before = ranges[at - 1];
          if (before && before.offset + before.length > range.offset)
            throw new Error('ranges overlap or are not sorted');
        }
        strictEqual(paint(await all(store, null, to)), expected(store, null, to));
      },
    ),
    replay({ quick: 50, normal: 400, long: 5000 }),
  );
  t.pass('every history');
});

t.test('what a context of another snapshot is told covers every difference', async (t) => {
  await fc.assert(
    fc.asyncProperty(history, fc.nat(), fc.nat(), async (steps, a, b) => {
      const store = await SmallStore.of(steps);
      const readers = store.readers();
      const of = readers[a % readers.length]!;
      const since = readers[b % readers.length]!;
      const { ancestor, alsoChanged } = await changedBesides(store.catalog, of, side(since), options);
      const told = Array<boolean>(WINDOWS * BLOCKS).fill(false);
      for (let at = 0; at < alsoChanged.length; at += 2) {
        for (let byte = alsoChanged[at]!; byte < alsoChanged[at]! + alsoChanged[at + 1]!; byte += 4096n)
          told[Number(byte / 4096n)] = true;
      }
      for (let index = 0; index < told.length; index++) {
        const [window, block] = [Math.floor(index / BLOCKS), index % BLOCKS];
        const base = ancestor ? store.read(ancestor, window, block) : null;
        const known = told[index] || base !== store.read(of, window, block);
        const differs = store.read(of, window, block) !== store.read(since, window, block);
        strictEqual(differs && !known, false, `block ${index} differs and nobody says so`);
        strictEqual(told[index], base !== store.read(since, window, block), `block ${index}`);
      }
    }),
    replay({ quick: 30, normal: 200, long: 3000 }),
  );
  t.pass('every history');
});

t.test('a cut-off over nothing, and over an endless range, is no change where nothing was', async (t) => {
  const store = await SmallStore.of([
    { kind: 'write', line: 0, window: 1, start: 0, count: 4 },
    { kind: 'snapshot', line: 0, version: 0 },
    { kind: 'cut-off', line: 0, first: 0, count: null },
  ]);
  const ranges = await all(store, { line: 1, version: 1 }, { line: 1, version: 2 });
  t.strictSame(ranges, [{ offset: BigInt(WINDOW_BYTES), length: 4n * 4096n, kind: 'zero' }]);
});

t.test(
  'a cut-off of a clone over what its base wrote is found before what the clone wrote behind it',
  async (t) => {
    const store = await SmallStore.of([
      { kind: 'write', line: 0, window: 1, start: 0, count: 4 },
      { kind: 'snapshot', line: 0, version: 0 },
      { kind: 'clone', line: 0, version: 0 },
      { kind: 'cut-off', line: 1, first: 0, count: 3 },
      { kind: 'write', line: 1, window: 4, start: 0, count: 1 },
    ]);
    t.strictSame(await all(store, { line: 1, version: 1 }, { line: 2, version: 1 }), [
      { offset: BigInt(WINDOW_BYTES), length: 4n * 4096n, kind: 'zero' },
      { offset: BigInt(4 * WINDOW_BYTES), length: 4096n, kind: 'data' },
    ]);
  },
);

t.test('ranges end at the larger of the two sizes', async (t) => {
  const store = await SmallStore.of([{ kind: 'write', line: 0, window: 2, start: 0, count: BLOCKS }]);
  const end = BigInt(2 * WINDOW_BYTES + 5000);
  const page = await diffPage(
    store.catalog,
    null,
    { line: 1, version: 1, sizeBytes: end },
    { ...options, offset: 0n },
  );
  t.strictSame(page, {
    ranges: [{ offset: BigInt(2 * WINDOW_BYTES), length: 5000n, kind: 'data' }],
    next: null,
  });
});

t.test('a cancelled comparison ends with task-cancelled', async (t) => {
  const store = await SmallStore.of([{ kind: 'write', line: 0, window: 2, start: 0, count: BLOCKS }]);
  const page = diffPage(store.catalog, null, side({ line: 1, version: 1 }), {
    ...options,
    offset: 0n,
    signal: AbortSignal.abort(),
  });
  await t.rejects(page, { code: 'task-cancelled' });
});
