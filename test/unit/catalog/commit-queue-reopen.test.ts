// HAZARDS 11: a database that cannot even be opened again.
import { MemoryLevel } from 'memory-level';
import t from 'tap';
import { CommitQueue } from '../../../src/catalog/commit-queue.js';
import { levelOf } from '../../../src/catalog/level.js';
import { TestLevel } from '../../support/store-harness.js';

t.test(
  'a database that cannot be reopened: rounds are told at once, others after a while, nothing is lost',
  async (t) => {
    const level = new TestLevel(
      levelOf(
        new MemoryLevel({ keyEncoding: 'buffer', valueEncoding: 'buffer', storeEncoding: 'buffer' }) as never,
      ),
    );
    let full = true;
    const open = level.open.bind(level);
    level.open = async () => {
      if (full) throw new Error('IO error: No space left on device');
      return open();
    };
    const queue = new CommitQueue(level, {
      makeRoom: async () => undefined,
      onTrouble: () => undefined,
      onHealed: () => undefined,
      pause: () => new Promise((resolve) => setTimeout(resolve, 5)),
      giveUpAfter: 3,
    });
    level.failures = [{ applied: false }];
    const told = (commit: Promise<void>) =>
      commit.then(
        () => 'durable',
        () => 'told',
      );
    const put = (key: string) => ({ type: 'put' as const, key: Buffer.from(key), value: Buffer.from('1') });
    const answers = [
      queue.commit([put('round')], { yielding: true }),
      queue.commit([put('snapshot')]),
      queue.commit([put('behind')]),
    ].map(told);
    t.same(await Promise.all(answers), ['told', 'told', 'told']);
    const again = told(queue.commit([put('round')], { yielding: true }));
    t.equal(await again, 'told', 'a round that comes meanwhile too');
    full = false;
    // Refused until the next attempt to open it.
    while ((await told(queue.commit([]))) !== 'durable')
      await new Promise((resolve) => setTimeout(resolve, 5));
    const values = await queue.read((db) =>
      db.getMany(['round', 'snapshot', 'behind'].map((key) => Buffer.from(key))),
    );
    t.same(
      values.map((value) => value?.toString()),
      [undefined, '1', '1'],
    );
  },
);
