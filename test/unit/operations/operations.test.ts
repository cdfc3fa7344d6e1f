import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';

import { jsonKey } from '../../../src/model/keys.js';
import { Operations } from '../../../src/operations/operations.js';
import { FORMAT_VERSION, levelOf } from '../../../src/operations/store-directory.js';
import { FakeDisk } from '../../support/fake-disk.js';
import { FakePlane } from '../../support/fake-plane.js';
import { BLOCKS, blocksBytes, quiet, Store } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const SIZE = blocksBytes(5 * BLOCKS);

t.test('a file that cannot be added is asked for again, and comes once', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  const session = await store.plane.connect('a');
  const { files } = session.volume;
  const { handle } = store.operations.parts.devices.all()[0]!;
  const failed = (): boolean =>
    store.troubles.some(({ message }) => message.startsWith('an extents file could not be added'));
  const asked = async (done: () => boolean): Promise<void> => {
    store.plane.emit({ kind: 'file-wanted', handle }, { kind: 'file-wanted', handle });
    await until('the file', done);
  };
  store.level.failures = Array.from({ length: 8 }, () => ({ applied: false }));
  await asked(failed);
  t.equal(files.length, 1, 'not added');
  await until('the metadata', () => !store.operations.parts.queue.healing);
  await asked(() => files.length === 2);
  t.equal(files.length, 2, 'added when the metadata can be written again');
  await asked(() => files.length === 3);
  t.equal(files.length, 3, 'and the next one is another');
  const { catalog } = store.operations.parts;
  t.equal(catalog.filesOf(catalog.files.get(files[0]!)!.container).length, 3, 'no file is left over');
  session.close();
  await store.end();
});

t.test('bad input gets one sentence, a code, what to do, and nothing is done', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  const batches = store.level.batches;
  const refused: [() => Promise<unknown>, string][] = [
    [() => operations.createVolume('a/b', { sizeBytes: SIZE }), 'name-bad-character'],
    [() => operations.createVolume('b', { sizeBytes: 0n }), 'size-zero'],
    [() => operations.createVolume('b', { sizeBytes: 1n << 63n }), 'size-too-large'],
    [() => operations.createVolume('a', { sizeBytes: SIZE }), 'volume-exists'],
    [() => operations.renameVolume('x', 'y'), 'volume-not-found'],
    [() => operations.renameVolume('a', 'a@b'), 'name-bad-character'],
    [() => operations.resizeVolume('a', { sizeBytes: 1n }), 'shrink-needs-force'],
    [() => operations.deleteVolume('a'), 'volume-has-snapshots'],
    [() => operations.createSnapshots([]), 'option-invalid'],
    [() => operations.createSnapshots([{ volume: 'a', snapshot: 's' }]), 'snapshot-exists'],
    [
      () =>
        operations.createSnapshots([
          { volume: 'a', snapshot: 'n' },
          { volume: 'a', snapshot: 'm' },
        ]),
      'option-invalid',
    ],
    [
      () =>
        operations.createSnapshots([
          { volume: 'a', snapshot: 'n' },
          { volume: 'x', snapshot: 'n' },
        ]),
      'volume-not-found',
    ],
    [
      () =>
        operations.deleteSnapshots([
          { volume: 'a', snapshot: 's' },
          { volume: 'a', snapshot: 'x' },
        ]),
      'snapshot-not-found',
    ],
    [
      () =>
        operations.createSnapshots(
          Array.from({ length: 4000 }, (_, i) => ({ volume: `v${i}`, snapshot: 'n'.repeat(128) })),
        ),
      'group-too-large',
    ],
    [() => operations.clone({ volume: 'a', snapshot: 's' }, 'a'), 'volume-exists'],
    [() => operations.repairVolume('a'), 'volume-not-failed'],
    [() => operations.cancelTask(77), 'task-not-found'],
  ];
  for (const [run, code] of refused) {
    await t.rejects(run(), { name: 'CellblockError', code, message: /^.+\.$/, hint: /.+/ }, code);
  }
  t.equal(store.level.batches, batches, 'nothing was written');
  await store.end();
});

