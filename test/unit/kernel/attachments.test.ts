// Attachments on a kernel of their own that outlives the agent: attached, found again after every death, refused while in use.

import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { KeptClient } from '../../../src/plane/treaty.js';
import { FakeKernel } from '../../support/fake-kernel.js';
import { Store } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const MIB = 1n << 20n;
const SYNC = {
  online: true,
  force: false,
  grow: false,
  safety: false,
  rules: [],
  takeKeys: false,
  guest: false,
};

async function scene(t: Test): Promise<{ store: Store; kernel: FakeKernel }> {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-kernel-'));
  const kernel = new FakeKernel(directory);
  const store = await Store.make({ kernelRoots: kernel.roots });
  store.plane.kernel = kernel;
  t.teardown(async () => {
    await store.end();
    rmSync(directory, { recursive: true, force: true });
  });
  await store.operations.createVolume('a', { sizeBytes: MIB });
  return { store, kernel };
}

/** A new agent over the same kernel. */
async function restart(store: Store, kernel: FakeKernel, how: 'clean' | 'process-death'): Promise<void> {
  if (how === 'clean') await store.operations.close();
  else store.die(how);
  await store.start({}, ({ plane }) => {
    plane.kernel = kernel;
  });
}

function isWhole(kernel: FakeKernel, index = 0): boolean {
  return kernel.devices.get(index)?.links.every((link) => link !== null) ?? false;
}

t.test('attached: a device with as many connections, of the volume and no other', async (t) => {
  const { store, kernel } = await scene(t);
  const info = await store.operations.attach('a', { connections: 3 });
  t.match(info, {
    name: 'a',
    device: '/dev/nbd0',
    readOnly: false,
    sizeBytes: MIB,
    connections: 3,
    connected: 3,
  });
  t.equal(store.operations.showVolume('a').connections, 3);
  t.match(kernel.devices.get(0), { identifier: /^cellblock:[0-9a-f]{32}:container-\d+$/, readOnly: false });
  await t.rejects(store.operations.attach('a', {}), { code: 'attachment-exists', message: /\/dev\/nbd0/ });
  await store.operations.createVolume('b', { sizeBytes: MIB });
  await t.rejects(store.operations.attach('b', { device: '/dev/nbd0' }), { code: 'kernel-device-in-use' });
  t.match(await store.operations.attach('b', { device: 'nbd2', readOnly: true }), {
    device: '/dev/nbd2',
    readOnly: true,
  });
  t.strictSame(
    (await store.operations.listAttachments()).map(({ device, name }) => [device, name]),
    [
      ['/dev/nbd0', 'a'],
      ['/dev/nbd2', 'b'],
    ],
  );
  await store.operations.detach('/dev/nbd2', { force: false });
  await store.operations.detach('a', { force: false });
  t.equal(kernel.devices.size, 0);
  t.equal(kernel.claimed.size, 0, 'nothing is kept from others');
  await until('the end of its connections', async () => store.operations.showVolume('a').connections === 0);
  await t.rejects(store.operations.detach('a', { force: false }), { code: 'attachment-not-found' });
});

t.test('without the driver: what to do is said, and nothing is left of the attempt', async (t) => {
  const { store } = await scene(t);
  store.plane.kernel = null;
  await t.rejects(store.operations.attach('a', {}), {
    code: 'kernel-driver-missing',
    hint: /^Run `modprobe nbd` as root/,
  });
  t.strictSame(await store.operations.listAttachments(), []);
  t.equal(store.operations.parts.catalog.attachments.size, 0);
  await until('the end of its leases', async () => store.operations.showVolume('a').connections === 0);
});

