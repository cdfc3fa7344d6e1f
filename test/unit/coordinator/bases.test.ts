// What a move brings along of other volumes (--with-bases): first, only as far as it is continued, and given back afterwards.

import t from 'tap';

import type { HostDetails, MoveStarted, MoveStatus, RouteDetails } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'west-1': 'west' };

const names = (world: CoordinatorWorld, host: string, id: string) =>
  world
    .host(host)
    .lineage(id)
    .map(({ name }) => name)
    .join();

/** `base` with three snapshots, and `clone`, made of the second of them, with one. */
async function family(world: CoordinatorWorld): Promise<{ base: string; clone: string }> {
  const base = await world.volume('base', 'east-1', 3);
  const clone = await world.volume('clone', 'east-1', 1);
  continues(world, clone, base, 1);
  return { base, clone };
}

function continues(world: CoordinatorWorld, clone: string, base: string, at: number): void {
  const snapshot = world.host('east-1').lineage(base)[at]!.id;
  world.host('east-1').volumes.get(clone)!.snapshots[0]!.base = { volume: base, snapshot };
}

const ask = (world: CoordinatorWorld, { dryRun = false, volume = 'clone' } = {}) =>
  world.done<'move-start', MoveStarted>('move-start', { volume, cell: 'west', withBases: true, dryRun });

const moved = (world: CoordinatorWorld, volume = 'clone') =>
  world.until(`the end of the move of ${volume}`, () => world.route(volume).journal === null);

t.test('the base arrives first, up to what is continued, and goes after the time of grace', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, clone } = await family(world);
  const preview = await ask(world, { dryRun: true });
  t.match(preview, { shared: 1, unshared: [], carried: [{ volume: 'base', snapshots: 2 }], move: null });
  t.notOk(world.host('west-1').volumes.has(base), 'nothing was begun');
  await ask(world);
  const pulls: string[] = [];
  world.fateOf = (_from, host, what) => {
    if (what === 'pull' && host === 'west-1') pulls.push(names(world, 'west-1', base));
    return 'delivered';
  };
  await moved(world);
  t.equal(pulls.at(-1), 's1,s2', 'the clone was pulled when its base was there');
  t.equal(names(world, 'west-1', base), 's1,s2');
  t.match(world.host('west-1').answer(base), { state: 'RECEIVING', replica: {} }, 'which serves nobody');
  t.ok(world.host('west-1').owns(clone));
  t.match(world.route('base').active, { primary: 'east-1', replicas: [] });
  await world.pass(61_000, 1_000);
  t.equal(world.host('west-1').answer(base).state, 'NONE');
  t.equal(world.disagreement('base'), null);
  t.notOk(
    world.state.recordKeys.some((key) => key.startsWith('base/')),
    'nothing of it is kept',
  );
});

t.test(
  'a clone without snapshots of its own says what it continues; a second one finds it there',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const base = await world.volume('base', 'east-1', 2);
    const clone = await world.volume('clone', 'east-1', 0);
    world.host('east-1').volumes.get(clone)!.base = {
      volume: base,
      snapshot: world.host('east-1').lineage(base)[0]!.id,
    };
    const without = await world.done<'move-start', MoveStarted>('move-start', {
      volume: 'clone',
      cell: 'west',
      withBases: false,
      dryRun: true,
    });
    t.match(without, { snapshots: 0, unshared: [{ snapshot: '(as it is now)', base }] });
    t.match(await ask(world), { carried: [{ volume: 'base', snapshots: 1 }] });
    await moved(world);
    const second = await world.volume('second', 'east-1', 1);
    continues(world, second, base, 0);
    t.match(await ask(world, { volume: 'second', dryRun: true }), { shared: 1, carried: [], unshared: [] });
  },
);

t.test('bases of bases come first of all', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, clone } = await family(world);
  const grandchild = await world.volume('grandchild', 'east-1', 1);
  continues(world, grandchild, clone, 0);
  const arrived: string[] = [];
  const pulls: string[] = [];
  world.fateOf = (_from, host, what) => {
    if (what === 'pull') pulls.push(`${names(world, host, base)} ${names(world, host, clone)}`);
    for (const [what, id] of Object.entries({ base, clone, grandchild }))
      if (host === 'west-1' && names(world, 'west-1', id) !== '' && !arrived.includes(what))
        arrived.push(what);
    return 'delivered';
  };
  t.match(await ask(world, { volume: 'grandchild' }), {
    carried: [
      { volume: 'base', snapshots: 2 },
      { volume: 'clone', snapshots: 1 },
    ],
  });
  await moved(world, 'grandchild');
  t.strictSame(arrived, ['base', 'clone', 'grandchild']);
  t.strictSame(
    pulls.slice(0, 3),
    [' ', 's1,s2 ', 's1,s2 s1'],
    'none is begun before the one it continues is there',
  );
});

