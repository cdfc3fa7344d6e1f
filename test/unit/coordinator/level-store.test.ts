// LevelDB as the state of a coordinator that is the only one: the contract, what a killed process leaves, what directories are refused, and a
// database that fails in the middle.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MemoryLevel } from 'memory-level';
import t, { type Test } from 'tap';
import { classicLevel, type Level, levelOf } from '../../../src/catalog/level.js';
import { LevelStore } from '../../../src/coordinator/level-store.js';
import { byEffort } from '../../support/effort.js';
import { operationOf, routeOf, storeContract } from '../../support/store-contract.js';
import { until } from '../../support/waiting.js';

t.test('the contract, in LevelDB', (t) =>
  storeContract(t, async (t) => {
    const directory = path.join(t.testdir(), 'state');
    let open = await LevelStore.open(directory);
    t.teardown(() => open.close());
    const reopen = async () => {
      await open.close();
      open = await LevelStore.open(directory);
      return open;
    };
    return { store: open, reopen, rival: null };
  }),
);

t.test('what was answered is there after kill -9', async (t) => {
  const directory = path.join(t.testdir(), 'state');
  const writer = fileURLToPath(new URL('../../support/level-writer.js', import.meta.url));
  const answered = new Set<string>();
  for (let life = 0; life < byEffort({ quick: 1, normal: 3, long: 20 }); life++) {
    const before = answered.size;
    const child = spawn(process.execPath, [writer, directory, `${life * 1_000_000 + 1}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes;
      const lines = text.split('\n');
      text = lines.pop()!;
      for (const line of lines) answered.add(line);
    });
    const over = once(child, 'close');
    await until('some answers', () => answered.size > before + 200 || child.exitCode !== null);
    child.kill('SIGKILL');
    await over;
  }
  const store = await LevelStore.open(directory);
  for (const line of answered) {
    const [what, number] = line.split(' ') as [string, string];
    const route = await store.route(routeOf(Number(number)).volume);
    if (what === 'created') t.ok(route, line);
    if (what === 'replaced') t.match(route, { gen: 2, name: `renamed ${number}` }, line);
    if (what === 'put') t.ok(await store.get('operation', `a${number}`), line);
  }
  const keys = new Map((await store.list('operation')).map(({ id }) => [id, 0]));
  for (const { id } of await store.list('operation')) keys.set(id, keys.get(id)! + 1);
  t.ok(
    [...keys.values()].every((count) => count === 2),
    'two that were put together are both there or neither is',
  );
  t.comment(`${answered.size} answers, ${(await store.routes(null, 1e6)).length} routes`);
  await store.close();
});

t.test('a directory belongs to one process', async (t) => {
  const directory = path.join(t.testdir(), 'state');
  const store = await LevelStore.open(directory);
  await t.rejects(LevelStore.open(directory), {
    code: 'coordinator-state-locked',
    message: `The state ${directory} is in use by another process.`,
  });
  await store.close();
  await (await LevelStore.open(directory)).close();
});

/** Writes a record by hand. */
async function byHand(directory: string, key: string, value: string): Promise<void> {
  const level = classicLevel(directory);
  await level.open();
  await level.batch([{ type: 'put', key: Buffer.from(key), value: Buffer.from(value) }]);
  await level.close();
}

t.test('what is something else is refused in one sentence and left alone', async (t) => {
  const root = t.testdir({
    files: { 'letter.txt': 'dear' },
    file: 'not a directory',
    store: { metadata: {}, extents: {}, journal: '' },
  });
  const place = (name: string) => path.join(root, name);
  const code = 'coordinator-state-foreign';
  for (const name of ['files', 'file', 'store'])
    await t.rejects(
      LevelStore.open(place(name)),
      { code, message: /holds other things and is not the state of a coordinator\.$/ },
      name,
    );
  t.same(readdirSync(place('files')), ['letter.txt']);
  await byHand(place('level'), 'whatever', 'x');
  await t.rejects(LevelStore.open(place('level')), { code }, 'another LevelDB');
  await byHand(place('words'), 'format', 'x');
  await t.rejects(LevelStore.open(place('words')), { code }, 'another idea of a format');
});

t.test('a newer format is refused', async (t) => {
  const directory = path.join(t.testdir(), 'state');
  await byHand(directory, 'format', '{"cellblockCoordinator":2}');
  await t.rejects(LevelStore.open(directory), {
    code: 'coordinator-state-newer',
    facts: { format: 2, known: 1 },
  });
});

t.test('a making that was cut short is made good', async (t) => {
  const root = t.testdir({ state: { LOCK: '', LOG: '', 'lost+found': {} }, empty: {} });
  for (const name of ['state', 'empty', 'deep/er']) {
    const store = await LevelStore.open(path.join(root, name));
    t.equal(await store.createRoute(routeOf(1)), 'stored');
    await store.close();
  }
  const level = classicLevel(path.join(root, 'made'));
  await level.open();
  await level.close();
  await (await LevelStore.open(path.join(root, 'made'))).close();
});

t.test(
  'a directory nobody may write is said to be one',
  { skip: process.getuid?.() === 0 && 'root may write everywhere' },
  async (t) => {
    const root = t.testdir({ closed: {} });
    chmodSync(path.join(root, 'closed'), 0o500);
    await t.rejects(LevelStore.open(path.join(root, 'closed/state')), { code: 'permission-denied' });
  },
);

t.test('damaged records are told, with their key', async (t) => {
  const root = t.testdir();
  const cases: Record<string, [string, string]> = {
    'no JSON': [`route/${routeOf(1).volume}`, '{'],
    'no route': [`route/${routeOf(1).volume}`, '{"volume":"x"}'],
    'a route of another': [`route/${routeOf(1).volume}`, JSON.stringify(routeOf(2, { gen: 1 }))],
    'a name twice': [`route/${routeOf(2).volume}`, JSON.stringify(routeOf(2, { gen: 1, name: 'v7' }))],
  };
  for (const [name, [key, value]] of Object.entries(cases)) {
    const directory = path.join(root, name);
    const store = await LevelStore.open(directory);
    await store.createRoute(routeOf(7));
    await store.close();
    await byHand(directory, key, value);
    await t.rejects(LevelStore.open(directory), { code: 'coordinator-state-corrupt' }, name);
  }
  const directory = path.join(root, 'record');
  await (await LevelStore.open(directory)).close();
  await byHand(directory, 'record/cell/east', 'null');
  const store = await LevelStore.open(directory);
  await t.rejects(store.get('cell', 'east'), {
    code: 'coordinator-state-corrupt',
    message: /record\/cell\/east/,
  });
  await store.close();
  mkdirSync(path.join(root, 'torn'));
  writeFileSync(path.join(root, 'torn', 'CURRENT'), 'MANIFEST-000099\n');
  await t.rejects(LevelStore.open(path.join(root, 'torn')), { code: /coordinator-state-(corrupt|failed)/ });
});

/** A database in memory that survives being closed, and fails when a test says so. */
class FailingLevel {
  readonly level: Level;
  /** What becomes of the next batches: nothing of it is done, or all of it, and then it fails. */
  readonly fates: ('undone' | 'done')[] = [];
  opens = true;

  constructor() {
    const options = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
    const database = new MemoryLevel<Buffer, Buffer>(options);
    this.level = levelOf(database as unknown as Parameters<typeof levelOf>[0]);
    const { batch, open } = this.level;
    this.level.batch = async (operations) => {
      const fate = this.fates.shift();
      if (fate !== 'undone') await batch.call(this.level, operations);
      if (fate) throw new Error('the disk is tired');
    };
    this.level.open = async () => {
      if (!this.opens) throw new Error('the disk is gone');
      await open.call(this.level);
    };
  }
}

async function failing(t: Test): Promise<{ disk: FailingLevel; store: LevelStore }> {
  const disk = new FailingLevel();
  await disk.level.open();
  const store = await LevelStore.over(disk.level, 'memory');
  t.teardown(() => store.close());
  await store.createRoute(routeOf(1));
  return { disk, store };
}

t.test('a batch that failed and is there was stored', async (t) => {
  const { disk, store } = await failing(t);
  disk.fates.push('done');
  t.match(await store.replaceRoute(routeOf(1, { gen: 1, name: 'x' })), { stored: true, route: { gen: 2 } });
  t.equal((await store.routeNamed('x'))?.gen, 2);
  disk.fates.push('done');
  await store.put([{ kind: 'operation', key: 'a', value: operationOf(1) }]);
  disk.fates.push('done');
  t.equal(await store.removeRoute(routeOf(1).volume, 2), true);
});

t.test('a batch that failed and is not there was not stored', async (t) => {
  const { disk, store } = await failing(t);
  const code = { code: 'coordinator-state-failed', message: /the disk is tired/ };
  disk.fates.push('undone', 'undone', 'undone');
  await t.rejects(store.replaceRoute(routeOf(1, { gen: 1 })), code);
  await t.rejects(store.createRoute(routeOf(2)), code);
  await t.rejects(store.removeRoute(routeOf(1).volume, 1), code);
  t.equal(await store.route(routeOf(2).volume), null);
  t.match(await store.replaceRoute(routeOf(1, { gen: 1 })), { stored: true, route: { gen: 2 } });
  t.equal(await store.createRoute(routeOf(2)), 'stored');
});

t.test(
  'nothing is read or written while the database cannot be opened, and then all is as it is there',
  async (t) => {
    for (const fate of ['done', 'undone'] as const) {
      const { disk, store } = await failing(t);
      disk.fates.push(fate);
      disk.opens = false;
      await t.rejects(store.replaceRoute(routeOf(1, { gen: 1 })), { code: 'coordinator-state-uncertain' });
      const code = { code: 'coordinator-state-failed', message: /the disk is gone/ };
      await t.rejects(store.route(routeOf(1).volume), code);
      await t.rejects(store.routeNamed('v1'), code);
      await t.rejects(store.routes(null, 1), code);
      await t.rejects(store.get('operation', 'a'), code);
      await t.rejects(store.put([{ kind: 'operation', key: 'a', value: null }]), code);
      disk.opens = true;
      t.equal((await store.route(routeOf(1).volume))?.gen, fate === 'done' ? 2 : 1, fate);
    }
  },
);

t.test('many that write and read while the database fails are each told what became of theirs', async (t) => {
  const { disk, store } = await failing(t);
  const ends = await Promise.allSettled(
    Array.from({ length: 60 }, async (_, index) => {
      const number = index + 10;
      if (index % 7 === 0) disk.fates.push(index % 2 === 0 ? 'done' : 'undone');
      await store.route(routeOf(number).volume);
      return store.createRoute(routeOf(number));
    }),
  );
  for (const [index, end] of ends.entries()) {
    const route = await store.route(routeOf(index + 10).volume);
    if (end.status === 'fulfilled') t.equal(end.value === 'stored', route !== null);
    else t.match([end.reason, route], [{ code: 'coordinator-state-failed' }, null]);
  }
  t.ok(ends.some(({ status }) => status === 'rejected'));
});

t.test('a store that is closed says so', async (t) => {
  const store = await LevelStore.open(path.join(t.testdir(), 'state'));
  await Promise.all([store.close(), store.close()]);
  const code = { code: 'coordinator-state-closed' };
  await t.rejects(store.route('x'), code);
  await t.rejects(store.get('cell', 'x'), code);
  await t.rejects(store.put([{ kind: 'cell', key: 'x', value: null }]), code);
});
