import t from 'tap';
import { blocksBytes, Store } from '../../support/store-harness.js';

t.test('a block written is read, through snapshot, clone, delete and restarts', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: blocksBytes(64) });
  const s = await store.plane.connect('a');
  await s.write(3, [7, 8]);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await s.write(4, [9]);
  t.same(await s.read(2, 4), [0, 7, 9, 0]);
  await operations.clone({ volume: 'a', snapshot: 's' }, 'b');
  t.same((await store.readAll('b')).slice(2, 6), [0, 7, 8, 0]);
  t.same((await store.readAll('a@s')).slice(2, 6), [0, 7, 8, 0]);
  for (const how of ['process-death', 'clean'] as const) {
    await store.restart(how);
    t.same((await store.readAll('a')).slice(2, 6), [0, 7, 9, 0], how);
    t.same((await store.readAll('b')).slice(2, 6), [0, 7, 8, 0], how);
    t.same((await store.readAll('a@s')).slice(2, 6), [0, 7, 8, 0], how);
  }
  const task = await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.operations.waitForTask(task.id);
  await store.settle();
  t.same((await store.readAll('a')).slice(2, 6), [0, 7, 9, 0]);
  t.same((await store.readAll('b')).slice(2, 6), [0, 7, 8, 0]);
  const gone = await store.operations.deleteVolume('a');
  await store.operations.waitForTask(gone.id);
  await store.settle();
  t.same((await store.readAll('b')).slice(2, 6), [0, 7, 8, 0]);
  t.same(store.operations.status().pendingDeletes, 0);
  t.same(store.troubles, []);
  await store.end();
});
