// What the control API of a host does with volumes of cells, and what it leaves to the coordinator.

import t from 'tap';
import { CellHost, idOf, MOVE, VOLUME } from '../../support/cell-host.js';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { testIdentity } from '../../support/test-identity.js';

const S1 = idOf(1);

t.test('what belongs to the lineage, or is the same everywhere, is refused with what to do', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  await host.claimed();
  const routed = { code: 'volume-routed', message: /belongs to a cell/, hint: /--via coordinator|clone/ };
  await t.rejects(operations.createSnapshots([{ volume: 'v', snapshot: 's' }]), routed);
  await t.rejects(operations.resizeVolume('v', { sizeBytes: 1n << 20n }), routed);
  await t.rejects(operations.deleteVolume('v', { withSnapshots: true }), routed);
  await t.rejects(operations.renameVolume('v', 'w'), routed);
  await operations.vms.create('m', '{"name":"m"}', [{ slot: 'a', volume: 'v' }]).catch(() => undefined);
  if (operations.vms.list().length > 0) {
    await t.rejects(operations.vms.snapshot('m', 's'), routed);
    await t.rejects(operations.vms.delete('m', { withDisks: true }), routed);
  }
  await operations.createVolume('plain', { sizeBytes: 65536n });
  await t.rejects(
    operations.createSnapshots([
      { volume: 'plain', snapshot: 's' },
      { volume: 'v', snapshot: 's' },
    ]),
    routed,
    'in a group too',
  );
  t.strictSame(operations.listSnapshots(), []);
  await t.resolves(operations.setAccess('v', { allow: ['uid:0'] }), 'who may open it is this host’s');
  await host.store.end();
});

t.test('--local: the seq goes on, in one instant with others, and the coordinator is told', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  await host.claimed();
  await operations.createVolume('plain', { sizeBytes: 65536n });
  await host.snapshot('one', S1);
  const [two] = await operations.createSnapshots(
    [
      { volume: 'v', snapshot: 'two' },
      { volume: 'plain', snapshot: 'two' },
    ],
    { local: true },
  );
  t.match(await host.cells.probe(VOLUME, []), {
    lineageHead: { id: two!.id, seq: 2 },
    lineage: { 1: S1, 2: two!.id },
  });
  t.match(host.events, [{ name: 'snapshot-taken', through: { id: two!.id, seq: 2 } }]);
  t.match(
    await host.cells.volumes(),
    [{ id: VOLUME, epoch: 1, head: { seq: 2 }, state: 'ACTIVE' }],
    'as the next hello says',
  );
  await host.command({ do: 'fence', releasedTo: 2 });
  await t.rejects(operations.createSnapshots([{ volume: 'v', snapshot: 'three' }], { local: true }), {
    code: 'volume-not-served',
  });
  await host.store.end();
});

t.test('snapshots of the lineage stay while a move is under way, and go when it is over', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  await host.claimed();
  await host.snapshot('one', S1);
  const gone = [{ volume: 'v', snapshot: 'one' }];
  await t.rejects(operations.deleteSnapshots(gone), { code: 'snapshot-pinned', message: /the last one/ });
  await host.snapshot('two', idOf(2));
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  await t.rejects(operations.deleteSnapshots(gone), { code: 'snapshot-pinned', message: /OUTGOING/ });
  await host.command({ do: 'stay-here', epoch: 1, move: MOVE });
  await t.resolves(operations.deleteSnapshots(gone));
  t.match(
    await host.cells.probe(VOLUME, []),
    { lineageHead: { seq: 2 }, lineage: { 1: S1 } },
    'its id stays',
  );
  t.equal((await host.snapshot('three', idOf(3))).kind, 'done');
  await host.store.end();
});

t.test('what expires is kept as long as a move needs it', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  const { expiry } = operations.parts;
  await host.claimed();
  await operations.createSnapshots([{ volume: 'v', snapshot: 'one' }], {
    local: true,
    expires: '2024-01-01T00:00:00.000Z',
  });
  await expiry.look(Date.now());
  t.equal(operations.listSnapshots('v').length, 1, 'and as long as it is the last one');
  await host.snapshot('two', idOf(2));
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  await expiry.look(Date.now());
  t.equal(operations.listSnapshots('v').length, 2);
  await host.command({ do: 'stay-here', epoch: 1, move: MOVE });
  await expiry.look(Date.now());
  t.equal(operations.listSnapshots('v').length, 1);
  await host.store.end();
});

t.test('a sync by the owner changes no lineage; by a former owner it is refused', async (t) => {
  const host = await CellHost.make({ identity: async () => testIdentity() });
  const { operations } = host.store;
  await host.claimed();
  await host.snapshot('one', S1);
  await operations.createVolume('source', { sizeBytes: 65536n });
  await host.write(1, [42], 'source');
  await operations.createSnapshots([{ volume: 'source', snapshot: 's' }]);
  await operations.syncs.sync('v', { volume: 'source', snapshot: 's' }, PLAIN_SYNC);
  t.match(await host.cells.probe(VOLUME, []), { lineageHead: { id: S1, seq: 1 }, dirtySinceHead: true });
  t.equal((await host.store.readAll('v'))[1], 42);
  await host.snapshot('two', idOf(2));
  await host.restart('process-death');
  const { operations: now } = host.store;
  t.match(
    (await host.cells.describe(VOLUME, null)).snapshots,
    [
      { id: S1, seq: 1, base: null },
      { id: idOf(2), seq: 2, base: null },
    ],
    'the data continue those of a volume that no cell knows; its undo point is nobody’s',
  );
  await host.cells.claim(idOf(0xbee), 'source');
  const source = now.listSnapshots('source')[0]!;
  t.match((await host.cells.describe(VOLUME, S1)).snapshots, [
    { id: idOf(2), base: { volume: idOf(0xbee), snapshot: source.id } },
  ]);
  await host.command({ do: 'fence', releasedTo: 2 });
  await t.rejects(now.syncs.sync('v', { volume: 'source', snapshot: 's' }, PLAIN_SYNC), {
    code: 'volume-not-served',
  });
  await t.resolves(
    now.clone({ volume: 'v', snapshot: 'two' }, 'c'),
    'a clone of a snapshot is a volume of this host',
  );
  t.equal(now.showVolume('c').cell, null);
  t.equal((await host.store.readAll('c'))[1], 42);
  await host.store.end();
});
