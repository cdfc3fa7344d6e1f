// What a host makes of a coordinator's commands: judged by its record, done, durable over every kind of stop.

import t from 'tap';
import { CellHost, idOf, MOVE, refusalOf, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';

const S1 = idOf(1);
const S2 = idOf(2);
const SEAL = idOf(0x5ea1);

t.test('a claimed volume keeps its snapshots as lineage, and is owned under epoch 1', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  await operations.createVolume('v', { sizeBytes: 65536n });
  for (const snapshot of ['a', 'b', 'c']) await operations.createSnapshots([{ volume: 'v', snapshot }]);
  await operations.deleteSnapshots([{ volume: 'v', snapshot: 'b' }]);
  const { answer } = await host.cells.claim(VOLUME, 'v');
  const [a, c] = operations.listSnapshots('v').map(({ id }) => id);
  t.match(answer, { host: 'h1', cell: 'east', state: 'ACTIVE', epoch: 1, lineageHead: { id: c, seq: 2 } });
  t.strictSame(answer.lineage, { 1: a, 2: c });
  const claimed = { volume: VOLUME, answer };
  t.strictSame(await host.cells.claim(VOLUME, 'v'), claimed, 'asked again it is the same');
  t.strictSame(
    await host.cells.claim(idOf(9), 'v'),
    claimed,
    'under another id too: it keeps the one it has',
  );
  await operations.createVolume('w', { sizeBytes: 65536n });
  await t.rejects(host.cells.claim(VOLUME, 'w'), { code: 'volume-routed' }, 'nor does another one get that');
  await t.rejects(host.cells.claim(idOf(9), 'nothing'), { code: 'volume-not-found' });
  await host.restart('power-loss');
  t.strictSame(await host.cells.probe(VOLUME, []), answer, 'and after power loss');
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('a snapshot is a child of the head under the epoch, once, whatever is asked again', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  t.strictSame(await host.snapshot('one', S1), { kind: 'done', head: { id: S1, seq: 1 } });
  t.strictSame(
    await host.snapshot('one', S1, { parent: null }),
    { kind: 'done', head: { id: S1, seq: 1 } },
    'the same again',
  );
  t.equal(refusalOf(await host.snapshot('two', S2, { parent: null })), 'LINEAGE_MISMATCH');
  t.equal(refusalOf(await host.snapshot('two', S2, { epoch: 7 })), 'STALE_EPOCH');
  await t.rejects(
    host.snapshot('one', S2),
    { code: 'snapshot-exists' },
    'a name that is taken fails, and is no refusal',
  );
  t.match(await host.cells.probe(VOLUME, []), { lineageHead: { id: S1, seq: 1 }, inFlight: null });
  await host.restart('process-death');
  t.strictSame(await host.snapshot('one', S1, { parent: null }), { kind: 'done', head: { id: S1, seq: 1 } });
  t.strictSame(await host.snapshot('two', S2), { kind: 'done', head: { id: S2, seq: 2 } });
  await host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 'one' }]);
  t.strictSame((await host.cells.probe(VOLUME, [])).lineage, { 1: S1, 2: S2 }, 'ids outlive their snapshots');
  await host.store.end();
});

t.test(
  'a snapshot of before is the same one after any number of others, and when it was deleted',
  async (t) => {
    const host = await CellHost.make();
    await host.claimed();
    const ids = Array.from({ length: 20 }, (_, at) => idOf(at + 1));
    for (const [at, id] of ids.entries()) await host.snapshot(`s${at + 1}`, id);
    const last = (await host.cells.probe(VOLUME, [])).lineageHead;
    t.strictSame(await host.snapshot('s1', ids[0]!), { kind: 'done', head: { id: ids[0], seq: 1 } });
    await host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 's2' }]);
    t.strictSame(await host.snapshot('s2', ids[1]!), { kind: 'done', head: { id: ids[1], seq: 2 } });
    t.strictSame((await host.cells.probe(VOLUME, [])).lineageHead, last, 'nothing was taken');
    t.equal((await host.cells.describe(VOLUME, null)).snapshots.length, 19);
    await host.store.end();
  },
);

t.test('while a snapshot is being taken a probe says so, and waits for nothing', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  const session = await host.store.plane.connect('v');
  await session.write(0, [1]);
  let meanwhile: unknown = null;
  host.store.plane.onStep = (step) => {
    if (step === 'cut') meanwhile ??= host.cells.probe(VOLUME, []);
  };
  await host.snapshot('one', S1);
  t.match(await meanwhile, { inFlight: S1, lineageHead: null, state: 'ACTIVE' }, 'of before it');
  t.match(await host.cells.probe(VOLUME, []), { inFlight: null, lineageHead: { id: S1, seq: 1 } });
  session.close();
  await host.store.end();
});

t.test(
  'dirtySinceHead: writes, trims of holes, sizes and syncs count, reads and rounds do not',
  async (t) => {
    const host = await CellHost.make();
    await host.claimed('v', { blocks: 32 });
    const isDirty = async () => (await host.cells.probe(VOLUME, [])).dirtySinceHead;
    t.equal(await isDirty(), false, 'an empty volume without a head');
    await host.write(0, [1]);
    t.equal(await isDirty(), true, 'written, and in the data plane only');
    await host.snapshot('one', S1);
    t.equal(await isDirty(), false, 'right after a snapshot');
    await host.store.readAll('v');
    t.equal(await isDirty(), false, 'read');
    await host.write(0, [2]);
    t.equal(await isDirty(), true, 'overwritten');
    await host.restart('clean');
    t.equal(await isDirty(), true, 'closed, with everything in the metadata');
    await host.snapshot('two', S2);
    t.equal(await isDirty(), false);
    await host.cells.perform({
      volume: VOLUME,
      epoch: 1,
      parent: null,
      operation: { kind: 'resize', sizeBytes: '262144' },
    });
    t.equal(await isDirty(), true, 'grown');
    await host.store.end();
  },
);

