import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import { writeAt } from '../../../src/identity/steps.js';
import { encodeSync } from '../../../src/model/sync.js';
import { metadataErrors } from '../../support/checked.js';
import { turns } from '../../support/late-level.js';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { BLOCKS, blocksBytes, type Death, Store } from '../../support/store-harness.js';
import { type TestIdentity, testIdentity } from '../../support/test-identity.js';
import { until } from '../../support/waiting.js';

const SIZE_BLOCKS = 4 * BLOCKS;
const SIZE = blocksBytes(SIZE_BLOCKS);
const FROM = { volume: 'source', snapshot: 's' };
const TARGET_ID = 7;
const SOURCE_ID = 9;

interface Scene {
  store: Store;
  identity: TestIdentity;
}

/** A source with a snapshot, and a target with other contents; block 0 of each is its identity. */
async function scene(): Promise<Scene> {
  const store = await Store.make();
  const identity = testIdentity();
  await store.restart('clean', { identity: () => identity });
  await store.operations.createVolume('source', { sizeBytes: SIZE });
  await store.operations.createVolume('target', { sizeBytes: SIZE });
  await write(store, 'source', 0, [SOURCE_ID, 21, 22]);
  await write(store, 'source', 3 * BLOCKS, [23]);
  await store.operations.createSnapshots([FROM]);
  await write(store, 'source', 1, [24]);
  await write(store, 'target', 0, [TARGET_ID, 11]);
  await write(store, 'target', BLOCKS, [12]);
  return { store, identity };
}

async function write(store: Store, name: string, block: number, values: number[]): Promise<void> {
  const session = await store.plane.connect(name);
  await session.write(block, values);
  session.flush();
  await end(store, session);
}

/** The agent hears of the end of a connection a little later. */
async function end(store: Store, ...sessions: { close(): void }[]): Promise<void> {
  for (const session of sessions) session.close();
  const { devices } = store.operations.parts;
  await until('the end of the connections', () =>
    devices.all().every(({ connections }) => connections === 0),
  );
}

async function readAll(store: Store, name: string): Promise<number[]> {
  const values = await store.readAll(name);
  await end(store);
  return values;
}

function contents(said: Record<number, number>): number[] {
  return Array.from({ length: SIZE_BLOCKS }, (_, block) => said[block] ?? 0);
}

const OLD = contents({ 0: TARGET_ID, 1: 11, [BLOCKS]: 12 });
const NEW = contents({ 0: TARGET_ID, 1: 21, 2: 22, [3 * BLOCKS]: 23 });

t.test('a target takes the state of the snapshot and keeps its identity; undo gives it back', async (t) => {
  const { store } = await scene();
  const { syncs } = store.operations;
  const info = await syncs.sync('target', FROM, PLAIN_SYNC);
  t.equal(info.phase, 'done');
  t.same(info.safety, [`target@before-sync-${info.id}`]);
  t.same(await readAll(store, 'target'), NEW, 'the content of the source, the identity of the target');
  t.equal((await readAll(store, 'source'))[1], 24, 'the source goes on');
  await write(store, 'target', 1, [99]);
  t.equal((await readAll(store, 'source@s'))[1], 21, 'what the target writes is unseen in the snapshot');
  await store.restart('power-loss', { identity: () => testIdentity() });
  t.same((await readAll(store, 'target'))[0], TARGET_ID);
  const undone = await store.operations.syncs.undo('target', PLAIN_SYNC);
  t.equal(undone.kind, 'undo');
  t.same(await readAll(store, 'target'), OLD, 'the earlier bytes');
  t.equal(store.operations.listSnapshots('target').length, 2, 'its own list: the two undo points');
  await store.end();
});

t.test('the source and its snapshot can be deleted, and the target still reads right', async (t) => {
  const { store } = await scene();
  await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, safety: false });
  await store.operations.deleteVolume('source', { withSnapshots: true });
  await store.settle();
  t.same(await readAll(store, 'target'), NEW);
  t.same(store.operations.listSnapshots('target'), [], 'without --no-safety there is nothing to go back to');
  await t.rejects(store.operations.syncs.undo('target', PLAIN_SYNC), { code: 'sync-nothing-to-undo' });
  await store.restart('clean', { identity: () => testIdentity() });
  t.same(await readAll(store, 'target'), NEW);
  await store.end();
});

