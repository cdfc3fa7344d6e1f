// Who is admitted, and what a host hears that comes back older than it was (an old backup, another disk), or whose volumes have other owners by now.

import t from 'tap';

import type { HostDetails, ReadmitResult } from '../../../src/coordinator/results.js';
import type { Hello } from '../../../src/protocol/messages.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';
import { forked, madeOwnerAgain } from './forked.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' };

const hello = (world: CoordinatorWorld, host: string) =>
  ({ type: 'hello', resume: null, ...world.host(host).facts() }) as Hello;

const show = (world: CoordinatorWorld, host: string) =>
  world.done<'host-show', HostDetails>('host-show', { host });

t.test('only the leader admits; others say who leads', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const other = world.another();
  t.match(await world.settled(other.coordinator.admit(hello(world, 'east-1'))), {
    admit: false,
    code: 'not-leader',
    leader: { coordinator: 'c1' },
  });
  await t.rejects(other.coordinator.call('east-1', { verb: 'cell-list', arguments: {} }), {
    code: 'not-leader',
  });
  world.running.leadership.take();
  t.equal(world.running.connected.size, 0, 'who leads no more sends its hosts away');
});

const lower: Record<string, (world: CoordinatorWorld) => Promise<void>> = {
  'a lower seq': async (world) => {
    const backup = world.host('east-1').backup();
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'later' }] });
    world.disconnect('east-1');
    world.host('east-1').restore(backup);
  },
  'a lower boot counter': async (world) => {
    world.host('east-1').boot = 5;
    await world.connect('east-1');
    world.disconnect('east-1');
    world.host('east-1').boot = 4;
  },
  'another store': async (world) => {
    world.disconnect('east-1');
    world.host('east-1').storeId = 'f'.repeat(32);
  },
  'a volume that is gone': async (world) => {
    world.disconnect('east-1');
    world.host('east-1').volumes.clear();
  },
};

for (const [what, happens] of Object.entries(lower))
  t.test(`${what}: the host is held back until an operator readmits it`, async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 1);
    await happens(world);
    t.ok(await world.connect('east-1'));
    t.match(await show(world, 'east-1'), { regressed: true });
    t.ok(world.log.events().includes('host-regressed'));
    if (world.host('east-1').volumes.has(id)) t.equal(world.host('east-1').answer(id).state, 'FAULTED');
    await world.lead();
    t.match(await show(world, 'east-1'), { regressed: true }, 'another leader knows it too');
  });

t.test(
  'a host with a copy on its way back, of less than it had as the owner, is not older than it was',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the purge', () => world.route('db').alternate === null, 120_000);
    for (const host of ['east-1', 'east-2']) world.host(host).copies = false;
    await world.done('move-start', { volume: 'db', cell: 'east', withBases: false, dryRun: false });
    await world.until('the copy', () => world.host('east-1').answer(id).state === 'RECEIVING');
    t.equal(world.host('east-1').answer(id).lineageHead, null);
    world.disconnect('east-1');
    t.ok(await world.connect('east-1'));
    t.match(await show(world, 'east-1'), { regressed: false });
    world.host('east-1').copies = true;
    await world.until('the move', () => world.route('db').journal === null);
    t.equal(world.route('db').active.primary, 'east-1');
    t.equal(world.disagreement('db'), null);
  },
);

t.test('a backup from before a move serves nothing: it is sealed, then readmitted', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const backup = world.host('east-1').backup();
  await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await world.until('the move', () => world.route('db').journal === null);
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'later' }] });
  world.disconnect('east-1');
  world.host('east-1').restore(backup);
  t.ok(world.host('east-1').owns(id), 'so the backup says');
  await world.connect('east-1');
  t.equal(world.host('east-1').answer(id).state, 'FAULTED');
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'more' }] }), {
    cell: 'west',
  });
  t.match(await world.done<'host-readmit', ReadmitResult>('host-readmit', { host: 'east-1' }), {
    readmitted: [id],
  });
  t.match(world.host('east-1').answer(id), { state: 'SEALED', released: 2 });
  t.equal(world.violation('db'), null);
  t.equal(await world.refused('host-readmit', { host: 'east-1' }), 'host-not-regressed');
});

