// Who gets the current map of a volume of a cell, and what becomes of those who have it when this host owns it no more.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { CellHost, idOf, MOVE, NOTHING_SEEN, refusalOf, VOLUME } from '../../support/cell-host.js';
import { FakeKernel } from '../../support/fake-kernel.js';
import { until } from '../../support/waiting.js';

const SEAL = idOf(0x5ea1);
const ESHUTDOWN = 108;

t.test('a write that was answered before the seal is in it, none is answered after it', async (t) => {
  for (let turn = 0; turn < 8; turn++) {
    const host = await CellHost.make();
    await host.claimed();
    const session = await host.store.plane.connect('v');
    let answered = 0;
    let isOver = false;
    // One after the other: what comes while the volume is held, or after, is refused.
    const writer = (async () => {
      for (let value = 1; !isOver; value++) {
        await session.write(0, [value]);
        answered = value;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })().catch(() => undefined);
    for (let pause = 0; pause < turn; pause++) await new Promise((resolve) => setImmediate(resolve));
    t.equal((await host.seal(SEAL)).kind, 'done');
    const atSeal = answered;
    await until('the client to be gone', () => host.store.plane.leases.size === 0);
    isOver = true;
    await writer;
    t.equal(answered, atSeal, 'nothing is answered after the seal');
    const sealed = (await host.store.readAll(`v@.carry-${SEAL.slice(0, 16)}`))[0];
    t.equal(sealed, atSeal, 'and the seal has all that was');
    await host.store.end();
  }
});

t.test('a seal that fails leaves clients as they were', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  const session = await host.store.plane.connect('v');
  await session.write(0, [1]);
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  host.store.plane.failingCuts.add(session.handle);
  await t.rejects(host.command({ do: 'seal', epoch: 1, id: SEAL }), { code: 'snapshot-failed' });
  t.match(await host.cells.probe(VOLUME, []), { state: 'OUTGOING', sealedHead: null });
  await session.write(0, [2]);
  t.strictSame(await session.read(0, 1), [2]);
  t.equal((await host.command({ do: 'seal', epoch: 1, id: SEAL })).kind, 'done', 'asked again it is done');
  await host.store.end();
});

t.test('a client that holds the volume up keeps it: the seal is not done, a fence waits', async (t) => {
  const host = await CellHost.make({ holdLimitMs: 50 });
  await host.claimed();
  const session = await host.store.plane.connect('v');
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  const end = session.volume.begin();
  await t.rejects(host.command({ do: 'seal', epoch: 1, id: SEAL }), { code: 'hold-expired' });
  await t.resolves(session.volume.write(3, [3]), 'clients go on');
  let isFenced = false;
  const fence = host.command({ do: 'fence', releasedTo: 2 }).then((said) => {
    isFenced = true;
    return said;
  });
  await new Promise((resolve) => setTimeout(resolve, 120));
  t.notOk(isFenced, 'the request is waited for, longer than a seal would');
  end();
  t.equal((await fence).kind, 'done');
  await host.store.end();
});

t.test('who is being let in while the volume is taken away does not get in', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  await host.store.plane.connect('v');
  const during: Promise<unknown>[] = [];
  host.store.plane.onStep = (step) => {
    if (step === 'cut') during.push(host.store.plane.connect('v'));
  };
  const sealing = host.command({ do: 'seal', epoch: 1, id: SEAL });
  const opened = await Promise.allSettled([1, 2, 3].map(() => host.store.plane.connect('v')));
  t.equal((await sealing).kind, 'done');
  t.equal(during.length, 1);
  for (const one of during)
    await t.rejects(one, { message: /sealed here/ }, 'one that came while it was sealed');
  for (const one of opened)
    if (one.status === 'rejected') t.equal((one.reason as { errno: number }).errno, ESHUTDOWN);
  await until('nobody is connected', () => host.store.plane.leases.size === 0);
  await t.rejects(host.store.plane.connect('v'), { errno: ESHUTDOWN, message: /sealed here/ });
  await t.rejects(
    host.store.operations.parts.exports.leaseForKernel(
      { container: [...host.store.operations.parts.catalog.containers.values()][0]!, snapshot: null },
      1,
    ),
    { code: 'volume-not-served' },
    'nor does the kernel',
  );
  await host.store.end();
});