t.test('what an old map held is given back when nothing continues it', async (t) => {
  const { store } = await scene();
  await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, safety: false });
  await store.settle();
  const { catalog } = store.operations.parts;
  const target = catalog.containerNamed('target')!;
  t.same(
    catalog.linesOf(target.id).map(({ id }) => id),
    [target.line],
    'the old line is gone',
  );
  for (let round = 0; round < 20; round++)
    await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, safety: false });
  await store.settle();
  t.equal(catalog.linesOf(target.id).length, 1, 'twenty more leave one line');
  t.equal(store.operations.showVolume('target').depth, 1, 'and no depth');
  t.same(await readAll(store, 'target'), NEW);
  await store.end();
});

t.test('restore: the same to an own snapshot, with the identity of now', async (t) => {
  const { store } = await scene();
  await store.operations.createSnapshots([{ volume: 'target', snapshot: 'mine' }]);
  await write(store, 'target', 0, [8, 13]);
  const info = await store.operations.syncs.sync(
    'target',
    { volume: 'target', snapshot: 'mine' },
    PLAIN_SYNC,
  );
  t.equal(info.kind, 'restore');
  t.same(await readAll(store, 'target'), contents({ 0: 8, 1: 11, [BLOCKS]: 12 }), 'a later rename survives');
  const names = store.operations.listSnapshots('target').map(({ name }) => name);
  t.same(names, ['mine', `before-sync-${info.id}`]);
  await store.operations.createSnapshots([{ volume: 'target', snapshot: 'later' }]);
  await t.rejects(store.operations.createSnapshots([{ volume: 'target', snapshot: 'mine' }]), {
    code: 'snapshot-exists',
  });
  await store.end();
});

t.test('refused with the reason, and nothing has changed', async (t) => {
  const { store, identity } = await scene();
  const { operations } = store;
  await operations.createVolume('large', { sizeBytes: SIZE * 2n });
  await operations.createSnapshots([{ volume: 'large', snapshot: 's' }]);
  const large = { volume: 'large', snapshot: 's' };
  await t.rejects(operations.syncs.sync('nobody', FROM, PLAIN_SYNC), { code: 'volume-not-found' });
  await t.rejects(operations.syncs.sync('target', { ...FROM, snapshot: 'x' }, PLAIN_SYNC), {
    code: 'snapshot-not-found',
  });
  await t.rejects(operations.syncs.sync('target', large, PLAIN_SYNC), { code: 'sync-source-larger' });
  const session = await store.plane.connect('target');
  await t.rejects(operations.syncs.sync('target', FROM, PLAIN_SYNC), { code: 'volume-in-use' });
  await end(store, session);
  identity.onStep = (step) => {
    if (step === 'capture') throw new Error('a damaged superblock');
  };
  await t.rejects(operations.syncs.sync('target', FROM, PLAIN_SYNC), /damaged superblock/);
  t.same(await readAll(store, 'target'), OLD);
  t.same(operations.listSnapshots('target'), []);
  t.same(operations.syncs.list(), [], 'none has begun');
  await store.end();
});

t.test('who has just left is no reason to refuse: the agent hears of it a little later', async (t) => {
  const { store } = await scene();
  const { operations } = store;
  const session = await store.plane.connect('target');
  const syncing = operations.syncs.sync('target', FROM, PLAIN_SYNC);
  t.equal(operations.showVolume('target').connections, 1, 'it is still counted when the sync is asked for');
  session.close();
  t.equal((await syncing).kind, 'sync');
  const other = await store.plane.connect('target');
  const deleting = operations.deleteVolume('target', { withSnapshots: true });
  t.equal(operations.showVolume('target').connections, 1);
  other.close();
  await t.resolves(deleting);
  await store.end();
});

t.test('a larger source with --grow; behind a smaller one zeros follow', async (t) => {
  const { store } = await scene();
  const { operations } = store;
  await operations.createVolume('large', { sizeBytes: SIZE * 2n });
  await write(store, 'large', SIZE_BLOCKS + 1, [77]);
  await operations.createSnapshots([{ volume: 'large', snapshot: 's' }]);
  await operations.syncs.sync('target', { volume: 'large', snapshot: 's' }, { ...PLAIN_SYNC, grow: true });
  t.equal(operations.showVolume('target').sizeBytes, SIZE * 2n);
  const grown = await readAll(store, 'target');
  t.equal(grown[SIZE_BLOCKS + 1], 77);
  t.equal(grown[0], TARGET_ID);
  await operations.syncs.sync('target', FROM, PLAIN_SYNC);
  t.equal(operations.showVolume('target').sizeBytes, SIZE * 2n, 'it keeps its size');
  t.same(await readAll(store, 'target'), [...NEW, ...contents({})]);
  await store.end();
});

