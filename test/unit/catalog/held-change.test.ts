// What a change notes of lines, files and counters is written as it is when the change is handed in, not as it was when noted.
import t from 'tap';
import { Catalog } from '../../../src/catalog/catalog.js';
import type { Level } from '../../../src/catalog/level.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';

const SIZE = blocksBytes(600 * BLOCKS);

/** Stops the next getMany until `go` is called. */
function gate(store: Store): { reached: Promise<void>; go(): void } {
  let go!: () => void;
  let reach!: () => void;
  const opened = new Promise<void>((r) => (go = r));
  const reached = new Promise<void>((r) => (reach = r));
  const real = store.level.getMany.bind(store.level);
  let first = true;
  (store.level as Level).getMany = async (keys) => {
    if (first) {
      first = false;
      reach();
      await opened;
    }
    return real(keys);
  };
  return { reached, go };
}

t.test('counters: a round that waits for LevelDB does not take back what others reserved', async (t) => {
  const store = await Store.make();
  let { operations } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await store.restart('clean');
  operations = store.operations;
  const { devices, rounds } = operations.parts;
  const a = await store.plane.connect('a');
  const round = () => devices.mutexOf(1).run(() => rounds.run(devices.current(1)!));
  await a.write(BLOCKS * 2, [2]);
  await a.write(BLOCKS * 3, [3]);
  await round();
  // TRIM frees what the round before stored (a pending punch takes a number), then the round reads what window 3 was.
  await a.trim(BLOCKS * 2, BLOCKS * 4);
  await a.write(BLOCKS * 3, [5]);
  const { reached, go } = gate(store);
  const second = round();
  await reached;
  const clone = await operations.clone({ volume: 'a', snapshot: 's' }, 'clone');
  go();
  await second;
  await store.restart('process-death');
  const other = await store.operations.createVolume('other', { sizeBytes: SIZE });
  t.not(other.id, clone.id, 'no id is given twice');
  await store.restart('process-death');
  t.same(
    store.operations.listVolumes().map(({ name }) => name),
    ['a', 'clone', 'other'],
  );
  await store.end();
});

t.test('lines: a snapshot deleted while a round waits for LevelDB stays deleted, not lost', async (t) => {
  const store = await Store.make();
  const { operations } = store;
  await operations.createVolume('a', { sizeBytes: SIZE });
  const a = await store.plane.connect('a');
  await a.write(0, [1]);
  await operations.createSnapshots([{ volume: 'a', snapshot: 's' }]);
  await operations.parts.devices
    .mutexOf(1)
    .run(() => operations.parts.rounds.run(operations.parts.devices.current(1)!));
  // A trim of many windows, then a window that compares: the round notes the cut-off and waits for getMany.
  await a.trim(BLOCKS * 2, BLOCKS * 4);
  await a.write(BLOCKS * 3, [5]);
  const { reached, go } = gate(store);
  const round = operations.parts.devices
    .mutexOf(1)
    .run(() => operations.parts.rounds.run(operations.parts.devices.current(1)!));
  await reached;
  // Reclaiming it waits for the mutex the round holds.
  await operations.deleteSnapshots([{ volume: 'a', snapshot: 's' }]);
  let killed = false;
  store.level.onBatch = (when) => {
    // The process dies right after the round's line record is durable.
    if (when === 'after' && !killed) {
      killed = true;
      store.die('process-death');
    }
  };
  const survived = store.survive(() => round);
  go();
  t.equal(await survived, 'died');
  await store.start();
  t.same(store.operations.listSnapshots('a'), []);
  const values = await store.readAll('a');
  t.equal(values[0], 1, 'the block the snapshot held is read');
  await store.settle();
  t.equal((await store.readAll('a'))[0], 1);
  t.same(
    store.troubles.filter(({ level }) => level === 'error').map(({ message }) => message),
    [],
  );
  await store.end();
});
void Catalog;
