// Scenarios of HAZARDS.md in which TypeScript has a part of its own, each named after its number there: parts A and B.

import t from 'tap';
import { parseWindowKey } from '../../../src/model/keys.js';
import type { FaultRecord } from '../../../src/plane/treaty.js';
import { byEffort } from '../../support/effort.js';
import { turns } from '../../support/late-level.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const SIZE = blocksBytes(6 * BLOCKS);
const ALL = 6 * BLOCKS;

function numbers(count: number, from: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

/** A volume whose snapshot s has all blocks, and whose current map has some of them again. */
async function furnished(): Promise<{ store: Store; wanted: number[]; snapshot: number[] }> {
  const store = await Store.make();
  await store.operations.createVolume('a', { sizeBytes: SIZE });
  const session = await store.plane.connect('a');
  const snapshot = numbers(ALL, 100);
  await session.write(0, snapshot);
  await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  const wanted = [...snapshot];
  for (const block of [1, BLOCKS + 1, 2 * BLOCKS]) {
    await session.write(block, [block + 1000]);
    wanted[block] = block + 1000;
  }
  await session.trim(3 * BLOCKS, 2);
  wanted.fill(0, 3 * BLOCKS, 3 * BLOCKS + 2);
  session.flush();
  session.close();
  return { store, wanted, snapshot };
}

async function round(store: Store, name: string): Promise<void> {
  const { devices, rounds } = store.operations.parts;
  const device = devices.current(store.operations.showVolume(name).id)!;
  await devices.mutexOf(device.container).run(() => rounds.run(device));
}

/** Holds back every punch until the answer is called. */
function holdPunches(store: Store): () => void {
  const held: (() => void)[] = [];
  const { plane } = store;
  const punch = plane.punch.bind(plane);
  plane.punch = (ticket, ranges) => void held.push(() => punch(ticket, ranges));
  return () => {
    plane.punch = punch;
    for (const one of held.splice(0)) one();
  };
}

t.test(
  'A3: a snapshot taken in the middle of a merge reads as it must, and so does its target',
  async (t) => {
    for (const how of ['process-death', 'power-loss', 'clean'] as const) {
      const { store, wanted } = await furnished();
      let taken: Promise<unknown> | null = null;
      store.plane.onStep = (step) => {
        if (step === 'adopt') taken ??= store.operations.createSnapshots([{ volume: 'a', snapshot: 'n' }]);
      };
      await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
      await store.settle();
      t.ok(taken, 'it was taken while the data plane took the deleted one over');
      await taken;
      await store.restart(how);
      t.strictSame(await store.readAll('a@n'), wanted, `the snapshot, ${how}`);
      t.strictSame(await store.readAll('a'), wanted, `the volume, ${how}`);
      await store.settle();
      t.strictSame(await store.readAll('a@n'), wanted, 'and when all had ended');
      await store.end();
    }
  },
);

t.test(
  'A3: adopted, and the round that should bring it fails: nothing is lost, and it is done again',
  async (t) => {
    for (const how of ['process-death', 'power-loss', 'clean'] as const) {
      const { store, wanted } = await furnished();
      let failed = false;
      store.plane.onStep = (step) => {
        if (step !== 'adopt' || failed) return;
        failed = true;
        store.level.failures = numbers(3, 0).map(() => ({ applied: false }));
      };
      await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
      await store.settle();
      t.ok(failed, 'the round failed');
      t.equal(store.operations.status().pendingDeletes, 1, 'the snapshot is still to be freed');
      t.strictSame(await store.readAll('a'), wanted, 'read in between');
      await store.restart(how);
      t.strictSame(await store.readAll('a'), wanted, how);
      await store.settle();
      t.equal(store.operations.status().pendingDeletes, 0, 'it is freed');
      for (const device of store.operations.parts.devices.all()) store.plane.evict(device.handle);
      t.strictSame(await store.readAll('a'), wanted, 'and when all had ended');
      await store.end();
    }
  },
);

t.test('A5 (a): a covered block is punched after its batch is durable and a grace period', async (t) => {
  const { store } = await furnished();
  const { plane } = store;
  const events: string[] = [];
  store.level.onBatch = (when) => void (when === 'after' && events.push('batch'));
  const grace = plane.grace.bind(plane);
  let readers: (() => void) | null = null;
  plane.grace = (ticket) => {
    events.push('grace asked');
    readers = () => grace(ticket);
  };
  plane.onStep = (step) => void (step === 'punch' && events.push('punch'));
  const task = await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.operations.waitForTask(task.id);
  await turns(20);
  t.equal(events.includes('punch'), false, 'not while somebody may read what he looked up before');
  const asked = events.indexOf('grace asked');
  t.ok(asked > 0 && events.slice(0, asked).includes('batch'), 'the batch came first');
  plane.grace = grace;
  readers!();
  await store.settle();
  t.ok(events.indexOf('punch') > asked, 'then it is');
  t.equal(plane.punched, 5, 'what is covered and nothing else');
  await store.end();
});

t.test('A5 (c): a punch that comes late destroys nothing that was written since', async (t) => {
  const { store, wanted } = await furnished();
  const letPunch = holdPunches(store);
  const task = await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.operations.waitForTask(task.id);
  const session = await store.plane.connect('a');
  // Covered, adopted, and zero: trimmed, and written again before the punches fire.
  for (const block of [1, 2, 3 * BLOCKS, 5 * BLOCKS]) {
    await session.trim(block, 1);
    await session.write(block, [block + 5000]);
    wanted[block] = block + 5000;
  }
  session.flush();
  await round(store, 'a');
  t.ok(store.operations.status().pendingPunches > 0, 'they are pending');
  letPunch();
  await store.settle();
  t.equal(store.operations.status().pendingPunches, 0, 'they are done');
  t.strictSame(await store.readAll('a'), wanted);
  await store.restart('power-loss');
  t.strictSame(await store.readAll('a'), wanted, 'after power loss');
  await store.end();
});

t.test('A5 (d): a crash between the batch and its punch leaks nothing', async (t) => {
  for (const how of ['process-death', 'power-loss'] as const) {
    const { store, wanted } = await furnished();
    store.plane.onStep = (step) => {
      if (step === 'punch') store.die(how);
    };
    const slot = 1n << 24n;
    t.equal(store.disk.read(slot, 1), 101, 'the covered block is there');
    const outcome = await store.survive(async () => {
      await store.operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
      await store.settle();
    });
    t.equal(outcome, 'died');
    await store.start();
    await store.settle();
    t.equal(store.operations.status().pendingPunches, 0);
    t.equal(store.disk.read(slot, 1), 0, `it is freed by the next start, ${how}`);
    t.strictSame(await store.readAll('a'), wanted);
    await store.end();
  }
});

t.test(
  'A8 (c): LevelDB refuses the batch of a snapshot that was answered: it stands all the same',
  async (t) => {
    for (const how of ['heals', 'process-death', 'power-loss'] as const) {
      const { store, wanted } = await furnished();
      store.level.failures = numbers(4, 0).map(() => ({ applied: false }));
      if (how !== 'heals') {
        let batches = 0;
        store.level.onBatch = () => void (++batches === 3 && store.die(how));
      }
      const outcome = await store.survive(async () => {
        await store.operations.createSnapshots([{ volume: 'a', snapshot: 'n' }]);
        // Whatever is asked of it now is behind its batch.
        await store.operations.parts.catalog.barrier();
      });
      t.equal(outcome, how === 'heals' ? 'ended' : 'died');
      if (how !== 'heals') await store.start();
      t.strictSame(await store.readAll('a@n'), wanted, how);
      const session = await store.plane.connect('a');
      await session.write(0, [7]);
      t.strictSame(await store.readAll('a@n'), wanted, 'and does not change');
      await store.end();
    }
  },
);

t.test(
  'A11: a disk so full that the database cannot be reopened: nothing is lost, all goes on afterwards',
  async (t) => {
    const { store, wanted } = await furnished();
    const open = store.level.open.bind(store.level);
    let full = true;
    store.level.open = async () => {
      if (full) throw new Error('IO error: No space left on device');
      return open();
    };
    store.level.failures = [{ applied: false }];
    await t.rejects(round(store, 'a'), { code: 'catalog-write-failed' }, 'a round is told');
    await t.rejects(store.operations.createVolume('b', { sizeBytes: SIZE }), {
      code: 'catalog-write-failed',
    });
    t.equal(store.operations.status().state, 'healing');
    const session = store.plane.volumes.get(1)!;
    await session.write(1, [77]);
    session.flush();
    wanted[1] = 77;
    t.strictSame(await session.read(0, 4), wanted.slice(0, 4), 'reads, overwrites and flushes go on');
    full = false;
    await until('the metadata', () => !store.operations.parts.queue.healing);
    await round(store, 'a');
    await store.restart('power-loss');
    t.strictSame(await store.readAll('a'), wanted);
    t.ok(
      store.operations.listVolumes().some(({ name }) => name === 'b'),
      'what was queued was written',
    );
    await store.end();
  },
);

t.test('A11: no batch has more than 10,000 operations or 4 MiB, however much is done at once', async (t) => {
  const windows = byEffort({ quick: 3000, normal: 6000, long: 11_000 });
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: blocksBytes(windows * BLOCKS) });
  const session = await store.plane.connect('a');
  const writeAll = async (value: number): Promise<void> => {
    for (let window = 0; window < windows; window++) await session.write(window * BLOCKS, [value, value]);
  };
  await writeAll(1);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  for (let window = 0; window < windows; window++) await session.write(window * BLOCKS + 1, [2]);
  await round(store, 'a');
  await operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.settle();
  await session.trim(0, windows * BLOCKS);
  await round(store, 'a');
  await writeAll(3);
  const before = store.level.log;
  await store.restart('process-death');
  await store.operations.deleteVolume('a');
  await store.settle();
  const all = [...before, ...store.level.log];
  t.ok(Math.max(...all.map((batch) => batch.length)) > 1000, 'some were large');
  for (const batch of all) {
    const bytes = batch.reduce(
      (sum, one) => sum + one.key.length + (one.type === 'put' ? one.value.length : 0),
      0,
    );
    if (batch.length > 10_000 || bytes > 4 << 20)
      t.fail(`a batch of ${batch.length} operations, ${bytes} bytes`);
  }
  await store.end();
});