t.test('--online: clients stay, what they have begun ends before and what comes waits', async (t) => {
  const { store, identity } = await scene();
  const session = await store.plane.connect('target', []);
  await store.operations.createSnapshots([{ volume: 'target', snapshot: 'before' }]);
  const watcher = await store.plane.connect('target', ['before']);
  const seen: number[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  identity.onStep = (step) => {
    if (step === 'restore') waiting = session.read(0, 1).then(([value]) => seen.push(value!));
    if (step === 'verify') t.same(seen, [], 'held');
  };
  const info = await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, online: true });
  await waiting;
  t.same(seen, [TARGET_ID], 'nobody reads the foreign identity');
  t.ok(info.heldMs! > 0);
  t.same(await session.read(1, 2), [21, 22]);
  await session.write(1, [31]);
  t.same(await session.read(1, 1), [31]);
  t.same(
    await watcher.changed(0, 0, SIZE_BLOCKS),
    contents({}).map(() => true),
    'who asks what has changed since before is told: everything',
  );
  await end(store, session, watcher);
  await store.restart('process-death', { identity: () => testIdentity() });
  t.equal((await readAll(store, 'target'))[1], 31);
  await store.end();
});

t.test('--force: the connections end first', async (t) => {
  const { store } = await scene();
  await store.plane.connect('target');
  await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, force: true });
  t.equal(store.plane.leases.size, 0);
  t.same(await readAll(store, 'target'), NEW);
  await store.end();
});

t.test('a hold that would be too long is undone, and clients go on with what they had', async (t) => {
  const { store, identity } = await scene();
  await store.restart('clean', { identity: () => identity, holdLimitMs: 50 });
  const session = await store.plane.connect('target');
  let goOn: () => void = () => undefined;
  identity.onStep = (step) => (step === 'restore' ? new Promise((resolve) => (goOn = resolve)) : undefined);
  const sync = store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, online: true });
  const expired = t.rejects(sync, { code: 'hold-expired' });
  const read = session.read(0, 2);
  setTimeout(() => goOn(), 120);
  await expired;
  t.same(await read, [TARGET_ID, 11]);
  await session.write(1, [14]);
  await end(store, session);
  t.same(store.operations.syncs.list()[0]!.phase, 'undone');
  await store.settle();
  await store.restart('power-loss', { identity: () => identity });
  t.same((await readAll(store, 'target'))[0], TARGET_ID);
  t.equal(store.operations.parts.catalog.linesOf(2).length, 1, 'the new line is gone');
  await store.end();
});

t.test('an identity that does not read back: the target is as it was', async (t) => {
  const { store, identity } = await scene();
  identity.verify = () => Promise.reject(new Error('it does not read back'));
  await t.rejects(store.operations.syncs.sync('target', FROM, PLAIN_SYNC), /does not read back/);
  t.same(await readAll(store, 'target'), OLD);
  const [record] = store.operations.syncs.list();
  t.match(record, { phase: 'undone', error: /does not read back/ });
  await store.settle();
  await store.restart('process-death', { identity: () => identity });
  t.same(await readAll(store, 'target'), OLD);
  await store.end();
});

t.test('the metadata refuses a batch of the sync: all or nothing', async (t) => {
  for (let nth = 0; nth < 8; nth++) {
    const { store } = await scene();
    await readAll(store, 'target');
    await store.operations.parts.catalog.barrier();
    store.level.failures = [
      ...Array.from({ length: nth }, () => null as never),
      ...Array.from({ length: 6 }, () => ({ applied: false })),
    ];
    const result = await store.operations.syncs.sync('target', FROM, PLAIN_SYNC).then(
      () => NEW,
      () => OLD,
    );
    store.level.failures = [];
    await until('the metadata', () => !store.operations.parts.queue.healing);
    t.same(await readAll(store, 'target'), result, `batch ${nth}`);
    await store.restart('power-loss', { identity: () => testIdentity() });
    t.same(await readAll(store, 'target'), result, `batch ${nth}, after power loss`);
    await store.end();
  }
});

