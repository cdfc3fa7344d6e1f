// Locks by key: order of asking for each key, several at once, and nobody waits in a circle.

import t from 'tap';
import { KeyedLocks } from '../../../src/coordinator/keyed-locks.js';
import { turns } from '../../support/late-level.js';
import { randomOf } from '../../support/random.js';

t.test('who shares a key goes one after the other, who shares none does not wait', async (t) => {
  const locks = new KeyedLocks();
  const below = (n: number, random: () => number) => Math.floor(random() * n);
  const random = randomOf(7);
  const holders = new Map<string, number>();
  const order = new Map<string, number[]>();
  let together = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 300 }, (_, number) => {
      const keys = Array.from({ length: 1 + below(3, random) }, () => `k${below(12, random)}`);
      return locks.run(keys, async () => {
        most = Math.max(most, ++together);
        for (const key of new Set(keys)) {
          t.notOk(holders.has(key));
          holders.set(key, number);
          order.set(key, [...(order.get(key) ?? []), number]);
        }
        await turns(below(3, random));
        for (const key of keys) holders.delete(key);
        together--;
        if (number % 50 === 0) throw new Error('a failure frees its keys too');
      });
    }).map((ended) => ended.catch(() => undefined)),
  );
  for (const [key, numbers] of order)
    t.same(
      numbers,
      [...numbers].sort((a, b) => a - b),
      `${key} in the order of asking`,
    );
  t.ok(most > 1);
});
