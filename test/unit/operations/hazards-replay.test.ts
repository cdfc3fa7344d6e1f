// Scenarios of HAZARDS.md in which TypeScript has a part of its own, each named after its number there: part E, journal and merge.

import t from 'tap';
import { familyRange } from '../../../src/model/keys.js';
import { turns } from '../../support/late-level.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';

const SIZE = blocksBytes(6 * BLOCKS);
const SNAPSHOTS = familyRange('snapshot');

async function storeWith(...names: string[]): Promise<Store> {
  const store = await Store.make();
  for (const name of names) await store.operations.createVolume(name, { sizeBytes: SIZE });
  return store;
}

async function round(store: Store, name: string): Promise<void> {
  const { devices, rounds } = store.operations.parts;
  const device = devices.current(store.operations.showVolume(name).id)!;
  await devices.mutexOf(device.container).run(() => rounds.run(device));
}

/** Block 0 is flushed as 1 under a snapshot, and 2 in the current version, which is not flushed. */
async function withUncommittedOwn(): Promise<Store> {
  const store = await storeWith('a');
  const session = await store.plane.connect('a');
  await session.write(0, [1]);
  await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await session.write(0, [2]);
  return store;
}

t.test('J1 (a): an entry that did not count at one power loss does not come alive at the next', async (t) => {
  const store = await withUncommittedOwn();
  await store.restart('power-loss');
  const session = await store.plane.connect('a');
  t.strictSame(await session.read(0, 1), [1], 'what was flushed');
  await session.write(1, [5]);
  session.flush();
  await store.restart('power-loss');
  t.strictSame((await store.readAll('a')).slice(0, 2), [1, 5], 'the commit of another entry changes nothing');
  await store.end();
});

t.test('J1 (b): nor at the death of the next process', async (t) => {
  const store = await withUncommittedOwn();
  await store.restart('power-loss');
  await store.restart('process-death');
  t.equal((await store.readAll('a'))[0], 1);
  await store.restart('power-loss');
  t.equal((await store.readAll('a'))[0], 1);
  await store.end();
});

t.test(
  'J3 (a): a round that is done hides the older entries that count, at every later loss of power',
  async (t) => {
    const store = await storeWith('a');
    const session = await store.plane.connect('a');
    await session.write(0, [1]);
    await session.trim(0, 1);
    session.flush();
    await session.write(0, [2]);
    // The batch is durable; the data plane never hears of it, so nothing is trimmed.
    store.plane.onStep = (step) => {
      if (step === 'roundDone') store.die('process-death');
    };
    t.equal(await store.survive(() => round(store, 'a')), 'died');
    await store.start();
    const again = await store.plane.connect('a');
    await again.write(0, [3]);
    again.flush();
    await store.restart('power-loss');
    t.equal((await store.readAll('a'))[0], 3, 'what was flushed is not zeroed by an entry from before');
    await store.end();
  },
);

t.test('J3 (b): entries from before a shrink bring nothing back behind its end', async (t) => {
  for (const how of ['process-death', 'power-loss'] as const) {
    const store = await storeWith('a');
    const session = await store.plane.connect('a');
    await session.write(0, [1, 2, 3]);
    await session.write(5 * BLOCKS, [4]);
    session.flush();
    await store.operations.resizeVolume('a', { sizeBytes: blocksBytes(2), force: true });
    await store.restart(how);
    await store.operations.resizeVolume('a', { sizeBytes: SIZE });
    const values = await store.readAll('a');
    t.strictSame([values[0], values[1], values[2], values[5 * BLOCKS]], [1, 2, 0, 0], how);
    await store.end();
  }
});

/** A snapshot of two volumes, whose process ends at a step. */
async function groupEndedAt(step: string): Promise<Store> {
  const store = await storeWith('a', 'b');
  for (const [name, value] of [
    ['a', 1],
    ['b', 2],
  ] as const)
    await (await store.plane.connect(name)).write(0, [value]);
  store.plane.onStep = (at) => {
    if (at === step) store.die('power-loss');
  };
  const references = ['a', 'b'].map((volume) => ({ volume, snapshot: 's' }));
  t.equal(await store.survive(() => store.operations.createSnapshots(references)), 'died');
  return store;
}

t.test('J10 (c): a cut that is torn is no snapshot of any of its members', async (t) => {
  const store = await groupEndedAt('cut');
  await store.start();
  t.strictSame(store.operations.listSnapshots(), []);
  await store.end();
});

