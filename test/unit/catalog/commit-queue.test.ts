import { MemoryLevel } from 'memory-level';
import t from 'tap';
import {
  batchesOf,
  CommitQueue,
  type CommitQueueOptions,
  MAX_BATCH_OPERATIONS,
} from '../../../src/catalog/commit-queue.js';
import type { Operation } from '../../../src/catalog/level.js';
import { levelOf } from '../../../src/catalog/level.js';
import { TestLevel } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const put = (key: string, value: string): Operation => ({
  type: 'put',
  key: Buffer.from(key),
  value: Buffer.from(value),
});

function make(options: Partial<CommitQueueOptions> = {}): {
  level: TestLevel;
  queue: CommitQueue;
  room: () => number;
} {
  const memory = new MemoryLevel<Buffer, Buffer>({
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    storeEncoding: 'buffer',
  });
  const level = new TestLevel(levelOf(memory as never));
  let made = 0;
  const queue = new CommitQueue(level, {
    makeRoom: async () => void made++,
    onTrouble: () => undefined,
    onHealed: () => undefined,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    giveUpAfter: 3,
    ...options,
  });
  return { level, queue, room: () => made };
}

t.test('HAZARDS 2: one batch at a time; groups that come meanwhile share the next, in order', async (t) => {
  const { level, queue } = make();
  await Promise.all(Array.from({ length: 500 }, (_, index) => queue.commit([put('k', `${index}`)])));
  t.equal((await queue.read((level) => level.get(Buffer.from('k'))))?.toString(), '499');
  t.equal(level.batches, 2, 'the first alone, then all the others at once');
});

t.test('a batch never has more operations than it may, groups stay whole', async (t) => {
  const { level, queue } = make();
  const group = Array.from({ length: 4000 }, (_, index) => put(`${index}`, 'x'));
  await Promise.all([
    queue.commit([put('first', '')]),
    ...Array.from({ length: 5 }, () => queue.commit(group)),
  ]);
  t.ok(level.log.every((operations) => operations.length <= MAX_BATCH_OPERATIONS));
  t.ok(level.log.every((operations) => operations.length === 1 || operations.length % 4000 === 0));
});

t.test(
  'HAZARDS 11: a failed batch, there or not, is written again after the database was reopened',
  async (t) => {
    for (const applied of [false, true]) {
      const { level, queue, room } = make();
      level.failures = [{ applied }, { applied }];
      await Promise.all([queue.commit([put('a', '1')]), queue.commit([put('a', '2')])]);
      t.equal((await queue.read((level) => level.get(Buffer.from('a'))))?.toString(), '2');
      t.equal(room(), 2, 'room was made before each reopening');
      t.notOk(queue.healing);
    }
  },
);

t.test('a yielding group goes back to its owner, and those behind it with it', async (t) => {
  const { level, queue } = make();
  level.failures = [{ applied: false }];
  const first = queue.commit([put('a', '1')], { yielding: true });
  const second = queue.commit([put('b', '1')], { yielding: true });
  const third = queue.commit([put('c', '1')]);
  await t.rejects(first, { code: 'catalog-write-failed', kind: 'io' });
  await t.rejects(second, { code: 'catalog-write-failed' });
  await third;
  const values = await queue.read((level) => level.getMany(['a', 'b', 'c'].map((key) => Buffer.from(key))));
  t.strictSame(
    values.map((value) => value?.toString()),
    [undefined, undefined, '1'],
  );
});

t.test('who waits is told after a while; the group is written when the disk works again', async (t) => {
  const { level, queue } = make();
  level.failures = Array.from({ length: 5 }, () => ({ applied: false }));
  await t.rejects(queue.commit([put('a', '1')]), { code: 'catalog-write-failed' });
  await until('the disk works again', () => !queue.healing);
  t.equal((await queue.read((level) => level.get(Buffer.from('a'))))?.toString(), '1');
});

t.test(
  'a database that does not open again: nobody waits, for a write or a read; later all is there',
  async (t) => {
    const { level, queue } = make();
    level.lost = true;
    await t.rejects(queue.commit([put('a', '1')]), { code: 'catalog-write-failed' }, 'the one in flight');
    t.match(queue.failing, { code: 'catalog-write-failed' });
    await t.rejects(
      queue.commit([put('b', '1')]),
      { code: 'catalog-write-failed' },
      'who comes then, at once',
    );
    await t.rejects(queue.commit([]), { code: 'catalog-write-failed' });
    await t.rejects(queue.commit([put('a', '0')], { yielding: true }), { code: 'catalog-write-failed' });
    await t.rejects(
      queue.read((level) => level.get(Buffer.from('a'))),
      { code: 'catalog-read-failed' },
    );
    level.lost = false;
    await until('the disk works again', () => !queue.healing);
    t.equal(queue.failing, null);
    const values = await queue.read((level) => level.getMany(['a', 'b'].map((key) => Buffer.from(key))));
    t.strictSame(
      values.map((value) => value?.toString()),
      ['1', '1'],
      "what was to be kept was kept, the yielding one was its owner's business",
    );
  },
);

t.test('a stop gives back what cannot be written', async (t) => {
  const { level, queue } = make({ pause: () => new Promise(() => undefined) });
  level.lost = true;
  const written = queue.commit([put('a', '1')]);
  written.catch(() => undefined);
  await until('an attempt', () => queue.healing);
  await queue.stop();
  await t.rejects(written, { code: 'catalog-write-failed' });
  await t.rejects(queue.commit([put('a', '1')]), { code: 'store-stopping' });
});

t.test('units of a long sequence are never torn', async (t) => {
  const units = Array.from({ length: 9000 }, (_, index) => [put(`${index}`, 'x'), put(`${index}'`, 'y')]);
  const batches = [...batchesOf(units)];
  t.ok(batches.every((batch) => batch.length % 2 === 0 && batch.length <= MAX_BATCH_OPERATIONS));
  t.equal(batches.flat().length, 18_000);
});
