// What is kept for some time only goes when that has passed, and not before. Time is what `look` is told.
import t from 'tap';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';
import { testIdentity } from '../../support/test-identity.js';

const SIZE = blocksBytes(2 * BLOCKS);
const HOUR_MS = 3_600_000;

async function withDisk(): Promise<Store> {
  const store = await Store.make();
  const identity = testIdentity();
  await store.restart('clean', { identity: () => identity });
  for (const name of ['disk', 'other']) await store.operations.createVolume(name, { sizeBytes: SIZE });
  await store.operations.createSnapshots([{ volume: 'other', snapshot: 's' }]);
  return store;
}

const names = (store: Store, volume?: string): string[] =>
  store.operations.listSnapshots(volume).map((snapshot) => `${snapshot.volume}@${snapshot.name}`);

t.test('the undo point of a sync goes after a day, and the sync cannot be undone then', async (t) => {
  const store = await withDisk();
  const { expiry } = store.operations.parts;
  const { id } = await store.operations.syncs.sync('disk', { volume: 'other', snapshot: 's' }, PLAIN_SYNC);
  await expiry.look(Date.now() + 23.9 * HOUR_MS);
  t.same(names(store, 'disk'), [`disk@before-sync-${id}`], 'an hour before it is there');
  await expiry.look(Date.now() + 24.1 * HOUR_MS);
  t.same(names(store), ['other@s'], 'it alone is gone');
  t.same(store.operations.syncs.show(id!).safety, []);
  await t.rejects(store.operations.syncs.undo('disk', PLAIN_SYNC), { code: 'sync-nothing-to-undo' });
  await store.settle();
  await store.end();
});

t.test(
  'snapshots and throw-away clones with a date go, across a restart and with their connections',
  async (t) => {
    const store = await withDisk();
    const expires = new Date(Date.now() + HOUR_MS).toISOString();
    await store.operations.createSnapshots([{ volume: 'disk', snapshot: 'short' }], { expires });
    await store.operations.clone({ volume: 'other', snapshot: 's' }, 'files', { expires });
    await store.restart('clean', { identity: () => testIdentity() });
    const session = await store.plane.connect('files');
    await store.operations.parts.expiry.look(Date.now());
    t.same(names(store), ['disk@short', 'other@s'], 'not before');
    await store.operations.parts.expiry.look(Date.now() + 2 * HOUR_MS);
    t.same(names(store), ['other@s']);
    t.same(
      store.operations.listVolumes().map(({ name }) => name),
      ['disk', 'other'],
    );
    session.close();
    await store.settle();
    await store.end();
  },
);

t.test('a snapshot of a whole VM goes with those of its disks', async (t) => {
  const store = await withDisk();
  const { vms, parts } = store.operations;
  await vms.create('m', '{"name": "m"}', [
    { slot: 'a', volume: 'disk' },
    { slot: 'b', volume: 'other' },
  ]);
  await vms.snapshot('m', 'short', { expires: new Date(Date.now() + HOUR_MS).toISOString() });
  await vms.snapshot('m', 'long');
  await parts.expiry.look(Date.now() + 2 * HOUR_MS);
  t.same(vms.show('m').snapshots, ['long'], 'no record without disks is left');
  t.same(names(store), ['disk@long', 'other@s', 'other@long']);
  await store.settle();
  await store.end();
});