t.test('each state that does not own the volume says why it is not served', async (t) => {
  const host = await CellHost.make();
  const { operations, plane } = host.store;
  await host.claimed();
  await operations.createSnapshots([{ volume: 'v', snapshot: 's' }], { local: true });
  const why = async () => (await plane.describe('v')).refusal;
  t.equal(await why(), '');
  await host.command({ do: 'fault' });
  t.match(await why(), /readmit/);
  await host.command({ do: 'readmit' });
  t.equal(await why(), '', 'readmitted it is served again');
  await host.command({ do: 'fence', releasedTo: 2 });
  t.match(await why(), /handed over to another host/);
  await host.command({ do: 'receive', move: MOVE, peerCell: 'west' });
  t.match(await why(), /not complete/);
  const head = (await host.cells.probe(VOLUME, [])).lineageHead!;
  t.equal((await host.command({ do: 'staged', move: MOVE, through: head, lineageHead: head })).kind, 'done');
  t.match(await why(), /not activated/);
  t.equal((await plane.describe('v@s')).error, 0, 'its snapshots are served all the time');
  t.strictSame(
    (await plane.list()).map(({ name }) => name),
    ['v@s'],
  );
  t.match(operations.showVolume('v').cell, {
    state: 'STAGED',
    role: 'copy',
    epoch: 1,
    seq: 1,
    served: false,
  });
  t.equal((await host.command({ do: 'activate', epoch: 3, from: head })).kind, 'done');
  t.match(operations.showVolume('v').cell, { state: 'ACTIVE', role: 'primary', epoch: 3, served: true });
  await operations.createVolume('plain', { sizeBytes: 4096n });
  t.equal(operations.showVolume('plain').cell, null);
  await host.store.end();
});

t.test(
  'a device that stays open for a copy can be written by it, and by clients when it is activated',
  async (t) => {
    const host = await CellHost.make();
    await host.claimed();
    const session = await host.store.plane.connect('v');
    await session.write(0, [5]);
    await host.command({ do: 'fence', releasedTo: 2 });
    await until('the client to be gone', () => host.store.plane.leases.size === 0);
    t.ok(session.volume.readOnly, 'nobody writes what was handed over');
    await host.command({ do: 'receive', move: MOVE, peerCell: 'west' });
    t.notOk(session.volume.readOnly, 'but the puller');
    await host.store.end();
  },
);

t.test('cold start: nothing is served before the welcome, whatever the record says', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  await host.write(0, [1]);
  await host.restart('process-death', null);
  await t.rejects(host.store.plane.connect('v'), { errno: ESHUTDOWN, message: /has not answered/ });
  await t.rejects(
    host.store.operations.createSnapshots([{ volume: 'v', snapshot: 's' }], { local: true }),
    { code: 'volume-not-served' },
    'nor snapshotted here',
  );
  await host.welcome();
  t.equal((await host.store.readAll('v'))[0], 1);
  host.cells.ended('the coordinator is gone');
  t.equal((await host.store.readAll('v'))[0], 1, 'a coordinator lost later changes nothing');
  await host.store.end();
});

t.test('cold start without a coordinator: after serve_alone_after, or never', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  await host.store.restart('clean', { cells: { host: 'h1', cell: 'east', serveAloneAfterMs: 1 } });
  await until('it is served', async () => (await host.store.plane.describe('v')).error === 0);
  await host.store.restart('clean', { cells: { host: 'h1', cell: 'east', serveAloneAfterMs: null } });
  t.equal((await host.store.plane.describe('v')).error, ESHUTDOWN);
  await host.store.end();
});

