// Deltas that are carried, what an operator decides of a volume, and what a command finds that comes late.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { hiddenName, isHiddenName } from '../../../src/model/names.js';
import { CellHost, idOf, MOVE, refusalOf, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';
import { FakeKernel } from '../../support/fake-kernel.js';

const [S1, SEAL, FORK] = [idOf(1), idOf(0x5ea1), idOf(0xf0)];
const [C1, C2, C3] = [idOf(0xc1), idOf(0xc2), idOf(0xc3)];

const MACHINE = `<domain type='kvm'>
  <name>m</name>
  <uuid>6f1f0e0e-4f7e-4b63-9c55-0d6a9c1b2a10</uuid>
  <devices>
    <disk type='network' device='disk'>
      <source protocol='nbd' name='v'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
`;

function hiddenOf(host: CellHost): string[] {
  const { snapshots } = host.store.operations.parts.catalog;
  return [...snapshots.values()].filter(({ name }) => isHiddenName(name)).map(({ id }) => id);
}

async function owner(): Promise<CellHost> {
  const host = await CellHost.make();
  await host.claimed();
  await host.write(0, [10, 11]);
  await host.snapshot('one', S1);
  await host.write(1, [12]);
  return host;
}

const carry = (host: CellHost, id: string, after: string | null) =>
  host.command({ do: 'carry', epoch: 1, move: MOVE, id, after });

t.test('deltas of a move are carried by hidden snapshots, of which the last two are kept', async (t) => {
  const host = await owner();
  t.equal(refusalOf(await carry(host, C1, null)), 'WRONG_STATE', 'not of one that stays');
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  t.strictSame(await carry(host, C1, null), { kind: 'done', head: { id: S1, seq: 1 } });
  t.strictSame(await carry(host, C1, null), { kind: 'done', head: { id: S1, seq: 1 } }, 'the same again');
  t.equal(refusalOf(await carry(host, C3, null)), 'LINEAGE_MISMATCH', 'another one was carried meanwhile');
  await host.write(2, [13]);
  t.equal((await carry(host, C2, C1)).kind, 'done');
  t.strictSame(hiddenOf(host), [C1, C2]);
  const view = await host.store.plane.connect(`v@${hiddenName(C2)}`, [hiddenName(C1)]);
  t.strictSame((await view.read(0, 3)).slice(0, 3), [10, 12, 13]);
  t.strictSame(await view.changed(0, 0, 3), [false, false, true], 'told since the one before');
  view.close();
  t.equal((await carry(host, C3, C2)).kind, 'done');
  t.strictSame(hiddenOf(host), [C2, C3]);
  t.match(await host.cells.probe(VOLUME, []), {
    state: 'OUTGOING',
    move: { completeThrough: { id: C3, seq: 1 } },
    lineageHead: { id: S1, seq: 1 },
  });
  const facts = (await host.cells.describe(VOLUME, null)).snapshots;
  t.strictSame(
    facts.map(({ id, seq, hidden }) => ({ id, seq, hidden })),
    [
      { id: S1, seq: 1, hidden: false },
      { id: C2, seq: 1, hidden: true },
      { id: C3, seq: 1, hidden: true },
    ],
  );
  t.equal((await host.command({ do: 'stay-here', epoch: 1, move: MOVE })).kind, 'done');
  t.strictSame(hiddenOf(host), [], 'none is needed when it stays');
  t.strictSame((await host.store.readAll('v')).slice(0, 3), [10, 12, 13]);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('adopted: an owner goes on with all it has, also what no snapshot has', async (t) => {
  for (const [before, epoch] of [
    ['active', 7],
    ['faulted', 7],
    ['fenced', 7],
  ] as const) {
    const host = await owner();
    if (before === 'faulted') await host.command({ do: 'fault' });
    if (before === 'fenced') await host.command({ do: 'fence', releasedTo: 6 });
    if (before === 'fenced')
      t.equal(refusalOf(await host.command({ do: 'adopt', epoch: 6 })), 'STALE_EPOCH', 'released to it');
    t.equal((await host.command({ do: 'adopt', epoch })).kind, 'done', before);
    t.equal((await host.command({ do: 'adopt', epoch })).kind, 'done', 'the same again');
    t.match(await host.cells.probe(VOLUME, []), { state: 'ACTIVE', epoch, lineageHead: { id: S1, seq: 1 } });
    t.strictSame((await host.store.readAll('v')).slice(0, 2), [10, 12], `${before}: what it had`);
    await host.write(2, [13]);
    await host.restart('process-death');
    t.match(await host.cells.probe(VOLUME, []), { state: 'ACTIVE', epoch, released: null });
    t.strictSame((await host.store.readAll('v')).slice(0, 3), [10, 12, 13]);
    await host.store.end();
  }
});

t.test('a copy that was never complete is not adopted, nor kept as a fork', async (t) => {
  const host = await CellHost.make();
  await host.command({ do: 'receive', move: MOVE, peerCell: 'west' });
  t.equal(refusalOf(await host.command({ do: 'adopt', epoch: 7 })), 'INCOMPLETE');
  await host.command({ do: 'fault' });
  t.equal(refusalOf(await host.command({ do: 'adopt', epoch: 7 })), 'INCOMPLETE');
  t.equal(refusalOf(await host.command({ do: 'keep-fork', volume: FORK, name: 'fork' })), 'WRONG_STATE');
  await host.store.end();
});

t.test('a fork goes on under another id and another name, with a lineage of its own', async (t) => {
  const host = await owner();
  const keep = (volume: string, name: string) => host.command({ do: 'keep-fork', volume, name });
  await host.seal(SEAL);
  t.equal(refusalOf(await keep(FORK, 'fork')), 'WRONG_STATE', 'it may still be the owner');
  await host.command({ do: 'fence', releasedTo: 2 });
  await host.claimed('other', { id: idOf(0xabc1) });
  await t.rejects(keep(FORK, 'other'), { code: 'volume-exists' });
  await t.rejects(keep(FORK, 'a@b'), { code: 'name-bad-character' });
  t.equal(refusalOf(await keep(idOf(0xabc1), 'fork')), 'WRONG_STATE', 'the id is taken');
  t.match(await host.cells.probe(VOLUME, []), { state: 'SEALED' }, 'nothing has changed');
  t.equal((await keep(FORK, 'fork')).kind, 'done');
  t.equal((await keep(FORK, 'fork')).kind, 'done', 'the same again');
  t.match(await host.cells.probe(VOLUME, [1]), { state: 'NONE', tombstone: { why: 'purge' }, lineage: {} });
  t.match(await host.cells.probe(FORK, []), {
    state: 'ACTIVE',
    epoch: 1,
    lineageHead: { seq: 1 },
    move: null,
  });
  const { lineage } = await host.cells.probe(FORK, []);
  t.notSame(lineage, { 1: S1 }, 'a snapshot belongs to one volume: those of the fork have ids of their own');
  const { catalog } = host.store.operations.parts;
  t.notOk(catalog.snapshots.has(S1));
  t.match(catalog.snapshots.get(lineage[1]!), { name: 'one', container: catalog.containerNamed('fork')!.id });
  t.strictSame(hiddenOf(host), []);
  t.strictSame((await host.store.readAll('fork')).slice(0, 2), [10, 12], 'with what was written last');
  await host.write(1, [14], 'fork');
  t.match(await host.snapshot('two', idOf(2), { volume: FORK }), { head: { seq: 2 } });
  t.match(
    await host.cells.describe(FORK, null),
    { snapshots: [{ base: null }, { base: { volume: FORK, snapshot: lineage[1]! } }] },
    'what continues them names the new ids',
  );
  await t.rejects(host.store.plane.connect('v'));
  await host.restart('power-loss');
  t.match(await host.cells.probe(FORK, []), { lineage: { ...lineage, 2: idOf(2) } });
  t.strictSame((await host.store.readAll('fork@one')).slice(0, 2), [10, 11]);
  t.strictSame((await host.store.readAll('fork')).slice(0, 2), [10, 14]);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('of a volume that is gone without a fork there is nothing to keep', async (t) => {
  const host = await owner();
  await host.command({ do: 'fence', releasedTo: 2 });
  await host.command({ do: 'purge' });
  t.equal(refusalOf(await host.command({ do: 'keep-fork', volume: FORK, name: 'fork' })), 'WRONG_STATE');
  await host.store.end();
});

t.test('a faulted volume is fenced, and readmitted it is sealed', async (t) => {
  const host = await owner();
  await host.command({ do: 'fault' });
  t.equal((await host.command({ do: 'fence', releasedTo: 2 })).kind, 'done');
  t.match(await host.cells.probe(VOLUME, []), { state: 'FAULTED', released: 2 });
  t.equal((await host.command({ do: 'readmit' })).kind, 'done');
  t.match(await host.cells.probe(VOLUME, []), { state: 'SEALED', released: 2 });
  await t.rejects(host.store.plane.connect('v'), /handed over/);
  await host.store.end();
});

t.test('a delete that finds nothing leaves its tombstone: what comes later is refused', async (t) => {
  const host = await CellHost.make();
  t.equal((await host.command({ do: 'delete', epoch: 3 })).kind, 'done');
  await host.restart('power-loss');
  t.match(await host.cells.probe(VOLUME, []), { state: 'NONE', tombstone: { epoch: 3, why: 'delete' } });
  t.equal(refusalOf(await host.command({ do: 'receive', move: MOVE, peerCell: 'west' })), 'WRONG_STATE');
  await host.store.end();
});

t.test('what the kernel has open is neither made a fork nor deleted under it', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-kernel-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const kernel = new FakeKernel(directory);
  const host = await CellHost.make({ kernelRoots: kernel.roots });
  host.store.plane.kernel = kernel;
  await host.claimed();
  await host.snapshot('one', S1);
  await host.snapshot('two', idOf(2));
  const { operations } = host.store;
  const busy = { code: 'kernel-device-in-use' };
  await operations.attach('v@one', {});
  const operation = { kind: 'snapshot-delete', id: S1, name: 'one' } as const;
  await t.rejects(host.cells.perform({ volume: VOLUME, epoch: 1, parent: null, operation }), busy);
  await host.command({ do: 'fence', releasedTo: 2 });
  await t.rejects(host.command({ do: 'forget-snapshot', id: S1 }), busy);
  await t.rejects(host.command({ do: 'keep-fork', volume: FORK, name: 'fork' }), busy, 'attached by its id');
  await operations.detach('v@one', { force: true });
  await host.command({ do: 'readmit' });
  t.equal((await host.command({ do: 'adopt', epoch: 3 })).kind, 'done');
  await operations.attach('v', {});
  await host.command({ do: 'fence', releasedTo: 4 });
  await t.rejects(host.command({ do: 'keep-fork', volume: FORK, name: 'fork' }), busy);
  t.match(await host.cells.probe(VOLUME, []), { state: 'SEALED', lineageHead: { seq: 2 } });
  await operations.detach('v', { force: true });
  t.equal((await host.command({ do: 'keep-fork', volume: FORK, name: 'fork' })).kind, 'done');
  await host.store.end();
});

t.test('no fork is made while a snapshot of several volumes is neither published nor dropped', async (t) => {
  const host = await owner();
  const group = idOf(9);
  await host.cells.group(group, { do: 'quiesce', volumes: [VOLUME], limitMs: 60_000 });
  const parent = { id: S1, seq: 1 };
  await host.cells.group(group, {
    do: 'cut',
    members: [{ volume: VOLUME, epoch: 1, parent, id: idOf(2), name: 'both' }],
    parts: [{ volume: VOLUME, host: 'h1', epoch: 1, snapshot: idOf(2), name: 'both' }],
  });
  await host.cells.group(group, { do: 'resume' });
  await host.command({ do: 'fence', releasedTo: 2 });
  await t.rejects(host.command({ do: 'keep-fork', volume: FORK, name: 'fork' }), { code: 'volume-busy' });
  await host.cells.group(group, { do: 'drop' });
  t.equal((await host.command({ do: 'keep-fork', volume: FORK, name: 'fork' })).kind, 'done');
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('snapshots of virtual machines go on naming those of a disk that became a fork', async (t) => {
  const host = await CellHost.make();
  const { operations } = host.store;
  await operations.createVolume('v', { sizeBytes: 65_536n });
  await operations.vms.create('m', MACHINE, [{ slot: 'vda', volume: 'v' }]);
  await operations.vms.snapshot('m', 'now');
  await host.cells.claim(VOLUME, 'v');
  await host.command({ do: 'fence', releasedTo: 2 });
  const disks = () => operations.vms.show('m').snapshotList.flatMap((taken) => taken.disks);
  const [before] = disks();
  t.ok(before!.snapshot);
  t.equal((await host.command({ do: 'keep-fork', volume: FORK, name: 'fork' })).kind, 'done');
  t.strictSame(disks(), [{ slot: 'vda', snapshot: before!.snapshot!.replace('v@', 'fork@') }]);
  await host.restart('power-loss');
  t.strictSame(disks().length, 1);
  await host.store.end();
});