t.test('two creations of one name at once: one of them', async (t) => {
  const store = await Store.make();
  const outcomes = await Promise.allSettled(
    [1, 2].map(() => store.operations.createVolume('a', { sizeBytes: SIZE })),
  );
  t.strictSame(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  t.equal(store.operations.listVolumes().length, 1);
  await store.end();
});

t.test('HAZARDS 5 (b): what a client reads of a deleted snapshot stays until it goes', async (t) => {
  const store = await Store.make();
  const { operations, plane } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  const writer = await plane.connect('a');
  await writer.write(0, [1, 2, 3]);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await writer.write(0, [7, 8]);
  const reader = await plane.connect('a@s');
  await operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.settle();
  reader.volume.evict();
  t.strictSame(await reader.read(0, 3), [1, 2, 3]);
  t.equal(operations.status().pendingDeletes, 1);
  t.equal(plane.punched, 0);
  await t.rejects(plane.connect('a@s'), 'and nobody else gets in');
  reader.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await store.settle();
  t.equal(operations.status().pendingDeletes, 0);
  t.equal(plane.punched, 2, 'what was covered is freed');
  t.strictSame(await writer.read(0, 3), [7, 8, 3]);
  t.strictSame(store.troubles, []);
  await store.end();
});

t.test(
  'a cut-off of a snapshot deleted first still hides what the one below said when that is deleted too',
  async (t) => {
    const store = await Store.make();
    const { operations, plane } = store;
    await operations.createVolume('a', { sizeBytes: SIZE });
    const session = await plane.connect('a');
    await session.write(
      0,
      Array.from({ length: 3 * BLOCKS }, (_, block) => block + 1),
    );
    await operations.createSnapshots([{ volume: 'a', snapshot: 's1' }]);
    await session.trim(0, 2 * BLOCKS);
    await operations.createSnapshots([{ volume: 'a', snapshot: 's2' }]);
    await session.read(0, 2 * BLOCKS);
    const zeros = Array.from({ length: 2 * BLOCKS }, () => 0);
    // Not evicted in between: the windows still carry the layer of s2 when s1 is merged.
    for (const snapshot of ['s2', 's1']) {
      await operations.deleteSnapshots([{ volume: 'a', snapshot }]);
      await store.settle();
      t.strictSame(await session.read(0, 2 * BLOCKS), zeros, `without ${snapshot}`);
    }
    session.volume.evict();
    t.strictSame(await session.read(0, 2 * BLOCKS), zeros, 'and read again');
    t.equal(plane.punched, 2 * BLOCKS);
    t.strictSame(store.troubles, []);
    await store.end();
  },
);

t.test(
  'changed-since contexts: what differs from an ancestor, also when snapshots in between are deleted',
  async (t) => {
    const store = await Store.make();
    const { operations, plane } = store;
    await operations.createVolume('a', { sizeBytes: SIZE });
    const writer = await plane.connect('a');
    for (const [block, snapshot] of [
      [0, 's1'],
      [1, 's2'],
      [2, 's3'],
    ] as const) {
      await writer.write(block, [block + 1]);
      await operations.createSnapshots([{ volume: 'a', snapshot }]);
    }
    await writer.write(3, [4]);
    const reader = await plane.connect('a', ['s1', 's2']);
    await operations.deleteSnapshots([
      { volume: 'a', snapshot: 's1' },
      { volume: 'a', snapshot: 's3' },
    ]);
    await store.settle();
    t.strictSame(await reader.changed(0, 0, 5), [false, true, true, true, false]);
    t.strictSame(await reader.changed(1, 0, 5), [false, false, true, true, false]);
    await t.rejects(plane.connect('a', ['nope']));
    await store.end();
  },
);

t.test('a volume in use is not deleted unless its clients are sent away', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  await store.plane.connect('a');
  await t.rejects(store.operations.deleteVolume('a'), { code: 'volume-in-use' });
  await store.operations.deleteVolume('a', { disconnect: true });
  await t.rejects(store.plane.connect('a'), /no export/);
  await store.end();
});

