// A snapshot of several volumes at several hosts in one instant: everywhere or nowhere, with windows that overlap.

import t from 'tap';

import type { GroupResult } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const TWO = { 'east-1': 'east', 'west-1': 'west' };

async function three(): Promise<{ world: CoordinatorWorld; ids: string[] }> {
  const world = await CoordinatorWorld.begin(TWO);
  const ids = [
    await world.volume('a', 'east-1'),
    await world.volume('b', 'east-1'),
    await world.volume('c', 'west-1'),
  ];
  return { world, ids };
}

const all = { snapshots: ['a', 'b', 'c'].map((volume) => ({ volume, name: 'all' })) };

const taken = (world: CoordinatorWorld, ids: readonly string[]) =>
  ids.map((id) =>
    [...world.hosts.values()].reduce(
      (sum, host) => sum + host.lineage(id).filter(({ name }) => name === 'all').length,
      0,
    ),
  );

t.test(
  'all are held before the first is cut, and let go after the last one was; the windows are told',
  async (t) => {
    const { world, ids } = await three();
    const steps: string[] = [];
    world.fateOf = (_from, host, what) => {
      steps.push(`${what} ${host}`);
      return 'delivered';
    };
    const group = await world.done<'snapshot-create', GroupResult>('snapshot-create', all);
    t.same(taken(world, ids), [1, 1, 1]);
    t.same(group.unconfirmed, []);
    t.match(group, { held: [{ host: 'east-1' }, { host: 'west-1' }] });
    t.same(
      group.snapshots.map(({ volume, seq }) => `${volume} ${seq}`),
      ['a 2', 'b 2', 'c 2'],
    );
    const order = steps.map((step) => step.split(' ')[0]!).filter((step) => step !== 'probe');
    t.same(order, ['quiesce', 'quiesce', 'cut', 'cut', 'resume', 'resume', 'publish', 'publish']);
    for (const name of ['a', 'b', 'c']) t.equal(world.disagreement(name), null);
    t.ok(world.isQuiet);
  },
);

for (const what of ['quiesce', 'cut', 'resume'])
  t.test(`${what} is not answered by one: nothing is taken anywhere`, async (t) => {
    const { world, ids } = await three();
    world.fateOf = (_from, host, step) => (step === what && host === 'west-1' ? 'answer lost' : 'delivered');
    t.equal(await world.refused('snapshot-create', all), 'group-dropped');
    t.same(taken(world, ids), [0, 0, 0]);
    await world.until('the end', () => world.isQuiet);
    for (const host of world.hosts.values()) t.equal(host.groups.size, 0, `${host.name} keeps nothing of it`);
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's2' }] }), { seq: 2 });
  });

t.test('a host whose clients went on by themselves: nothing is taken anywhere', async (t) => {
  const { world, ids } = await three();
  world.fateOf = (_from, host, step) => {
    if (step === 'resume' && host === 'west-1')
      for (const group of world.host(host).groups.values()) group.expired = true;
    return 'delivered';
  };
  const error = await world.done('snapshot-create', all).catch((thrown) => thrown);
  t.match(error, { code: 'group-dropped', message: /west-1 let its clients go on/ });
  t.same(taken(world, ids), [0, 0, 0]);
});

t.test(
  'a host that is cut off after the decision is told when it is back; until then its volumes wait',
  async (t) => {
    const { world, ids } = await three();
    world.fateOf = (_from, host, step) => {
      if (step === 'publish' && host === 'west-1') {
        world.disconnect('west-1');
        return 'lost';
      }
      return 'delivered';
    };
    const group = await world.done<'snapshot-create', GroupResult>('snapshot-create', all);
    t.same(group.unconfirmed, ['west-1']);
    t.equal(group.snapshots.find(({ volume }) => volume === 'c')?.seq, null);
    world.fateOf = () => 'delivered';
    t.equal(
      await world.refused('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }),
      'group-unfinished',
    );
    await world.lead();
    await world.connect('west-1');
    await world.until('the end', () => world.isQuiet);
    t.same(taken(world, ids), [1, 1, 1], 'another leader has told it');
    const there = world
      .host('east-1')
      .lineage(ids[0]!)
      .map(({ name }) => name);
    t.same(there, ['s1', 'all'], 'what was refused meanwhile is not done later');
    t.equal(world.disagreement('c'), null);
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }), { seq: 3 });
  },
);

