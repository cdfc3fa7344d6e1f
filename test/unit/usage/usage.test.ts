// Usage against a model that asks every reader about every block.

import { strictEqual } from 'node:assert';
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import t from 'tap';
import { RegionSet } from '../../../src/model/region-set.js';
import { FamilyUsage, familiesOf } from '../../../src/model/usage.js';
import { storeUsage } from '../../../src/operations/usage.js';
import { replay } from '../../support/replay.js';
import { BLOCKS, history, SmallStore, type Step, WINDOW_BYTES, WINDOWS } from './small-store.js';

const options = { directory: tmpdir(), windowBytes: WINDOW_BYTES, reserveBytes: 1n };
const BLOCK = 4096n;

interface Expected {
  allocated: Map<string, number>;
  exclusive: Map<string, number>;
  ofVolume: Map<number, number>;
  unread: Map<number, number>;
}

/** A version and what it says about blocks; a cut-off says zero. */
interface Said {
  live: boolean;
  below: Said | null;
  blocks: Map<string, string | null>;
}

/** How many blocks are held when the background is through: deleted versions freed or merged one by one, as long as any can be. */
function heldInTheEnd(store: SmallStore, isLive: (at: { line: number; version: number }) => boolean): number {
  const all = new Map<string, Said>();
  for (const line of store.lines) {
    let below = line.base ? all.get(`${line.base.line}/${line.base.version}`)! : null;
    for (const { version, state } of line.versions) {
      const live = state !== 'deleted' && isLive({ line: line.id, version });
      const said: Said = { live, below, blocks: new Map() };
      for (let window = 0; window < WINDOWS; window++) {
        const isCut = line.cutOffs.some(
          (cut) => cut.version === version && window >= cut.first && (cut.end === null || window < cut.end),
        );
        if (isCut) for (let block = 0; block < BLOCKS; block++) said.blocks.set(`${window}/${block}`, null);
        for (const run of store.records.get(`${line.id}/${version}/${window}`)?.runs ?? [])
          for (let block = run.start; block < run.start + run.count; block++)
            said.blocks.set(`${window}/${block}`, run.slot === null ? null : `${run.slot}/${block}`);
      }
      all.set(`${line.id}/${version}`, said);
      below = said;
    }
  }
  const left = new Set(all.values());
  for (let more = true; more; ) {
    more = false;
    for (const said of left) {
      const continuing = [...left].filter(({ below }) => below === said);
      if (said.live || continuing.length > 1) continue;
      for (const one of continuing) {
        one.below = said.below;
        one.blocks = new Map([...said.blocks, ...one.blocks]);
      }
      left.delete(said);
      more = true;
    }
  }
  return [...left].reduce(
    (sum, { blocks }) => sum + [...blocks.values()].filter((place) => place !== null).length,
    0,
  );
}

function add<K>(to: Map<K, number>, key: K): void {
  to.set(key, (to.get(key) ?? 0) + 1);
}

/** Everything by asking everybody about every block. */
function ask(store: SmallStore): Expected {
  const expected: Expected = {
    allocated: new Map(),
    exclusive: new Map(),
    ofVolume: new Map(),
    unread: new Map(),
  };
  for (let window = 0; window < WINDOWS; window++) {
    for (let block = 0; block < BLOCKS; block++) {
      const readBy = new Map<string, { line: number; version: number; container: number }[]>();
      for (const reader of store.readers()) {
        const place = store.read(reader, window, block);
        if (place === null) continue;
        add(expected.allocated, `${reader.line}/${reader.version}`);
        if (readBy.has(place)) readBy.get(place)!.push(reader);
        else readBy.set(place, [reader]);
      }
      for (const readers of readBy.values()) {
        if (readers.length === 1) add(expected.exclusive, `${readers[0]!.line}/${readers[0]!.version}`);
        if (readers.every(({ container }) => container === readers[0]!.container))
          add(expected.ofVolume, readers[0]!.container);
      }
      for (const line of store.lines) {
        for (const { version } of line.versions) {
          const own = store.records
            .get(`${line.id}/${version}/${window}`)
            ?.runs.find(({ start, count, slot }) => {
              return slot !== null && block >= start && block < start + count;
            });
          if (own && !readBy.has(`${own.slot}/${block}`)) add(expected.unread, line.container);
        }
      }
    }
  }
  return expected;
}