t.test('HAZARDS 23: a host that comes back older serves nothing until it is readmitted', async (t) => {
  for (const said of [
    { regressed: true, highest: [] },
    { regressed: false, highest: [{ id: VOLUME, epoch: 1, seq: 2 }] },
    { regressed: false, highest: [{ id: VOLUME, epoch: 2, seq: 0 }] },
  ]) {
    const host = await CellHost.make();
    await host.claimed();
    await host.claimed('w', { id: idOf(0xbee) });
    await host.snapshot('one', idOf(1));
    await host.restart('power-loss', said);
    t.match(await host.cells.probe(VOLUME, []), { state: 'FAULTED', epoch: 1, lineageHead: { seq: 1 } });
    await t.rejects(host.store.plane.connect('v'), { errno: ESHUTDOWN, message: /readmit/ });
    t.equal(refusalOf(await host.snapshot('two', idOf(2))), 'WRONG_STATE', 'nor is it snapshotted');
    t.equal((await host.store.plane.describe('w')).error, said.regressed ? ESHUTDOWN : 0, 'the others');
    t.match(host.events[0], { name: 'faulted', message: /older|seen/ });
    await host.restart('process-death', NOTHING_SEEN);
    t.match(await host.cells.probe(VOLUME, []), { state: 'FAULTED' }, 'it is on record');
    await host.command({ do: 'readmit' });
    t.equal((await host.store.plane.describe('v')).error, 0);
    await host.store.end();
  }
});

t.test(
  'a copy on its way back to a former owner may have fewer snapshots than that one had: it goes on after a reconnect',
  async (t) => {
    const seen = (epoch: number) => ({ regressed: false, highest: [{ id: VOLUME, epoch, seq: 1 }] });
    const back = idOf(0xbac);
    const host = await CellHost.make();
    await host.claimed();
    await host.snapshot('one', idOf(1));
    await host.seal(SEAL);
    await host.command({ do: 'release', releasedTo: 2 });
    await host.command({ do: 'purge' });
    await host.command({ do: 'receive', move: back, peerCell: 'west' });
    await host.welcome(seen(1));
    const copy = { state: 'RECEIVING', epoch: 1, lineageHead: null, move: { id: back } };
    t.match(await host.cells.probe(VOLUME, []), copy);
    await host.restart('process-death', seen(1));
    t.match(await host.cells.probe(VOLUME, []), copy, 'after a start too');
    t.same(
      host.events.filter(({ name }) => name === 'faulted'),
      [],
    );
    await host.welcome(seen(2));
    t.match(await host.cells.probe(VOLUME, []), { state: 'FAULTED' }, 'a lower epoch is an old backup');
    await host.store.end();
  },
);

t.test(
  'a complete copy may have fewer snapshots than the owner it was; a sealed owner may not',
  async (t) => {
    for (const [isCopy, state] of [
      [true, 'STAGED'],
      [false, 'FAULTED'],
    ] as const) {
      const host = await CellHost.make();
      await host.claimed();
      await host.snapshot('one', idOf(1));
      await host.seal(SEAL);
      await host.command({ do: 'release', releasedTo: 2 });
      if (isCopy) {
        const move = idOf(0xbac);
        await host.command({ do: 'receive', move, peerCell: 'west' });
        const through = { id: idOf(1), seq: 1 };
        t.equal((await host.command({ do: 'staged', move, through, lineageHead: through })).kind, 'done');
      }
      await host.welcome({ regressed: false, highest: [{ id: VOLUME, epoch: 1, seq: 2 }] });
      t.match(await host.cells.probe(VOLUME, []), { state });
      await host.store.end();
    }
  },
);

t.test(
  'a device of the kernel loses its connections with the volume, and gets them again with it',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'cellblock-kernel-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const kernel = new FakeKernel(directory);
    const host = await CellHost.make({ kernelRoots: kernel.roots });
    host.store.plane.kernel = kernel;
    await host.claimed();
    const { operations } = host.store;
    await operations.attach('v', { connections: 2 });
    const links = () => kernel.devices.get(0)!.links.filter((link) => link !== null).length;
    t.equal(links(), 2);
    await host.seal(SEAL);
    await until('its connections to end', () => links() === 0);
    t.equal((await operations.listAttachments()).length, 1, 'it stays attached, and its requests wait');
    t.equal((await host.command({ do: 'activate', epoch: 2, from: { id: SEAL, seq: 0 } })).kind, 'done');
    await until('it to be connected again', () => links() === 2);
    await host.command({ do: 'fence', releasedTo: 3 });
    await t.rejects(
      host.command({ do: 'purge' }),
      { code: 'kernel-device-in-use' },
      'what is attached is not deleted',
    );
    await operations.detach('v', { force: true });
    t.equal((await host.command({ do: 'purge' })).kind, 'done');
    await host.store.end();
  },
);
