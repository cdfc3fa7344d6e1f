// Leadership among coordinators, over a real etcd: one at a time, known to all, ended by the own clock, never taken up again by an old key.

import t, { type Test } from 'tap';
import { EtcdKeys, type RangeAnswer } from '../../src/coordinator/etcd-keys.js';
import { EtcdLeadership } from '../../src/coordinator/etcd-leadership.js';
import { EtcdStore } from '../../src/coordinator/etcd-store.js';
import { SoleLeadership } from '../../src/coordinator/sole-leadership.js';
import { type Clock, systemClock } from '../../src/protocol/timing.js';
import { EtcdCluster, noEtcd } from '../support/etcd-cluster.js';
import { HandClock } from '../support/hand-clock.js';
import { routeOf } from '../support/store-contract.js';
import { until } from '../support/waiting.js';

const TTL_MS = 60_000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

t.test('who is alone leads until it stops', async (t) => {
  const self = { coordinator: 'one', address: 'wss://one:1' };
  const leadership = new SoleLeadership(self);
  const seen: unknown[] = [];
  leadership.onChange(() => seen.push([leadership.isLeader, leadership.leader]));
  await leadership.close();
  await leadership.resign();
  t.same(seen, [
    [true, self],
    [false, null],
  ]);
});

t.test('leadership in etcd', { skip: noEtcd() }, async (t) => {
  const cluster = await EtcdCluster.begin(t, 1);

  const join = (
    t: Test,
    name: string,
    keys: EtcdKeys,
    { clock = systemClock, ttlMs = 2_000 }: { clock?: Clock; ttlMs?: number } = {},
  ) => {
    const client = cluster.client(t);
    const self = { coordinator: name, address: `wss://${name}:7000` };
    const leadership = new EtcdLeadership({ self, client, keys, clock, log: quiet, ttlMs });
    t.teardown(() => leadership.close());
    return leadership;
  };
  const lead = async (leadership: EtcdLeadership) => {
    leadership.start();
    await until('it to lead', () => leadership.isLeader);
    return leadership;
  };

  await t.test('one leads, the others know it and where it is, and follow when it resigns', async (t) => {
    const keys = new EtcdKeys(cluster.prefix());
    const one = join(t, 'one', keys);
    const changes: boolean[] = [];
    one.onChange(() => changes.push(one.isLeader));
    t.same(changes, [false]);
    t.equal(one.leader, null);
    await lead(one);
    const two = join(t, 'two', keys);
    two.start();
    await until('the other to know', () => two.leader);
    t.same(two.leader, { coordinator: 'one', address: 'wss://one:7000' });
    t.same(one.leader, two.leader);
    t.equal(two.isLeader, false);
    await one.resign();
    t.equal(one.isLeader, false);
    t.equal(one.leader, null);
    await until('the other to lead', () => two.isLeader);
    await until('the first to know', () => one.leader);
    t.equal(one.leader?.coordinator, 'two');
    t.same(changes.slice(0, 3), [false, true, false]);
    await two.close();
    t.equal(two.isLeader, false);
    await until('the first to lead again', () => one.isLeader);
  });

  await t.test('it ends by the own clock, before its lease can end', async (t) => {
    for (const [how, passes] of Object.entries<(clock: HandClock) => void>({
      'uptime passes': (clock) => clock.pass(TTL_MS * 0.75),
      'the machine slept, or its time of day was set on': (clock) => clock.setBy(TTL_MS * 0.75),
    })) {
      const keys = new EtcdKeys(cluster.prefix());
      const clock = new HandClock();
      const leadership = await lead(join(t, 'one', keys, { clock, ttlMs: TTL_MS }));
      const { fence } = leadership;
      clock.setBy(-TTL_MS * 100);
      t.equal(leadership.isLeader, true, 'a time of day that is set back changes nothing');
      clock.setBy(TTL_MS * 100 - 1);
      clock.pass(1);
      t.equal(leadership.isLeader, true);
      passes(clock);
      t.equal(leadership.isLeader, false, how);
      t.equal(leadership.fence, null);
      await until('it to lead again', () => {
        clock.pass(TTL_MS / 6);
        return leadership.isLeader;
      });
      t.not(leadership.fence?.createRevision, fence?.createRevision, 'by a key of its own');
      t.not(leadership.fence?.lease, fence?.lease);
    }
  });

  await t.test('who renews leads on', async (t) => {
    const clock = new HandClock();
    const leadership = await lead(join(t, 'one', new EtcdKeys(cluster.prefix()), { clock, ttlMs: TTL_MS }));
    const { fence } = leadership;
    const { client } = { client: cluster.client(t) };
    for (let round = 0; round < 12; round++) {
      clock.pass(TTL_MS / 6);
      // A round is over when it waits for the clock again: one more question of ours is answered behind its own.
      for (let asked = 0; asked < 5; asked++) await client.ask('/v3/kv/range', { key: 'AA==' });
    }
    t.equal(leadership.fence, fence);
  });

  await t.test('who finds its key gone at a write leads no more, and by a new key later', async (t) => {
    const keys = new EtcdKeys(cluster.prefix());
    const client = cluster.client(t);
    const leadership = await lead(join(t, 'one', keys));
    const store = await EtcdStore.open(client, keys, leadership);
    t.equal(await store.createRoute(routeOf(1)), 'stored');
    const before = leadership.fence?.createRevision;
    await client.ask('/v3/kv/deleterange', { key: keys.key('leader') });
    const ended = await store
      .replaceRoute(routeOf(1, { gen: 1 }))
      .catch(({ code }: { code: string }) => code);
    t.equal(ended, 'not-leader');
    await until('it to lead again', () => leadership.isLeader && leadership.fence?.createRevision !== before);
    t.equal((await store.replaceRoute(routeOf(1, { gen: 1 }))).stored, true);
  });

  await t.test('keys of slots go with the lease', async (t) => {
    const keys = new EtcdKeys(cluster.prefix());
    const client = cluster.client(t);
    const leadership = await lead(join(t, 'one', keys));
    const store = await EtcdStore.open(client, keys, leadership);
    await Promise.all([1, 2, 3].map((number) => store.createRoute(routeOf(number))));
    const slots = async () =>
      (await client.ask<RangeAnswer>('/v3/kv/range', keys.all('writer/'))).answer.kvs?.length ?? 0;
    t.equal(await slots(), 3);
    await leadership.close();
    t.equal(await slots(), 0);
  });
});