t.test('a host that has lost its part of what was published: told, and the others keep theirs', async (t) => {
  const { world, ids } = await three();
  world.fateOf = (_from, host, step) => {
    if (step === 'publish' && host === 'west-1') world.host(host).groups.clear();
    return 'delivered';
  };
  const group = await world.done<'snapshot-create', GroupResult>('snapshot-create', all);
  t.same(taken(world, ids), [1, 1, 0]);
  t.same(
    group.snapshots.map(({ volume, seq, lost }) => ({ volume, seq, lost })),
    [
      { volume: 'a', seq: 2, lost: false },
      { volume: 'b', seq: 2, lost: false },
      { volume: 'c', seq: null, lost: true },
    ],
    'who has asked is told',
  );
  t.ok(world.log.events().includes('group-member-lost'));
  t.ok(world.isQuiet);
});

t.test(
  'a host that has published, and knows nothing of the group any more, is believed its lineage',
  async (t) => {
    const { world, ids } = await three();
    world.fateOf = (_from, host, step) =>
      step === 'publish' && host === 'west-1' ? 'answer lost' : 'delivered';
    await world.done('snapshot-create', all);
    world.host('west-1').groups.clear();
    world.fateOf = () => 'delivered';
    await world.until('the end', () => world.isQuiet);
    t.same(taken(world, ids), [1, 1, 1]);
    t.notOk(world.log.events().includes('group-member-lost'));
    t.equal(world.disagreement('c'), null);
  },
);

t.test('a leader that dies before it has decided: the next one drops what one host has cut', async (t) => {
  const { world, ids } = await three();
  world.fateOf = (_from, host, step) => (step === 'cut' && host === 'west-1' ? 'lost' : 'delivered');
  const { running } = world;
  running.diesWhen = () => running.steps.at(-1) === 'cut at east-1';
  const asked = world.call('snapshot-create', all);
  asked.catch(() => undefined);
  await world.until('the crash', () => running.isDead);
  world.fateOf = () => 'delivered';
  await world.lead();
  await world.until('the end', () => world.isQuiet);
  t.same(taken(world, ids), [0, 0, 0]);
  for (const host of world.hosts.values()) t.equal(host.groups.size, 0, `${host.name} keeps nothing of it`);
});

t.test(
  'a replica takes its place although a group waits for the lost primary, and keeps its lineage',
  async (t) => {
    const world = await CoordinatorWorld.begin({ ...TWO, 'east-2': 'east' });
    const ids = [await world.volume('a', 'east-1', 2), await world.volume('c', 'west-1')];
    await world.done('replica-add', { volume: 'a', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(ids[0]!).length === 2);
    world.fateOf = (_from, host, step) =>
      step === 'publish' && host === 'east-1' ? 'answer lost' : 'delivered';
    await world.done('snapshot-create', { snapshots: ['a', 'c'].map((volume) => ({ volume, name: 'all' })) });
    world.disconnect('east-1');
    const epoch = { volume: 'a', host: 'east-2', acceptLoss: true };
    t.match(await world.done('cell-promote', epoch), { epoch: 2 });
    await world.until('the new primary', () => world.host('east-2').owns(ids[0]!));
    world.written.clear();
    world.fateOf = () => 'delivered';
    await world.connect('east-1');
    await world.until('the end of the group', () => world.isQuiet);
    t.equal(world.route('a').lineageHead?.seq, 2, 'what the old primary has published is no part of it');
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }), {
      host: 'east-2',
      seq: 3,
    });
    t.equal(world.disagreement('a'), null);
  },
);

/** A group of a and c that is decided, of which the primary of a has not heard before a replica took its place. */
async function deposed(): Promise<{ world: CoordinatorWorld; ids: string[] }> {
  const world = await CoordinatorWorld.begin({ ...TWO, 'east-2': 'east', 'west-2': 'west' });
  const ids = [await world.volume('a', 'east-1', 2), await world.volume('c', 'west-1')];
  await world.done('replica-add', { volume: 'a', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(ids[0]!).length === 2);
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'east-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', { snapshots: ['a', 'c'].map((volume) => ({ volume, name: 'all' })) });
  world.disconnect('east-1');
  const refused = await world
    .done('cell-promote', { volume: 'a', host: 'east-2', acceptLoss: false })
    .catch((error) => error);
  if (!/, 1 snapshot among it/.test(refused.message)) throw new Error(`what is lost: ${refused.message}`);
  await world.done('cell-promote', { volume: 'a', host: 'east-2', acceptLoss: true });
  await world.until('the new primary', () => world.host('east-2').owns(ids[0]!));
  world.written.clear();
  return { world, ids };
}

const names = (world: CoordinatorWorld, host: string, id: string) =>
  world
    .host(host)
    .lineage(id)
    .map(({ name }) => name);

const lostOnes = (world: CoordinatorWorld) =>
  world.log.lines.filter(({ event }) => event === 'group-member-lost').map(({ because }) => because);

