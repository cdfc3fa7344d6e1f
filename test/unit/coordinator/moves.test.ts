// Moves from cell to cell, there and back, turned back, and what is left of them.

import t from 'tap';

import type { DeleteResult, MoveStarted, MoveStatus } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const TWO_CELLS = { 'east-1': 'east', 'west-1': 'west' };

const start = { withBases: false, dryRun: false };

async function moved(world: CoordinatorWorld, volume: string): Promise<void> {
  await world.until(`the end of the move of ${volume}`, () => world.route(volume).journal === null);
}

t.test('a volume with snapshots moves under writes, and nothing of it is lost', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 3);
  const begun = await world.done<'move-start', MoveStarted>('move-start', {
    volume: 'db',
    cell: 'west',
    ...start,
  });
  t.match(begun, { fromHost: 'east-1', toHost: 'west-1', snapshots: 3, present: 0 });
  await world.until('the end of the move', () => {
    world.write(id);
    return world.route('db').journal === null;
  });
  t.equal(world.violation('db'), null);
  t.match(world.route('db'), { active: { cell: 'west', primary: 'west-1' }, alternate: { cell: 'east' } });
  t.same(
    world
      .host('west-1')
      .lineage(id)
      .map(({ name }) => name),
    ['s1', 's2', 's3'],
  );
  t.ok(world.host('east-1').heard.includes('carry'), 'a delta was carried before the seal');
  t.ok(world.host('west-1').owns(id));
  const status = await world.done<'move-status', MoveStatus>('move-status', { volume: 'db' });
  t.match(status, { result: 'moved', phase: null, keptUntil: /T/ });
  const next = await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's4' }] });
  t.match(next, { cell: 'west', seq: 4, rule: 'stay' });
});

t.test(
  'back within the time of grace only the difference is sent; after it the copy is purged',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 3);
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    await moved(world, 'db');
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's4' }] });
    const back = await world.done<'move-start', MoveStarted>('move-start', {
      volume: 'db',
      cell: 'east',
      ...start,
    });
    t.match(back, { toHost: 'east-1' });
    t.ok(back.snapshots < 4, 'what the old copy has is not sent again');
    await moved(world, 'db');
    t.match(world.route('db').active, { cell: 'east' });
    t.equal(world.violation('db'), null);
    t.equal(world.host('west-1').answer(id).state, 'SEALED');
    await world.pass(61_000, 1_000);
    t.equal(world.host('west-1').answer(id).state, 'NONE');
    t.equal(world.route('db').alternate, null);
    t.equal(world.host('east-1').lineage(id).length, 4);
  },
);

t.test('a move is turned back before the seal and after it, not after the release', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  world.host('west-1').copies = false;
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await world.until('the copy', () => world.host('west-1').answer(id).state === 'RECEIVING');
  t.match(await world.done('move-cancel', { volume: 'db' }), { direction: 'rollback' });
  await moved(world, 'db');
  t.match(world.route('db'), { active: { cell: 'east' } });
  t.equal(world.host('east-1').answer(id).state, 'ACTIVE');
  await world.until('the copy to be purged', () => world.route('db').alternate === null);
  t.equal(world.host('west-1').answer(id).state, 'NONE');

  world.host('west-1').copies = true;
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await world.until('the seal', () => {
    if (world.host('east-1').answer(id).state !== 'SEALED') return false;
    world.host('west-1').copies = false;
    return true;
  });
  await world.until('its note', () => world.route('db').journal?.phase === 'SEALED');
  await world.done('move-cancel', { volume: 'db' });
  await moved(world, 'db');
  t.match(world.route('db'), { active: { cell: 'east', epoch: 2 } });
  t.ok(world.host('east-1').owns(id));
  t.equal(world.violation('db'), null);
  t.match(await world.done('move-status', { volume: 'db' }), { result: 'rolled-back' });
  t.equal(await world.refused('move-cancel', { volume: 'db' }), 'move-not-found');
});

t.test('a dry run tells and begins nothing; a second move is refused while one is under way', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  await world.volume('db', 'east-1', 2);
  const told = await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: true });
  t.match(told, { move: null, snapshots: 2, unshared: [] });
  t.equal(world.route('db').journal, null);
  world.host('west-1').copies = false;
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  t.equal(await world.refused('move-start', { volume: 'db', cell: 'west', ...start }), 'move-under-way');
  t.equal(await world.refused('move-start', { volume: 'db', cell: 'south', ...start }), 'cell-not-found');
  t.equal(await world.refused('move-start', { volume: 'none', cell: 'west', ...start }), 'volume-not-found');
});