t.test(
  'sealed: what was written last is in a hidden snapshot that nobody sees and the puller can open',
  async (t) => {
    const host = await CellHost.make();
    await host.claimed();
    await host.write(0, [11, 12]);
    await host.snapshot('one', S1);
    await host.write(1, [13]);
    t.equal(
      refusalOf(await host.command({ do: 'seal', epoch: 1, id: SEAL })),
      'WRONG_STATE',
      'not of one that stays',
    );
    t.strictSame(await host.seal(SEAL), { kind: 'done', head: { id: S1, seq: 1 } });
    t.strictSame(await host.seal(SEAL), { kind: 'done', head: { id: S1, seq: 1 } }, 'the same again');
    const sealed = {
      state: 'SEALED',
      sealedHead: { id: SEAL, seq: 1 },
      released: null,
      dirtySinceHead: true,
    };
    t.match(await host.cells.probe(VOLUME, []), sealed);
    const { operations, plane } = host.store;
    t.strictSame(
      operations.listSnapshots('v').map(({ name }) => name),
      ['one'],
      'not in the list',
    );
    t.equal(operations.showVolume('v').snapshots, 1, 'nor counted');
    t.strictSame(
      (await plane.list()).map(({ name }) => name),
      ['v@one'],
      'neither it nor the volume is told of over NBD',
    );
    const name = `.carry-${SEAL.slice(0, 16)}`;
    const view = await plane.connect(`v@${name}`, ['one']);
    t.strictSame((await view.read(0, 3)).slice(0, 3), [11, 13, 0]);
    t.strictSame(
      await view.changed(0, 0, 3),
      [false, true, false],
      'with what has changed since the one before',
    );
    view.close();
    await t.rejects(operations.deleteSnapshots([{ volume: 'v', snapshot: name }]), { code: 'name-reserved' });
    await t.rejects(operations.createSnapshots([{ volume: 'v', snapshot: '.carry-1' }], { local: true }));
    await host.restart('power-loss');
    t.match(await host.cells.probe(VOLUME, []), sealed, 'after power loss');
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  },
);

t.test('a sealed volume is opened again by its own head only, and never when it was released', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  await host.write(0, [7]);
  await host.seal(SEAL);
  t.equal(
    refusalOf(await host.command({ do: 'activate', epoch: 2, from: { id: S1, seq: 1 } })),
    'INCOMPLETE',
  );
  t.equal(
    refusalOf(await host.command({ do: 'activate', epoch: 1, from: { id: SEAL, seq: 0 } })),
    'STALE_EPOCH',
  );
  t.equal((await host.command({ do: 'activate', epoch: 2, from: { id: SEAL, seq: 0 } })).kind, 'done');
  t.strictSame((await host.store.readAll('v'))[0], 7);
  await host.write(1, [8]);
  t.match(await host.cells.probe(VOLUME, []), { state: 'ACTIVE', epoch: 2, activatedFrom: { id: SEAL } });
  t.equal((await host.command({ do: 'fence', releasedTo: 3 })).kind, 'done');
  t.equal(refusalOf(await host.command({ do: 'activate', epoch: 4, from: null })), 'RELEASED');
  await t.rejects(host.store.plane.connect('v'), /handed over/);
  await host.store.end();
});

t.test('deleted and purged: the container goes with the record, a tombstone stays, for ever', async (t) => {
  for (const [command, stone] of [
    [
      { do: 'delete', epoch: 1 },
      { epoch: 1, why: 'delete' },
    ],
    [{ do: 'purge' }, { epoch: 1, why: 'purge' }],
  ] as const) {
    const host = await CellHost.make();
    await host.claimed();
    const client = await host.store.plane.connect('v');
    await client.write(0, [1]);
    await host.snapshot('one', S1);
    if (command.do === 'purge') {
      t.equal(refusalOf(await host.command(command)), 'WRONG_STATE', 'an owner is not purged');
      await host.command({ do: 'fence', releasedTo: 2 });
    }
    t.equal((await host.command(command)).kind, 'done');
    t.strictSame(host.store.operations.listVolumes(), []);
    t.match(await host.cells.probe(VOLUME, [1]), { state: 'NONE', tombstone: stone, lineage: {} });
    t.equal((await host.command(command)).kind, 'done', 'asked again');
    await host.restart('process-death');
    t.match(await host.cells.probe(VOLUME, [1]), { state: 'NONE', tombstone: stone, lineage: {} });
    t.equal(
      refusalOf(await host.command({ do: 'receive', move: MOVE, peerCell: 'west' })),
      command.do === 'delete' ? 'WRONG_STATE' : '',
      'what a user has deleted does not come back',
    );
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  }
});

t.test('a volume nobody knows answers NONE', async (t) => {
  const host = await CellHost.make();
  t.match(await host.cells.probe(VOLUME, [1, 2]), { state: 'NONE', epoch: 0, tombstone: null, lineage: {} });
  t.equal(refusalOf(await host.command({ do: 'seal', epoch: 1, id: SEAL })), 'WRONG_STATE');
  t.equal(refusalOf(await host.snapshot('one', S1)), 'WRONG_STATE');
  await host.store.end();
});