t.test('A12: shrink, then grow, over a base: what lay behind the end does not come back', async (t) => {
  const { store, snapshot } = await furnished();
  const { operations } = store;
  await operations.clone({ volume: 'a', snapshot: 's' }, 'c');
  for (const how of ['process-death', 'power-loss', 'clean'] as const) {
    await operations.parts.catalog.barrier();
    await store.operations.resizeVolume('c', { sizeBytes: blocksBytes(BLOCKS + 3), force: true });
    await store.operations.resizeVolume('c', { sizeBytes: SIZE });
    const wanted = snapshot.map((value, block) => (block < BLOCKS + 3 ? value : 0));
    t.strictSame(await store.readAll('c'), wanted, 'at once');
    await store.restart(how);
    t.strictSame(await store.readAll('c'), wanted, how);
    await store.settle();
  }
  t.strictSame(await store.readAll('a@s'), snapshot, 'the snapshot keeps it');
  await store.end();
});

t.test('A12: a shrink that failed takes nothing of the base away, nor does the next start', async (t) => {
  const { store, snapshot } = await furnished();
  await store.operations.clone({ volume: 'a', snapshot: 's' }, 'c');
  const { plane } = store;
  const resize = plane.resize.bind(plane);
  plane.resize = (ticket) => plane.emit({ kind: 'done', ticket, error: 28 });
  const less = { sizeBytes: blocksBytes(BLOCKS), force: true };
  await t.rejects(store.operations.resizeVolume('c', less), { code: 'no-space' });
  plane.resize = resize;
  t.strictSame(await store.readAll('c'), snapshot, 'at once');
  for (const how of ['process-death', 'power-loss', 'clean'] as const) {
    await store.restart(how);
    t.strictSame(await store.readAll('c'), snapshot, how);
  }
  await store.operations.resizeVolume('c', less);
  await store.operations.resizeVolume('c', { sizeBytes: SIZE });
  t.strictSame(
    await store.readAll('c'),
    snapshot.map((value, block) => (block < BLOCKS ? value : 0)),
    'then it works',
  );
  await store.end();
});