t.test('what cannot be attached is refused before the kernel is asked', async (t) => {
  const { store, kernel } = await scene(t);
  const bad = [
    { connections: 0 },
    { connections: 17 },
    { blockBytes: 513 },
    { ioTimeoutSeconds: 0 },
    { deadTimeoutSeconds: 1e9 },
    { device: '/dev/sda' },
    { device: '/dev/nbd70000' },
  ];
  for (const wishes of bad)
    await t.rejects(store.operations.attach('a', wishes), { code: 'option-invalid' }, JSON.stringify(wishes));
  await t.rejects(store.operations.attach('none', {}), { code: 'volume-not-found' });
  await t.rejects(store.operations.attach('a@none', {}), { code: 'snapshot-not-found' });
  await store.operations.createFile('odd', { sizeBytes: 1000n });
  await t.rejects(store.operations.attach('odd', {}), { code: 'attachment-unsuitable' });
  t.equal(kernel.devices.size, 0);
});

t.test('snapshots are attached read-only, beside their volume, and stay while they are', async (t) => {
  const { store, kernel } = await scene(t);
  await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.operations.attach('a', {});
  t.match(await store.operations.attach('a@s', {}), { name: 'a@s', device: '/dev/nbd1', readOnly: true });
  t.equal(kernel.devices.get(1)!.readOnly, true);
  await t.rejects(store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]), {
    code: 'kernel-device-in-use',
    message: /"a@s" is attached as \/dev\/nbd1/,
  });
  await t.rejects(store.operations.deleteVolume('a', { withSnapshots: true, disconnect: true }), {
    code: 'kernel-device-in-use',
  });
  await restart(store, kernel, 'process-death');
  t.ok(isWhole(kernel, 0) && isWhole(kernel, 1), 'both are served again');
  await store.operations.detach('a@s', { force: false });
  await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
});

for (const how of ['clean', 'process-death'] as const) {
  t.test(`after a restart (${how}) devices have connections again before anybody is served`, async (t) => {
    const { store, kernel } = await scene(t);
    await store.operations.attach('a', { connections: 2 });
    await restart(store, kernel, how);
    t.ok(isWhole(kernel), 'when the start has ended');
    t.match(await store.operations.listAttachments(), [{ name: 'a', connected: 2 }]);
    await store.operations.detach('a', { force: false });
    await restart(store, kernel, how);
    t.strictSame(await store.operations.listAttachments(), [], 'what was detached stays so');
  });
}

for (const { back, givenUp } of [
  { back: 2, givenUp: 0 },
  { back: 1, givenUp: 0 },
  { back: 2, givenUp: 1 },
  { back: 2, givenUp: 2 },
]) {
  const what = `${back} of 2 come back, ${givenUp} of these the kernel has given up`;
  t.test(`connections left at a stop: ${what}`, async (t) => {
    const { store, kernel } = await scene(t);
    await store.operations.attach('a', { connections: 2 });
    let kept: readonly KeptClient[] = [];
    await store.operations.close({
      deadlineMs: 1000,
      keep: (clients) => {
        kept = clients;
      },
    });
    t.equal(kept.length, 2);
    t.ok(
      kept.every(({ kernel: ofKernel, exportName }) => ofKernel && exportName.startsWith('cellblock:')),
      'known by the device',
    );
    for (const lost of kept.slice(back)) {
      kernel.giveUp(lost);
      closeSync(lost.descriptor);
    }
    for (const one of kept.slice(0, givenUp)) kernel.giveUp(one);
    const stranger = {
      ...kept[0]!,
      descriptor: openSync('/dev/null', 'r'),
      exportName: 'cellblock:0:container-9',
    };
    const before = kernel.reconfigured;
    await store.start({ keptConnections: () => [...kept.slice(0, back), stranger] }, ({ plane }) => {
      plane.kernel = kernel;
    });
    await until('its connections', async () => isWhole(kernel));
    t.equal(kernel.reconfigured > before, back < 2 || givenUp > 0, 'the kernel is asked only for what lacks');
    t.throws(() => fstatSync(stranger.descriptor), { code: 'EBADF' }, 'what is of no device is closed');
    t.match(await store.operations.listAttachments(), [{ name: 'a', connected: 2 }]);
    await store.operations.detach('a', { force: false });
  });
}

