// Splits and drains of volumes that continue others: these come first and once, by themselves or brought along; and what is refused, begun before, or
// left apart.

import t from 'tap';

import type { DrainResult, MoveOfMany, MoveStatus, SplitResult } from '../../../src/coordinator/results.js';
import type { Arguments } from '../../../src/protocol/verbs.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'east-3': 'east', 'west-1': 'west', 'west-2': 'west' };

/** `base` with three snapshots; `one` and `two` continue its second, `apart` nothing. All of them at east-1. */
async function family(world: CoordinatorWorld): Promise<Record<'base' | 'one' | 'two' | 'apart', string>> {
  const base = await world.volume('base', 'east-1', 3);
  const one = await world.volume('one', 'east-1', 1);
  const two = await world.volume('two', 'east-1', 1);
  const apart = await world.volume('apart', 'east-1', 1);
  for (const clone of [one, two]) continues(world, clone, base, 1);
  return { base, one, two, apart };
}

function continues(world: CoordinatorWorld, clone: string, base: string, at: number): void {
  const { id: snapshot } = world.host('east-1').lineage(base)[at]!;
  world.host('east-1').volumes.get(clone)!.snapshots[0]!.base = { volume: base, snapshot };
}

type Bases = NonNullable<Arguments<'cell-split'>['bases']>;

const split = (
  world: CoordinatorWorld,
  volumes: string[],
  { bases = 'refuse', dryRun = false }: { bases?: Bases; dryRun?: boolean } = {},
) =>
  world.done<'cell-split', SplitResult>('cell-split', { cell: 'east', into: 'west', volumes, dryRun, bases });

const drain = (
  world: CoordinatorWorld,
  { bases = 'refuse', dryRun = false }: { bases?: Bases; dryRun?: boolean } = {},
) => world.done<'host-drain', DrainResult>('host-drain', { host: 'east-1', dryRun, bases });

const moved = (world: CoordinatorWorld, ...volumes: string[]) =>
  world.until(`the end of the moves of ${volumes}`, () =>
    volumes.every((volume) => world.route(volume).journal === null),
  );

const names = (world: CoordinatorWorld, host: string, id: string) =>
  world
    .host(host)
    .lineage(id)
    .map(({ name }) => name)
    .join();

/** When each of these is pulled by the host, what it has of the base then. */
function pulls(world: CoordinatorWorld, base: string): string[] {
  const seen: string[] = [];
  world.fateOf = (_from, host, what) => {
    if (what === 'pull') seen.push(`${host}: ${names(world, host, base)}`);
    return 'delivered';
  };
  return seen;
}

const problemOf = (moves: MoveOfMany[], volume: string): string => {
  const found = moves.find((one) => one.volume === volume);
  return found && 'problem' in found ? found.problem : 'begun';
};

t.test(
  'a volume whose base is not there is not begun without a word for it: base and options are named, the others go',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    await family(world);
    const { moves } = await split(world, ['one', 'apart']);
    const problem = problemOf(moves, 'one');
    t.match(problem, /^Volume one continues snapshots of volume base, which host west-[12] does not have\./);
    t.match(problem, /--with-bases.*--unshare/);
    t.equal(problemOf(moves, 'apart'), 'begun');
    t.equal(world.route('one').journal, null);
    await moved(world, 'apart');
    t.equal(world.route('apart').active.cell, 'west');
  },
);