for (const death of ['process-death', 'power-loss'] as Death[]) {
  t.test(`${death} at every step of a sync: before or after, never the foreign identity`, async (t) => {
    let finished = false;
    for (let at = 1; !finished; at++) {
      const { store } = await scene();
      let steps = 0;
      const die = (): void => {
        if (++steps === at) store.die(death);
      };
      store.plane.onStep = die;
      store.level.onBatch = die;
      const how = await store.survive(() => store.operations.syncs.sync('target', FROM, PLAIN_SYNC));
      finished = how === 'ended' && steps < at;
      await store.restart(death, { identity: () => testIdentity() });
      const now = await readAll(store, 'target');
      const same = JSON.stringify(now) === JSON.stringify(NEW) || JSON.stringify(now) === JSON.stringify(OLD);
      if (!same) t.same(now, OLD, `step ${at}`);
      if (how === 'ended') t.same(now, NEW, 'what was answered is there');
      await store.settle();
      t.equal(
        [...store.operations.parts.catalog.syncs.values()].filter(
          ({ phase }) => phase !== 'done' && phase !== 'undone',
        ).length,
        0,
      );
      await store.end();
      if (at > 500) throw new Error('it never ends');
    }
  });
}

t.test(
  'the end of a sync is not known: nobody gets in before it is, and nothing written afterwards is lost',
  async (t) => {
    const { store, identity } = await scene();
    const session = await store.plane.connect('target');
    identity.onStep = (step) => {
      if (step !== 'verify') return;
      store.level.failures = Array.from({ length: 40 }, () => ({ applied: false }));
    };
    const sync = store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, online: true });
    await t.rejects(sync, { code: 'catalog-write-failed' }, 'whoever asked is told');
    await until('the end of the connection', () => store.plane.leases.size === 0);
    const { handle } = session;
    const write = store.plane.volume(handle).write(1, [55]);
    let written = false;
    void write.then(() => (written = true));
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.notOk(written, 'held');
    store.level.failures = [];
    await write;
    store.plane.volume(handle).flush();
    await store.restart('power-loss', { identity: () => testIdentity() });
    const now = await readAll(store, 'target');
    t.same(now, contents({ 0: TARGET_ID, 1: 55, 2: 22, [3 * BLOCKS]: 23 }));
    await store.end();
  },
);

t.test('a stop while the end of a sync is not known: before or after, as the metadata has it', async (t) => {
  const { store, identity } = await scene();
  identity.onStep = (step) => {
    if (step === 'verify') store.level.failures = Array.from({ length: 400 }, () => ({ applied: false }));
  };
  await t.rejects(store.operations.syncs.sync('target', FROM, PLAIN_SYNC), { code: 'catalog-write-failed' });
  await store.operations.close({ deadlineMs: 100 });
  await store.restart('process-death', { identity: () => testIdentity() });
  t.same(await readAll(store, 'target'), OLD);
  await store.end();
});

t.test('a record of a sync is read as it was written', async (t) => {
  const { store } = await scene();
  await store.operations.syncs.sync('target', FROM, PLAIN_SYNC);
  const [record] = [...store.operations.parts.catalog.syncs.values()];
  await store.restart('clean', { identity: () => testIdentity() });
  const [again] = [...store.operations.parts.catalog.syncs.values()];
  t.equal(encodeSync(again!), encodeSync(record!));
  await store.end();
});

t.test(
  'after a start the newest sync is still the one that is undone, and the oldest the first to be forgotten',
  async (t) => {
    const { store } = await scene();
    const { syncs } = store.operations;
    for (let nth = 1; nth <= 11; nth++) {
      await write(store, 'target', 2, [100 + nth]);
      await syncs.sync('target', FROM, PLAIN_SYNC);
    }
    await store.restart('clean', { identity: () => testIdentity() });
    const ids = store.operations.syncs.list().map(({ id }) => id!);
    t.same(
      ids,
      [...ids].sort((a, b) => a - b),
      'oldest first',
    );
    await store.operations.syncs.undo('target', PLAIN_SYNC);
    t.equal((await readAll(store, 'target'))[2], 111, 'what was before the last one');
    await store.end();
  },
);

t.test('what a snapshot continues is merged into it in the middle of a sync', async (t) => {
  const { store, identity } = await scene();
  const { operations } = store;
  await operations.clone(FROM, 'clone');
  await operations.createSnapshots([{ volume: 'clone', snapshot: 'c' }]);
  await readAll(store, 'target');
  await operations.deleteVolume('source', { withSnapshots: true, disconnect: true });
  // The clone's snapshot says nothing itself: a new line continues where it does, in the deleted source.
  store.level.onBatch = (when) => {
    if (when === 'before') void store.settle();
  };
  identity.onStep = (step) => (step === 'capture' ? store.settle() : undefined);
  await operations.syncs.sync('target', { volume: 'clone', snapshot: 'c' }, PLAIN_SYNC);
  store.level.onBatch = () => undefined;
  t.same(await readAll(store, 'target'), NEW);
  await store.restart('process-death', { identity: () => testIdentity() });
  t.same(await readAll(store, 'target'), NEW);
  await store.end();
});