t.test('a death at every step of attach and detach leaves no device without an owner', async (t) => {
  for (const step of ['kernelConnect', 'kernelConnect done', 'kernelDisconnect', 'kernelDisconnect done']) {
    const { store, kernel } = await scene(t);
    const detaching = step.startsWith('kernelDisconnect');
    if (detaching) await store.operations.attach('a', {});
    store.plane.onStep = (now) => {
      if (now === step) store.die('process-death');
    };
    const { operations } = store;
    await store.survive(() =>
      detaching ? operations.detach('a', { force: false }) : operations.attach('a', {}),
    );
    t.ok(store.isDead, step);
    kernel.claimed.clear();
    await restart(store, kernel, 'process-death');
    const listed = (await store.operations.listAttachments()).map(({ device }) => device);
    const connected = [...kernel.devices.keys()].map((index) => `/dev/nbd${index}`);
    t.strictSame(listed, connected, `after ${step} the list is what the kernel has`);
    t.equal(store.operations.parts.catalog.attachments.size, connected.length);
    if (connected.length > 0) t.ok(isWhole(kernel), 'and it is served');
  }
});

t.test('a connection that dies gets another; a device that others disconnect is forgotten', async (t) => {
  const { store, kernel } = await scene(t);
  await store.operations.attach('a', { connections: 2 });
  const [first] = kernel.devices.get(0)!.links;
  store.plane.dropLease(first!);
  await until('another connection', async () => isWhole(kernel));
  t.not(kernel.devices.get(0)!.links[0], first);
  t.match(await store.operations.listAttachments(), [{ connected: 2 }]);

  for (const lease of kernel.disconnect(0).ended) store.plane.dropLease(lease);
  await until('its end', async () => (await store.operations.listAttachments()).length === 0);
  t.equal(store.operations.parts.catalog.attachments.size, 0);
  t.match(store.troubles.at(-1)?.message, /disconnected by somebody else/);
});

t.test('what expires takes its device along', async (t) => {
  const { store, kernel } = await scene(t);
  await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.operations.clone({ volume: 'a', snapshot: 's' }, 'c', { expires: new Date().toISOString() });
  await store.operations.attach('c', {});
  await store.operations.parts.volumes.delete('c', { withSnapshots: true, disconnect: true });
  await until('the end of the device', async () => kernel.devices.size === 0);
  await until('the end of its record', async () => store.operations.parts.catalog.attachments.size === 0);
});

t.test('what is asked at the same time goes one after the other', async (t) => {
  const { store, kernel } = await scene(t);
  const { operations } = store;
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  const from = { volume: 'a', snapshot: 's' };
  const [first, second, ...syncs] = await Promise.allSettled([
    operations.attach('a', {}),
    operations.attach('a', {}),
    operations.syncs.sync('a', from, SYNC),
    operations.syncs.sync('a', from, SYNC),
  ]);
  t.equal(first!.status, 'fulfilled');
  t.match(second, { status: 'rejected', reason: { code: 'attachment-exists' } });
  t.strictSame(
    syncs.map(({ status }) => status),
    ['fulfilled', 'fulfilled'],
  );
  t.strictSame(kernel.rereads, ['/dev/nbd0', '/dev/nbd0'], 'syncs know of the device');
  t.equal(kernel.claimed.size, 0);
});

t.test('another store leaves our devices alone, and we those of others', async (t) => {
  const { store, kernel } = await scene(t);
  kernel.connect(
    {
      index: 0,
      sizeBytes: MIB,
      blockBytes: 512,
      ioTimeoutSeconds: 1,
      deadTimeoutSeconds: 1,
      identifier: 'x',
    },
    { handle: 0, readOnly: false, leases: [] },
  );
  t.match(await store.operations.attach('a', {}), { device: '/dev/nbd1' });
  kernel.disconnect(1);
  kernel.connect(
    {
      index: 1,
      sizeBytes: MIB,
      blockBytes: 512,
      ioTimeoutSeconds: 1,
      deadTimeoutSeconds: 1,
      identifier: 'y',
    },
    { handle: 0, readOnly: false, leases: [] },
  );
  await restart(store, kernel, 'process-death');
  t.strictSame(await store.operations.listAttachments(), []);
  t.strictSame(
    [...kernel.devices.values()].map(({ identifier }) => identifier),
    ['x', 'y'],
    'untouched',
  );
});