t.test(
  'a primary that hears of the decision when it has lost its place: the group ends, and it keeps what it cut',
  async (t) => {
    const { world, ids } = await deposed();
    await world.connect('east-1');
    await world.until('the seal', () => !world.host('east-1').owns(ids[0]!));
    t.notOk(world.isQuiet, 'it is told until it has confirmed');
    world.fateOf = () => 'delivered';
    await world.until('the end of the group', () => world.isQuiet);
    t.same(names(world, 'east-1', ids[0]!), ['s1', 's2', 'all'], 'in what is left, to be kept as a fork');
    t.same(names(world, 'west-1', ids[1]!), ['s1', 'all']);
    t.same(lostOnes(world), ['its host has lost its place']);
    t.equal(world.route('a').lineageHead?.seq, 2, 'it is no part of the volume');
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }), {
      host: 'east-2',
      seq: 3,
    });
    t.equal(world.disagreement('a'), null);
    const kept = await world.done('quarantine-keep-fork', { volume: 'a', as: 'fork' });
    t.match(kept, { host: 'east-1', snapshots: 3 });
  },
);

t.test('a primary that has lost its place and never comes back keeps no volume of the group', async (t) => {
  const { world } = await deposed();
  for (const volume of ['a', 'c'])
    t.match(await world.done('snapshot-create', { snapshots: [{ volume, name: 's3' }] }), { seq: 3 });
  t.match(
    await world.done('snapshot-create', { snapshots: ['a', 'c'].map((volume) => ({ volume, name: 's4' })) }),
    { unconfirmed: [] },
    'another group neither',
  );
  await world.done('host-drain', { host: 'west-1', dryRun: false });
  await world.until('the move', () => world.route('c').active.primary === 'west-2');
  await world.lead();
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's5' }] }), { seq: 5 });
  world.fateOf = () => 'delivered';
  await world.connect('east-1');
  await world.until('the end of the group', () => world.isQuiet);
  t.same(lostOnes(world), ['its host has lost its place'], 'what has moved on since is not lost');
});

t.test('what waits for a group goes on when nobody has to be waited for any more', async (t) => {
  const world = await CoordinatorWorld.begin({ ...TWO, 'east-2': 'east', 'west-2': 'west' });
  const ids = [await world.volume('a', 'east-1', 2), await world.volume('c', 'west-1')];
  await world.done('replica-add', { volume: 'a', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(ids[0]!).length === 2);
  world.host('west-2').copies = false;
  await world.done('host-drain', { host: 'west-1', dryRun: false });
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'east-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', { snapshots: ['a', 'c'].map((volume) => ({ volume, name: 'all' })) });
  world.disconnect('east-1');
  world.host('west-2').copies = true;
  await world.pass(30_000);
  t.equal(world.route('c').active.primary, 'west-1', 'its move waits');
  await world.done('cell-promote', { volume: 'a', host: 'east-2', acceptLoss: true });
  await world.until('the move', () => world.route('c').active.primary === 'west-2');
  t.same(names(world, 'west-2', ids[1]!), ['s1', 'all']);
});

t.test(
  'what was left at a host is readmitted, and thrown away, only when it has heard of the decision',
  async (t) => {
    const { world, ids } = await deposed();
    await world.connect('east-1');
    await world.pass(20_000);
    t.not(world.route('a').alternate?.mustSeal, null);
    world.fateOf = () => 'delivered';
    await world.until('the seal', () => world.route('a').alternate?.mustSeal === null);
    await world.done('quarantine-discard', { volume: 'a' });
    await world.until('the end of the group', () => world.isQuiet);
    t.same(names(world, 'east-1', ids[0]!), []);
    t.same(lostOnes(world), ['its host has lost its place']);
  },
);

/** A group of which west-1, that has c, has not heard before it came back from a backup of then. */
async function heldBack(): Promise<{ world: CoordinatorWorld; ids: string[] }> {
  const { world, ids } = await three();
  const west = world.host('west-1');
  west.boot = 5;
  await world.connect('west-1');
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', all);
  world.fateOf = () => 'delivered';
  world.disconnect('west-1');
  west.boot = 4;
  return { world, ids };
}

t.test('a host that is held back hears of the decision when it is readmitted', async (t) => {
  const { world, ids } = await heldBack();
  await world.connect('west-1');
  t.equal(world.host('west-1').answer(ids[2]!).state, 'FAULTED');
  await world.pass(20_000);
  t.notOk(world.isQuiet, 'what it says confirms nothing');
  t.match(
    await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }),
    { seq: 3 },
    'the volumes of others go on',
  );
  t.equal(
    await world.refused('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }),
    'group-unfinished',
  );
  t.match(await world.done('host-readmit', { host: 'west-1' }), { readmitted: [ids[2]] });
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [1, 1, 1]);
  t.same(lostOnes(world), []);
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }), { seq: 3 });
});