t.test('a split with bases brings each once, before all that continue it, to one host', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, one, two } = await family(world);
  const planned = await split(world, ['one', 'two'], { bases: 'carry', dryRun: true });
  const [first, second] = planned.moves;
  t.match(first, { volume: 'one', move: null, carried: [{ volume: 'base', snapshots: 2 }], unshared: [] });
  t.match(second, { volume: 'two', move: null, carried: [], awaited: ['base'], unshared: [] });
  t.equal((second as { toHost: string }).toHost, (first as { toHost: string }).toHost, 'they stay together');
  t.same(
    [world.route('one').journal, world.state.recordKeys.filter((key) => key.startsWith('base/'))],
    [null, []],
  );

  const seen = pulls(world, base);
  const begun = await split(world, ['one', 'two'], { bases: 'carry' });
  t.strictSame(
    begun.moves.map((move) => 'carried' in move && [move.volume, move.carried.length, move.awaited]),
    [
      ['one', 1, []],
      ['two', 0, ['base']],
    ],
  );
  await moved(world, 'one', 'two');
  const { primary } = world.route('one').active;
  t.equal(world.route('two').active.primary, primary);
  t.match(world.route('one').active, { cell: 'west' });
  t.equal(seen[0], `${primary}: `, 'the base is the first that is pulled');
  t.same([...new Set(seen.slice(1))], [`${primary}: s1,s2`], 'and is there when the others are');
  for (const id of [one, two]) t.ok(world.host(primary).owns(id));
  t.match(world.route('base').active, { primary: 'east-1' });
  await world.pass(61_000, 1_000);
  t.equal(world.host(primary).answer(base).state, 'NONE', 'it goes after the time of grace');
});

t.test(
  'a drain takes bases along by their own moves: no option is needed, each waits for what it continues',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const { base } = await family(world);
    // By name the clone comes first.
    const early = await world.volume('a-clone', 'east-1', 1);
    continues(world, early, base, 2);
    const planned = await drain(world, { dryRun: true });
    t.same(
      planned.moves.map(({ volume }) => volume),
      ['base', 'a-clone', 'apart', 'one', 'two'],
    );
    const seen = pulls(world, base);
    const { moves } = await drain(world);
    t.same(
      moves.map((move) => ('awaited' in move ? [move.volume, ...move.awaited] : move)),
      [['base'], ['a-clone', 'base'], ['apart'], ['one', 'base'], ['two', 'base']],
    );
    await moved(world, 'apart', 'base', 'a-clone', 'one', 'two');
    const { primary } = world.route('base').active;
    for (const name of ['a-clone', 'one', 'two']) {
      t.equal(world.route(name).active.primary, primary, `${name} is where its base is`);
      t.equal(world.disagreement(name), null);
    }
    t.equal(world.disagreement('base'), null);
    const there = seen.filter((pull) => pull.startsWith(primary));
    t.equal(there[0], `${primary}: `);
    t.ok(
      there.slice(1).every((pull) => pull.startsWith(`${primary}: s1,s2,s3`)),
      there.join(' | '),
    );
    await world.until('rest', () => !world.state.recordKeys.some((key) => key.startsWith('base/')));
    t.equal(names(world, primary, base), 's1,s2,s3', 'the volume itself stays');
  },
);

t.test('asked for again, what is under way goes on and the rest is begun', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await family(world);
  for (const host of world.hosts.values()) host.copies = false;
  const first = await drain(world);
  t.ok(first.moves.every((move) => 'carried' in move));
  await world.lead();
  await world.volume('late', 'east-1', 1);
  const again = await drain(world);
  t.match(
    again.moves.find(({ volume }) => volume === 'base'),
    { phase: /PREPARED|COPYING/, toHost: /east-/ },
  );
  t.match(
    again.moves.find(({ volume }) => volume === 'late'),
    { move: /./, carried: [] },
  );
  t.notOk(again.moves.some((move) => 'problem' in move));
  for (const host of world.hosts.values()) host.copies = true;
  await moved(world, 'base', 'one', 'two', 'apart', 'late');
  t.match(await world.done('host-show', { host: 'east-1' }), { primaryOf: 0 });
});

t.test('--unshare: what continues others arrives without them, and it is said', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base } = await family(world);
  const { moves } = await split(world, ['one'], { bases: 'unshare' });
  t.match(moves, [{ volume: 'one', move: /./, carried: [], awaited: [], unshared: [{ base }] }]);
  await moved(world, 'one');
  t.equal(world.route('one').active.cell, 'west');
  for (const host of ['west-1', 'west-2']) t.equal(world.host(host).answer(base).state, 'NONE');
});