t.test('snapshots go on during a move, and are in the copy', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  const rules: string[] = [];
  for (let number = 2; world.route('db').journal && number < 50; number++) {
    world.write(id);
    const taken = await world
      .done('snapshot-create', { snapshots: [{ volume: 'db', name: `s${number}` }] })
      .catch((error) => ({ rule: String(error.code) }));
    rules.push(String(taken.rule));
    await world.pass(400);
  }
  t.ok(rules.includes('stay-extend'), rules.join());
  t.equal(world.violation('db'), null);
  const names = world
    .host('west-1')
    .lineage(id)
    .map(({ name }) => name);
  t.same(names, [...names].sort(), 'one path');
  t.ok(names.length > 1);
});

t.test('a host that is to be emptied gives its volumes to others of its cell', async (t) => {
  const world = await CoordinatorWorld.begin({ 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' });
  const ids = [await world.volume('a', 'east-1'), await world.volume('b', 'east-1')];
  t.match(await world.done('host-drain', { host: 'east-1', dryRun: true }), {
    moves: [{ move: null }, { move: null }],
  });
  await world.done('host-drain', { host: 'east-1', dryRun: false });
  for (const name of ['a', 'b']) await moved(world, name);
  for (const name of ['a', 'b']) t.match(world.route(name).active, { cell: 'east', primary: 'east-2' });
  for (const id of ids) t.ok(world.host('east-2').owns(id));
  t.match(await world.done('host-show', { host: 'east-1' }), { draining: true, primaryOf: 0 });
  t.equal(await world.refused('host-drain', { host: 'west-1', dryRun: false }), 'done');
});

t.test('a cell is split by what is written to its volumes', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const busy = await world.volume('busy', 'east-1');
  const idle = await world.volume('idle', 'east-1');
  const work = world.call('cell-split', { cell: 'east', into: 'west', volumes: null, dryRun: false });
  let ended = false;
  void work.then(() => {
    ended = true;
  });
  for (let at = 0; at < 200 && !ended; at++) {
    world.write(busy);
    if (at % 20 === 0) world.write(idle);
    await world.pass(50);
  }
  t.match(await work, { rates: [{ volume: 'busy' }], moves: [{ volume: 'busy' }] });
  await moved(world, 'busy');
  t.equal(world.route('busy').active.cell, 'west');
  t.equal(world.route('idle').active.cell, 'east');
});

t.test(
  'a volume that the copy of another one continues is not deleted before that move has ended',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const base = await world.volume('base', 'west-1', 1);
    const id = await world.volume('db', 'east-1', 2);
    // As after a sync from a volume that the destination has, and from one that it has not.
    const [first, second] = world.host('east-1').volumes.get(id)!.snapshots;
    first!.base = { volume: base, snapshot: world.host('west-1').lineage(base)[0]!.id };
    second!.base = { volume: 'd'.repeat(32), snapshot: 'e'.repeat(32) };
    const asked = { volume: 'db', cell: 'west', withBases: false, dryRun: true };
    t.match(await world.done('move-start', asked), { shared: 1, unshared: [{ snapshot: 's2' }] });
    t.equal(await world.refused('move-start', { ...asked, withBases: true }), 'move-bases-not-carried');
    world.host('west-1').copies = false;
    await world.done('move-start', { ...asked, dryRun: false });
    t.equal(await world.refused('volume-delete', { volume: 'base' }), 'volume-pinned');
    world.host('west-1').copies = true;
    await moved(world, 'db');
    const deleted = await world.done<'volume-delete', DeleteResult>('volume-delete', { volume: 'base' });
    t.same(deleted.unconfirmed, []);
  },
);

t.test(
  'a route and a source that come back from a backup of the move, when its destination owns the volume: the older owner is fenced',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    const source = () => world.host('east-1').volumes.get(id)!;
    await world.until(
      'the copy to be begun',
      () => source().record.state === 'OUTGOING' && world.route('db').journal?.phase === 'COPYING',
    );
    const [route, record] = [world.route('db'), source().record];
    await moved(world, 'db');
    const next = world.another();
    world.running = next;
    world.state.table.set(route);
    source().record = { ...record, move: { ...record.move!, completeThrough: null } };
    source().content = source().snapshots.find((each) => each.id === record.head?.id)!.content;
    next.leadership.give();
    await world.until('a leader', () => next.coordinator.isReady);
    for (const host of world.hosts.values()) next.connected.set(host.name, { ...host.facts() } as never);
    await moved(world, 'db');
    t.match(world.route('db'), { active: { primary: 'west-1', epoch: 2 }, epoch: 2 });
    t.match(source().record, { state: 'SEALED', released: 2 });
    t.equal(world.violation('db'), null);
  },
);

