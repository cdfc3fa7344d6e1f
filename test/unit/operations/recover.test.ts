// The start of a store whose disk has not kept what the dead process wrote.
import t from 'tap';
import { Store, WINDOW_BYTES } from '../../support/store-harness.js';

const SIZE = BigInt(WINDOW_BYTES) * 8n;

t.test(
  'recovery: a file that cannot be made stable fails its container, durably, and no other',
  async (t) => {
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
    await store.start({}, prepare);
    t.ok(told, 'a file was to be synced');
    const failed = store.operations.status().failedVolumes;
    t.equal(failed.length, 1, 'its container has failed, the other has not');
    await store.restart('process-death');
    t.strictSame(
      store.operations.status().failedVolumes,
      failed,
      'the next start, to which the kernel says nothing, knows it',
    );
    const other = failed[0] === 'a' ? 'b' : 'a';
    t.equal(
      (await store.readAll(other))[0],
      other === 'a' ? 1 : 2,
      'what was answered of the other is there',
    );
    await store.end();
  },
);