t.test('while it is under way its base is pinned, and the move says what it waits for', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  world.host('west-1').copies = false;
  await ask(world);
  await world.pass(3_000);
  const status = await world.done<'move-status', MoveStatus>('move-status', { volume: 'clone' });
  t.match(status.troubles, [{ because: /of volume base is brought to host west-1 first/ }]);
  t.equal(await world.refused('volume-delete', { volume: 'base' }), 'volume-pinned');
  t.equal(await world.refused('snapshot-delete', { volume: 'base', name: 's1' }), 'snapshot-pinned');
  await world.done('move-cancel', { volume: 'clone' });
  await moved(world);
  await world.until('the end of the base', () => world.host('west-1').answer(base).state === 'NONE');
  t.equal(await world.refused('snapshot-delete', { volume: 'base', name: 's1' }), 'done');
});

t.test('a base that its volume follows stays; one that is deleted goes with its volume', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  await ask(world);
  await moved(world);
  const { snapshots, present } = await world.done<'move-start', MoveStarted>('move-start', {
    volume: 'base',
    cell: 'west',
    withBases: false,
    dryRun: false,
  });
  t.match({ snapshots, present }, { snapshots: 1, present: 2 }, 'what is there is not sent again');
  await moved(world, 'base');
  await world.pass(61_000, 1_000);
  t.equal(names(world, 'west-1', base), 's1,s2,s3');
  t.equal(world.disagreement('base'), null);

  const other = await CoordinatorWorld.begin(HOSTS);
  const there = await family(other);
  await ask(other);
  await moved(other);
  await other.done('volume-delete', { volume: 'base' });
  await other.until('the delete', () => other.state.table.named('base') === null);
  t.match(other.host('west-1').answer(there.base), { state: 'NONE', tombstone: { why: 'delete' } });
});

t.test('another leader goes on with it', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  world.host('west-1').copies = false;
  await ask(world);
  await world.pass(1_000);
  // Its commands are heard no more.
  world.running.isDead = true;
  await world.lead();
  world.host('west-1').copies = true;
  await moved(world);
  t.equal(names(world, 'west-1', base), 's1,s2');
  world.running.isDead = true;
  await world.lead();
  await world.pass(61_000, 1_000);
  t.equal(world.host('west-1').answer(base).state, 'NONE');
});

t.test('what cannot be brought is refused with the reason', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  const route = world.route('base');
  world.state.table.set({ ...route, status: 'quarantined' });
  const asked = { volume: 'clone', cell: 'west', withBases: true, dryRun: false };
  t.equal(await world.refused('move-start', asked), 'move-bases-not-carried');
  world.state.table.delete(base);
  t.equal(await world.refused('move-start', asked), 'move-bases-not-carried', 'a volume without a route');
  const shown = await world.done<'route-show', RouteDetails>('route-show', {
    volume: 'clone',
    explain: false,
  });
  t.equal(shown.route.journal, null);
});

const show = (world: CoordinatorWorld) =>
  world.done<'host-show', HostDetails>('host-show', { host: 'west-1' });

t.test('what is brought shows as that at its host, with whom it is for, and not as a stray', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  world.host('west-1').copies = false;
  await ask(world);
  await world.pass(500);
  const entry = { name: 'base', id: base, seq: 2, for: ['clone'] };
  t.match((await show(world)).bases, [{ ...entry, complete: false, keptUntil: null }]);
  t.equal(await world.refused('replica-remove', { volume: 'base', host: 'west-1' }), 'volume-pinned');
  world.host('west-1').copies = true;
  await moved(world);
  await world.connect('west-1');
  const after = await show(world);
  t.match(after, { bases: [{ ...entry, complete: true, keptUntil: /^20/ }], strays: [] });
  t.same(after.strays, []);
  await world.pass(61_000, 1_000);
  await world.connect('west-1');
  t.match(await show(world), { bases: [], strays: [] });
  t.same([(await show(world)).bases, (await show(world)).strays], [[], []]);
});

