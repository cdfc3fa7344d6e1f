// A host that never comes back: moves to it can be cancelled, and when it is forgotten nobody waits for it any more. If it comes back after all
// nothing of it is served.

import t from 'tap';

import type { ForgetHostResult, HostDetails, MoveStatus } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west', 'west-2': 'west' };
const TO_WEST = { volume: 'db', cell: 'west', withBases: false, dryRun: false };

const ended = (world: CoordinatorWorld) =>
  world.until('the end of the move', () => world.route('db').journal === null);

const forget = (world: CoordinatorWorld, host: string) =>
  world.done<'host-forget', ForgetHostResult>('host-forget', { host });

const refusal = (world: CoordinatorWorld, host: string) =>
  forget(world, host).then(
    () => 'done',
    (error) => `${error.code}: ${error.message} ${error.hint}`,
  );

const listed = async (world: CoordinatorWorld) =>
  (await world.done<'host-list', { hosts: { host: string }[] }>('host-list', {})).hosts.map(
    ({ host }) => host,
  );

/** On its way to west-1, which is gone. */
async function halfMoved(): Promise<{ world: CoordinatorWorld; id: string }> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  for (const host of ['west-1', 'west-2']) world.host(host).copies = false;
  const { toHost } = await world.done<'move-start', { toHost: string }>('move-start', TO_WEST);
  t.equal(toHost, 'west-1');
  await world.until('the copy', () => world.host('west-1').answer(id).state === 'RECEIVING');
  world.disconnect('west-1');
  return { world, id };
}

/** west-1 is the former primary of it, and has not heard of that. */
async function promoted(): Promise<{ world: CoordinatorWorld; id: string }> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'west-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'west-2' });
  await world.until('the replica', () => world.host('west-2').lineage(id).length === 2);
  world.disconnect('west-1');
  await world.done('cell-promote', { volume: 'db', host: 'west-2', acceptLoss: true });
  await world.until('the new primary', () => world.host('west-2').owns(id));
  world.written.clear();
  return { world, id };
}

t.test('a move whose destination is silent is cancelled without it', async (t) => {
  const { world, id } = await halfMoved();
  t.equal(await world.refused('move-start', { ...TO_WEST, cell: 'west' }), 'move-under-way');
  await world.done('move-cancel', { volume: 'db' });
  await ended(world);
  t.match(await world.done<'move-status', MoveStatus>('move-status', { volume: 'db' }), {
    result: 'rolled-back',
  });
  t.equal(world.host('east-1').answer(id).state, 'ACTIVE', 'its source is no source any more');
  t.equal(world.disagreement('db'), null);
  t.match(
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'after' }] }),
    { rule: 'stay-alone' },
    'it goes on',
  );
  await world.connect('west-1');
  await world.until('the copy to be purged', () => world.route('db').alternate === null);
  t.equal(world.host('west-1').answer(id).state, 'NONE');
});

