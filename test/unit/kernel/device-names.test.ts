// What udev is told of devices: which name belongs to which, from before the kernel knows the device until after it does not any more.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { encodeDeviceName } from '../../../src/operations/kernel/device-names.js';
import { FakeKernel } from '../../support/fake-kernel.js';
import { Store } from '../../support/store-harness.js';

const MIB = 1n << 20n;

interface Scene {
  store: Store;
  kernel: FakeKernel;
  names: string;
  /** What udev would call the device; null: nothing. */
  nameOf(index: number): string | null;
}

async function scene(t: Test): Promise<Scene> {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-names-'));
  const kernel = new FakeKernel(directory);
  const names = join(directory, 'run/devices');
  const store = await Store.make({ kernelRoots: kernel.roots, deviceNames: names });
  store.plane.kernel = kernel;
  t.teardown(async () => {
    await store.end();
    rmSync(directory, { recursive: true, force: true });
  });
  await store.operations.createVolume('a', { sizeBytes: MIB });
  // As the rule of udev does it.
  const nameOf = (index: number): string | null => {
    const backend = kernel.devices.get(index)?.identifier;
    if (backend === undefined) return null;
    try {
      return /^CELLBLOCK_NAME=(.*)\n$/.exec(readFileSync(join(names, backend), 'utf8'))![1]!;
    } catch {
      return null;
    }
  };
  return { store, kernel, names, nameOf };
}

t.test('names are written as udev writes those of file systems', async (t) => {
  const cases: [string, string][] = [
    ['web', 'web'],
    ['web@monday', 'web@monday'],
    ['a b', 'a\\x20b'],
    ['#+-.:=@_Az09', '#+-.:=@_Az09'],
    ['\\x41', '\\x5cx41'],
    ['"x\'', '\\x22x\\x27'],
    ['$env{x}%k', '\\x24env\\x7bx\\x7d\\x25k'],
    ['größe', 'größe'],
    ['💾', '💾'],
    ['a\u00a0b', 'a\u00a0b'],
    ['~,;()[]', '\\x7e\\x2c\\x3b\\x28\\x29\\x5b\\x5d'],
  ];
  for (const [name, encoded] of cases) t.equal(encodeDeviceName(name), encoded, name);
});

t.test(
  'a device has the name of what it is of, whatever that is called later, and none afterwards',
  async (t) => {
    const { store, kernel, names, nameOf } = await scene(t);
    let before: string[] = [];
    store.plane.onStep = (now) => {
      if (now === 'kernelConnect') before = readdirSync(names);
    };
    await store.operations.attach('a', {});
    t.match(before, [/^cellblock:[0-9a-f]{32}:container-\d+$/], 'it is there before the kernel is asked');
    t.equal(nameOf(0), 'a');
    t.strictSame(kernel.announced(0), ['nbd0']);

    await store.operations.createSnapshots([{ volume: 'a', snapshot: 's 1' }]);
    await store.operations.attach('a@s 1', {});
    t.equal(nameOf(1), 'a@s\\x201');
    kernel.announced(1);

    kernel.partition(0);
    await store.operations.renameVolume('a', 'b');
    t.equal(nameOf(0), 'b');
    t.equal(nameOf(1), 'b@s\\x201');
    t.strictSame(kernel.announced(0), ['nbd0', 'nbd0p1'], 'the device, then its partition');
    t.strictSame(kernel.announced(1), ['nbd1']);

    await store.operations.detach('b', { force: false });
    await store.operations.detach('b@s 1', { force: false });
    t.strictSame(readdirSync(names), []);
    t.strictSame(kernel.announced(0), ['nbd0', 'nbd0p1'], 'and udev is told');
  },
);

for (const how of ['clean', 'process-death'] as const) {
  t.test(`a restart (${how}) keeps the names of what is there, and no others`, async (t) => {
    const { store, kernel, names, nameOf } = await scene(t);
    await store.operations.createVolume('b', { sizeBytes: MIB });
    await store.operations.attach('a', {});
    await store.operations.attach('b', {});
    if (how === 'clean') await store.operations.close();
    else store.die(how);
    kernel.disconnect(1);
    writeFileSync(join(names, 'cellblock:0:container-9'), 'CELLBLOCK_NAME=left\n');
    writeFileSync(join(names, 'half.new'), '');
    await store.start({}, ({ plane }) => {
      plane.kernel = kernel;
    });
    t.equal(nameOf(0), 'a');
    t.strictSame(readdirSync(names), [kernel.devices.get(0)!.identifier]);
  });
}

t.test('where names cannot be given devices are attached all the same, and the log says so', async (t) => {
  const { store, kernel, names } = await scene(t);
  mkdirSync(join(names, '..'), { recursive: true });
  writeFileSync(names, 'in the way');
  await store.operations.attach('a', {});
  t.equal(kernel.devices.size, 1);
  t.match(store.troubles.at(-1)?.message, 'no name under /dev/cellblock');
  await store.operations.detach('a', { force: false });
  t.equal(kernel.devices.size, 0);
});
