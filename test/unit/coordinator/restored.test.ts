// A coordinator whose state comes from a backup of before a move that has ended: its route knows the host of before and not the one that owns the
// volume. Nothing stale is served or snapshotted; and an operator has a way out.

import t from 'tap';

import type { HostDetails, RouteDetails } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'west-1': 'west', 'south-1': 'south' };

interface Restored {
  world: CoordinatorWorld;
  id: string;
}

const move = async (world: CoordinatorWorld, cell: string) => {
  await world.done('move-start', { volume: 'db', cell, withBases: false, dryRun: false });
  await world.until('the move', () => world.route('db').journal === null);
};

const snapshot = (name: string) => ({ snapshots: [{ volume: 'db', name }] });

/** Moved to these cells one after the other since the backup, with a snapshot in each. */
async function restored(
  cells: string[],
  { between }: { between?: (at: Restored) => Promise<void> | void } = {},
): Promise<Restored> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const backup = world.state.copy();
  for (const cell of cells) {
    if (world.route('db').alternate) {
      await world.pass(61_000, 1_000);
      await world.until('the copy to be purged', () => world.route('db').alternate === null);
    }
    await move(world, cell);
    world.write(id);
    await world.done('snapshot-create', snapshot(`in-${cell}`));
    world.write(id);
  }
  await between?.({ world, id });
  world.state = backup;
  await world.lead();
  return { world, id };
}

const explained = async ({ world }: Restored) =>
  (await world.done<'route-show', RouteDetails>('route-show', { volume: 'db', explain: true })).explained!;

const adopt = ({ world }: Restored, cell: string) =>
  world.done('quarantine-adopt', { volume: 'db', cell }) as Promise<Record<string, unknown>>;

const refusal = (at: Restored, cell: string) =>
  adopt(at, cell).then(
    () => 'adopted',
    (error) => `${error.code}: ${error.message} ${error.hint}`,
  );

async function goesOn(at: Restored, host: string, names: string): Promise<string | null> {
  const { world, id } = at;
  const wrong = world.disagreement('db');
  if (wrong) return wrong;
  if (!world.host(host).owns(id)) return `${host} does not own it`;
  await world.done('snapshot-create', snapshot('next'));
  const has = world
    .host(host)
    .lineage(id)
    .map(({ name }) => name)
    .join();
  return has === `${names},next` ? world.disagreement('db') : has;
}

t.test('the host of before has released it: the owner is named, adopted, and goes on', async (t) => {
  const at = await restored(['west']);
  const { world, id } = at;
  t.match(await explained(at), {
    rule: 'quarantine',
    elsewhere: [{ host: 'west-1', cell: 'west', state: 'ACTIVE', epoch: 2, seq: 3, isReplica: false }],
  });
  t.equal(await world.refused('snapshot-create', snapshot('s4')), 'volume-quarantined');
  t.match(await world.done('quarantine-list', {}), {
    volumes: [{ name: 'db', elsewhere: [{ host: 'west-1', epoch: 2 }] }],
  });
  t.match(
    await refusal(at, 'east'),
    /^owned-elsewhere: Host west-1 of cell west owns volume db under epoch 2.*--cell west/,
  );
  t.equal(world.host('east-1').answer(id).state, 'SEALED', 'nothing stale is opened');
  t.match(await refusal(at, 'south'), /^cell-not-found: .*These have: east, west\./);
  t.match(await adopt(at, 'west'), { host: 'west-1', epoch: 2, left: null });
  t.equal(await goesOn(at, 'west-1', 's1,s2,in-west'), null);
  t.equal(await world.refused('quarantine-adopt', { volume: 'db', cell: 'west' }), 'volume-not-quarantined');
  t.match(await world.done('quarantine-list', {}), { volumes: [] });
  await world.until('what is left in the east to go', () => world.route('db').alternate === null);
  t.equal(world.host('east-1').answer(id).state, 'NONE');
});

