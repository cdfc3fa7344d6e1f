// Every operation, ended by process death and by power loss before and after every LevelDB batch and at every step of the data
// plane. After the next start the operation has happened or it has not, everything flushed is there, snapshots read as they did,
// and what was begun ends by itself. The same for deaths in the middle of the recovery.

import t from 'tap';
import { unfinishedSyncs } from '../support/checked.js';
import { failingIdentity } from '../support/failing-identity.js';
import { PLAIN_SYNC } from '../support/plain-sync.js';
import type { Death } from '../support/store-harness.js';
import { BLOCKS, blocksBytes, Store } from '../support/store-harness.js';
import { until } from '../support/waiting.js';
import { unnoted } from '../support/written.js';

t.setTimeout(600_000);

const VOLUME_BLOCKS = 5 * BLOCKS;

/** What reads how; the contents of every export by name. */
type Contents = Record<string, number[]>;

async function contentsOf(store: Store): Promise<Contents> {
  const contents: Contents = {};
  for (const { name } of await store.plane.list()) contents[name] = await store.readAll(name);
  return contents;
}

async function fill(store: Store, name: string, block: number, count: number, value: number): Promise<void> {
  const session = await store.plane.connect(name);
  await session.write(
    block,
    Array.from({ length: count }, (_, index) => value + index),
  );
  session.flush();
  session.close();
}

async function trim(store: Store, name: string, block: number, count: number): Promise<void> {
  const session = await store.plane.connect(name);
  await session.trim(block, count);
  session.flush();
  session.close();
}

/** Two volumes and a clone: data in every version, zeros and cut-offs over data of older ones. */
async function furnish(store: Store): Promise<void> {
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: blocksBytes(VOLUME_BLOCKS) });
  await operations.createVolume('z', { sizeBytes: blocksBytes(VOLUME_BLOCKS) });
  await fill(store, 'a', 0, VOLUME_BLOCKS, 1000);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's1' }]);
  await fill(store, 'a', 5, 20, 2000);
  await trim(store, 'a', 40, 3);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's2' }]);
  await fill(store, 'a', 10, 4, 3000);
  await trim(store, 'a', 2 * BLOCKS, 2 * BLOCKS);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's3' }]);
  await fill(store, 'a', 8, 30, 4000);
  await operations.clone({ volume: 'a', snapshot: 's2' }, 'b');
  await fill(store, 'b', 0, 7, 5000);
  await fill(store, 'z', 0, 9, 6000);
}

interface Scenario {
  name: string;
  /** Before the operation, besides furnish(). */
  prepare?(store: Store): Promise<unknown>;
  run(store: Store): Promise<unknown>;
}