t.test(
  'a backup of the owner, older than its route: it stays faulted, and an operator may adopt what it has',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 1);
    const backup = world.host('east-1').backup();
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'lost' }] });
    world.disconnect('east-1');
    world.host('east-1').restore(backup);
    await world.connect('east-1');
    t.match(await world.done('host-readmit', { host: 'east-1' }), {
      faulted: [{ volume: id }],
      readmitted: [],
    });
    t.equal(world.host('east-1').answer(id).state, 'FAULTED');
    t.equal(
      await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] }),
      'volume-quarantined',
    );
    await world.done('quarantine-adopt', { volume: 'db', cell: 'east' });
    world.written.clear();
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] }), { seq: 2 });
    t.equal(world.disagreement('db'), null);
  },
);

t.test(
  'a coordinator from an old backup follows what the hosts say, and snapshots nothing stale',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    const backup = world.state.copy();
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the move', () => world.route('db').journal === null);
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'later' }] });
    // Its route says east, without an alternate, under epoch 1; there the volume is sealed and released.
    world.state = backup;
    await world.lead();
    const code = await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's4' }] });
    t.equal(code, 'volume-quarantined', 'the sealed cell has released the volume: it is not reopened (I4)');
    t.equal(world.host('east-1').answer(id).state, 'SEALED');
    t.ok(world.host('west-1').owns(id));
  },
);

t.test('a replica that has no snapshot yet does not take the place of its primary', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  world.host('east-2').copies = false;
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').answer(id).replica !== null);
  world.disconnect('east-1');
  const asked = { volume: 'db', host: 'east-2', acceptLoss: true };
  t.equal(await world.refused('cell-promote', asked), 'replica-empty');
  t.equal(world.route('db').active.primary, 'east-1', 'the primary stays what it is');
});

t.test(
  'the old primary of a promoted replica comes back: it is sealed, and what it alone has can be kept',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
    world.host('east-2').copies = false;
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'lost' }] });
    t.equal(
      await world.refused('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true }),
      'primary-answers',
    );
    world.disconnect('east-1');
    const refused = await world
      .done('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: false })
      .catch((error) => error);
    t.match(refused, {
      code: 'loss-not-accepted',
      message: /since snapshot 2 would be lost, 1 snapshot among/,
    });
    t.match(await world.done('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true }), {
      epoch: 2,
      loss: { snapshots: 1, completeThrough: { seq: 2 } },
    });
    await world.until('the new primary', () => world.host('east-2').owns(id));
    world.written.clear();
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] }), {
      host: 'east-2',
      seq: 3,
    });
    await world.connect('east-1');
    t.same(world.host('east-1').opened, [], 'it serves nothing from its first moment');
    await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
    t.equal(world.violation('db'), null);
    await world.pass(120_000, 5_000);
    t.equal(world.host('east-1').lineage(id).length, 3, 'what an operator has to look after is not purged');
    t.match(await world.done('quarantine-keep-fork', { volume: 'db', as: 'db-lost' }), {
      host: 'east-1',
      snapshots: 3,
    });
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db-lost', name: 's4' }] }), {
      seq: 4,
    });
    t.equal(world.route('db').alternate, null);
  },
);

/** A volume with two snapshots, and a replica that has both; its primary cannot be heard from then on, and serves. */
async function withReplica(): Promise<{ world: CoordinatorWorld; id: string }> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
  world.fateOf = (_from, host) => (host === 'east-1' ? 'lost' : 'delivered');
  return { world, id };
}

const PROMOTE = { volume: 'db', host: 'east-2', acceptLoss: true };

