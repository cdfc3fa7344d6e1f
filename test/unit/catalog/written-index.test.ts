// The index of written windows never says too little: whatever batches fail, in whatever order groups come, and with sets that
// were dropped from memory in between.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import { MemoryLevel } from 'memory-level';
import t from 'tap';
import { Catalog } from '../../../src/catalog/catalog.js';
import { CommitQueue } from '../../../src/catalog/commit-queue.js';
import { levelOf } from '../../../src/catalog/level.js';
import type { Line } from '../../../src/model/entities.js';
import { jsonKey, parseWrittenKey, writtenKey } from '../../../src/model/keys.js';
import { RegionSet } from '../../../src/model/region-set.js';
import { CHUNK_WINDOWS, WrittenSet } from '../../../src/model/written-set.js';
import { replay } from '../../support/replay.js';
import { TestLevel } from '../../support/store-harness.js';
import { unnoted } from '../../support/written.js';

const RECORD = Buffer.from('any');
const CHUNK = BigInt(CHUNK_WINDOWS);

async function made(): Promise<{ level: TestLevel; open(): Catalog; line: Line }> {
  const encodings = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
  const level = new TestLevel(levelOf(new MemoryLevel<Buffer, Buffer>(encodings) as never));
  await level.open();
  const open = (): Catalog =>
    new Catalog(
      new CommitQueue(level, {
        makeRoom: async () => undefined,
        onTrouble: () => undefined,
        onHealed: () => undefined,
        pause: async () => undefined,
        giveUpAfter: 3,
      }),
    );
  const line: Line = { id: 1, container: 1, base: null, cutOffs: [], regions: new RegionSet(), versions: [] };
  return { level, open, line };
}

/** Puts of the index in a batch. */
function putsOf(batch: TestLevel['log'][number] | undefined): number {
  return (batch ?? []).filter(({ key, type }) => type === 'put' && parseWrittenKey(key)).length;
}

type Step =
  | { do: 'group'; version: number; windows: number[]; yielding: boolean; wait: boolean }
  | { do: 'fail'; applied: boolean }
  | { do: 'reopen' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('group' as const),
      version: fc.integer({ min: 1, max: 3 }),
      windows: fc.array(fc.nat({ max: 11 }), { minLength: 1, maxLength: 4 }),
      yielding: fc.boolean(),
      wait: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail' as const), applied: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
);

t.test('no record is durable without its bit, whichever batches fail', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
      const { level, open, line } = await made();
      const missing: string[] = [];
      // After every batch, as a crash there would leave it.
      const real = level.batch.bind(level);
      level.batch = async (operations) => {
        try {
          await real(operations);
        } finally {
          missing.push(...(await unnoted(level)));
        }
      };
      let catalog = open();
      let groups: Promise<void>[] = [];
      for (const one of steps) {
        if (one.do === 'fail') level.failures.push({ applied: one.applied });
        else if (one.do === 'reopen') {
          await Promise.all(groups);
          groups = [];
          // What was given up waits in the queue all the same.
          await catalog.queue.stop();
          catalog = open();
        } else {
          const change = catalog.change();
          // Six windows in each of two chunks.
          for (const window of one.windows)
            change.window(
              line,
              BigInt(window % 6) + CHUNK * BigInt(Math.floor(window / 6)),
              one.version,
              RECORD,
            );
          const group = change.commit({ yielding: one.yielding }).catch(() => undefined);
          if (one.wait) await group;
          else groups.push(group);
        }
      }
      await Promise.all(groups);
      deepStrictEqual(missing, []);
    }),
    replay({ quick: 50, normal: 400, long: 5000 }),
  );
  t.pass('every order');
});

t.test('what is noted is not put again, by this process or the next', async (t) => {
  const { level, open, line } = await made();
  const catalog = open();
  const write = async (from: Catalog, ...windows: bigint[]): Promise<number> => {
    const change = from.change();
    for (const window of windows) change.window(line, window, 1, RECORD);
    await change.commit({ yielding: true });
    return putsOf(level.log.splice(0).flat());
  };
  t.equal(await write(catalog, 1n, 2n, CHUNK), 2);
  t.equal(await write(catalog, 1n, 2n, CHUNK), 0);
  t.equal(await write(catalog, 3n), 1);
  t.equal(await write(open(), 1n, 2n, 3n, CHUNK), 0);
});

t.test('a group that failed leaves nothing behind that counts as durable', async (t) => {
  const { level, open, line } = await made();
  const catalog = open();
  level.failures.push({ applied: false });
  const round = () => catalog.change().window(line, 7n, 1, RECORD).commit({ yielding: true });
  await t.rejects(round());
  await round();
  t.ok(putsOf(level.log.flat()) > 0);
  t.strictSame(await unnoted(level), []);
});

t.test('where the index cannot be read nothing is written but what memory relies on', async (t) => {
  const { level, open, line } = await made();
  const catalog = open();
  catalog.keepLine(line);
  const real = level.get.bind(level);
  level.get = async () => {
    throw new Error('a bad block');
  };
  await t.rejects(catalog.change().window(line, 7n, 1, RECORD).commit({ yielding: true }), {
    code: 'catalog-read-failed',
  });
  level.get = real;
  await catalog.barrier();
  t.match((await level.get(jsonKey('line', 1)))?.toString(), /"regions":\[0\]/);
  await catalog.change().window(line, 7n, 1, RECORD).commit({ yielding: true });
  t.strictSame(await unnoted(level), []);
});

t.test('a damaged set is put anew, full, with the next record', async (t) => {
  const { level, open, line } = await made();
  await open().change().window(line, 7n, 1, RECORD).commit();
  const key = writtenKey(1, 1, 0n);
  await level.batch([{ type: 'put', key, value: Buffer.from('damage') }]);
  await open().change().window(line, 7n, 1, RECORD).commit();
  const set = WrittenSet.decode((await level.get(key))!);
  t.ok(set.has(0) && set.has(7) && set.has(CHUNK_WINDOWS - 1));
});

t.test('sets in memory are bounded, and those dropped are read again', async (t) => {
  const { level, open, line } = await made();
  const catalog = open();
  const chunks = 1500;
  for (let round = 0; round < 2; round++) {
    for (let chunk = 0; chunk < chunks; chunk += 100) {
      const change = catalog.change();
      for (let at = chunk; at < chunk + 100; at++)
        change.window(line, CHUNK * BigInt(at) + BigInt(round), 1, RECORD);
      await change.commit();
    }
  }
  t.strictSame(await unnoted(level), []);
});

t.test('a change is half full long before it is too large for a batch', async (t) => {
  const { open, line } = await made();
  const large = open().change();
  for (let window = 0n; !large.isHalfFull; window++) large.window(line, window, 1, Buffer.alloc(7000));
  await large.commit();
  const scattered = open().change();
  let windows = 0;
  for (; !scattered.isHalfFull; windows++) scattered.window(line, CHUNK * BigInt(windows), 2, RECORD);
  t.ok(windows < 600, `${windows} sets of 4 KiB at most`);
});