const SCENARIOS: Scenario[] = [
  { name: 'create', run: ({ operations }) => operations.createVolume('new', { sizeBytes: 4096n }) },
  { name: 'rename', run: ({ operations }) => operations.renameVolume('b', 'c') },
  {
    name: 'grow',
    run: ({ operations }) => operations.resizeVolume('a', { sizeBytes: blocksBytes(VOLUME_BLOCKS + 9) }),
  },
  {
    name: 'shrink',
    run: ({ operations }) => operations.resizeVolume('a', { sizeBytes: blocksBytes(21), force: true }),
  },
  { name: 'snapshot', run: ({ operations }) => operations.createSnapshots([{ volume: 'a', snapshot: 'n' }]) },
  {
    name: 'snapshot of three in one instant',
    run: ({ operations }) =>
      operations.createSnapshots(['a', 'b', 'z'].map((volume) => ({ volume, snapshot: 'n' }))),
  },
  { name: 'clone', run: ({ operations }) => operations.clone({ volume: 'a', snapshot: 's3' }, 'c') },
  { name: 'delete the oldest snapshot', run: (store) => deleteAndWait(store, 's1') },
  { name: 'delete a snapshot with a clone', run: (store) => deleteAndWait(store, 's2') },
  { name: 'delete the newest snapshot', run: (store) => deleteAndWait(store, 's3') },
  { name: 'delete all snapshots', run: (store) => deleteAndWait(store, 's1', 's2', 's3') },
  {
    name: 'delete a volume with a clone',
    run: async (store) => {
      await store.operations.deleteVolume('a', { withSnapshots: true, disconnect: true });
      await store.settle();
    },
  },
  {
    name: 'delete a clone',
    run: async (store) => {
      await store.operations.deleteVolume('b', { disconnect: true });
      await store.settle();
    },
  },
  { name: 'sync', run: (store) => sync(store, 'z', 'a@s2') },
  {
    name: 'sync of one that grows',
    prepare: async (store) => {
      await store.operations.createVolume('small', { sizeBytes: blocksBytes(3) });
      await fill(store, 'small', 0, 3, 7000);
    },
    run: (store) => sync(store, 'small', 'a@s2', { grow: true }),
  },
  {
    name: 'sync without an undo point, to a clone that has said nothing',
    prepare: async ({ operations }) => {
      await operations.clone({ volume: 'a', snapshot: 's2' }, 'c');
      await operations.createSnapshots([{ volume: 'c', snapshot: 'first' }]);
    },
    run: async (store) => {
      await sync(store, 'z', 'c@first', { safety: false });
      await store.settle();
    },
  },
  { name: 'restore', run: (store) => sync(store, 'a', 'a@s1') },
  {
    name: 'undo',
    prepare: async (store) => {
      await sync(store, 'b', 'a@s3');
      await fill(store, 'b', 3, 20, 7000);
    },
    run: (store) => gone(store).then(() => store.operations.syncs.undo('b', PLAIN_SYNC)),
  },
  {
    name: 'sync whose identity cannot be written',
    run: (store) => sync(store, 'z', 'a@s2', { failing: 'half-written' }),
  },
  {
    name: 'sync under a connected client',
    run: async (store) => {
      const session = await store.plane.connect('z');
      await sync(store, 'z', 'a@s2', { online: true });
      session.close();
    },
  },
  { name: 'stop', run: ({ operations }) => operations.close() },
];

/** Where the next sync fails. */
let failingNow: 'half-written' | null = null;
const identity = () => failingIdentity(failingNow);

/** The agent hears of the end of connections a little later. */
async function gone(store: Store): Promise<void> {
  const { devices } = store.operations.parts;
  await until('the end of the connections', () =>
    devices.all().every(({ connections }) => connections === 0),
  );
}

async function sync(
  store: Store,
  target: string,
  from: string,
  options: { failing?: 'half-written'; online?: boolean; grow?: boolean; safety?: boolean } = {},
): Promise<void> {
  const { failing, ...asked } = options;
  if (!asked.online) await gone(store);
  const [volume, snapshot] = from.split('@') as [string, string];
  failingNow = failing ?? null;
  const done = store.operations.syncs.sync(target, { volume, snapshot }, { ...PLAIN_SYNC, ...asked });
  failingNow = null;
  await done.catch((error: unknown) => {
    if (!failing) throw error;
  });
}

async function deleteAndWait(store: Store, ...snapshots: string[]): Promise<void> {
  const task = await store.operations.deleteSnapshots(
    snapshots.map((snapshot) => ({ volume: 'a', snapshot })),
  );
  await store.operations.waitForTask(task.id);
  await store.settle();
}