t.test('an operation that waits for a promoted replica has it told, and goes on', async (t) => {
  const { world, id } = await withReplica();
  world.disconnect('east-1');
  // It has the volume as soon as the promotion is stored, before anybody else.
  const promoted = world.call('cell-promote', PROMOTE);
  const asked = world.call('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
  await world.settled(promoted);
  t.match(await world.settled(asked), { host: 'east-2', seq: 3 });
  t.ok(world.host('east-2').owns(id));
});

t.test('an old primary that is heard again is sealed although the promoted replica is silent', async (t) => {
  const { world, id } = await withReplica();
  await world.done('cell-promote', PROMOTE);
  await world.until('the new primary', () => world.host('east-2').owns(id));
  t.ok(world.host('east-1').owns(id), 'it has heard of nothing');
  world.fateOf = (_from, host) => (host === 'east-2' ? 'lost' : 'delivered');
  await world.until('the seal', () => !world.host('east-1').owns(id));
  t.not(world.route('db').alternate?.mustSeal, null, 'that both have heard is not known yet');
  world.fateOf = () => 'delivered';
  await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
});

t.test('a primary that comes back while it is asked is not lost: no replica takes its place', async (t) => {
  const { world, id } = await withReplica();
  let asked = 0;
  world.fateOf = (_from, host, what) =>
    host === 'east-1' && what === 'probe' && ++asked === 1 ? 'lost' : 'delivered';
  t.equal(await world.refused('cell-promote', PROMOTE), 'primary-answers');
  t.match(world.route('db').active, { primary: 'east-1', epoch: 1 });
  t.ok(world.host('east-1').owns(id));
});

t.test('what a host is held back with is not served by another word than its readmission', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  const backup = world.host('east-1').backup();
  const lost = { snapshots: [{ volume: 'db', name: 'lost' }] };
  await world.done('snapshot-create', lost);
  world.disconnect('east-1');
  world.host('east-1').restore(backup);
  await world.connect('east-1');
  t.equal(await world.refused('snapshot-create', lost), 'volume-quarantined');
  t.equal(await world.refused('quarantine-adopt', { volume: 'db', cell: 'east' }), 'host-regressed');
  t.equal(world.host('east-1').answer(id).state, 'FAULTED');
  t.match(world.route('db'), { status: 'quarantined', epoch: 1 }, 'nothing was decided');
  await world.done('host-readmit', { host: 'east-1' });
  await world.done('quarantine-adopt', { volume: 'db', cell: 'east' });
  world.disconnect('east-1');
  await world.connect('east-1');
  t.ok(world.host('east-1').owns(id), 'it is served again when the host comes again');
});

t.test('a replica at a host that is held back takes no place', async (t) => {
  const { world, id } = await withReplica();
  world.host('east-2').boot = 5;
  await world.connect('east-2');
  world.disconnect('east-2');
  world.host('east-2').boot = 4;
  await world.connect('east-2');
  t.equal(await world.refused('cell-promote', PROMOTE), 'host-regressed');
  await world.done('host-readmit', { host: 'east-2' });
  t.match(await world.done('cell-promote', PROMOTE), { epoch: 2 });
  await world.until('the new primary', () => world.host('east-2').owns(id));
});

t.test(
  'a fork: one cell is adopted, the other one sealed, and kept as a volume of its own or discarded',
  async (t) => {
    for (const end of ['keep-fork', 'discard'] as const) {
      const world = await CoordinatorWorld.begin(HOSTS);
      const id = await forked(world);
      t.equal(
        await world.refused('quarantine-keep-fork', { volume: 'db', as: 'fork' }),
        'volume-quarantined',
      );
      // Nothing is heard of the cell that is decided against: the other one goes on all the same.
      world.fateOf = (_from, host) => (host === 'east-1' ? 'lost' : 'delivered');
      t.match(await world.done('quarantine-adopt', { volume: 'db', cell: 'west' }), {
        host: 'west-1',
        epoch: 3,
        left: 'east-1',
      });
      t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] }), {
        cell: 'west',
      });
      const ending =
        end === 'keep-fork'
          ? await world.refused('quarantine-keep-fork', { volume: 'db', as: 'fork' })
          : await world.refused('quarantine-discard', { volume: 'db' });
      t.equal(ending, 'host-not-connected', 'what it has waits until it is sealed');
      world.fateOf = () => 'delivered';
      await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
      await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
      if (end === 'keep-fork')
        t.match(await world.done('quarantine-keep-fork', { volume: 'db', as: 'fork' }), {
          name: 'fork',
          cell: 'east',
        });
      else await world.done('quarantine-discard', { volume: 'db' });
      t.equal(world.route('db').alternate, null);
      t.equal(world.host('east-1').answer(id).state, 'NONE');
      t.equal(world.disagreement('db'), null);
      t.equal(await world.refused('quarantine-discard', { volume: 'db' }), 'volume-not-quarantined');
    }
  },
);

t.test(
  'what was decided against is not touched before it is sealed, and what nobody decided not at all',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the move', () => world.route('db').journal === null);
    const none = async () => {
      t.equal(
        await world.refused('quarantine-keep-fork', { volume: 'db', as: 'fork' }),
        'volume-not-quarantined',
      );
      t.equal(await world.refused('quarantine-discard', { volume: 'db' }), 'volume-not-quarantined');
    };
    await none();
    t.match(world.host('east-1').answer(id), { state: 'SEALED' }, 'what a move has left is no fork');
    const held = world.host('east-1').volumes.get(id)!;
    held.record = { ...held.record, state: 'ACTIVE', epoch: 2, released: null, sealedHead: null };
    held.content = 999;
    await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
    world.fateOf = (_from, host, what) => (host === 'east-1' && what === 'fence' ? 'lost' : 'delivered');
    await world.done('quarantine-adopt', { volume: 'db', cell: 'west' });
    t.equal(await world.refused('quarantine-keep-fork', { volume: 'db', as: 'fork' }), 'host-not-connected');
    t.equal(world.state.table.named('fork'), null, 'no route was made for it');
    t.equal(await world.refused('quarantine-discard', { volume: 'db' }), 'host-not-connected');
    world.fateOf = () => 'delivered';
    await world.until('the seal', () => world.route('db').alternate?.mustSeal === null);
    t.equal(await world.refused('quarantine-keep-fork', { volume: 'db', as: 'db' }), 'route-exists');
    t.equal(await world.refused('quarantine-keep-fork', { volume: 'db', as: 'fork' }), 'done');
    await none();
  },
);

