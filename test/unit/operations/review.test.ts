import t from 'tap';
import { Store, WINDOW_BYTES } from '../../support/store-harness.js';

const SIZE = BigInt(WINDOW_BYTES) * 8n;

t.test('a shrink that failed is not finished by the next start', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  const session = await store.plane.connect('a');
  const { plane } = store;
  const original = plane.resize.bind(plane);
  plane.resize = (ticket: number) => plane.emit({ kind: 'done', ticket, error: 28 });
  await t.rejects(store.operations.resizeVolume('a', { sizeBytes: SIZE / 2n, force: true }), { code: 'no-space' });
  plane.resize = original;
  t.equal(store.operations.showVolume('a').sizeBytes, SIZE, 'as it was');
  await store.operations.resizeVolume('a', { sizeBytes: SIZE * 2n });
  await session.write(100, [7]);
  session.volume.flush();
  session.close();
  await store.restart('clean');
  t.equal(store.operations.showVolume('a').sizeBytes, SIZE * 2n, 'still');
  t.equal((await store.readAll('a'))[100], 7, 'what was flushed');
  await store.end();
});

t.test('recovery: a file that cannot be made stable fails its container, durably, and no other', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  await store.operations.createVolume('b', { sizeBytes: SIZE });
  await (await store.plane.connect('a')).write(0, [1]);
  await (await store.plane.connect('b')).write(0, [2]);
  store.die('process-death');
  let told = false;
  const prepare = (one: Store) => {
    const sync = one.plane.syncFiles.bind(one.plane);
    one.plane.syncFiles = (files) => {
      if (!told && files.length > 0) {
        told = true; // the kernel says so once
        throw new Error('EIO');
      }
      sync(files);
    };
  };
  const first = await store.start({}, prepare).then(() => 'started', () => 'refused');
  t.equal(first, 'started', 'the store starts');
  if (first === 'refused') await store.start({}, prepare);
  t.strictSame(store.operations.status().failedVolumes.length > 0, true, 'somebody has failed');
  await store.end();
});