t.test('of the host of before only a tombstone is left: the volume is lost, and found', async (t) => {
  const at = await restored(['west', 'south']);
  const { world, id } = at;
  t.match(world.host('east-1').answer(id), { state: 'NONE', tombstone: { why: 'purge' } });
  t.equal(await world.refused('snapshot-create', snapshot('s4')), 'volume-lost');
  t.match((await explained(at)).elsewhere, [
    { host: 'west-1', state: 'SEALED' },
    { host: 'south-1', state: 'ACTIVE', epoch: 3 },
  ]);
  t.match(await refusal(at, 'east'), /^cell-not-found: .*These have: south\./);
  t.match(await refusal(at, 'west'), /^cell-not-found/, 'what is sealed there is no owner');
  t.match(await adopt(at, 'south'), { host: 'south-1', epoch: 3 });
  t.equal(await goesOn(at, 'south-1', 's1,s2,in-west,in-south'), null);
  t.match(await world.done<'host-show', HostDetails>('host-show', { host: 'west-1' }), {
    strays: [{ name: 'db', state: 'SEALED' }],
  });
});

t.test('nobody has asked anything of it yet: adopting finds out by itself', async (t) => {
  const at = await restored(['west']);
  t.match(await adopt(at, 'west'), { host: 'west-1' });
  t.equal(await goesOn(at, 'west-1', 's1,s2,in-west'), null);
});

t.test('the route says open and is right: nothing is to be adopted, wherever', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  await world.volume('db', 'east-1', 2);
  for (const cell of ['east', 'west'])
    t.equal(await world.refused('quarantine-adopt', { volume: 'db', cell }), 'volume-not-quarantined');
});

t.test('a snapshot that was deleted before the move does not stand in the way', async (t) => {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  const backup = world.state.copy();
  await world.done('snapshot-create', snapshot('s3'));
  // What the backup knows as the last one.
  await world.done('snapshot-delete', { volume: 'db', name: 's2' });
  await move(world, 'west');
  const at = { world, id };
  // The real copy does not bring the ids of what was deleted.
  t.notOk(
    Object.values(world.host('west-1').answer(id).lineage).includes(
      backup.table.named('db')!.lineageHead!.id,
    ),
  );
  world.state = backup;
  await world.lead();
  await adopt(at, 'west');
  t.equal(await goesOn(at, 'west-1', 's1,s3'), null);
});

t.test(
  'the host of before is silent: the owner goes on under a new epoch, the other one is sealed when it is back',
  async (t) => {
    const at = await restored(['west']);
    const { world, id } = at;
    world.disconnect('east-1');
    t.match(await refusal(at, 'west'), /^volume-not-quarantined/, 'it may only be away: nothing is decided');
    await world.connect('east-1');
    t.equal(await world.refused('snapshot-create', snapshot('s4')), 'volume-quarantined');
    world.disconnect('east-1');
    t.match(await adopt(at, 'west'), { host: 'west-1', epoch: 3, left: 'east-1' });
    await world.connect('east-1');
    await world.until('the seal', () => world.route('db').alternate?.mustSeal === null);
    t.match(world.host('east-1').answer(id), { state: 'SEALED', released: 3 });
    t.equal(await goesOn(at, 'west-1', 's1,s2,in-west'), null);
  },
);

t.test(
  'the host of before came from a backup too, and was written to: both are kept, one goes on',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    const [backup, host] = [world.state.copy(), world.host('east-1').backup()];
    await move(world, 'west');
    await world.done('snapshot-create', snapshot('in-west'));
    world.disconnect('east-1');
    world.host('east-1').restore(host);
    world.state = backup;
    await world.lead();
    await world.connect('east-1');
    world.host('east-1').volumes.get(id)!.content = 999;
    const at = { world, id };
    t.same(
      [...world.hosts.values()].filter((each) => each.owns(id)).map(({ name }) => name),
      ['east-1', 'west-1'],
      'nobody who knows the route can tell',
    );
    t.match(await explained(at), { elsewhere: [{ host: 'west-1', epoch: 2 }] });
    world.state.table.set({ ...world.route('db'), status: 'quarantined' });
    t.match(await refusal(at, 'east'), /^owned-elsewhere/);
    t.match(await adopt(at, 'west'), { host: 'west-1', epoch: 3, left: 'east-1' });
    await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
    await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
    t.match(await world.done('quarantine-keep-fork', { volume: 'db', as: 'fork' }), { host: 'east-1' });
    t.equal(world.disagreement('db'), null);
  },
);