t.test('J7: a clone keeps what it took over when its source is gone, and the file with it', async (t) => {
  const store = await Store.make();
  const { operations, plane } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  const writer = await plane.connect('a');
  await writer.write(0, [1, 2, 3]);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await writer.write(0, [9]);
  await operations.clone({ volume: 'a', snapshot: 's' }, 'b');
  const clone = await plane.connect('b');
  await clone.write(1, [20]);
  await operations.deleteVolume('a', { withSnapshots: true, disconnect: true });
  await store.settle();
  t.equal(operations.status().pendingDeletes, 0);
  clone.volume.evict();
  t.strictSame(await clone.read(0, 3), [1, 20, 3]);
  await clone.write(0, [10]);
  t.equal(store.disk.read(1n << 24n, 0), 1, 'the place of another container is not written');
  await store.restart('process-death');
  t.strictSame((await store.readAll('b')).slice(0, 3), [10, 20, 3]);
  await store.settle();
  t.equal(store.disk.read(1n << 24n, 0), 0, 'it is freed once it is covered');
  const { files } = store.operations.parts;
  await files.releaseUnnamed();
  t.ok(store.disk.files.has(1), 'the file outlives its container');
  await (await store.plane.connect('b')).write(2, [30]);
  const { devices, rounds } = store.operations.parts;
  const { id } = store.operations.showVolume('b');
  await devices.mutexOf(id).run(() => rounds.run(devices.current(id)!));
  // Or the sweep of the start has found it first and is removing it.
  while (store.operations.parts.catalog.files.has(1)) {
    await store.settle();
    await files.releaseUnnamed();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.notOk(store.disk.files.has(1), 'as long as a record names it');
  t.notOk(store.operations.parts.catalog.files.has(1));
  t.strictSame((await store.readAll('b')).slice(0, 3), [10, 20, 30]);
  await store.end();
});

t.test('a volume that nobody continues takes its files along, without one punch', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  await (await store.plane.connect('a')).write(0, [1, 2, 3]);
  await store.operations.deleteVolume('a', { disconnect: true });
  await store.settle();
  t.equal(store.disk.files.size, 0);
  t.equal(store.plane.punched, 0);
  await store.end();
});

t.test(
  'J4: process death, start, FLUSH, power loss: what the dead process was asked to keep is there',
  async (t) => {
    const store = await Store.make();
    await store.operations.createVolume('a', { sizeBytes: SIZE });
    let session = await store.plane.connect('a');
    await session.write(0, [1]);
    session.flush();
    await session.write(0, [2]);
    await store.restart('process-death');
    session = await store.plane.connect('a');
    session.flush();
    await store.restart('power-loss');
    t.equal((await store.readAll('a'))[0], 2);
    await store.end();
  },
);

t.test('process death, start, clean stop without a client, start, FLUSH, power loss: the same', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  const session = await store.plane.connect('a');
  await session.write(0, [1]);
  session.flush();
  await session.write(0, [2]);
  await store.restart('process-death');
  await store.restart('clean');
  (await store.plane.connect('a')).flush();
  await store.restart('power-loss');
  t.equal((await store.readAll('a'))[0], 2);
  await store.end();
});

t.test(
  'J10 (e): a member of a group that fails: no snapshot at all, its version is merged away',
  async (t) => {
    const store = await Store.make();
    const { operations, plane } = store;
    for (const name of ['a', 'b']) await operations.createVolume(name, { sizeBytes: SIZE });
    const a = await plane.connect('a');
    const b = await plane.connect('b');
    await a.write(0, [1]);
    await b.write(0, [2]);
    plane.failingCuts.add(b.handle);
    await t.rejects(operations.createSnapshots(['a', 'b'].map((volume) => ({ volume, snapshot: 's' }))), {
      code: 'snapshot-failed',
    });
    t.strictSame(operations.listSnapshots(), []);
    await store.settle();
    t.equal(operations.status().pendingDeletes, 0);
    await a.write(1, [3]);
    await store.restart('process-death');
    t.strictSame((await store.readAll('a')).slice(0, 2), [1, 3]);
    t.strictSame((await store.readAll('b')).slice(0, 2), [2, 0]);
    await store.end();
  },
);