t.test('the newer store is brought back: it publishes what the older one did not know', async (t) => {
  const { world, ids } = await heldBack();
  const west = world.host('west-1');
  const newer = new Map(west.groups);
  west.groups.clear();
  await world.connect('west-1');
  await world.pass(20_000);
  world.disconnect('west-1');
  west.groups = newer;
  await world.connect('west-1');
  await world.done('host-readmit', { host: 'west-1' });
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [1, 1, 1]);
  t.same(lostOnes(world), []);
});

t.test('a host that is held back, and readmitted without its part, has lost it', async (t) => {
  const { world, ids } = await heldBack();
  world.host('west-1').groups.clear();
  await world.connect('west-1');
  t.match(await world.done('host-readmit', { host: 'west-1' }), { readmitted: [ids[2]] });
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [1, 1, 0]);
  t.same(lostOnes(world), ['its host does not have it any more']);
});

t.test('a host that is held back is not readmitted as long as it does not hear', async (t) => {
  const { world } = await heldBack();
  await world.connect('west-1');
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
  t.equal(await world.refused('host-readmit', { host: 'west-1' }), 'group-unfinished');
  t.match(await world.done('host-show', { host: 'west-1' }), { regressed: true });
});

t.test('whoever joins is told at once', async (t) => {
  const { world, ids } = await three();
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', all);
  world.disconnect('west-1');
  world.fateOf = () => 'delivered';
  // So long that its next turn is far away.
  await world.pass(60_000);
  await world.connect('west-1');
  await world.pass(100);
  t.same(taken(world, ids), [1, 1, 1]);
});

t.test('a snapshot at the new owner leaves in the route what its former one has still to hear', async (t) => {
  const { world, ids } = await deposed();
  await world.connect('east-1');
  await world.pass(1_000);
  t.equal(world.host('east-1').answer(ids[0]!).state, 'FAULTED');
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }), { seq: 3 });
  t.equal(world.route('a').alternate?.primary, 'east-1');
  world.fateOf = () => 'delivered';
  await world.until('the end of the group', () => world.isQuiet);
  t.same(lostOnes(world), ['its host has lost its place']);
  t.match(await world.done('quarantine-keep-fork', { volume: 'a', as: 'fork' }), { snapshots: 3 });
});

t.test('nothing is adopted of a host that has not heard of the decision', async (t) => {
  const { world } = await three();
  world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
  await world.done('snapshot-create', all);
  const route = world.route('c');
  world.state.table.set({ ...route, status: 'quarantined', gen: route.gen + 1 });
  t.equal(await world.refused('quarantine-adopt', { volume: 'c', cell: 'west' }), 'group-unfinished');
  world.fateOf = () => 'delivered';
  await world.until('the end of the group', () => world.host('west-1').heard.includes('publish'));
  await world.pass(1_000);
  t.match(await world.done('quarantine-adopt', { volume: 'c', cell: 'west' }), { host: 'west-1' });
});

/** A group of which the coordinator knows, from a backup, that it is open, or that it was to be dropped; or nothing: the backup is older. */
async function fromBackup(
  publish: readonly string[],
  decision: 'open' | 'drop' | 'unknown' = 'open',
): Promise<{ world: CoordinatorWorld; ids: string[] }> {
  const { world, ids } = await three();
  const backups: (typeof world.state)[] = [];
  world.fateOf = (_from, host, step) => {
    if (step === 'cut') backups.push(world.state.copy());
    return step === 'publish' && !publish.includes(host) ? 'lost' : 'delivered';
  };
  await world.done('snapshot-create', all);
  world.running.isDead = true;
  world.fateOf = () => 'delivered';
  const state = backups[0]!;
  const [key, text] = [...state.records].find(([each]) => each.startsWith('record/group/'))!;
  if (decision === 'unknown') state.records.delete(key);
  else state.records.set(key, text.replace('"open"', `"${decision}"`));
  world.state = state;
  return { world, ids };
}

for (const decision of ['open', 'drop'] as const)
  t.test(`a coordinator from a backup, ${decision}: a host says that the group was published`, async (t) => {
    const { world, ids } = await fromBackup(['east-1', 'west-1'], decision);
    await world.lead();
    await world.until('the end of the group', () => world.isQuiet);
    t.same(taken(world, ids), [1, 1, 1]);
    t.ok(world.log.events().includes('group-published-already'));
    t.same(lostOnes(world), []);
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }), { seq: 3 });
  });

