// The store that tests and simulations use keeps the contract of the real ones.

import t from 'tap';
import { MemoryLeadership, MemoryState } from '../../support/memory-coordinator-store.js';
import { routeOf, storeContract } from '../../support/store-contract.js';

t.test('the contract, in memory', (t) =>
  storeContract(t, async () => {
    const state = new MemoryState();
    return {
      store: state.store().lead(),
      reopen: async () => state.store().lead(),
      rival: async () => state.store().lead(),
    };
  }),
);

t.test('a write can be lost, or its answer', async (t) => {
  const state = new MemoryState();
  const store = state.store().lead();
  const code = { code: 'coordinator-state-uncertain' };
  state.fate = () => 'lost';
  await t.rejects(store.createRoute(routeOf(1)), code);
  t.equal(await store.routeNamed('v1'), null);
  state.fate = () => 'stored';
  await t.rejects(store.createRoute(routeOf(1)), code);
  t.equal((await store.routeNamed('v1'))?.gen, 1);
});

t.test('who is deposed in the middle of a write writes nothing', async (t) => {
  const state = new MemoryState();
  const store = state.store().lead();
  const leadership = new MemoryLeadership(store, { coordinator: 'a', address: 'ws://a' });
  state.fate = () => {
    state.store().lead();
    return 'answered';
  };
  t.equal(leadership.isLeader, true);
  await t.rejects(store.createRoute(routeOf(1)), { code: 'not-leader' });
  t.equal(leadership.isLeader, false);
  t.equal(await store.routeNamed('v1'), null);
});