t.test('in use: not detached and not shrunk, with who has it; forced, it is detached', async (t) => {
  const { store, kernel } = await scene(t);
  await store.operations.attach('a', {});
  kernel.mount(0, '/mnt/my data');
  const why = {
    code: 'kernel-device-in-use',
    message: '"a" is attached, and /dev/nbd0 is mounted on /mnt/my data.',
  };
  await t.rejects(store.operations.detach('a', { force: false }), why);
  await t.rejects(store.operations.resizeVolume('a', { sizeBytes: MIB / 2n, force: true }), why);
  t.match(await store.operations.listAttachments(), [
    { connected: 2, users: [{ kind: 'mount', where: '/mnt/my data' }] },
  ]);
  t.equal(kernel.claimed.size, 0);
  await store.operations.detach('a', { force: true });
  t.equal(kernel.devices.size, 0);
});

t.test('the device follows the size of its volume, also one it got while nobody could say so', async (t) => {
  const { store, kernel } = await scene(t);
  await store.operations.attach('a', {});
  kernel.mount(0, '/mnt');
  await store.operations.resizeVolume('a', { sizeBytes: 2n * MIB });
  t.equal(kernel.devices.get(0)!.sizeBytes, 2n * MIB, 'grown while it is mounted');
  kernel.unmount(0, '/mnt');
  await store.operations.resizeVolume('a', { sizeBytes: MIB, force: true });
  t.equal(kernel.devices.get(0)!.sizeBytes, MIB, 'shrunk when it is not');
  kernel.resize(0, 512n);
  await restart(store, kernel, 'process-death');
  t.equal(kernel.devices.get(0)!.sizeBytes, MIB);
});

t.test('a sync: refused while mounted, whatever is given; else read anew by the kernel', async (t) => {
  const { store, kernel } = await scene(t);
  const { operations } = store;
  await operations.createVolume('b', { sizeBytes: MIB });
  await operations.createSnapshots([{ volume: 'b', snapshot: 's' }]);
  await operations.attach('a', {});
  kernel.mount(0, '/mnt/db');
  const from = { volume: 'b', snapshot: 's' };
  for (const how of [{ online: true }, { online: false, force: true }, { online: false }]) {
    await t.rejects(
      operations.syncs.sync('a', from, { ...SYNC, ...how }),
      { code: 'kernel-device-in-use', message: '"a" is attached, and /dev/nbd0 is mounted on /mnt/db.' },
      JSON.stringify(how),
    );
  }
  t.strictSame(kernel.rereads, []);
  kernel.unmount(0, '/mnt/db');
  await t.rejects(operations.syncs.sync('a', from, { ...SYNC, online: false }), {
    code: 'volume-in-use',
    message: /2 connections, as \/dev\/nbd0 among others/,
  });
  kernel.rereads.length = 0;
  let mounted: boolean | null = null;
  store.plane.onStep = (step) => {
    if (step === 'rebase') mounted = kernel.mount(0, '/mnt/db');
  };
  await operations.syncs.sync('a', from, SYNC);
  t.equal(mounted, false, 'nobody can mount it meanwhile');
  t.strictSame(kernel.rereads, ['/dev/nbd0']);
  t.equal(kernel.claimed.size, 0);
  await operations.syncs.sync('a', from, { ...SYNC, online: false, force: true });
  await until('connections again', async () => isWhole(kernel));
  t.strictSame(kernel.rereads, ['/dev/nbd0', '/dev/nbd0']);
});
