// Long random histories over several volumes against a small model: whatever is done, in whatever order, with clean stops, process
// deaths and power losses in between, volumes, snapshots and clones read as they must, and deletes leave nothing behind.

import fc from 'fast-check';
import t from 'tap';

import { ALL_WINDOWS } from '../../src/model/keys.js';
import { answerBothWays } from '../support/both-ways.js';
import { metadataErrors, unfinishedSyncs } from '../support/checked.js';
import { BLOCKS, blocksBytes, Store } from '../support/store-harness.js';
import { StoreModel } from '../support/store-model.js';
import { unnoted, writtenLeft } from '../support/written.js';
import { endings, type SyncCommand, SyncSteps, syncCommand } from './sync-steps.js';

t.setTimeout(600_000);

const VOLUME_BLOCKS = 6 * BLOCKS;

type Command =
  | { do: 'write'; volume: number; block: number; count: number }
  | { do: 'trim'; volume: number; block: number; count: number }
  | {
      do: 'flush' | 'round' | 'evict' | 'snapshot' | 'clone' | 'delete-volume' | 'rename' | 'create';
      volume: number;
    }
  | { do: 'delete-snapshot'; volume: number; which: number; wait: boolean }
  | { do: 'group'; volume: number; other: number }
  | { do: 'resize'; volume: number; blocks: number }
  | SyncCommand
  | { do: 'restart'; how: 'clean' | 'process-death' | 'power-loss' };

const volume = fc.nat(7);
const block = fc.nat(VOLUME_BLOCKS - 1);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      volume,
      block,
      count: fc.integer({ min: 1, max: 24 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('trim' as const),
      volume,
      block,
      count: fc.integer({ min: 1, max: 70 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('flush' as const, 'round' as const, 'evict' as const),
      volume,
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('snapshot' as const), volume }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('clone' as const, 'clone' as const, 'rename' as const, 'create' as const),
      volume,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete-volume' as const), volume }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('delete-snapshot' as const),
      volume,
      which: fc.nat(9),
      wait: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('group' as const), volume, other: volume }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      volume,
      blocks: fc.integer({ min: 1, max: VOLUME_BLOCKS }),
    }),
  },
  { weight: 8, arbitrary: syncCommand },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('restart' as const),
      how: fc.constantFrom('clean' as const, 'process-death' as const, 'power-loss' as const),
    }),
  },
);

class History {
  readonly store: Store;
  readonly model = new StoreModel();
  readonly syncs = new SyncSteps(this.model, () => ++this.#value);
  #value = 0;
  #name = 0;

  constructor(store: Store) {
    this.store = store;
    store.options = { identity: this.syncs.identity, holdLimitMs: this.syncs.limit.ms };
  }

  pick(index: number): string | undefined {
    const names = [...this.model.volumes.keys()];
    return names.length > 0 ? names[index % names.length] : undefined;
  }

  newName(prefix: string): string {
    return `${prefix}${++this.#name}`;
  }

  async create(): Promise<void> {
    const name = this.newName('v');
    await this.store.operations.createVolume(name, { sizeBytes: blocksBytes(VOLUME_BLOCKS) });
    this.model.create(name, VOLUME_BLOCKS);
  }

  async run(command: Command): Promise<void> {
    if (command.do === 'restart') return this.#restart(command.how);
    if (command.do === 'create') return this.model.volumes.size < 5 ? this.create() : undefined;
    const name = this.pick(command.volume);
    if (name === undefined) return this.create();
    const { operations, plane } = this.store;
    const model = this.model.volumes.get(name)!;
    switch (command.do) {
      case 'write': {
        const first = command.block % model.blocks.length;
        const count = Math.min(command.count, model.blocks.length - first);
        const values = Array.from({ length: count }, () => ++this.#value);
        const session = await plane.connect(name);
        await session.write(first, values);
        session.close();
        return this.model.write(name, first, values);
      }
      case 'trim': {
        const first = command.block % model.blocks.length;
        const count = Math.min(command.count, model.blocks.length - first);
        const session = await plane.connect(name);
        await session.trim(first, count);
        session.close();
        return this.model.write(
          name,
          first,
          Array.from({ length: count }, () => 0),
        );
      }
      case 'flush': {
        const session = await plane.connect(name);
        session.flush();
        session.close();
        return this.model.flush(name);
      }
      case 'round': {
        const device = operations.parts.devices.current(operations.showVolume(name).id);
        if (device)
          await operations.parts.devices
            .mutexOf(device.container)
            .run(() => operations.parts.rounds.run(device));
        return device && this.model.flush(name);
      }
      case 'evict': {
        const device = operations.parts.devices.current(operations.showVolume(name).id);
        return device && plane.evict(device.handle);
      }
      case 'snapshot': {
        const snapshot = this.newName('s');
        await operations.createSnapshots([{ volume: name, snapshot }]);
        return this.model.snapshot(name, snapshot);
      }
      case 'group': {
        const other = this.pick(command.other)!;
        if (other === name) return;
        const snapshot = this.newName('g');
        await operations.createSnapshots([
          { volume: name, snapshot },
          { volume: other, snapshot },
        ]);
        this.model.snapshot(name, snapshot);
        return this.model.snapshot(other, snapshot);
      }
      case 'clone': {
        const snapshot = [...model.snapshots.keys()].at(-1);
        if (snapshot === undefined || this.model.volumes.size > 5) return;
        const clone = this.newName('c');
        await operations.clone({ volume: name, snapshot }, clone);
        return this.model.clone(name, snapshot, clone);
      }
      case 'delete-snapshot': {
        const names = [...model.snapshots.keys()];
        const snapshot = names[command.which % names.length];
        if (snapshot === undefined) return;
        const task = await operations.deleteSnapshots([{ volume: name, snapshot }]);
        model.snapshots.delete(snapshot);
        if (model.undoPoint === snapshot) model.undoPoint = null;
        if (command.wait) await operations.waitForTask(task.id);
        return;
      }
      case 'delete-volume': {
        await operations.deleteVolume(name, { withSnapshots: true, disconnect: true });
        return void this.model.volumes.delete(name);
      }
      case 'rename': {
        const newName = this.newName('r');
        await operations.renameVolume(name, newName);
        return this.model.rename(name, newName);
      }
      case 'resize': {
        await operations.resizeVolume(name, { sizeBytes: blocksBytes(command.blocks), force: true });
        return this.model.resize(name, command.blocks);
      }
      case 'sync':
        return this.#sync(name, command);
    }
  }

  async #sync(name: string, command: SyncCommand): Promise<void> {
    const source = command.source === null ? null : this.pick(command.source)!;
    await this.syncs.run(this.store, name, source, command);
  }

  async #restart(how: 'clean' | 'process-death' | 'power-loss'): Promise<void> {
    await this.store.restart(how);
    if (how === 'clean') for (const name of this.model.volumes.keys()) this.model.flush(name);
    if (how !== 'power-loss') return;
    for (const name of this.model.volumes.keys()) {
      const wrong = this.model.accept(name, await this.store.readAll(name));
      if (wrong.length > 0)
        throw new Error(`after power loss blocks ${wrong.join(' ')} of ${name} are neither old nor new`);
    }
  }