t.test('not when the source was sealed: the silent one may own it', async (t) => {
  const { world, id } = await halfMoved();
  await world.connect('west-1');
  world.host('west-1').copies = true;
  await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
  world.disconnect('west-1');
  await world.until('its note', () => world.route('db').journal?.phase === 'SEALED');
  await world.done('move-cancel', { volume: 'db' });
  await world.pass(30_000);
  t.match(world.route('db'), { journal: { direction: 'rollback' } });
  t.notOk(world.host('east-1').owns(id));
  await world.connect('west-1');
  await ended(world);
  t.ok(world.host('east-1').owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test('the destination of a cancelled move is forgotten, and the volume is moved elsewhere', async (t) => {
  const { world, id } = await halfMoved();
  t.match(
    await refusal(world, 'west-1'),
    /^host-needed: .*volume db is on the move.*cellblock move cancel db/,
  );
  await world.done('move-cancel', { volume: 'db' });
  await ended(world);
  const refused = await world.done('move-start', TO_WEST).catch((error) => error);
  t.match(refused, { code: 'move-under-way', hint: /cellblock host forget west-1/ });
  t.strictSame(await forget(world, 'west-1'), { host: 'west-1', volumes: ['db'] });
  t.equal(world.route('db').alternate, null);
  t.strictSame(await listed(world), ['east-1', 'east-2', 'west-2']);
  t.equal(await world.refused('host-show', { host: 'west-1' }), 'host-not-found');
  world.host('west-2').copies = true;
  t.match(await world.done('move-start', TO_WEST), { toHost: 'west-2' });
  await ended(world);
  t.ok(world.host('west-2').owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test(
  'a former primary that was to be sealed is forgotten; when it comes back nothing of it is served',
  async (t) => {
    const { world, id } = await promoted();
    const move = { ...TO_WEST, cell: 'east' };
    t.equal(await world.refused('move-start', move), 'move-under-way', 'nobody has sealed it');
    await forget(world, 'west-1');
    t.match(await world.done('move-start', move), { fromHost: 'west-2' });
    await ended(world);
    t.match(world.route('db').active, { cell: 'east' });

    await world.connect('west-1');
    t.same(world.host('west-1').opened, []);
    t.ok(world.log.events().includes('host-regressed'));
    t.match(await world.done<'host-show', HostDetails>('host-show', { host: 'west-1' }), {
      regressed: true,
      strays: [{ name: 'db' }],
    });
    await world.done('host-readmit', { host: 'west-1' });
    t.equal(
      world.host('west-1').answer(id).state,
      'SEALED',
      'an operator believes it, and it owns nothing still',
    );
    t.equal(world.disagreement('db'), null);
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'next' }] }), {
      rule: 'stay',
    });
  },
);

t.test(
  'what was deleted since it was forgotten is not served when it comes back, and can be deleted there too',
  async (t) => {
    const { world, id } = await promoted();
    await forget(world, 'west-1');
    await world.done('volume-delete', { volume: 'db' });
    await world.until('the end of it', () => world.state.table.route(id) === null);
    await world.connect('west-1');
    await world.done('host-readmit', { host: 'west-1' });
    t.equal(world.host('west-1').answer(id).state, 'SEALED');
    t.match((await world.done<'host-show', HostDetails>('host-show', { host: 'west-1' })).strays, [
      { id, name: null, state: 'SEALED' },
    ]);
    await world.done('host-purge', { host: 'west-1', volume: id, acceptLoss: true });
    t.equal(world.host('west-1').answer(id).state, 'NONE');
  },
);

t.test('one that was only older owns what has no route: nobody has said that it is lost', async (t) => {
  const { world, id } = await promoted();
  await world.connect('west-1');
  world.state.table.delete(id);
  const host = world.host('west-1');
  const { record } = host.volumes.get(id)!;
  host.volumes.get(id)!.record = { ...record, state: 'ACTIVE', released: null, sealedHead: null };
  host.boot = -1;
  await world.connect('west-1');
  t.match(await world.done('host-show', { host: 'west-1' }), { regressed: true });
  await world.done('host-readmit', { host: 'west-1' });
  t.ok(host.owns(id));
});

t.test('replicas at it are none any more, and those that others continue', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
  world.disconnect('east-2');
  t.equal(await world.refused('replica-remove', { volume: 'db', host: 'east-2' }), 'host-not-connected');
  t.strictSame(await forget(world, 'east-2'), { host: 'east-2', volumes: ['db'] });
  t.same(world.route('db').active.replicas, []);
  t.strictSame(await forget(world, 'east-2'), { host: 'east-2', volumes: [] }, 'said again');
  await world.connect('east-2');
  t.match(
    await world.done('host-show', { host: 'east-2' }),
    { regressed: true },
    'held back when it comes back',
  );
});

t.test('it comes back with nothing: it begins anew', async (t) => {
  const { world } = await promoted();
  await forget(world, 'west-1');
  const host = world.host('west-1');
  host.volumes.clear();
  host.storeId = 'f'.repeat(32);
  host.boot = 1;
  await world.connect('west-1');
  t.match(await world.done('host-show', { host: 'west-1' }), { regressed: false, storeId: host.storeId });
  t.match(await world.done('replica-add', { volume: 'db', host: 'west-1' }), { replicas: ['west-1'] });
});

t.test('what is needed of it is told, and nothing is forgotten', async (t) => {
  const { world } = await promoted();
  for (const name of ['a', 'b', 'c', 'd']) await world.volume(name, 'east-1');
  t.equal(
    await refusal(world, 'nobody'),
    'host-not-found: No host nobody has ever joined. Run `cellblock host list`.',
  );
  t.match(await refusal(world, 'east-1'), /^host-connected: /);
  world.disconnect('east-1');
  t.match(
    await refusal(world, 'east-1'),
    /^host-needed: Host east-1 cannot be forgotten: it is the primary of volume a; .* volume b; .* volume c, and 1 more\. First put a replica in its place \(`cellblock cell promote a --host H`\)/,
  );
  world.disconnect('west-2');
  t.match(await refusal(world, 'west-1'), /^host-needed: .*host west-2 does not say that it owns volume db/);
  t.strictSame(await listed(world), Object.keys(HOSTS).sort(), 'they are all there');
  t.match(world.route('db'), { alternate: { primary: 'west-1' } });
});

t.test('a group does not wait for it', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const ids = [await world.volume('db', 'west-1', 2), await world.volume('other', 'east-1')];
  await world.done('replica-add', { volume: 'db', host: 'west-2' });
  await world.until('the replica', () => world.host('west-2').lineage(ids[0]!).length === 2);
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', {
    snapshots: ['db', 'other'].map((volume) => ({ volume, name: 'all' })),
  });
  world.disconnect('west-1');
  await world.done('cell-promote', { volume: 'db', host: 'west-2', acceptLoss: true });
  await world.until('the new primary', () => world.host('west-2').owns(ids[0]!));
  await forget(world, 'west-1');
  for (const volume of ['db', 'other'])
    t.match(await world.done('snapshot-create', { snapshots: [{ volume, name: 'next' }] }), { rule: 'stay' });
});