t.test('a rename and reclaiming in the middle of what is undone', async (t) => {
  const { store, identity } = await scene();
  const { operations } = store;
  const { parts } = operations;
  identity.verify = () => Promise.reject(new Error('it does not read back'));
  let renamed: Promise<unknown> | null = null;
  // The map is swapped a second time: it goes back.
  let swaps = 0;
  store.plane.onStep = (step) => {
    if (step !== 'rebase done' || ++swaps < 2) return;
    renamed = operations.renameVolume('target', 'renamed');
    void parts.reclaim.kick();
  };
  await t.rejects(operations.syncs.sync('target', FROM, PLAIN_SYNC), /does not read back/);
  store.plane.onStep = () => undefined;
  await renamed;
  await store.settle();
  t.same(await metadataErrors(store), []);
  await store.restart('process-death', { identity: () => testIdentity() });
  t.same(await readAll(store, 'renamed'), OLD, 'under its new name');
  t.equal(store.operations.parts.catalog.linesOf(2).length, 1, 'the new line is gone for good');
  await store.end();
});

t.test('who connects for what has changed since a snapshot, in the middle of a sync', async (t) => {
  const { store, identity } = await scene();
  await store.operations.createSnapshots([{ volume: 'target', snapshot: 'before' }]);
  let refused: Promise<unknown> = Promise.resolve();
  identity.onStep = (step) => {
    if (step === 'capture')
      refused = t.rejects(store.plane.connect('target', ['before']), /No such snapshot/);
  };
  await store.operations.syncs.sync('target', FROM, PLAIN_SYNC);
  await refused;
  identity.onStep = () => undefined;
  await store.operations.syncs.undo('target', PLAIN_SYNC);
  t.same(await readAll(store, 'target'), OLD, 'nobody is counted who was refused');
  await store.end();
});

t.test('the source snapshot is deleted in the middle of a sync', async (t) => {
  const { store, identity } = await scene();
  identity.onStep = async (step) => {
    if (step !== 'capture') return;
    await store.operations.deleteSnapshots([FROM]);
    await store.settle();
  };
  await store.operations.syncs.sync('target', FROM, PLAIN_SYNC);
  identity.onStep = () => undefined;
  await store.settle();
  t.same(await readAll(store, 'target'), NEW);
  t.same(await metadataErrors(store), []);
  await store.restart('process-death', { identity: () => testIdentity() });
  t.same(await readAll(store, 'target'), NEW);
  await store.end();
});

t.test('held clients go on when it is durable that the sync is done, not before', async (t) => {
  const { store } = await scene();
  const session = await store.plane.connect('target');
  const { batch } = store.level;
  const seen: number[] = [];
  let whileNotDurable: number[] | null = null;
  store.level.batch = async (operations) => {
    if (operations.some((one) => one.type === 'put' && one.value.includes('"phase":"done"'))) {
      void session.read(0, 1).then(([value]) => seen.push(value!));
      await turns(10);
      whileNotDurable = [...seen];
    }
    return batch.call(store.level, operations);
  };
  await store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, online: true });
  await turns(10);
  t.same(whileNotDurable, []);
  t.same(seen, [TARGET_ID]);
  await end(store, session);
  await store.end();
});

t.test('an identity that is written on when the hold has expired is written nowhere', async (t) => {
  const { store, identity } = await scene();
  await store.restart('clean', { identity: () => identity, holdLimitMs: 50 });
  const session = await store.plane.connect('target');
  let late: Promise<unknown> = Promise.resolve();
  identity.restore = (disks) => {
    const restoring = sleep(150).then(() => disks[0]!.run(writeAt(0n, Buffer.from([SOURCE_ID]))));
    late = t.rejects(restoring, /taken away/);
    return restoring;
  };
  const sync = store.operations.syncs.sync('target', FROM, { ...PLAIN_SYNC, online: true });
  await t.rejects(sync, { code: 'hold-expired' });
  await late;
  t.same(await session.read(0, 2), [TARGET_ID, 11]);
  await end(store, session);
  t.same(await readAll(store, 'target'), OLD);
  await store.end();
});
