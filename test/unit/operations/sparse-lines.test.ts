// A fault through a chain of many lines asks those that wrote near its windows, by exact keys; and misses nothing of a merge that goes on
// while it learns what they wrote.

import t from 'tap';

import { parseWindowKey, parseWrittenKey } from '../../../src/model/keys.js';
import { answerBothWays } from '../../support/both-ways.js';
import { turns } from '../../support/late-level.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const WINDOWS = 12;
const SIZE = blocksBytes(WINDOWS * BLOCKS);

/** `c0`, full, and a chain of clones of it: clone N wrote the first block of window N, and of window 0. Not resident. */
async function chainOf(clones: number): Promise<{ store: Store; wanted: number[] }> {
  const store = await Store.make();
  await store.operations.createVolume('c0', { sizeBytes: SIZE });
  const wanted = Array.from({ length: WINDOWS * BLOCKS }, (_, block) => block + 1);
  await write(store, 'c0', 0, wanted);
  for (let clone = 1; clone <= clones; clone++) {
    await store.operations.createSnapshots([{ volume: `c${clone - 1}`, snapshot: 's' }]);
    await store.operations.clone({ volume: `c${clone - 1}`, snapshot: 's' }, `c${clone}`);
    for (const [block, value] of [
      [0, 10_000 + clone],
      [clone * BLOCKS, 20_000 + clone],
    ] as const) {
      await write(store, `c${clone}`, block, [value]);
      wanted[block] = value;
    }
  }
  await store.restart('clean');
  return { store, wanted };
}

async function write(store: Store, name: string, block: number, values: number[]): Promise<void> {
  const session = await store.plane.connect(name);
  await session.write(block, values);
  session.close();
}

/** Scans of window records from now on. */
function countScans({ level }: Store): () => number {
  let scans = 0;
  const { scan } = level;
  level.scan = (range, options) => {
    if (parseWindowKey(Buffer.concat([range.gte, Buffer.alloc(4)]))) scans++;
    return scan.call(level, range, options);
  };
  return () => scans;
}

t.test('a chain of many lines is no longer asked line by line', async (t) => {
  const { store, wanted } = await chainOf(10);
  const scans = countScans(store);
  t.strictSame(await store.readAll('c10'), wanted);
  // One window a fault: the line being written, and none of those below it but the full one when it is no list of few.
  t.ok(scans() <= WINDOWS, `${scans()} scans of ${WINDOWS} windows through 11 lines`);
  await store.end();
});

t.test(
  'what a merge moves into a line while its list is being read is there for the next fault',
  async (t) => {
    const { store, wanted } = await chainOf(8);
    answerBothWays(store);
    const { level } = store;
    const { scan } = level;
    let go!: () => void;
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    // The lists of faults are read from their snapshot; the merge has none.
    level.scan = async function* (range, options) {
      if (options?.snapshot && parseWrittenKey(range.gte)) await held;
      yield* scan.call(level, range, options);
    };
    const reading = store.readAll('c8');
    await turns(20);
    // What it wrote moves into the frozen version of the next, which gets windows it had not.
    const { catalog } = store.operations.parts;
    const { line } = catalog.containerNamed('c4')!;
    await store.operations.deleteVolume('c4', { withSnapshots: true, disconnect: true });
    await until('the merge', () => !catalog.lines.has(line));
    go();
    t.strictSame(await reading, wanted, 'who asked before');
    const { devices } = store.operations.parts;
    for (const device of devices.all()) store.plane.evict(device.handle);
    t.strictSame(await store.readAll('c8'), wanted, 'who asks after');
    t.strictSame(store.troubles, []);
    await store.end();
  },
);

t.test('a cut-off in the middle of a chain hides what lies below, for those above it only', async (t) => {
  const { store, wanted } = await chainOf(5);
  await store.operations.createSnapshots([{ volume: 'c5', snapshot: 's' }]);
  const frozen = [...wanted];
  await store.operations.clone({ volume: 'c5', snapshot: 's' }, 'cut');
  const session = await store.plane.connect('cut');
  await session.trim(BLOCKS, 3 * BLOCKS);
  session.close();
  wanted.fill(0, BLOCKS, 4 * BLOCKS);
  let below = 'cut';
  for (let clone = 0; clone < 5; clone++) {
    await store.operations.createSnapshots([{ volume: below, snapshot: 's' }]);
    await store.operations.clone({ volume: below, snapshot: 's' }, `d${clone}`);
    below = `d${clone}`;
    await write(store, below, 2 * BLOCKS + clone, [30_000 + clone]);
    wanted[2 * BLOCKS + clone] = 30_000 + clone;
  }
  await store.restart('clean');
  answerBothWays(store);
  t.strictSame(await store.readAll(below), wanted);
  t.strictSame(await store.readAll('c5@s'), frozen);
  t.strictSame(store.troubles, []);
  await store.end();
});

t.test('a line that wrote everything near the windows is scanned, and ends them', async (t) => {
  const { store } = await chainOf(6);
  await store.operations.createSnapshots([{ volume: 'c6', snapshot: 's' }]);
  await store.operations.clone({ volume: 'c6', snapshot: 's' }, 'full');
  const values = Array.from({ length: WINDOWS * BLOCKS }, (_, block) => 50_000 + block);
  await write(store, 'full', 0, values);
  await store.operations.createSnapshots([{ volume: 'full', snapshot: 's' }]);
  await store.restart('clean');
  answerBothWays(store);
  t.strictSame(await store.readAll('full'), values);
  t.strictSame(await store.readAll('full@s'), values);
  t.strictSame(store.troubles, []);
  await store.end();
});