  async check(): Promise<void> {
    for (const [name, volume] of this.model.volumes) {
      same(await this.store.readAll(name), volume.blocks, name);
      for (const [snapshot, blocks] of volume.snapshots)
        same(await this.store.readAll(`${name}@${snapshot}`), blocks, `${name}@${snapshot}`);
    }
    const missing = await unnoted(this.store.database);
    if (missing.length > 0) throw new Error(`not in the index of written windows: ${missing.join(' ')}`);
    const [wrong] = [...unfinishedSyncs(this.store), ...(await metadataErrors(this.store))];
    if (wrong !== undefined) throw new Error(wrong);
    for (const { message, facts } of this.store.troubles) {
      if (message !== 'changes that were never flushed did not survive')
        throw Object.assign(new Error(message), { cause: facts });
    }
  }
}

function same(read: number[], wanted: number[], what: string): void {
  const wrong = wanted.findIndex((value, index) => read[index] !== value);
  if (wrong >= 0 || read.length !== wanted.length) {
    throw new Error(
      `${what}: block ${wrong} reads ${read[wrong]} instead of ${wanted[wrong]} (${read.length} blocks of ${wanted.length})`,
    );
  }
}

async function recordsLeft(store: Store): Promise<number> {
  let count = 0;
  for await (const page of store.database.scan(ALL_WINDOWS)) count += page.length;
  return count;
}

async function play(commands: readonly Command[]): Promise<void> {
  const store = await Store.make();
  store.started = answerBothWays;
  answerBothWays(store);
  const history = new History(store);
  history.syncs.limit.install();
  try {
    await store.restart('clean');
    await history.create();
    await history.create();
    let step = 0;
    for (const command of commands) {
      await history.run(command);
      if (++step % 5 === 0) await history.check();
    }
    await history.check();
    await store.settle();
    for (const device of store.operations.parts.devices.all()) store.plane.evict(device.handle);
    await history.check();
    await store.restart('clean');
    await history.check();
    for (const name of history.model.volumes.keys())
      await store.operations.deleteVolume(name, { withSnapshots: true, disconnect: true });
    await store.settle();
    const { catalog } = store.operations.parts;
    if (catalog.lines.size > 0 || catalog.containers.size > 0)
      throw new Error('deleted volumes are still there');
    if ((await recordsLeft(store)) > 0) throw new Error('deleted volumes left window records');
    if ((await writtenLeft(store.database)) > 0)
      throw new Error('deleted volumes left parts of the index of written windows');
  } finally {
    history.syncs.limit.uninstall();
    await store.end();
  }
}

const runs = Number(process.env.CELLBLOCK_MODEL_RUNS ?? 60);
const seed =
  process.env.CELLBLOCK_SEED === undefined ? Date.now() & 0x7fffffff : Number(process.env.CELLBLOCK_SEED);

t.test(`random histories agree with the model (CELLBLOCK_SEED=${seed})`, { timeout: 300_000 }, async (t) => {
  t.comment(`seed ${seed}, ${runs} runs; again with CELLBLOCK_SEED=${seed}`);
  await fc.assert(fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 120, size: 'max' }), play), {
    seed,
    numRuns: runs,
    interruptAfterTimeLimit: 120_000,
    endOnFailure: process.env.CELLBLOCK_SHRINK === undefined,
  });
  t.pass('they agree');
  t.comment(`syncs: ${JSON.stringify(Object.fromEntries(endings))}`);
  t.ok(runs < 30 || endings.size === 7, 'syncs ended in every way');
});
