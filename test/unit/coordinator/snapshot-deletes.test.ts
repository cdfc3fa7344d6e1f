// Deletes of snapshots over cells: everywhere, in the end; and never of one that a copy elsewhere may be built on.

import t from 'tap';

import type { SnapshotDeleteResult } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' };

const start = { withBases: false, dryRun: false };

const names = (world: CoordinatorWorld, host: string, id: string) =>
  world
    .host(host)
    .lineage(id)
    .map(({ name }) => name)
    .join();

const remove = (world: CoordinatorWorld, name: string, volume = 'db') =>
  world.done<'snapshot-delete', SnapshotDeleteResult>('snapshot-delete', { volume, name });

async function whyNot(world: CoordinatorWorld, name: string, volume = 'db'): Promise<string> {
  return remove(world, name, volume).then(
    () => 'deleted',
    (error) => `${error.code}: ${error.message}`,
  );
}

async function moved(world: CoordinatorWorld, volume: string): Promise<void> {
  await world.until(`the end of the move of ${volume}`, () => world.route(volume).journal === null);
}

t.test('by its owner, under the rule of the table, and the decision is noted', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 3);
  t.match(await remove(world, 's2'), { host: 'east-1', cell: 'east', rule: 'stay', unconfirmed: [] });
  t.equal(names(world, 'east-1', id), 's1,s3');
  t.equal(await whyNot(world, 's2'), 'snapshot-not-found: Volume db has no snapshot s2.');
  const next = await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's4' }] });
  t.match(next, { seq: 4 }, 'the lineage goes on');
  const decisions = await world.running.coordinator.call('shell', {
    verb: 'route-show',
    arguments: { volume: 'db', explain: true },
  } as never);
  t.match(decisions, {
    explained: { decisions: [{}, {}, {}, { operation: 'delete snapshot s2', rule: 'stay' }, {}] },
  });
});

t.test('a cell that is away deletes it when it is back; back there, it does not show again', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await moved(world, 'db');
  world.disconnect('east-1');
  const done = await remove(world, 's1');
  t.same(done.unconfirmed, ['east-1']);
  t.equal(names(world, 'west-1', id), 's2');
  t.equal(names(world, 'east-1', id), 's1,s2');
  t.match(await remove(world, 's1'), { unconfirmed: ['east-1'] }, 'asked again it is the same');
  await world.lead();
  await world.connect('east-1');
  await world.until('the delete there', () => names(world, 'east-1', id) === 's2');
  await world.until('rest', () => world.isQuiet);
  await world.done('move-start', { volume: 'db', cell: 'east', ...start });
  await moved(world, 'db');
  t.equal(names(world, 'east-1', id), 's2');
  t.equal(world.disagreement('db'), null);
});

t.test(
  'what a move, a replica or another volume may need is not deleted, and it is said what needs it',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    t.match(await whyNot(world, 's2'), /^snapshot-pinned: .*is the last one of its lineage/);

    world.host('west-1').copies = false;
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    t.match(await whyNot(world, 's1'), /^snapshot-pinned: .*on the move to cell west/);
    await world.done('move-cancel', { volume: 'db' });
    await moved(world, 'db');

    world.host('east-2').copies = false;
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.pass(1_000);
    t.match(await whyNot(world, 's1'), /^snapshot-pinned: .*replica at host east-2/);
    world.host('east-2').copies = true;
    await world.until('the replica', () => names(world, 'east-2', id) === 's1,s2', 10_000);

    // Continues one of db, which is at its destination too.
    const clone = await world.volume('clone', 'east-1', 1);
    const base = world.host('east-1').lineage(id)[0]!.id;
    const facts = world.host('east-1').volumes.get(clone)!.snapshots[0]!;
    facts.base = { volume: id, snapshot: base };
    const there = structuredClone(world.host('east-1').volumes.get(id)!);
    world
      .host('west-1')
      .volumes.set(id, { ...there, record: { ...there.record, state: 'SEALED', released: 9 } });
    world.host('west-1').copies = false;
    await world.done('move-start', { volume: 'clone', cell: 'west', ...start });
    t.match(
      await whyNot(world, 's1'),
      /^snapshot-pinned: .*the copy of volume clone, which is on the move, continues/,
    );
    world.host('west-1').copies = true;
    await moved(world, 'clone');
    t.equal(await whyNot(world, 's1'), 'deleted');
    t.equal(names(world, 'east-1', id), 's2');
    t.equal(names(world, 'east-2', id), 's2');
  },
);

t.test('a volume in quarantine, one that is deleted, and one whose owner is silent', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await world.volume('db', 'east-1', 2);
  world.disconnect('east-1');
  t.match(await whyNot(world, 's1'), /^host-not-connected: /);
  await world.connect('east-1');
  const route = world.route('db');
  world.state.table.set({ ...route, status: 'quarantined' });
  t.match(await whyNot(world, 's1'), /^volume-quarantined: /);
  world.state.table.set({ ...route, status: 'gone' });
  t.match(await whyNot(world, 's1'), /^volume-not-found: /);
});

t.test(
  'what an operator has decided against keeps its snapshots until he says what becomes of it',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    await moved(world, 'db');
    const held = world.host('east-1').volumes.get(id)!;
    held.record = { ...held.record, state: 'ACTIVE', epoch: 2, released: null, sealedHead: null };
    held.content = 999;
    await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
    await world.done('quarantine-adopt', { volume: 'db', cell: 'west' });
    t.same((await remove(world, 's1')).unconfirmed, [], 'before it is sealed');
    await world.until('its seal', () => world.route('db').alternate?.mustSeal === null);
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
    t.same((await remove(world, 's2')).unconfirmed, [], 'and after it');
    await world.pass(5_000);
    t.equal(names(world, 'west-1', id), 's3');
    t.equal(names(world, 'east-1', id), 's1,s2');
  },
);