t.test('it can be removed before its time, and where nobody knows of it any more', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, clone } = await family(world);
  const backup = world.state.copy();
  await ask(world);
  await moved(world);
  t.match(await world.done('replica-remove', { volume: 'base', host: 'west-1' }), { replicas: [] });
  t.equal(world.host('west-1').answer(base).state, 'NONE');
  t.ok(world.host('west-1').owns(clone), 'what continues it stays');
  t.same((await show(world)).bases, []);
  t.equal(await world.refused('replica-remove', { volume: 'base', host: 'west-1' }), 'replica-not-found');
  t.equal(await world.refused('replica-remove', { volume: 'base', host: 'east-1' }), 'replica-not-found');
  t.equal(await world.refused('replica-remove', { volume: 'clone', host: 'west-1' }), 'replica-not-found');

  const other = await CoordinatorWorld.begin(HOSTS);
  const there = await family(other);
  await ask(other);
  await moved(other);
  // Its records come from a backup of before.
  other.state = backup;
  await other.lead();
  t.match((await show(other)).strays, [{ name: 'base', state: 'RECEIVING' }, { name: 'clone' }]);
  await other.done('replica-remove', { volume: 'base', host: 'west-1' });
  t.equal(other.host('west-1').answer(there.base).state, 'NONE');
  t.equal(await other.refused('replica-remove', { volume: 'clone', host: 'west-1' }), 'replica-not-found');
  t.ok(other.host('west-1').owns(there.clone), 'an owner is no beginning');
});

t.test('what has become another part of its volume meanwhile is not purged', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  await ask(world);
  await moved(world);
  const held = world.host('west-1').volumes.get(base)!;
  held.record = { ...held.record, state: 'SEALED', replica: false, released: 9 };
  await world.pass(61_000, 1_000);
  t.equal(world.host('west-1').answer(base).state, 'SEALED', 'nobody has said that it is not needed');
  t.notOk(world.state.recordKeys.some((key) => key.startsWith('base/')));
});

t.test('where the route has another part of the base, nothing is brought beside it', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  const move = async (cell: string) => {
    await world.done('move-start', { volume: 'base', cell, withBases: false, dryRun: false });
    await moved(world, 'base');
  };
  await move('west');
  await move('east');
  world.write(base);
  await world.done('snapshot-create', { snapshots: [{ volume: 'base', name: 's4' }] });
  continues(world, world.route('clone').volume, base, 3);
  t.match(world.host('west-1').answer(base), { state: 'SEALED' }, 'kept from the move');
  const asked = { volume: 'clone', cell: 'west', withBases: true, dryRun: false };
  t.equal(await world.refused('move-start', asked), 'move-bases-not-carried');
  t.match(world.host('west-1').answer(base), { state: 'SEALED' });
});

t.test('what has become a part of its own move is not removed', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  await ask(world);
  await moved(world);
  world.fateOf = (_from, _host, what) => (what === 'receive' ? 'lost' : 'delivered');
  await world.done('move-start', { volume: 'base', cell: 'west', withBases: false, dryRun: false });
  t.match(world.host('west-1').answer(base), { state: 'RECEIVING', replica: {} });
  t.equal(await world.refused('replica-remove', { volume: 'base', host: 'west-1' }), 'replica-not-found');
  t.match(world.host('west-1').answer(base), { state: 'RECEIVING', replica: {} });
});
t.test(
  'a base is not brought to a host that has come back from a backup, until it is readmitted',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const { base, clone } = await family(world);
    const host = world.host('west-1');
    const backup = host.backup();
    host.copies = false;
    await ask(world);
    await world.until('its begin', () => host.answer(base).replica !== null);
    for (const restore of [() => undefined, () => host.restore(backup)]) {
      world.disconnect('west-1');
      restore();
      await world.connect('west-1');
    }
    await world.pass(10_000);
    t.equal(host.answer(base).state, 'NONE');
    host.copies = true;
    await world.done('host-readmit', { host: 'west-1' });
    await moved(world);
    t.ok(host.owns(clone));
    t.equal(names(world, 'west-1', base), 's1,s2');
  },
);
