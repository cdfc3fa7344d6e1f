// Lists of written windows kept in memory never say too little, whatever groups are under way when they are read, and however long
// the reading takes.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import { MemoryLevel } from 'memory-level';
import t from 'tap';
import { Catalog } from '../../../src/catalog/catalog.js';
import { CommitQueue } from '../../../src/catalog/commit-queue.js';
import { levelOf } from '../../../src/catalog/level.js';
import type { KeptVersion } from '../../../src/catalog/sparse-versions.js';
import { SparseVersions } from '../../../src/catalog/sparse-versions.js';
import type { Line } from '../../../src/model/entities.js';
import { parseWindowKey, windowBound, writtenKey } from '../../../src/model/keys.js';
import { RegionSet } from '../../../src/model/region-set.js';
import { windowsIn } from '../../../src/model/window-list.js';
import { CHUNK_WINDOWS } from '../../../src/model/written-set.js';
import { answerLate, turns } from '../../support/late-level.js';
import { randomOf } from '../../support/random.js';
import { replay } from '../../support/replay.js';
import { TestLevel } from '../../support/store-harness.js';

const RECORD = Buffer.from('any');

async function made(): Promise<{ level: TestLevel; catalog: Catalog; line: Line }> {
  const encodings = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
  const level = new TestLevel(levelOf(new MemoryLevel<Buffer, Buffer>(encodings) as never));
  await level.open();
  const queue = new CommitQueue(level, {
    makeRoom: async () => undefined,
    onTrouble: () => undefined,
    onHealed: () => undefined,
    pause: async () => undefined,
    giveUpAfter: 3,
  });
  const line: Line = { id: 1, container: 1, base: null, cutOffs: [], regions: new RegionSet(), versions: [] };
  return { level, catalog: new Catalog(queue), line };
}

function write(catalog: Catalog, line: Line, version: number, ...windows: number[]): Promise<void> {
  const change = catalog.change();
  for (const window of windows) change.window(line, BigInt(window), version, RECORD);
  return change.commit();
}

/** What is kept of a version, asked and waited for; null: not known. */
function listOf(catalog: Catalog, version: number, lists = catalog.sparse): Promise<number[] | null> {
  return catalog.queue.readSnapshot(async (level, snapshot) => {
    lists.tick();
    const kept = lists.of(1, version, { level, snapshot });
    await kept?.reading;
    return kept?.windows ? [...kept.windows] : null;
  });
}

/** Holds every reading of the index back until the answer is called. */
function holdReadings(level: TestLevel): () => void {
  const scan = level.scan;
  let go!: () => void;
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  level.scan = async function* (range, options) {
    if (range.gte.subarray(0, 8).toString() === 'written/') await held;
    yield* scan.call(level, range, options);
  };
  return () => {
    level.scan = scan;
    go();
  };
}

t.test('a version that grows while its list is read: who asks next is told the new window too', async (t) => {
  const { level, catalog, line } = await made();
  await write(catalog, line, 1, 5);
  const release = holdReadings(level);
  const before = listOf(catalog, 1);
  await turns(2);
  await write(catalog, line, 1, 7);
  release();
  t.strictSame(await before, [5]);
  t.strictSame(await listOf(catalog, 1), [5, 7]);
});

t.test('of a version with a group under way nothing is kept', async (t) => {
  const { level, catalog, line } = await made();
  await write(catalog, line, 1, 5);
  const { batch } = level;
  let go!: () => void;
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  level.batch = async (operations) => {
    await held;
    return batch.call(level, operations);
  };
  const written = write(catalog, line, 1, 7);
  await turns(2);
  t.equal(await listOf(catalog, 1), null);
  go();
  await written;
  t.strictSame(await listOf(catalog, 1), [5, 7]);
});

t.test('nor of one whose group failed, until it is durable', async (t) => {
  const { level, catalog, line } = await made();
  level.failures.push({ applied: true });
  await t.rejects(catalog.change().window(line, 7n, 1, RECORD).commit({ yielding: true }));
  t.equal(await listOf(catalog, 1), null);
  await write(catalog, line, 1, 9);
  t.strictSame(await listOf(catalog, 1), [7, 9]);
});

type Step =
  | { do: 'group'; version: number; windows: number[]; yielding: boolean }
  | { do: 'ask'; version: number }
  | { do: 'pass'; turns: number }
  | { do: 'fail'; applied: boolean };

