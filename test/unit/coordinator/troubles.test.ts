// What stands in the way of a volume is told to whoever looks, with what can be done about it, until it stands there no more.

import t from 'tap';

import type { MoveStatus, RouteDetails } from '../../../src/coordinator/results.js';
import type { Trouble } from '../../../src/coordinator/troubles.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' };

const start = { withBases: false, dryRun: false };

const statusOf = (world: CoordinatorWorld) =>
  world.done<'move-status', MoveStatus>('move-status', { volume: 'db' });

async function troublesOf(world: CoordinatorWorld, volume = 'db'): Promise<Trouble[]> {
  return (await world.done<'route-show', RouteDetails>('route-show', { volume, explain: false })).troubles;
}

t.test('a move whose destination is silent says so, since when, and goes on when it is back', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await world.volume('db', 'east-1', 1);
  world.host('west-1').copies = false;
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await world.until('the copy', () => world.route('db').journal?.phase === 'COPYING');
  t.same((await statusOf(world)).troubles, [], 'nothing stands in its way');
  world.disconnect('west-1');
  await world.pass(3_000);
  const [first] = (await statusOf(world)).troubles;
  t.match(first, { operation: null, because: 'Host west-1 does not answer.', hint: /its agent runs/ });
  await world.pass(3_000);
  const [later] = (await statusOf(world)).troubles;
  t.equal(later!.since, first!.since);
  t.ok(later!.tries > first!.tries && later!.at > first!.at, 'it is tried again');
  world.host('west-1').copies = true;
  await world.connect('west-1');
  await world.until('the end of the move', () => world.route('db').journal === null);
  t.same((await statusOf(world)).troubles, []);
});

t.test('a command that a host refuses is told with its reason', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  // What is left there of a delete that nobody here knows of.
  world.host('west-1').command(id, { do: 'delete', epoch: 0 });
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await world.pass(2_000);
  t.match((await statusOf(world)).troubles, [
    { because: 'Host west-1 refuses `receive`: the volume was deleted.', hint: /the log of west-1/ },
  ]);
});

t.test('a copy that fails, and one that waits for its turn', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS, { settings: { copiesAtOnce: 1 } });
  const id = await world.volume('db', 'east-1', 1);
  await world.volume('other', 'east-1', 1);
  world.host('west-1').copies = false;
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await world.until('the copy', () => world.route('db').journal?.phase === 'COPYING');
  await world.pass(500);
  await world.done('move-start', { volume: 'other', cell: 'west', ...start });
  await world.pass(1_000);
  t.match((await statusOf(world)).troubles, []);
  t.match(await troublesOf(world, 'other'), [{ because: /receives 1 copies already.*waits for its turn/ }]);
  const { record } = world.host('west-1').volumes.get(id)!;
  world.running.coordinator.event('west-1', {
    type: 'event',
    seq: 1,
    ack: 0,
    name: 'copy-failed',
    volume: { id, epoch: record.epoch, head: record.head, state: record.state },
    move: record.move!.id,
    through: null,
    message: 'no-space: The disk is full.',
  });
  await world.pass(100);
  t.match((await statusOf(world)).troubles, [
    { because: 'The copy at host west-1 has failed: no-space: The disk is full.', hint: /tried again/ },
  ]);
});

t.test('a promotion, a replica and a quarantine that wait say for whom', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 1);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').volumes.get(id)?.replicaThrough?.seq === 1);
  world.disconnect('east-2');
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] });
  await world.pass(2_000);
  t.match(await troublesOf(world), [{ because: 'Host east-2 does not answer.' }], 'the replica');
  await world.connect('east-2');
  await world.pass(2_000);
  t.same(await troublesOf(world), []);
  world.disconnect('east-1');
  await world.done('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true });
  await world.pass(2_000);
  t.ok(world.host('east-2').owns(id));
  t.match(await troublesOf(world), [{ because: 'Host east-1 does not answer.' }], 'the seal of the lost one');
});

t.test('an operation that may have been done and cannot be ended', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await world.volume('db', 'east-1', 1);
  let asked = false;
  world.fateOf = (_from, host, what) => {
    if (host !== 'east-1' || (!asked && what !== 'snapshot')) return 'delivered';
    asked = true;
    return what === 'snapshot' ? 'answer lost' : 'lost';
  };
  t.equal(
    await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] }),
    'volume-unavailable',
  );
  world.disconnect('east-1');
  world.running.coordinator.joined(
    { host: 'west-1', volumes: [{ id: world.route('db').volume }] } as never,
    true,
  );
  await world.pass(3_000);
  t.match(await troublesOf(world), [{ operation: 'snapshot s2', because: /^Volume db is unavailable: / }]);
  world.fateOf = () => 'delivered';
  await world.connect('east-1');
  await world.until('the end of the operation', () => world.isQuiet);
  t.same(await troublesOf(world), []);
});