t.test('B13: a region of windows under a thousand versions is one scan', async (t) => {
  const store = await Store.make();
  const { operations, plane } = store;
  await operations.createVolume('a', { sizeBytes: blocksBytes(64 * BLOCKS) });
  const session = await plane.connect('a');
  for (let version = 1; version <= 1000; version++) {
    await session.write((version % 64) * BLOCKS, [version]);
    await operations.createSnapshots([{ volume: 'a', snapshot: `s${version}` }]);
  }
  await round(store, 'a');
  t.ok(operations.showVolume('a').depth >= 1, 'one line');
  const calls: string[] = [];
  const { level } = store;
  for (const name of ['get', 'getMany', 'scan'] as const) {
    const real = level[name].bind(level) as (...given: unknown[]) => unknown;
    (level as unknown as Record<string, unknown>)[name] = (...given: unknown[]) => {
      calls.push(name);
      return real(...given);
    };
  }
  const records = await faultOf(store, session.handle, 0n, 64);
  t.strictSame(calls, ['scan']);
  t.equal(new Set(records.map(({ window }) => window)).size, 64, 'for all windows of the region');
  await store.end();
});

/** What the operations answer to a fault of the data plane. */
function faultOf(store: Store, handle: number, first: bigint, count: number): Promise<FaultRecord[]> {
  const { plane } = store;
  const ticket = 777_777;
  const reply = plane.faultReply.bind(plane);
  return new Promise((resolve) => {
    plane.faultReply = (answered, records, error) => {
      if (answered !== ticket) return reply(answered, records, error);
      plane.faultReply = reply;
      resolve(records);
    };
    plane.emit({ kind: 'fault', ticket, handle, first, count });
  });
}