const unproven: Record<string, [change: (at: Restored) => void, because: RegExp]> = {
  'the route has the same epoch': [
    ({ world }) => world.state.table.set({ ...world.route('db'), epoch: 2 }),
    /its route has epoch 2/,
  ],
  'the host of before has released it to somebody newer': [
    ({ world, id }) => {
      const held = world.host('east-1').volumes.get(id)!;
      held.record = { ...held.record, released: 5 };
    },
    /host east-1 has released it to epoch 5: somebody newer owns it/,
  ],
  'it lacks a snapshot that was taken': [
    ({ world }) =>
      world.state.table.set({ ...world.route('db'), lineageHead: { id: 'f'.repeat(32), seq: 2 } }),
    /it is without snapshot 2, which was taken/,
  ],
  'the host of before has it under as high an epoch': [
    ({ world, id }) => {
      const held = world.host('east-1').volumes.get(id)!;
      held.record = { ...held.record, epoch: 2, released: null };
    },
    /host east-1 has it under epoch 2/,
  ],
  'the host of before says that it was deleted': [
    ({ world, id }) => {
      const held = world.host('east-1').volumes.get(id)!;
      held.record = { ...held.record, state: 'GONE', tombstone: { epoch: 1, why: 'delete' } };
    },
    /host east-1 says it was deleted under epoch 1/,
  ],
  'a third host owns it under as high an epoch': [
    ({ world, id }) => {
      const held = structuredClone(world.host('west-1').volumes.get(id)!);
      world.host('south-1').volumes.set(id, held);
    },
    /host south-1 owns it under epoch 2/,
  ],
};

for (const [what, [change, because]] of Object.entries(unproven))
  t.test(`who says that it is the owner is not believed when ${what}`, async (t) => {
    const at = await restored(['west']);
    const { world } = at;
    await world.refused('snapshot-create', snapshot('s4'));
    change(at);
    const before = world.route('db');
    t.match(await refusal(at, 'west'), because);
    t.match(await refusal(at, 'west'), /^owner-unproven: /);
    t.same(world.route('db'), before, 'nothing was changed');
  });

t.test(
  'what the route names besides has to say that it is no owner before it is named no more',
  async (t) => {
    const at = await restored(['west']);
    const { world, id } = at;
    await world.refused('snapshot-create', snapshot('s4'));
    const { active } = world.route('db');
    const south = {
      ...active,
      cell: 'south',
      primary: 'south-1',
      storeId: world.host('south-1').storeId,
      epoch: 1,
    };
    world.state.table.set({ ...world.route('db'), alternate: south });
    const held = structuredClone(world.host('east-1').volumes.get(id)!);
    held.record = { ...held.record, released: null };
    world.host('south-1').volumes.set(id, held);
    t.match(await refusal(at, 'west'), /^volume-unavailable: .*names host south-1/, 'it may be the owner');
    world.disconnect('south-1');
    t.match(await refusal(at, 'west'), /^volume-unavailable: .*names host south-1/, 'it is silent');
    t.match(world.route('db'), { status: 'quarantined', alternate: { primary: 'south-1' } });
    await world.connect('south-1');
    held.record = { ...held.record, released: 2 };
    t.match(await adopt(at, 'west'), { host: 'west-1' });
    t.match(world.host('south-1').answer(id), { state: 'SEALED' }, 'nothing of it is deleted');
  },
);

t.test('it stays in quarantine until the host has heard that it goes on', async (t) => {
  const at = await restored(['west']);
  const { world } = at;
  await world.refused('snapshot-create', snapshot('s4'));
  world.disconnect('east-1');
  world.fateOf = (_from, _host, what) => (what === 'adopt' ? 'lost' : 'delivered');
  t.match(await refusal(at, 'west'), /^host-not-connected/);
  t.match(world.route('db'), { status: 'quarantined', active: { primary: 'west-1', epoch: 3 } });
  world.fateOf = () => 'delivered';
  t.match(await adopt(at, 'west'), { host: 'west-1', epoch: 3 });
});

t.test(
  'when the owner has lost its disk, what the host of before has is adopted, above what it released to',
  async (t) => {
    const at = await restored(['west'], {
      between: ({ world, id }) => void world.host('west-1').volumes.delete(id),
    });
    const { world } = at;
    world.written.clear();
    t.equal(await world.refused('snapshot-create', snapshot('s4')), 'volume-quarantined');
    t.match(await adopt(at, 'east'), { host: 'east-1', epoch: 3 });
    t.equal(await goesOn(at, 'east-1', 's1,s2'), null);
  },
);