t.test(
  'D8: a container that fails keeps what counts, is read-only over starts, and works after the repair',
  async (t) => {
    const store = await Store.make();
    await store.operations.createVolume('a', { sizeBytes: SIZE });
    const session = await store.plane.connect('a');
    await session.write(0, [1]);
    session.flush();
    const after = store.disk.nextPosition - 1n;
    await session.write(0 + BLOCKS, [2]);
    const entries = [...store.disk.entries];
    const position = store.disk.append({ kind: 'failed', line: 1, after });
    store.disk.syncJournal();
    store.plane.emit({ kind: 'failed', handle: session.handle, error: 5, after, position, entries });
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.strictSame([await session.read(0, 1), await session.read(BLOCKS, 1)], [[1], [0]]);
    t.equal(store.operations.showVolume('a').failed?.error, 'EIO');
    await t.rejects(store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]), {
      code: 'volume-failed',
    });
    await t.rejects(store.operations.repairVolume('a'), { code: 'volume-in-use' });
    await store.restart('process-death');
    t.strictSame((await store.readAll('a'))[BLOCKS], 0, 'void at every later start');
    const again = await store.plane.connect('a');
    await t.rejects(again.write(0, [3]), /EPERM/);
    t.match((await store.operations.repairVolume('a')).warning, /may be lost/);
    await again.write(0, [3]);
    await store.restart('clean');
    t.equal((await store.readAll('a'))[0], 3);
    t.equal(store.operations.showVolume('a').failed, null);
    await store.end();
  },
);

t.test(
  'D8: LevelDB refuses writes for a while: rounds come again, operations end, nothing is lost',
  async (t) => {
    for (const applied of [false, true]) {
      const store = await Store.make();
      const { operations, plane } = store;
      await operations.createVolume('a', { sizeBytes: SIZE });
      const session = await plane.connect('a');
      await session.write(0, [1, 2]);
      store.level.failures = [{ applied }, { applied }];
      const device = operations.parts.devices.byHandle(session.handle)!;
      const round = () =>
        operations.parts.devices.mutexOf(device.container).run(() => operations.parts.rounds.run(device));
      await t.rejects(round(), { code: 'catalog-write-failed' });
      await operations.createVolume('b', { sizeBytes: SIZE });
      await session.write(1, [3]);
      await round();
      session.volume.evict();
      t.strictSame(await session.read(0, 3), [1, 3, 0]);
      await store.restart('power-loss');
      t.strictSame((await store.readAll('a')).slice(0, 3), [1, 3, 0]);
      t.equal(operations.listVolumes().length, 2);
      await store.end();
    }
  },
);

t.test('a clone is opened although LevelDB refused the round that settles its base, once', async (t) => {
  for (const times of [1, 2]) {
    const store = await Store.make();
    const { operations } = store;
    await operations.createVolume('a', { sizeBytes: SIZE });
    await (await store.plane.connect('a')).write(0, [1]);
    await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
    await operations.clone({ volume: 'a', snapshot: 's' }, 'b');
    let refused = 0;
    store.plane.onStep = (step) => {
      if (step === 'takeRound flushed' && refused++ < times) store.level.failures = [{ applied: false }];
    };
    if (times === 1) t.equal((await store.readAll('b'))[0], 1);
    else await t.rejects(store.plane.connect('b'), /cannot be written/, 'twice: it is told');
    t.equal(refused, 2);
    t.equal((await store.readAll('b'))[0], 1, 'and later');
    await store.end();
  }
});