t.test('every figure is what asking every reader about every block gives', async (t) => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      const store = await SmallStore.of(steps);
      const expected = ask(store);
      const usage = await storeUsage(store.catalog, options);
      const held = heldInTheEnd(store, () => true);
      strictEqual(usage.records, BigInt(store.records.size));
      for (const container of store.catalog.containers.values()) {
        const row = usage.volumes.find(({ name }) => name === container.name)!;
        const line = store.catalog.lines.get(container.line)!;
        const current = line.versions[line.versions.length - 1]!.version;
        strictEqual(
          row.allocatedBytes,
          BigInt(expected.allocated.get(`${line.id}/${current}`) ?? 0) * BLOCK,
          'allocated',
        );
        strictEqual(
          row.exclusiveBytes,
          BigInt(expected.ofVolume.get(container.id) ?? 0) * BLOCK,
          'exclusive of a volume',
        );
        strictEqual(row.unreadBytes, BigInt(expected.unread.get(container.id) ?? 0) * BLOCK, 'unread');
        const without = heldInTheEnd(store, (at) => at.line !== line.id);
        strictEqual(row.reclaimableBytes, BigInt(held - without) * BLOCK, 'reclaimable of a volume');
      }
      strictEqual(usage.snapshots.length, store.catalog.snapshots.size);
      for (const snapshot of store.catalog.snapshots.values()) {
        const name = `volume-${snapshot.container}@${snapshot.name}`;
        const row = usage.snapshots.find((other) => other.name === name)!;
        const place = `${snapshot.line}/${snapshot.version}`;
        strictEqual(
          row.allocatedBytes,
          BigInt(expected.allocated.get(place) ?? 0) * BLOCK,
          'allocated of a snapshot',
        );
        strictEqual(
          row.exclusiveBytes,
          BigInt(expected.exclusive.get(place) ?? 0) * BLOCK,
          'exclusive of a snapshot',
        );
        const without = heldInTheEnd(
          store,
          (at) => at.line !== snapshot.line || at.version !== snapshot.version,
        );
        strictEqual(row.reclaimableBytes, BigInt(held - without) * BLOCK, 'reclaimable of a snapshot');
      }
    }),
    replay({ quick: 150, normal: 400, long: 5000 }),
  );
  t.pass('every history');
});

t.test('stored bytes count each block once, pending punches too', async (t) => {
  const store = await SmallStore.of([
    { kind: 'write', line: 0, window: 0, start: 0, count: 8 },
    { kind: 'snapshot', line: 0, version: 0 },
    { kind: 'clone', line: 0, version: 0 },
    { kind: 'write', line: 1, window: 0, start: 0, count: 2 },
  ]);
  await store.catalog
    .change()
    .punch([{ slot: (1n << 24n) | 7n, start: 0, count: 3 }])
    .commit();
  const { totals, volumes } = await storeUsage(store.catalog, options);
  t.equal(totals.storedBytes, 13n * BLOCK);
  t.equal(totals.unreadBytes, 3n * BLOCK);
  t.strictSame(
    volumes.map(({ name, ownBytes, unreadBytes }) => [name, ownBytes, unreadBytes]),
    [
      ['volume-1', 0n, 3n * BLOCK],
      ['volume-2', 2n * BLOCK, 0n],
    ],
  );
});

t.test(
  'a snapshot with clones stays when it is deleted: that frees nothing, deleting a clone then does',
  async (t) => {
    const steps: Step[] = [
      { kind: 'write', line: 0, window: 0, start: 0, count: 8 },
      { kind: 'snapshot', line: 0, version: 0 },
      { kind: 'clone', line: 0, version: 0 },
      { kind: 'write', line: 0, window: 0, start: 0, count: 8 },
      { kind: 'write', line: 1, window: 0, start: 0, count: 8 },
    ];
    const before = await storeUsage((await SmallStore.of(steps)).catalog, options);
    t.match(before.snapshots[0], { exclusiveBytes: 8n * BLOCK, reclaimableBytes: 0n });
    const deleted = await SmallStore.of([...steps, { kind: 'delete', line: 0, version: 0 }]);
    const after = await storeUsage(deleted.catalog, options);
    t.match(after.volumes, [
      { reclaimableBytes: 16n * BLOCK, unreadBytes: 8n * BLOCK },
      { reclaimableBytes: 16n * BLOCK, unreadBytes: 0n },
    ]);
  },
);

t.test('a damaged record is left out and counted', async (t) => {
  const store = await SmallStore.of([
    { kind: 'write', line: 0, window: 0, start: 0, count: 8 },
    { kind: 'write', line: 0, window: 1, start: 0, count: 8 },
  ]);
  await store.catalog.change().window(store.lines[0]!, 1n, 1, Buffer.from('nonsense')).commit();
  const usage = await storeUsage(store.catalog, options);
  t.equal(usage.damagedRecords, 1n);
  t.equal(usage.totals.storedBytes, 8n * BLOCK);
});

t.test('a cancelled count ends with task-cancelled', async (t) => {
  const store = await SmallStore.of([{ kind: 'write', line: 0, window: 0, start: 0, count: 8 }]);
  await t.rejects(storeUsage(store.catalog, { ...options, signal: AbortSignal.abort() }), {
    code: 'task-cancelled',
  });
});

t.test('a long chain of clones of clones is gone through without recursion', async (t) => {
  const lines = new Map(
    Array.from({ length: 20_000 }, (_, at) => [
      at + 1,
      {
        id: at + 1,
        container: at + 1,
        base: at === 0 ? null : { line: at, version: 1 },
        cutOffs: [],
        regions: new RegionSet(),
        versions: [{ version: 1, state: 'current' as const, snapshot: null }],
      },
    ]),
  );
  const [family] = familiesOf(lines);
  const usage = new FamilyUsage(family!, BLOCKS);
  usage.window(0n, [
    { line: 1, records: [{ version: 1, runs: [{ start: 0, count: 4, slot: 1n }] }] },
    { line: 20_000, records: [{ version: 1, runs: [{ start: 0, count: 1, slot: 2n }] }] },
  ]);
  const { versions } = usage.result();
  t.match(versions[0], { allocatedBlocks: 4, exclusiveBlocks: 0 });
  t.match(versions[19_999], { allocatedBlocks: 4, ownBlocks: 1, exclusiveBlocks: 1 });
});