t.test(
  'what is left of a move is kept when it has a snapshot that the owner lacks, and it is said',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    await moved(world, 'db');
    const held = world.host('east-1').volumes.get(id)!;
    const head = { id: 'e'.repeat(32), seq: 3 };
    held.snapshots.push({ ...held.snapshots[0]!, ...head, name: 'only-here' });
    held.record = { ...held.record, head };
    await world.pass(120_000, 1_000);
    t.match(world.host('east-1').answer(id), { state: 'SEALED', lineageHead: head });
    t.match(await world.done('move-status', { volume: 'db' }), {
      troubles: [{ because: /Host east-1 has a snapshot that the owner is not known to have/ }],
    });
  },
);

t.test('a replica that is removed while its copy is being begun leaves nothing behind', async (t) => {
  const world = await CoordinatorWorld.begin({ 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' });
  const id = await world.volume('db', 'east-1', 2);
  world.fateOf = (_from, _host, what) => (what === 'replicate' ? 'late' : 'delivered');
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.done('replica-remove', { volume: 'db', host: 'east-2' });
  await world.pass(5_000);
  t.ok(world.host('east-2').heard.includes('replicate'), 'it had been begun');
  t.same(world.route('db').active.replicas, []);
  t.equal(world.host('east-2').answer(id).state, 'NONE');
});

t.test('a destination that has a replica of it which no route names is taken all the same', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 2);
  world.host('west-1').command(id, { do: 'replicate', epoch: 1 });
  await world.done('move-start', { volume: 'db', cell: 'west', ...start });
  await moved(world, 'db');
  t.ok(world.host('west-1').owns(id));
  t.equal(world.disagreement('db'), null);
});

t.test(
  'a destination that has come back from a backup gets nothing until it is readmitted; then the move goes on',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 2);
    const backup = world.host('west-1').backup();
    world.host('west-1').copies = false;
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    await world.until('the copy', () => world.route('db').journal?.phase === 'COPYING');
    // It has said that it has a part of it.
    world.disconnect('west-1');
    await world.connect('west-1');
    world.disconnect('west-1');
    world.host('west-1').restore(backup);
    world.host('west-1').copies = true;
    await world.connect('west-1');
    await world.pass(10_000);
    t.equal(world.host('west-1').answer(id).state, 'NONE');
    const { troubles } = await world.done<'move-status', MoveStatus>('move-status', { volume: 'db' });
    t.match(troubles, [{ because: /west-1 has come back older than it was/, hint: /host readmit west-1/ }]);
    await world.done('host-readmit', { host: 'west-1' });
    await moved(world, 'db');
    t.ok(world.host('west-1').owns(id));
    t.equal(world.disagreement('db'), null);
  },
);

for (const copies of [true, false])
  t.test(
    `a replica that is ${copies ? 'complete' : 'under way'}, whose host comes back from a backup, is begun when that is readmitted`,
    async (t) => {
      const world = await CoordinatorWorld.begin({ 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' });
      const id = await world.volume('db', 'east-1', 2);
      const host = world.host('east-2');
      const backup = host.backup();
      host.copies = copies;
      await world.done('replica-add', { volume: 'db', host: 'east-2' });
      await world.until('the replica', () => host.answer(id).replica !== null);
      if (copies) await world.until('all of it', () => host.lineage(id).length === 2);
      for (const restore of [() => undefined, () => host.restore(backup)]) {
        world.disconnect('east-2');
        restore();
        await world.connect('east-2');
      }
      await world.pass(10_000);
      t.equal(host.answer(id).state, 'NONE');
      host.copies = true;
      await world.done('host-readmit', { host: 'east-2' });
      await world.until('the replica', () => host.lineage(id).length === 2);
    },
  );

t.test(
  'what the replicas of the cell of before have is purged before the route names that cell no more',
  async (t) => {
    const world = await CoordinatorWorld.begin({ 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' });
    const id = await world.volume('db', 'east-1', 2);
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
    await world.done('move-start', { volume: 'db', cell: 'west', ...start });
    await moved(world, 'db');
    world.fateOf = (_from, host, what) => (what === 'purge' && host === 'east-2' ? 'lost' : 'delivered');
    await world.until('the purge', () => world.host('east-1').answer(id).state === 'NONE', 120_000);
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
    t.match(
      world.route('db').alternate,
      { primary: 'east-1', replicas: ['east-2'] },
      'an operation leaves it',
    );
    world.fateOf = () => 'delivered';
    await world.until('the end', () => world.route('db').alternate === null);
    t.equal(world.host('east-2').answer(id).state, 'NONE');
  },
);