t.test('a shrink that failed is not finished by the next start', async (t) => {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  const session = await store.plane.connect('a');
  const { plane } = store;
  const original = plane.resize.bind(plane);
  plane.resize = (ticket: number) => plane.emit({ kind: 'done', ticket, error: 28 });
  await t.rejects(store.operations.resizeVolume('a', { sizeBytes: SIZE / 2n, force: true }), {
    code: 'no-space',
  });
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

t.test('a shrink that cannot be finished at start is undone, and keeps no other from its turn', async (t) => {
  const store = await Store.make();
  for (const name of ['a', 'b']) {
    await store.operations.createVolume(name, { sizeBytes: SIZE });
    const container = store.operations.parts.catalog.containerNamed(name)!;
    container.shrinkingTo = SIZE / 2n;
    await store.operations.parts.catalog.change().container(container).commit();
  }
  store.die('process-death');
  await store.start({}, ({ plane }) => {
    const original = plane.resize.bind(plane);
    plane.resize = (ticket) => {
      plane.resize = original;
      plane.emit({ kind: 'done', ticket, error: 5 });
    };
  });
  t.equal(store.operations.showVolume('a').sizeBytes, SIZE, 'undone');
  t.equal(store.operations.showVolume('b').sizeBytes, SIZE / 2n, 'finished');
  t.match(store.troubles, [
    { level: 'error', message: /could not be finished; the volume keeps/, facts: { volume: 'a' } },
  ]);
  await store.restart('process-death');
  t.equal(store.operations.showVolume('a').sizeBytes, SIZE, 'for good');
  await store.end();
});

t.test('a group snapshot opens a closed clone whose base is still dirty in the data plane', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('c', { sizeBytes: SIZE });
  await operations.createVolume('a', { sizeBytes: SIZE });
  const c = await store.plane.connect('c');
  await c.write(3, [33]);
  c.flush();
  await operations.createSnapshots([{ volume: 'c', snapshot: 's' }]);
  await operations.clone({ volume: 'c', snapshot: 's' }, 'b');
  const a = await store.plane.connect('a');
  await a.write(0, [1]);
  await operations.createSnapshots([
    { volume: 'a', snapshot: 'g' },
    { volume: 'b', snapshot: 'g' },
  ]);
  const values = await store.readAll('b');
  t.equal(values[3], 33);
  c.close();
  a.close();
  await store.end();
});

t.test(
  'D8: a volume fails and LevelDB is gone too: nobody hangs, and all is well when it is back',
  async (t) => {
    const store = await Store.make();
    const { operations, plane, level } = store;
    for (const name of ['a', 'b']) await operations.createVolume(name, { sizeBytes: SIZE });
    const session = await plane.connect('a');
    await session.write(0, [1]);
    session.flush();
    const after = store.disk.nextPosition - 1n;
    const entries = [...store.disk.entries];
    const position = store.disk.append({ kind: 'failed', line: 1, after });
    store.disk.syncJournal();
    level.lost = true;
    plane.emit({ kind: 'failed', handle: session.handle, error: 5, after, position, entries });
    await until('reads are refused', () => plane.readsRefused.has(session.handle));
    await t.rejects(operations.createVolume('c', { sizeBytes: SIZE }), { code: 'catalog-write-failed' });
    await t.rejects(operations.renameVolume('b', 'd'), { code: 'catalog-write-failed' });
    t.strictSame(
      operations.listVolumes().map(({ name }) => name),
      ['a', 'b'],
      'nothing half done',
    );
    await t.rejects(plane.connect('b'), /cannot be written/, 'a connection is refused');
    t.ok(await plane.connect('a'), 'the open volume answers');
    const withStack = store.troubles.filter(({ facts }) => 'err' in facts);
    t.ok(withStack.length <= 3, `few stacks in the log: ${withStack.length}`);
    await operations.close({ deadlineMs: 100 });
    t.match(store.troubles.at(-1)?.message, /not a clean one/);
    store.die('process-death');
    await store.start();
    t.strictSame((await store.readAll('a')).slice(0, 2), [1, 0], 'the journal brought it');
    t.equal(store.operations.showVolume('a').failed?.error, 'EIO');
    await store.end();
  },
);

t.test('D8: what counts of a failed volume reaches LevelDB when it is back, and reads go on', async (t) => {
  const store = await Store.make();
  const { operations, plane, level } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  const session = await plane.connect('a');
  await session.write(0, [1]);
  session.flush();
  const after = store.disk.nextPosition - 1n;
  const entries = [...store.disk.entries];
  const position = store.disk.append({ kind: 'failed', line: 1, after });
  level.lost = true;
  plane.emit({ kind: 'failed', handle: session.handle, error: 5, after, position, entries });
  await until('reads are refused', () => plane.readsRefused.has(session.handle));
  level.lost = false;
  await until('LevelDB is back', () => !operations.parts.queue.healing);
  await until('reads go on', () => !plane.readsRefused.has(session.handle));
  t.strictSame(await session.read(0, 1), [1]);
  await store.end();
});

t.test('a clone of a snapshot whose line says nothing continues where that line does', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  await (await store.plane.connect('a')).write(0, [5]);
  let from = 'a';
  for (let depth = 1; depth <= 20; depth++) {
    await operations.createSnapshots([{ volume: from, snapshot: 's' }]);
    await operations.clone({ volume: from, snapshot: 's' }, `c${depth}`);
    from = `c${depth}`;
  }
  t.equal(operations.showVolume('c20').depth, 1);
  t.equal((await store.readAll('c20'))[0], 5);
  await store.end();
});