const unknowns = (world: CoordinatorWorld) =>
  world.log.events().filter((event) => event === 'group-unknown').length;

t.test('a coordinator from a backup of before the group: what nobody has published is dropped', async (t) => {
  const { world, ids } = await fromBackup([], 'unknown');
  await world.lead();
  await world.until('the drops', () => [...world.hosts.values()].every(({ groups }) => groups.size === 0));
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [0, 0, 0]);
  t.equal(unknowns(world), 2, 'each has its turn');
  for (const volume of ['a', 'c'])
    t.match(await world.done('snapshot-create', { snapshots: [{ volume, name: 'next' }] }), { seq: 2 });
  for (const volume of ['a', 'b', 'c']) t.equal(world.disagreement(volume), null);
});

t.test('a coordinator from a backup of before the group: what one has published all publish', async (t) => {
  const { world, ids } = await fromBackup(['east-1'], 'unknown');
  await world.lead();
  await world.until('the end of the group', () => taken(world, ids).join() === '1,1,1' && world.isQuiet);
  t.equal(unknowns(world), 1);
  t.same(lostOnes(world), []);
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }), { seq: 3 });
});

t.test(
  'a coordinator from a backup of before the group drops nothing before all have said what they have; only what is cut waits',
  async (t) => {
    const { world, ids } = await fromBackup(['east-1'], 'unknown');
    world.disconnect('east-1');
    await world.lead();
    await world.pass(30_000);
    t.equal(world.host('west-1').groups.size, 1);
    const snapshot = (volume: string) =>
      world.refused('snapshot-create', { snapshots: [{ volume, name: 's3' }] });
    t.equal(await snapshot('c'), 'group-unfinished');
    await world.connect('east-1');
    t.equal(await snapshot('a'), 'done', 'those that are done with it do not wait');
    await world.until('the end of the group', () => taken(world, ids).join() === '1,1,1' && world.isQuiet);
  },
);

t.test('a coordinator from a backup drops nothing before all have said what they have', async (t) => {
  const { world, ids } = await fromBackup(['east-1']);
  world.disconnect('east-1');
  await world.lead();
  await world.pass(30_000);
  t.equal(world.host('west-1').groups.size, 1);
  await world.connect('east-1');
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [1, 1, 1]);
  t.same(lostOnes(world), []);
});

t.test('one has dropped its part before another says that it was published: that is lost', async (t) => {
  const { world, ids } = await fromBackup(['east-1'], 'drop');
  world.disconnect('east-1');
  await world.lead();
  await world.until('the drop', () => world.host('west-1').groups.size === 0);
  await world.connect('east-1');
  await world.until('the end of the group', () => world.isQuiet);
  t.same(taken(world, ids), [1, 1, 0]);
  t.same(lostOnes(world), ['its host does not have it any more']);
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'a', name: 's3' }] }), { seq: 3 });
});

t.test(
  'a leader that dies before it has decided: a host that lost its place is not waited for',
  async (t) => {
    const { world } = await fromBackup([]);
    world.disconnect('east-1');
    for (const name of ['a', 'b']) {
      const route = world.route(name);
      const place = { ...route.active, primary: 'west-1' };
      world.state.table.set({ ...route, active: place, gen: route.gen + 1 });
    }
    await world.lead();
    await world.until('the drop', () => world.host('west-1').groups.size === 0);
    t.pass();
  },
);

t.test(
  'a host that holds its volume back publishes what it has cut, and is readmitted with it',
  async (t) => {
    const { world, ids } = await three();
    world.fateOf = (_from, host, step) => (step === 'publish' && host === 'west-1' ? 'lost' : 'delivered');
    await world.done('snapshot-create', all);
    const west = world.host('west-1');
    west.command(ids[2]!, { do: 'fault' });
    t.equal(
      await world.refused('snapshot-create', { snapshots: [{ volume: 'c', name: 's2' }] }),
      'group-unfinished',
    );
    world.fateOf = () => 'delivered';
    await world.until('the end of the group', () => world.isQuiet);
    t.same(taken(world, ids), [1, 1, 1]);
    t.same(lostOnes(world), []);
    west.command(ids[2]!, { do: 'readmit' });
    t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'c', name: 's3' }] }), { seq: 3 });
    t.equal(world.disagreement('c'), null);
  },
);

t.test('a volume is named once', async (t) => {
  const { world } = await three();
  const twice = { snapshots: [all.snapshots[0]!, { volume: 'a', name: 'again' }] };
  t.equal(await world.refused('snapshot-create', twice), 'option-invalid');
});
