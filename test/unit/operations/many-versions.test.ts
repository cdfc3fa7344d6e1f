// What is asked of a line of many versions costs what the answer holds, not what all versions hold.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { bytesOf, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS } from '../../../src/catalog/commit-queue.js';
import { ALL_WINDOWS, ALL_WRITTEN, parseWindowKey } from '../../../src/model/keys.js';
import { slotOf } from '../../../src/model/slot.js';
import { encodeWindowRecord } from '../../../src/model/window-record.js';
import { diff } from '../../../src/operations/diff.js';
import { writtenPage } from '../../../src/operations/written-windows.js';
import { replay } from '../../support/replay.js';
import { BLOCKS, blocksBytes, Store, WINDOW_BYTES } from '../../support/store-harness.js';
import { unnoted } from '../../support/written.js';
import { history, SmallStore } from '../usage/small-store.js';

t.setTimeout(200_000);

const VERSIONS = 40;
const WINDOWS = 30;
const SIZE = blocksBytes(WINDOWS * BLOCKS);

/** `a` with a snapshot after each of many versions, in each of which `windows` windows have `count` blocks written; closed. */
async function furnish(count: number): Promise<Store> {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  for (let version = 1; version <= VERSIONS; version++) {
    const session = await store.plane.connect('a');
    for (let window = 0; window < WINDOWS; window++) {
      const first = (version * 5) % (BLOCKS - count + 1);
      await session.write(
        window * BLOCKS + first,
        Array.from({ length: count }, (_, at) => version * 1000 + window * 20 + at),
      );
    }
    session.close();
    await store.operations.createSnapshots([{ volume: 'a', snapshot: `s${version}` }]);
  }
  await store.restart('clean');
  return store;
}

/** Counts window records read from now on. */
function countReads(store: Store): () => number {
  let count = 0;
  const { level } = store;
  const [scan, getMany] = [level.scan.bind(level), level.getMany.bind(level)];
  level.scan = async function* (range, options) {
    for await (const page of scan(range, options)) {
      count += page.filter(([key]) => parseWindowKey(key)).length;
      yield page;
    }
  };
  level.getMany = (keys, options) => {
    count += keys.filter((key) => parseWindowKey(key)).length;
    return getMany(keys, options);
  };
  return () => count;
}

t.test('the difference of two neighbours reads what was written in between', async (t) => {
  const store = await furnish(2);
  const reads = countReads(store);
  const side = (version: number) => ({ line: 1, version, sizeBytes: SIZE });
  let ranges = 0;
  for await (const page of diff(store.operations.parts.catalog, side(20), side(21), {
    windowBytes: WINDOW_BYTES,
  }))
    ranges += page.length;
  t.equal(ranges, WINDOWS);
  t.ok(reads() <= 2 * WINDOWS, `${reads()} records read`);
  await store.end();
});

for (const open of [false, true]) {
  t.test(
    `the delete of one snapshot reads its own records${open ? ', of an open volume too' : ''}`,
    async (t) => {
      const store = await furnish(2);
      const before = await store.readAll('a@s20');
      if (!open) await store.restart('clean');
      const reads = countReads(store);
      const task = await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's19' }]);
      await store.operations.waitForTask(task.id);
      t.ok(reads() <= 4 * WINDOWS, `${reads()} records read`);
      t.strictSame(await store.readAll('a@s20'), before);
      t.strictSame(await unnoted(store.database), []);
      for await (const page of store.database.scan(ALL_WRITTEN))
        for (const [key] of page) t.not(key.readUInt32BE(16), 19, 'its part of the index is gone');
      await store.end();
    },
  );
}

t.test('all snapshots at once: each record is moved or freed once', async (t) => {
  const store = await furnish(2);
  const before = await store.readAll('a');
  await store.restart('clean');
  const reads = countReads(store);
  const names = Array.from({ length: VERSIONS }, (_, at) => ({ volume: 'a', snapshot: `s${at + 1}` }));
  const task = await store.operations.deleteSnapshots(names);
  await store.operations.waitForTask(task.id);
  t.ok(reads() <= 3 * VERSIONS * WINDOWS, `${reads()} records read`);
  await store.settle();
  t.strictSame(await store.readAll('a'), before);
  let left = 0;
  for await (const page of store.database.scan(ALL_WINDOWS)) left += page.length;
  t.equal(left, WINDOWS);
  await store.end();
});