t.test('a base that cannot be brought is named with the reason; without it the volume moves', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await family(world);
  world.state.table.set({ ...world.route('base'), status: 'quarantined' });
  for (const bases of ['refuse', 'carry'] as const) {
    const { moves } = await split(world, ['one'], { bases });
    t.match(problemOf(moves, 'one'), /volume base has no open route.*--unshare/);
  }
  t.match((await split(world, ['one'], { bases: 'unshare' })).moves, [{ move: /./ }]);
});

t.test('volumes that continue one another move: one comes first and nobody waits for ever', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, one } = await family(world);
  // As after a sync back.
  world.host('east-1').volumes.get(base)!.snapshots[2]!.base = {
    volume: one,
    snapshot: world.host('east-1').lineage(one)[0]!.id,
  };
  // Nothing is there before both have begun.
  for (const host of world.hosts.values()) host.copies = false;
  for (const dryRun of [true, false]) {
    const { moves } = await split(world, ['base', 'one'], { bases: 'carry', dryRun });
    t.equal(moves.length, 2);
    t.notOk(
      moves.some((move) => 'problem' in move),
      JSON.stringify(moves),
    );
  }
  await world.pass(1_000);
  t.same(
    world.state.recordKeys.filter((key) => key.startsWith('base/')).length,
    1,
    'only one of them waits for the other',
  );
  for (const host of world.hosts.values()) host.copies = true;
  await moved(world, 'base', 'one');
  for (const name of ['base', 'one']) {
    t.equal(world.route(name).active.cell, 'west');
    t.equal(world.disagreement(name), null);
  }
});

t.test('a base that goes on from the moved volume itself does not make it wait for itself', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, one } = await family(world);
  world.write(one);
  await world.done('snapshot-create', { snapshots: [{ volume: 'one', name: 's2' }] });
  const [first, second] = world.host('east-1').volumes.get(one)!.snapshots;
  second!.base = { volume: base, snapshot: world.host('east-1').lineage(base)[1]!.id };
  first!.base = null;
  world.host('east-1').volumes.get(base)!.snapshots[0]!.base = { volume: one, snapshot: first!.id };
  t.match(await split(world, ['one'], { bases: 'carry' }), { moves: [{ carried: [{ volume: 'base' }] }] });
  await moved(world, 'one');
  t.equal(world.disagreement('one'), null);
});

t.test('a base on its way back does not count as coming', async (t) => {
  const world = await CoordinatorWorld.begin({ 'east-1': 'east', 'west-1': 'west' });
  await family(world);
  world.host('west-1').copies = false;
  await split(world, ['base']);
  await world.pass(500);
  world.fateOf = (_from, _host, what) => (what === 'stay-here' ? 'lost' : 'delivered');
  await world.done('move-cancel', { volume: 'base' });
  const { moves } = await split(world, ['one']);
  t.match(problemOf(moves, 'one'), /host west-1 does not have.*another part of volume base, which lacks it/);
  t.equal(world.route('one').journal, null);
});

t.test(
  'a base that is turned back on its way is brought along all the same; the one that waits says so',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const { base } = await family(world);
    for (const host of world.hosts.values()) host.copies = false;
    await split(world, ['base', 'one']);
    await world.pass(1_000);
    const status = await world.done<'move-status', MoveStatus>('move-status', { volume: 'one' });
    t.match(status.troubles, [{ because: /of volume base is brought to host west-. first/ }]);
    await world.done('move-cancel', { volume: 'base' });
    await moved(world, 'base');
    for (const host of world.hosts.values()) host.copies = true;
    const seen = pulls(world, base);
    await moved(world, 'one');
    const { primary } = world.route('one').active;
    t.equal(seen.at(-1), `${primary}: s1,s2`);
    t.match(world.route('base').active, { primary: 'east-1' });
    t.equal(world.disagreement('base'), null);
  },
);