const version = fc.integer({ min: 1, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('group' as const),
      version,
      windows: fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 4 }),
      yielding: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('ask' as const), version }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('pass' as const), turns: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), applied: fc.boolean() }) },
);

/** Records of a version the snapshot has and the list has not. */
async function missing(catalog: Catalog, version: number): Promise<string[]> {
  return catalog.queue.readSnapshot(async (level, snapshot) => {
    const kept: KeptVersion | null = catalog.sparse.of(1, version, { level, snapshot });
    await kept?.reading;
    const list = kept?.windows;
    if (!list) return [];
    const lost: string[] = [];
    for await (const page of level.scan({ gte: windowBound(1, 0n), lt: windowBound(2, 0n) }, { snapshot })) {
      for (const [bytes] of page) {
        const key = parseWindowKey(bytes)!;
        if (key.version === version && windowsIn(list, key.window, 1).length === 0)
          lost.push(`${version}/${key.window}`);
      }
    }
    return lost;
  });
}

t.test('every list holds what the snapshot it is used with has', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
      fc.nat(),
      async (steps, seed) => {
        const { level, catalog, line } = await made();
        const random = randomOf(seed);
        answerLate(level, (n) => Math.floor(random() * n));
        const lost: string[] = [];
        const under: Promise<unknown>[] = [];
        for (const one of steps) {
          if (one.do === 'fail') level.failures.push({ applied: one.applied });
          else if (one.do === 'pass') await turns(one.turns);
          else if (one.do === 'ask') {
            catalog.sparse.tick();
            // A database that was closed in the middle refuses: nobody is told anything then.
            const asked = missing(catalog, one.version).then((found) => void lost.push(...found));
            under.push(asked.catch(() => undefined));
          } else {
            const change = catalog.change();
            for (const window of one.windows) change.window(line, BigInt(window), one.version, RECORD);
            under.push(change.commit({ yielding: one.yielding }).catch(() => undefined));
          }
        }
        await Promise.all(under);
        deepStrictEqual(lost, []);
      },
    ),
    replay({ quick: 100, normal: 500, long: 20_000 }),
  );
  t.pass('every order');
});

t.test('a version of many windows, or with a damaged index, is not known', async (t) => {
  const { level, catalog, line } = await made();
  await write(catalog, line, 1, ...Array.from({ length: 8200 }, (_, window) => window * 40));
  t.equal(await listOf(catalog, 1), null);
  await write(catalog, line, 2, 3, CHUNK_WINDOWS * 2 + 1);
  t.strictSame(await listOf(catalog, 2), [3, CHUNK_WINDOWS * 2 + 1]);
  await write(catalog, line, 3, 3);
  await level.batch([{ type: 'put', key: writtenKey(1, 3, 0n), value: Buffer.from('damage') }]);
  t.equal(await listOf(catalog, 3), null);
});

t.test('a list that cannot be read is not known, and is read by the next who asks', async (t) => {
  const { level, catalog, line } = await made();
  await write(catalog, line, 1, 5);
  const { scan } = level;
  level.scan = () => {
    throw new Error('a bad block');
  };
  t.equal(await listOf(catalog, 1), null);
  level.scan = scan;
  t.strictSame(await listOf(catalog, 1), [5]);
});

t.test('memory is bounded: what was not used for long makes room, what is used stays', async (t) => {
  const { catalog, line } = await made();
  for (let version = 1; version <= 20; version++) await write(catalog, { ...line, id: version }, 1, version);
  const lists = new SparseVersions(catalog.written, { keptBytes: 4000 });
  const of = (line: number) =>
    catalog.queue.readSnapshot(async (level, snapshot) => {
      const kept = lists.of(line, 1, { level, snapshot });
      await kept?.reading;
      return kept;
    });
  for (let line = 1; line <= 20; line++) {
    lists.tick();
    await of(line);
  }
  t.ok(lists.bytes <= 4500, `${lists.bytes} bytes`);
  t.ok(await of(1), 'the first stays');
  t.equal(await of(20), null, 'there was no room for the last');
  for (let fault = 0; fault < 10_001; fault++) lists.tick();
  await of(1);
  t.ok(await of(20), 'now there is');
  t.ok(lists.bytes <= 4500, `${lists.bytes} bytes`);
});