/** Comes back with this backup, and an operator readmits it. */
async function readmitted(
  world: CoordinatorWorld,
  name: string,
  backup: ReturnType<ReturnType<CoordinatorWorld['host']>['backup']>,
): Promise<ReadmitResult> {
  world.disconnect(name);
  world.host(name).restore(backup);
  world.host(name).boot = 1;
  await world.connect(name);
  t.match(await show(world, name), { regressed: true });
  return world.done<'host-readmit', ReadmitResult>('host-readmit', { host: name });
}

t.test(
  'the owner under an epoch of before has the last snapshot, and not what was written: it stays faulted',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    world.host('east-1').boot = 5;
    await world.connect('east-1');
    const backup = world.host('east-1').backup();
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the seal', () => {
      if (world.host('east-1').answer(id).state !== 'SEALED') return false;
      world.host('west-1').copies = false;
      return true;
    });
    await world.until('its note', () => world.route('db').journal?.phase === 'SEALED');
    await world.done('move-cancel', { volume: 'db' });
    await world.until('the end', () => world.route('db').journal === null);
    t.match(world.route('db'), { epoch: 2, active: { primary: 'east-1' } });
    const { faulted, readmitted: taken } = await readmitted(world, 'east-1', backup);
    t.match(faulted, [{ volume: id, because: /^its epoch is 1, that of the volume 2/ }]);
    t.same(taken, []);
    t.equal(world.host('east-1').answer(id).state, 'FAULTED');
  },
);

/** `db` of east-1 with two snapshots, a replica of it at east-2, and a backup of that host. */
async function replicaWithBackup() {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
  world.host('east-2').boot = 5;
  await world.connect('east-2');
  const backup = world.host('east-2').backup();
  return { world, id, backup };
}

t.test(
  'a replica is readmitted as one; and who was readmitted is not held back at his next hello',
  async (t) => {
    const { world, id, backup } = await replicaWithBackup();
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
    await world.until('it there', () => world.host('east-2').lineage(id).length === 3);
    t.match(await readmitted(world, 'east-2', backup), { readmitted: [id], faulted: [] });
    t.match(world.host('east-2').answer(id), { state: 'RECEIVING', replica: {} });
    await world.until('it to have everything again', () => world.host('east-2').lineage(id).length === 3);
    world.disconnect('east-2');
    await world.connect('east-2');
    t.match(await show(world, 'east-2'), { regressed: false });

    // An owner whose last snapshot was given up by an operator.
    const own = world.host('east-1').backup();
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's4' }] });
    t.match(await readmitted(world, 'east-1', own), { faulted: [{ volume: id }] });
    world.disconnect('east-1');
    await world.connect('east-1');
    t.match(await show(world, 'east-1'), { regressed: false }, 'what it has now is what counts');
  },
);

for (const [what, isBehind] of [
  ['has what it was promoted with: readmitted it takes the place', false],
  ['is without it: it stays faulted', true],
] as const)
  t.test(`a replica that comes back from a backup before it hears of its promotion ${what}`, async (t) => {
    const { world, id, backup } = await replicaWithBackup();
    if (isBehind) {
      await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
      await world.until('it there', () => world.host('east-2').lineage(id).length === 3);
    }
    world.disconnect('east-1');
    world.fateOf = (_from, _host, command) => (command === 'promote' ? 'lost' : 'delivered');
    await world.done('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true });
    const { readmitted: taken, faulted } = await readmitted(world, 'east-2', backup);
    world.fateOf = () => 'delivered';
    if (isBehind) {
      t.match(faulted, [{ volume: id, because: /^it is without snapshot 3/ }]);
      t.equal(world.host('east-2').answer(id).state, 'FAULTED');
      return;
    }
    t.same(taken, [id]);
    await world.until('it to own the volume', () => world.host('east-2').owns(id));
    world.written.clear();
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] }), {
      host: 'east-2',
      seq: 3,
    });
    await world.connect('east-1');
    await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
    t.equal(world.disagreement('db'), null);
  });