t.test('a base that was there with its own move, and is gone with it, is waited for again', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const { base, one } = await family(world);
  world.fateOf = (_from, _host, what) => {
    // The base is not sealed, and the move of the clone gets no further than its journal.
    const isClone = what === 'outgoing' && world.host('east-1').answer(base).state === 'OUTGOING';
    return what === 'seal' || isClone ? 'lost' : 'delivered';
  };
  await split(world, ['base', 'one']);
  const { toHost } = world.route('base').journal!;
  let isThere = false;
  for (let tries = 0; tries < 100 && !isThere; tries++) {
    await world.pass(100);
    isThere = (await world.state.store().get('base', `${base}/${toHost}`))?.complete === true;
  }
  t.ok(isThere, 'what is continued has come');
  await world.done('move-cancel', { volume: 'base' });
  await moved(world, 'base');
  world.host(toHost).copies = false;
  await world.until('the copy of the base to go', () => names(world, toHost, base) === '');
  world.fateOf = () => 'delivered';
  await world.pass(5_000);
  const status = await world.done<'move-status', MoveStatus>('move-status', { volume: 'one' });
  t.match(status.troubles, [{ because: /of volume base is brought to host west-. first/ }]);
  world.host(toHost).copies = true;
  const seen = pulls(world, base);
  await moved(world, 'one');
  t.ok(world.host(toHost).owns(one));
  t.equal(seen.at(-1), `${toHost}: s1,s2`);
});

t.test('what a move waits for is not forgotten while the move itself is being written down', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await family(world);
  for (const host of world.hosts.values()) host.copies = false;
  await split(world, ['base']);
  await world.pass(1_000);
  // The base is looked after meanwhile: its copy is under way.
  let slow = 0;
  world.state.fate = async (what): Promise<'answered'> => {
    if (what === 'replaceRoute' && slow++ === 0) await world.after(2_000);
    return 'answered';
  };
  t.match(await split(world, ['one']), { moves: [{ awaited: ['base'] }] });
  t.ok(slow > 0, 'its journal was stored late');
  await world.pass(3_000);
  const status = await world.done<'move-status', MoveStatus>('move-status', { volume: 'one' });
  t.match(status.troubles, [{ because: /of volume base is brought to host west-. first/ }]);
  for (const host of world.hosts.values()) host.copies = true;
  await moved(world, 'base', 'one');
  t.equal(world.disagreement('one'), null);
});

t.test('what its volume has left is kept while others are on the move from there', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS, { settings: { graceMs: 0 } });
  const { base } = await family(world);
  await split(world, ['base', 'one']);
  let holds = true;
  world.fateOf = (_from, _host, what) => {
    // The clone waits at its first pull.
    const isClone =
      what === 'pull' && world.route('base').journal === null && world.route('one').journal !== null;
    return holds && isClone ? 'lost' : 'delivered';
  };
  await moved(world, 'base');
  await world.pass(10_000);
  t.equal(world.host('east-1').answer(base).state, 'SEALED', 'its changes are told since snapshots of it');
  holds = false;
  await moved(world, 'one');
  await world.until('the purge', () => world.host('east-1').answer(base).state === 'NONE');
});

t.test(
  'a snapshot that is deleted goes at the host of a base too, and does not come back with its volume',
  async (t) => {
    // It is not the time of grace that ends it.
    const world = await CoordinatorWorld.begin(HOSTS, { settings: { graceMs: 3_600_000 } });
    const { base } = await family(world);
    await split(world, ['one'], { bases: 'carry' });
    await moved(world, 'one');
    const { primary } = world.route('one').active;
    t.equal(names(world, primary, base), 's1,s2');
    await world.done('snapshot-delete', { volume: 'base', name: 's1' });
    t.equal(names(world, primary, base), 's2');
    await world.done('snapshot-delete', { volume: 'base', name: 's2' });
    await world.until('what is left of it to go', () => world.host(primary).answer(base).state === 'NONE');
    await world.until('rest', () => world.isQuiet);
    await split(world, ['base']);
    await moved(world, 'base');
    t.equal(names(world, world.route('base').active.primary, base), 's3');
    t.equal(world.disagreement('base'), null);
  },
);