t.test(
  'J10 (c): of a group one member is in LevelDB when the recovery dies: the next completes the others',
  async (t) => {
    let halves = 0;
    for (let number = 1; ; number++) {
      const store = await groupEndedAt('cut durable');
      let passed = 0;
      const outcome = await store.survive(() =>
        store.start({}, ({ level }) => {
          level.onBatch = () => void (++passed === number && store.die('power-loss'));
        }),
      );
      let listed = 0;
      for await (const page of store.database.scan(SNAPSHOTS)) listed += page.length;
      if (listed === 1) halves++;
      if (outcome === 'died') await store.start();
      store.level.onBatch = () => undefined;
      t.strictSame(
        store.operations.listSnapshots().map(({ fullName }) => fullName),
        ['a@s', 'b@s'],
        `both are there, after a death at point ${number} of the recovery`,
      );
      t.strictSame([(await store.readAll('a@s'))[0], (await store.readAll('b@s'))[0]], [1, 2]);
      await store.end();
      if (outcome === 'ended') break;
    }
    t.ok(halves > 0, 'half of it was there at some point');
  },
);

t.test('J10 (d): a second cut of a line waits for the first', async (t) => {
  const store = await storeWith('a', 'b');
  await (await store.plane.connect('a')).write(0, [1]);
  await (await store.plane.connect('b')).write(0, [2]);
  const { plane } = store;
  const cut = plane.cut.bind(plane);
  const waiting: { handles: number[]; go(): void }[] = [];
  plane.cut = (ticket, members) => {
    waiting.push({ handles: members.map(({ handle }) => handle), go: () => cut(ticket, members) });
  };
  const taken = [['a@1'], ['b@2'], ['a@3', 'b@3']].map((names) =>
    store.operations.createSnapshots(
      names.map((name) => ({ volume: name.slice(0, 1), snapshot: name.slice(2) })),
    ),
  );
  let cuts = 0;
  for (let passes = 0; passes < 3; passes++) {
    await turns(20);
    const handles = waiting.flatMap((one) => one.handles);
    t.equal(new Set(handles).size, handles.length, 'never two of one volume');
    for (const { go } of waiting.splice(0)) {
      go();
      cuts++;
    }
  }
  await Promise.all(taken);
  t.equal(cuts, 3);
  t.strictSame(
    store.operations.listSnapshots('a').map(({ name }) => name),
    ['1', '3'],
    'in the order asked',
  );
  await store.end();
});

t.test('J12 (a): the data plane hears of a delete when it is durable, not before', async (t) => {
  const store = await storeWith('a');
  const session = await store.plane.connect('a');
  await session.write(0, [1, 2]);
  await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await session.write(0, [3]);
  await round(store, 'a');
  const steps: string[] = [];
  store.plane.onStep = (step) => void steps.push(step);
  store.level.onBatch = (when) => {
    if (when === 'before') store.die('process-death');
  };
  const outcome = await store.survive(() =>
    store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]),
  );
  t.equal(outcome, 'died');
  t.notOk(steps.includes('adopt'), 'it was not told');
  await store.start();
  t.strictSame((await store.readAll('a@s')).slice(0, 2), [1, 2], 'the snapshot is there as it was');
  await store.end();
});

t.test(
  'J12 (a): from the moment a delete is asked for the snapshot cannot be cloned or opened',
  async (t) => {
    const store = await storeWith('a');
    await (await store.plane.connect('a')).write(0, [1]);
    await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
    const deleted = store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
    await t.rejects(store.operations.clone({ volume: 'a', snapshot: 's' }, 'c'), {
      code: 'snapshot-not-found',
    });
    await t.rejects(store.plane.connect('a@s'), /no export/);
    await deleted;
    await store.end();
  },
);

t.test(
  'J12 (b): what a dependent took over from an older snapshot stays when the next one is merged',
  async (t) => {
    const store = await storeWith('a');
    const { operations } = store;
    const session = await store.plane.connect('a');
    await session.write(0, [1, 2, 3, 4]);
    await operations.createSnapshots([{ volume: 'a', snapshot: 's1' }]);
    await session.write(0, [11]);
    await operations.createSnapshots([{ volume: 'a', snapshot: 's2' }]);
    await session.write(1, [22]);
    await operations.clone({ volume: 'a', snapshot: 's2' }, 'c');
    await operations.deleteSnapshots([{ volume: 'a', snapshot: 's1' }]);
    await store.settle();
    t.strictSame((await store.readAll('c')).slice(0, 4), [11, 2, 3, 4]);
    await operations.deleteVolume('a', { withSnapshots: true, disconnect: true });
    await store.settle();
    t.strictSame(
      (await store.readAll('c')).slice(0, 4),
      [11, 2, 3, 4],
      'in the file of a volume that is gone',
    );
    await operations.createSnapshots([{ volume: 'c', snapshot: 's' }]);
    const clone = await store.plane.connect('c');
    await clone.write(2, [33]);
    await operations.deleteSnapshots([{ volume: 'c', snapshot: 's' }]);
    await store.settle();
    clone.volume.evict();
    t.strictSame((await store.readAll('c')).slice(0, 4), [11, 2, 33, 4], 'taken over a second time');
    await store.restart('power-loss');
    t.strictSame((await store.readAll('c')).slice(0, 2), [11, 2]);
    await store.end();
  },
);