t.test('of two parts in one cell an operator adopts the one that has something', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const backup = world.host('east-2').backup();
  await world.done('host-drain', { host: 'east-1', dryRun: false });
  await world.until('the move', () => world.route('db').active.primary === 'east-2');
  await world.until('its end', () => world.route('db').journal === null);
  world.disconnect('east-2');
  world.host('east-2').restore(backup);
  await world.connect('east-2');
  await world.done('host-readmit', { host: 'east-2' });
  const snapshot = { snapshots: [{ volume: 'db', name: 's3' }] };
  t.equal(await world.refused('snapshot-create', snapshot), 'volume-quarantined');
  const adopted = { host: 'east-1', epoch: 3, left: 'east-2' };
  t.match(await world.done('quarantine-adopt', { volume: 'db', cell: 'east' }), adopted);
  t.ok(world.host('east-1').owns(id));
  t.match(await world.done('snapshot-create', snapshot), { host: 'east-1', seq: 3 });
});

t.test(
  'what a backup has made a copy again was never an owner: it is not to be sealed, and can be discarded',
  async (t) => {
    for (const copy of ['RECEIVING', 'STAGED'] as const) {
      const world = await CoordinatorWorld.begin(HOSTS);
      const id = await world.volume('db', 'east-1', 2);
      world.host('west-1').copies = copy === 'STAGED';
      world.fateOf = (_from, _host, what) => (what === 'activate' ? 'lost' : 'delivered');
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the copy', () => world.host('west-1').answer(id).state === copy);
      const backup = world.host('west-1').backup();
      world.host('west-1').copies = true;
      world.fateOf = () => 'delivered';
      await world.until('the move', () => world.route('db').active.primary === 'west-1');
      await world.until('its end', () => world.route('db').journal === null);
      world.disconnect('west-1');
      world.host('west-1').restore(backup);
      await world.connect('west-1');
      await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
      t.match(await world.done('quarantine-adopt', { volume: 'db', cell: 'east' }), { left: 'west-1' });
      t.equal(world.host('west-1').answer(id).state, 'FAULTED');
      await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
      await world.done('quarantine-discard', { volume: 'db' });
      t.equal(world.host('west-1').answer(id).state, 'NONE');
      t.equal(world.disagreement('db'), null);
    }
  },
);

t.test(
  'a volume of which only a copy is left that was never complete can be forgotten, and no other',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    world.host('west-1').copies = false;
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the copy', () => world.route('db').journal?.phase === 'COPYING');
    const backup = world.host('west-1').backup();
    world.host('west-1').copies = true;
    await world.until('the purge', () => world.route('db').alternate === null, 120_000);
    t.equal(await world.refused('route-forget', { volume: 'db' }), 'route-in-use');
    world.disconnect('west-1');
    world.host('west-1').restore(backup);
    await world.connect('west-1');
    const snapshot = { snapshots: [{ volume: 'db', name: 's3' }] };
    t.equal(await world.refused('snapshot-create', snapshot), 'volume-quarantined');
    world.disconnect('west-1');
    t.equal(
      await world.refused('route-forget', { volume: 'db' }),
      'route-in-use',
      'a silent host may have it',
    );
    await world.connect('west-1');
    await world.done('route-forget', { volume: 'db' });
    t.equal(world.state.table.named('db'), null);
    t.equal(world.host('west-1').answer(id).state, 'FAULTED', 'what its host has stays there');
  },
);

for (const [what, isThere] of [
  ['has it', true],
  ['has lost it', false],
] as const)
  t.test(`what is thrown away of a cell goes at its replicas too; its primary ${what}`, async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    await world.until('the move', () => world.route('db').journal === null);
    madeOwnerAgain(world, id);
    const snapshot = { snapshots: [{ volume: 'db', name: 's3' }] };
    t.equal(await world.refused('snapshot-create', snapshot), 'volume-quarantined');
    await world.done('quarantine-adopt', { volume: 'db', cell: 'west' });
    await world.until('the seal', () => world.route('db').alternate?.mustSeal === null);
    if (!isThere) world.host('east-1').volumes.delete(id);
    await world.done('quarantine-discard', { volume: 'db' });
    t.equal(world.route('db').alternate, null);
    t.equal(world.host('east-1').answer(id).state, 'NONE');
    t.equal(world.host('east-2').answer(id).state, 'NONE');
  });
