// The state of the coordinators is lost, or is one of before a volume was claimed: hosts go on serving what they own, and it gets a route again, with
// the id, the epoch and the lineage that it has.

import t from 'tap';

import type { ClaimResult, HostDetails } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';
import { MemoryState } from '../../support/memory-coordinator-store.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' };
const TO_WEST = { volume: 'db', cell: 'west', withBases: false, dryRun: false };

/** Nothing of it is left. */
async function loseState(world: CoordinatorWorld): Promise<void> {
  world.state = new MemoryState();
  await world.lead();
}

const claim = (world: CoordinatorWorld, host: string) =>
  world.done<'route-claim', ClaimResult>('route-claim', { volume: 'db', host });

const refusal = (world: CoordinatorWorld, host: string) =>
  claim(world, host).then(
    () => 'done',
    (error) => `${error.code}: ${error.message} ${error.hint}`,
  );

const ended = (world: CoordinatorWorld) =>
  world.until('the end of the move', () => world.route('db').journal === null);

t.test('its owner is claimed again, and everything goes on from there', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('move-start', TO_WEST);
  await ended(world);
  world.write(id);
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'third' }] });
  const before = world.route('db');
  await loseState(world);
  t.ok(world.host('west-1').owns(id), 'it is served all the time');
  t.match((await world.done<'host-show', HostDetails>('host-show', { host: 'west-1' })).strays, [
    { id, name: null, state: 'ACTIVE', epoch: 2 },
  ]);
  t.match(
    await refusal(world, 'east-1'),
    /^volume-not-claimed: Volume db belongs to a cell already, and host east-1, where it is SEALED, does not own it\. .*cellblock host show/,
  );
  t.equal(world.state.table.named('db'), null, 'nothing is left of that');
  t.match(await claim(world, 'west-1'), { volume: id, host: 'west-1', cell: 'west', snapshots: 3 });
  const { lineageHead, epoch, active } = before;
  t.match(world.route('db'), { volume: id, status: 'open', lineageHead, epoch, active, alternate: null });
  t.equal(await world.refused('route-claim', { volume: 'db', host: 'west-1' }), 'route-exists');
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'fourth' }] }), { seq: 4 });
  await world.done('move-start', { ...TO_WEST, cell: 'east' });
  await ended(world);
  t.equal(world.disagreement('db'), null);
});

t.test('the former owner of before is deleted, by its id before it has a route again', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('move-start', TO_WEST);
  await ended(world);
  await loseState(world);
  const purge = (host: string, acceptLoss: boolean) =>
    world.done('host-purge', { host, volume: id, acceptLoss }).catch((error) => error);
  t.match(await purge('west-1', true), {
    code: 'owned-elsewhere',
    message: `Host west-1 says that it owns volume ${id}, which has no route.`,
    hint: /cellblock route claim NAME --host west-1/,
  });
  t.match(await purge('east-1', false), {
    code: 'loss-not-accepted',
    message: `Volume ${id} has no route: whether anybody else has what host east-1 has of it is not known.`,
  });
  t.equal(world.host('east-1').answer(id).state, 'SEALED');
  t.match(await purge('east-1', true), { volume: id, host: 'east-1' });
  t.equal(world.host('east-1').answer(id).state, 'NONE');
  t.match(await purge('east-1', true), { code: 'stray-not-found' });
  await claim(world, 'west-1');
  t.equal(world.disagreement('db'), null);
});

t.test('in the middle of a move: the source is claimed, and the copy deleted', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  world.host('west-1').copies = false;
  await world.done('move-start', TO_WEST);
  await world.until('the copy', () => world.host('west-1').answer(id).state === 'RECEIVING');
  t.equal(world.host('east-1').answer(id).state, 'OUTGOING');
  await loseState(world);
  world.host('west-1').copies = true;
  t.match(await refusal(world, 'west-1'), /^volume-not-found: west-1: /, 'nothing has come yet');
  await claim(world, 'east-1');
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'next' }] }), { seq: 3 });
  t.match(await world.done('host-purge', { host: 'west-1', volume: 'db', acceptLoss: false }), {
    loss: null,
  });
  await world.done('move-start', TO_WEST);
  await ended(world);
  t.ok(world.host('west-1').owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test(
  'the owner came back without it before the copy was complete: the route can be dropped, and the copy deleted',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    world.host('west-1').copies = false;
    await world.done('move-start', TO_WEST);
    await world.until('the copy', () => world.host('west-1').answer(id).state === 'RECEIVING');
    t.equal(await world.refused('route-forget', { volume: 'db' }), 'route-in-use', 'the owner has it');
    world.host('east-1').volumes.clear();
    t.match(await world.done('route-show', { volume: 'db', explain: false }), {
      troubles: [
        {
          because:
            'Host east-1 knows nothing of volume db, and host west-1 has only the beginning of a copy.',
          hint: /cellblock route forget db/,
        },
      ],
    });
    await world.done('route-forget', { volume: 'db' });
    await world.done('host-purge', { host: 'west-1', volume: id, acceptLoss: true });
    t.equal(world.host('west-1').answer(id).state, 'NONE');
  },
);