t.test(
  'J13: a fault of a region answers what stood in one instant, whatever a round writes meanwhile',
  async (t) => {
    const store = await Store.make();
    await store.operations.createVolume('a', { sizeBytes: SIZE });
    const session = await store.plane.connect('a');
    await session.write(0, [1]);
    await session.write(5 * BLOCKS, [1]);
    await round(store, 'a');
    const { level } = store;
    const scan = level.scan.bind(level);
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    let held = 0;
    (level as { scan: unknown }).scan = async function* (...given: Parameters<typeof scan>) {
      for await (const page of scan(...given)) {
        if (held++ === 0) await gate;
        for (const entry of page) yield [entry];
      }
    };
    const answer = faultOf(store, session.handle, 0n, 6);
    await turns(5);
    t.equal(held, 1, 'the scan is in the middle');
    const before = await session.volume.takeRound();
    session.volume.roundFailed();
    t.equal(before.records.length, 0);
    await session.write(1, [2]);
    await session.write(5 * BLOCKS + 1, [2]);
    await round(store, 'a');
    go();
    const records = await answer;
    const blocks = records.map(({ record }) => Buffer.from(record!).length);
    t.equal(records.length, 2);
    t.equal(blocks[0], blocks[1], 'both of before');
    (level as { scan: unknown }).scan = scan;
    const later = await faultOf(store, session.handle, 0n, 6);
    t.equal(later.length, 2);
    t.notSame(later[0]!.record, records[0]!.record, 'and the next one what came since');
    t.notSame(later[1]!.record, records[1]!.record);
    await store.end();
  },
);

t.test('A5: a clone of a snapshot that says nothing, in the middle of a merge into it', async (t) => {
  const { store, snapshot } = await furnished();
  const { operations, level } = store;
  await operations.clone({ volume: 'a', snapshot: 's' }, 'b');
  await operations.createSnapshots([{ volume: 'b', snapshot: 'says-nothing' }]);
  await operations.deleteVolume('a', { withSnapshots: true, disconnect: true });
  const { getMany } = level;
  let cloned: Promise<unknown> | null = null;
  // What the snapshot has of its own is looked up: the merge is decided, and not done.
  const { line } = operations.parts.catalog.containerNamed('b')!;
  level.getMany = async (keys, options) => {
    if (parseWindowKey(keys[0]!)?.line === line)
      cloned ??= operations.clone({ volume: 'b', snapshot: 'says-nothing' }, 'c');
    await turns(4);
    return getMany.call(level, keys, options);
  };
  await store.settle();
  level.getMany = getMany;
  t.ok(cloned, 'it came in between');
  await cloned;
  t.same(await store.readAll('c'), snapshot);
  t.same(await store.readAll('b'), snapshot);
  await store.settle();
  t.same(await store.readAll('c'), snapshot, 'when all had ended');
  await store.end();
});

t.test(
  'J4: overwrites before a kill, a snapshot of the volume while nobody has it open, power loss',
  async (t) => {
    const store = await Store.make();
    await store.operations.createVolume('a', { sizeBytes: SIZE });
    const write = async (values: number[]): Promise<void> => {
      const session = await store.plane.connect('a');
      await session.write(0, values);
      session.close();
    };
    await write([1, 2]);
    await store.restart('clean');
    // In place, over blocks that are committed: nothing of it is in the journal.
    await write([3, 4]);
    await store.restart('process-death');
    await store.operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
    await store.restart('power-loss');
    t.same((await store.readAll('a@s')).slice(0, 2), [3, 4], 'what was answered with the snapshot');
    t.same((await store.readAll('a')).slice(0, 2), [3, 4]);
    await store.end();
  },
);