t.test(
  'a fault is answered with what a window needs, however many versions lie below or above',
  async (t) => {
    const store = await furnish(BLOCKS);
    const reads = countReads(store);
    let handed = 0;
    const reply = store.plane.faultReply.bind(store.plane);
    store.plane.faultReply = (ticket, records, error) => {
      handed += records.length;
      reply(ticket, records, error);
    };
    for (const [name, version] of [
      ['a', VERSIONS],
      ['a@s1', 1],
      ['a@s20', 20],
    ] as const) {
      const values = await store.readAll(name);
      const wanted = Array.from({ length: WINDOWS * BLOCKS }, (_, block) => {
        return version * 1000 + Math.floor(block / BLOCKS) * 20 + (block % BLOCKS);
      });
      t.strictSame(values, wanted, name);
    }
    t.equal(handed, 3 * WINDOWS, 'records handed down');
    // A window is left after two dozen records nobody wants, not after all.
    t.ok(reads() <= 3 * WINDOWS * 36, `${reads()} records read`);
    await store.end();
  },
);

t.test('no batch is larger than allowed when large records are merged, cut off and replayed', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: blocksBytes(4000 * BLOCKS) });
  const { catalog } = store.operations.parts;
  const line = catalog.lines.get(1)!;
  // Every other block in a place of its own: as large as records get.
  let place = 0;
  for (const version of [1, 2]) {
    let change = catalog.change();
    for (let window = 0n; window < 4000n; window++) {
      const slots = Array.from({ length: BLOCKS / 2 }, () => slotOf(1, place++));
      const runs = slots.map((slot, at) => ({ start: at * 2 + version - 1, count: 1, slot }));
      change.window(line, window, version, encodeWindowRecord({ ownSlot: null, runs }));
      if (!change.isHalfFull) continue;
      await change.commit();
      change = catalog.change();
    }
    await change.commit();
    await store.operations.createSnapshots([{ volume: 'a', snapshot: `s${version}` }]);
  }
  for (const snapshot of ['s1', 's2']) {
    const task = await store.operations.deleteSnapshots([{ volume: 'a', snapshot }]);
    await store.operations.waitForTask(task.id);
  }
  const session = await store.plane.connect('a');
  await session.trim(0, 4000 * BLOCKS);
  session.close();
  await store.restart('process-death');
  for (const batch of store.level.log) {
    t.ok(batch.length <= MAX_BATCH_OPERATIONS && bytesOf(batch) <= MAX_BATCH_BYTES);
  }
  t.strictSame(await unnoted(store.database), []);
  await store.end();
});

t.test('pages by the index hold the records of a version, in order, each once', async (t) => {
  await fc.assert(
    fc.asyncProperty(history, fc.integer({ min: 1, max: 3 }), fc.boolean(), async (steps, limit, damaged) => {
      const store = await SmallStore.of(steps);
      if (damaged) await store.damageIndex();
      for (const { line, version } of store.readers()) {
        const wanted: bigint[] = [];
        for (let window = 0n; window < 6n; window++)
          if (store.records.has(`${line}/${version}/${window}`)) wanted.push(window);
        const found: bigint[] = [];
        // What is damaged counts as full: as many pages then as there are keys.
        const keys = damaged ? 20_000 : limit;
        for (let first: bigint | null = 1n; first !== null; ) {
          const range: { first: bigint; end: bigint } = { first, end: 5n };
          const page = await writtenPage({ level: store.level }, { line, version }, range, keys);
          found.push(...page.records.map(({ window }) => window));
          first = page.next;
        }
        deepStrictEqual(
          found,
          wanted.filter((window) => window >= 1n && window < 5n),
        );
      }
    }),
    replay({ quick: 30, normal: 200, long: 3000 }),
  );
  t.pass('every history');
});