/** Ends the process at the `number`-th point from now on; 0: not any more. */
function dieAt(store: Store, number: number, how: Death): void {
  let passed = 0;
  const point = (): void => {
    if (++passed === number) store.die(how);
  };
  store.plane.onStep = point;
  store.level.onBatch = point;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function difference(before: Contents, after: Contents, found: Contents): string | null {
  const names = Object.keys(found).sort();
  if (!same(names, Object.keys(before).sort()) && !same(names, Object.keys(after).sort()))
    return `exports ${names.join(' ')}`;
  for (const name of names) {
    if (same(found[name], before[name]) || same(found[name], after[name])) continue;
    const wanted = before[name] ?? after[name]!;
    const block = wanted.findIndex((value, index) => found[name]![index] !== value);
    return `${name} block ${block}: ${found[name]![block]} instead of ${wanted[block]}`;
  }
  const isWhole = [before, after].some((one) => names.every((name) => same(found[name], one[name])));
  return isWhole ? null : 'some exports are as before, others as after';
}

/** After the start everything is as before or after; and stays so when what was begun has ended, and over a clean restart. */
async function verify(store: Store, before: Contents, after: Contents): Promise<string | null> {
  const missing = await unnoted(store.database);
  if (missing.length > 0) return `not in the index of written windows: ${missing.join(' ')}`;
  const found = await contentsOf(store);
  const wrong = difference(before, after, found);
  if (wrong) return wrong;
  await store.settle();
  for (const device of store.operations.parts.devices.all()) store.plane.evict(device.handle);
  const [unfinished] = unfinishedSyncs(store);
  if (unfinished) return unfinished;
  const settled = difference(found, found, await contentsOf(store));
  if (settled) return `when all had ended: ${settled}`;
  if (store.operations.status().pendingPunches > 0) return 'punches stay pending';
  await store.restart('clean');
  const lost = await unnoted(store.database);
  if (lost.length > 0) return `not in the index of written windows when all had ended: ${lost.join(' ')}`;
  const restarted = difference(found, found, await contentsOf(store));
  if (restarted) return `after a clean restart: ${restarted}`;
  const trouble = store.troubles.find(({ message }) => !EXPECTED_TROUBLES.has(message));
  return trouble ? `${trouble.message}: ${String((trouble.facts as { err?: unknown }).err)}` : null;
}

const EXPECTED_TROUBLES = new Set([
  'changes that were never flushed did not survive',
  'a sync that a stop had interrupted was undone',
]);

async function prepared(scenario: Scenario): Promise<Store> {
  const store = await Store.make({ identity });
  await furnish(store);
  await scenario.prepare?.(store);
  return store;
}

async function outcomes(scenario: Scenario): Promise<{ before: Contents; after: Contents }> {
  const store = await prepared(scenario);
  const before = await contentsOf(store);
  await scenario.run(store);
  if (store.isDead) await store.start();
  const after = await contentsOf(store);
  await store.end();
  return { before, after };
}

for (const scenario of SCENARIOS) {
  t.test(`${scenario.name}: whole or not at all wherever it ends`, { timeout: 300_000 }, async (t) => {
    const { before, after } = await outcomes(scenario);
    for (const how of ['process-death', 'power-loss'] as const) {
      let ends = 0;
      for (let number = 1; ; number++) {
        const store = await prepared(scenario);
        dieAt(store, number, how);
        const outcome = await store.survive(() => scenario.run(store));
        if (outcome === 'ended') {
          dieAt(store, 0, how);
          await store.end();
          break;
        }
        ends++;
        await store.start();
        const wrong = await verify(store, before, after);
        if (wrong) t.fail(`${how} at point ${number}: ${wrong}`);
        await store.end();
      }
      t.ok(ends > 0, `${how} at ${ends} points`);
    }
  });
}

t.test('a recovery that ends in the middle is done again', { timeout: 300_000 }, async (t) => {
  for (const how of ['process-death', 'power-loss'] as const) {
    let ends = 0;
    for (let number = 1; ; number++) {
      const store = await Store.make();
      await furnish(store);
      // The cut is durable, its group never reaches LevelDB; then data and a cut-off in the new version.
      const before = await contentsOf(store);
      store.plane.onStep = (step) => {
        if (step === 'cut durable') store.die(how);
      };
      await store.survive(() => store.operations.createSnapshots([{ volume: 'a', snapshot: 'n' }]));
      const wanted = { ...before, 'a@n': before['a']! };
      const outcome = await store.survive(() => store.start({}, () => dieAt(store, number, how)));
      if (outcome === 'died') {
        ends++;
        await store.start();
      }
      dieAt(store, 0, how);
      const wrong = await verify(store, wanted, wanted);
      if (wrong) t.fail(`${how} at point ${number} of the recovery: ${wrong}`);
      await store.end();
      if (outcome === 'ended') break;
    }
    t.ok(ends > 3, `${how} at ${ends} points`);
  }
});