t.test('a stop while a view nobody uses is closed is a clean one', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  const { id } = await operations.createVolume('a', { sizeBytes: SIZE });
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  (await store.plane.connect('a@s')).close();
  const { devices } = operations.parts;
  let go!: () => void;
  const busy = devices.mutexOf(id).run(() => new Promise<void>((resolve) => (go = resolve)));
  const [view] = devices.all();
  const before = devices.mutexOf(id).run(() => devices.closeLocked(view!));
  const closing = operations.close();
  // The stop finds it open and waits for its turn.
  await new Promise((resolve) => setTimeout(resolve, 50));
  go();
  await Promise.all([busy, before, closing]);
  t.strictSame(store.troubles, []);
  await store.start();
  t.ok(store.operations.status().recovery.clean);
  await store.end();
});

t.test('tasks end, tell their progress, and a delete cannot be cancelled', async (t) => {
  const store = await Store.make();
  const task = store.operations.startTask(
    'import',
    'x',
    { unit: 'bytes', cancellable: true },
    async (handle) => {
      handle.progress(5n, 10n);
      await new Promise((_resolve, reject) =>
        handle.signal.addEventListener('abort', () => reject(new Error('aborted'))),
      );
    },
  );
  const seen: (number | null)[] = [];
  store.operations.watchTask(task.id, ({ percent }) => seen.push(percent));
  t.equal((await store.operations.cancelTask(task.id)).state, 'cancelled');
  t.strictSame(seen, [50, 50]);
  const stuck = store.operations.startTask(
    'volume-delete',
    'y',
    { unit: 'records', cancellable: false },
    () => new Promise((resolve) => setTimeout(resolve, 30)),
  );
  await t.rejects(store.operations.cancelTask(stuck.id), { code: 'task-not-cancellable' });
  t.equal((await store.operations.waitForTask(stuck.id)).state, 'done');
  await store.end();
});

t.test(
  'on real LevelDB: one process at a time, newer formats and foreign directories are refused',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'cellblock-real-'));
    const disk = new FakeDisk();
    const open = (where = directory): Promise<Operations> =>
      Operations.open({
        directory: where,
        plane: new FakePlane(disk),
        log: quiet,
        bootId: disk.bootId,
        reserveBytes: 0n,
        ballastBytes: 1 << 20,
      });
    const first = await open();
    await first.createVolume('a', { sizeBytes: 1n << 40n });
    await t.rejects(open(), { code: 'store-locked', message: new RegExp(`process ${process.pid} on `) });
    await first.close();
    const second = await open();
    t.equal(second.showVolume('a').sizeBytes, 1n << 40n);
    t.ok(second.status().recovery.clean);
    await second.close();
    for (const [format, code] of [
      [FORMAT_VERSION + 1, 'store-newer'],
      [FORMAT_VERSION - 1, 'store-older'],
    ] as const) {
      const level = levelOf(directory);
      await level.open();
      const key = jsonKey('meta', 'store');
      const meta = JSON.parse((await level.get(key))!.toString()) as object;
      await level.batch([{ type: 'put', key, value: Buffer.from(JSON.stringify({ ...meta, format })) }]);
      await level.close();
      await t.rejects(open(), { code, kind: 'version' });
    }
    const foreign = join(directory, 'extents');
    await writeFile(join(foreign, 'mine.txt'), 'x');
    await t.rejects(open(foreign), { code: 'store-not-a-store' });
    t.equal(await readFile(join(foreign, 'mine.txt'), 'utf8'), 'x');
    await t.rejects(open(join(foreign, 'mine.txt')), { code: 'store-not-a-store' });
    await rm(directory, { recursive: true });
  },
);