t.test('in the middle of a move, its source sealed: it goes on', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const { record } = world.host('east-1').volumes.get(id)!;
  world.host('east-1').volumes.get(id)!.record = {
    ...record,
    state: 'SEALED',
    sealedHead: { id: 'e'.repeat(32), seq: 2 },
  };
  await loseState(world);
  t.match(await claim(world, 'east-1'), { state: 'ACTIVE', snapshots: 2 });
  t.ok(world.host('east-1').owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test('faulted: it is in quarantine, and adopted', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const host = world.host('east-1');
  const { record } = host.volumes.get(id)!;
  host.volumes.get(id)!.record = { ...record, state: 'FAULTED', faultedFrom: 'ACTIVE' };
  await loseState(world);
  t.match(await claim(world, 'east-1'), { state: 'FAULTED', snapshots: 2 });
  t.equal(world.route('db').status, 'quarantined');
  await world.done('quarantine-adopt', { volume: 'db', cell: 'east' });
  t.ok(host.owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test('one that has been there before and came back is claimed like any other', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  for (const cell of ['west', 'east']) {
    await world.done('move-start', { ...TO_WEST, cell });
    await ended(world);
  }
  await loseState(world);
  t.match(await refusal(world, 'west-1'), /^volume-not-claimed: /);
  t.match(await claim(world, 'east-1'), { volume: id, state: 'ACTIVE' });
  t.equal(world.route('db').epoch, 3);
});

t.test('a replica is one again without a copy', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
  await loseState(world);
  t.match(await refusal(world, 'east-2'), /^volume-not-claimed: /);
  await claim(world, 'east-1');
  t.match(await world.done('replica-add', { volume: 'db', host: 'east-2' }), { replicas: ['east-2'] });
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'third' }] });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 3);
});

t.test('who cannot be the owner is not claimed: another one says so', async (t) => {
  for (const [what, change, because] of [
    ['owned by another', { state: 'ACTIVE', epoch: 1 }, 'host east-2 owns it under epoch 1'],
    ['newer elsewhere', { state: 'SEALED', epoch: 2 }, 'host east-2 has it under epoch 2'],
    [
      'released to somebody newer',
      { state: 'SEALED', released: 3 },
      'host east-2 has released it to epoch 3: somebody newer owns it',
    ],
  ] as const) {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 1);
    await loseState(world);
    const { record, ...held } = world.host('east-1').volumes.get(id)!;
    world.host('east-2').volumes.set(id, { ...structuredClone(held), record: { ...record, ...change } });
    await world.connect('east-2');
    const refused = await refusal(world, 'east-1');
    t.ok(
      refused.startsWith(`owner-unproven: Host east-1 owns volume db under epoch 1, but ${because}.`),
      `${what}: ${refused}`,
    );
    t.equal(world.state.table.named('db'), null);
    world.host('east-2').volumes.clear();
    t.match(await claim(world, 'east-1'), { volume: id }, 'without that it is');
  }
});

t.test('nor while somebody who is connected does not answer', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  await loseState(world);
  world.fateOf = (_from, host, what) => (host === 'west-1' && what === 'probe' ? 'lost' : 'delivered');
  t.match(
    await refusal(world, 'east-1'),
    /^owner-unproven: .* but host west-1 does not answer, and may own it too\./,
  );
  world.disconnect('west-1');
  t.match(await claim(world, 'east-1'), { volume: id });
});

t.test('nor one that others know to be deleted', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  const backup = world.host('east-1').backup();
  await world.done('move-start', TO_WEST);
  await ended(world);
  await world.done('volume-delete', { volume: 'db' });
  await loseState(world);
  world.host('east-1').restore(backup);
  await world.connect('east-1');
  t.match(await refusal(world, 'east-1'), /^owner-unproven: .* but host west-1 says it was deleted\./);
  t.ok(id);
});

t.test('nor at a host that is held back', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  const backup = world.host('east-1').backup();
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'more' }] });
  world.state.table.delete(id);
  world.host('east-1').restore({ ...backup, boot: -5 });
  await world.connect('east-1');
  t.match(await refusal(world, 'east-1'), /^host-regressed: /);
  await world.done('host-readmit', { host: 'east-1' });
  t.match(await claim(world, 'east-1'), { volume: id, snapshots: 1 });
});
