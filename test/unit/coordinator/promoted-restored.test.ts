// The host of a promoted replica comes back from a backup in which it is still a replica. Nothing of that is served, and nobody takes it for the
// owner; but an operator has a way out, whatever has become of the primary of before, and is told which.

import t from 'tap';

import type { MoveStatus, ReadmitResult, RouteDetails } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'east-2': 'east', 'west-1': 'west' };

type Backup = ReturnType<ReturnType<CoordinatorWorld['host']>['backup']>;

interface Promoted {
  world: CoordinatorWorld;
  id: string;
  /** Of east-2, from when it was a replica with both snapshots. */
  backup: Backup;
}

const snapshot = (name: string) => ({ snapshots: [{ volume: 'db', name }] });
const ADOPT = { volume: 'db', cell: 'east' };
const PROMOTE = { volume: 'db', host: 'east-2', acceptLoss: true };

/** `db` of east-2, which took the place of east-1 and was written to since. */
async function promoted(): Promise<Promoted> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'east-2' });
  await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
  const backup = world.host('east-2').backup();
  world.disconnect('east-1');
  await world.done('cell-promote', PROMOTE);
  await world.until('the new primary', () => world.host('east-2').owns(id));
  world.write(id);
  return { world, id, backup };
}

async function restored({ world, id, backup }: Promoted): Promise<void> {
  world.disconnect('east-2');
  world.host('east-2').restore(backup);
  world.host('east-2').heard = [];
  await world.connect('east-2');
  world.written.clear();
  t.match(world.host('east-2').answer(id), { state: 'FAULTED', replica: {} });
}

async function sealedHere({ world, id }: Promoted): Promise<void> {
  await world.connect('east-1');
  await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
  t.match(world.host('east-1').answer(id), { state: 'SEALED', released: 2 });
}

async function alone(at: Promoted): Promise<void> {
  await sealedHere(at);
  await at.world.done('quarantine-discard', { volume: 'db' });
  t.equal(at.world.route('db').alternate, null);
}

async function move({ world }: Promoted, cell: string): Promise<void> {
  await world.done('move-start', { volume: 'db', cell, withBases: false, dryRun: false });
  await world.until('the move', () => world.route('db').journal === null);
}

/** It was in the west since, which has kept a copy. */
async function movedThereAndBack(at: Promoted): Promise<void> {
  await alone(at);
  await move(at, 'west');
  at.world.host('east-1').copies = false;
  await at.world.done('host-drain', { host: 'east-1', dryRun: false });
  await move(at, 'east');
  t.match(at.world.route('db'), { active: { primary: 'east-2' }, alternate: { primary: 'west-1' } });
}

async function onItsWay(at: Promoted): Promise<void> {
  await alone(at);
  at.world.host('west-1').copies = false;
  await at.world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await at.world.until('the copy', () => at.world.route('db').journal?.phase === 'COPYING');
}

/** What has become of the rest of the volume: what is done before the restore, and after it. */
const cases: Record<
  string,
  {
    before?: (at: Promoted) => Promise<void>;
    after?: (at: Promoted) => Promise<void>;
    waits?: true;
    left: string | null;
  }
> = {
  'the primary of before has never come back': { waits: true, left: 'east-1' },
  'the primary of before is sealed': { before: sealedHere, left: 'east-1' },
  'the primary of before was sealed, and is gone': {
    before: async (at) => {
      await sealedHere(at);
      at.world.disconnect('east-1');
    },
    waits: true,
    left: 'east-1',
  },
  'the primary of before comes back after it': {
    after: async ({ world, id }) => {
      await world.connect('east-1');
      await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
    },
    left: 'east-1',
  },
  'the primary of before is held back too': {
    before: async ({ world }) => {
      world.host('east-1').boot = 0;
      await world.connect('east-1');
    },
    left: 'east-1',
  },
  'there is nothing else': { before: alone, left: null },
  'a copy of a move is kept in another cell': { before: movedThereAndBack, left: 'west-1' },
  'a copy of a move was kept in another cell, and is gone': {
    before: async (at) => {
      await movedThereAndBack(at);
      at.world.disconnect('west-1');
    },
    waits: true,
    left: 'west-1',
  },
  'it is on its way to another cell': { before: onItsWay, left: 'west-1' },
};

const troubles = async ({ world }: Promoted) =>
  (await world.done<'route-show', RouteDetails>('route-show', { volume: 'db', explain: false })).troubles;

for (const [what, { before, after, waits, left }] of Object.entries(cases))
  t.test(`a promoted replica comes back as the replica it was; ${what}`, async (t) => {
    const at = await promoted();
    const { world, id } = at;
    await before?.(at);
    await restored(at);
    await after?.(at);
    const refused = waits ? 'volume-unavailable' : 'volume-quarantined';
    t.equal(await world.refused('snapshot-create', snapshot('stale')), refused);
    t.equal(
      await world.refused('quarantine-adopt', ADOPT),
      'host-regressed',
      'nothing of it before it is readmitted',
    );
    t.match(await troubles(at), [{ operation: null, hint: /`cellblock host readmit east-2`/ }]);
    const { faulted } = await world.done<'host-readmit', ReadmitResult>('host-readmit', { host: 'east-2' });
    t.match(faulted, [{ volume: id, because: /^its epoch is 1, that of the volume/ }]);
    t.equal(world.host('east-2').answer(id).state, 'FAULTED', 'nothing of it by that alone');
    t.match(await troubles(at), [
      {
        operation: null,
        because: /it has epoch 1 and snapshot 2, the route epoch [24] and snapshot 2/,
        hint: /`cellblock quarantine adopt db --cell east`/,
      },
    ]);
    t.notOk(world.host('east-2').heard.includes('promote'), 'it is told nothing that it could not do');
    const { epoch } = world.route('db');
    t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: epoch + 1, left });
    t.match(await world.done('snapshot-create', snapshot('s3')), { host: 'east-2', seq: 3 });
    world.write(id);
    for (const { name, isSilent } of world.hosts.values()) if (isSilent) await world.connect(name);
    await world.until('the other one to be sealed', () => world.route('db').alternate?.mustSeal == null);
    t.equal(world.disagreement('db'), null);
    t.same(await troubles(at), []);
    if (left) await world.done('quarantine-discard', { volume: 'db' });
    t.equal(world.route('db').alternate, null);
  });

/** The backup is of before the replica had its first snapshot. */
async function withoutAnything(before: (at: Promoted) => Promise<void>): Promise<Promoted> {
  const at = await promoted();
  const { world, id } = at;
  await before(at);
  const held = at.backup.volumes.get(id)!;
  held.record = { ...held.record, head: null };
  held.replicaThrough = null;
  held.snapshots = [];
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  return at;
}

t.test('when it has nothing complete, what the primary of before has is adopted', async (t) => {
  const { world, id } = await withoutAnything(sealedHere);
  t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-1', epoch: 3, left: 'east-2' });
  t.match(await world.done('snapshot-create', snapshot('s3')), { host: 'east-1', seq: 3 });
  t.equal(world.route('db').alternate, null, 'what has nothing is no part of the route any more');
  await world.done('replica-remove', { volume: 'db', host: 'east-2' });
  t.equal(world.host('east-2').answer(id).state, 'NONE');
  t.equal(world.disagreement('db'), null);
});

t.test('when nobody has anything complete, its route can be dropped', async (t) => {
  const { world, id } = await withoutAnything(alone);
  t.match(world.route('db'), { status: 'quarantined' });
  t.equal(await world.refused('quarantine-adopt', ADOPT), 'replica-empty');
  t.match(world.route('db'), { epoch: 2 }, 'nothing was decided');
  await world.done('route-forget', { volume: 'db' });
  t.equal(world.host('east-2').answer(id).state, 'FAULTED', 'what its host has stays there');
});

t.test(
  'when it has nothing complete, and the primary of before is gone, its route can be dropped',
  async (t) => {
    const at = await withoutAnything(async () => undefined);
    t.equal(await at.world.refused('quarantine-adopt', ADOPT), 'volume-not-quarantined');
    t.match(await troubles(at), [
      { because: /nothing complete.*east-1 does not answer/, hint: /route forget db/ },
    ]);
    await at.world.done('route-forget', { volume: 'db' });
  },
);

t.test(
  'a replica that has not heard of its promotion is readmitted in quarantine, and adopted',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
    world.host('east-2').boot = 5;
    await world.connect('east-2');
    world.fateOf = (_from, _host, what) => (what === 'promote' ? 'lost' : 'delivered');
    world.disconnect('east-1');
    await world.done('cell-promote', PROMOTE);
    const at = { world, id, backup: { ...world.host('east-2').backup(), boot: 1 } };
    await restored(at);
    world.fateOf = () => 'delivered';
    await world.connect('east-1');
    t.equal(await world.refused('snapshot-create', snapshot('stale')), 'volume-quarantined');
    t.match(await world.done('host-readmit', { host: 'east-2' }), { readmitted: [id], faulted: [] });
    t.match(world.host('east-2').answer(id), { state: 'RECEIVING', replica: {} }, 'an answer makes no owner');
    t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: 3 });
    t.match(await world.done('snapshot-create', snapshot('s3')), { host: 'east-2', seq: 3 });
    await world.until('the seal', () => world.route('db').alternate?.mustSeal === null);
    t.equal(world.disagreement('db'), null);
  },
);

t.test('a silent cell that may have got the volume by a move is waited for', async (t) => {
  const at = await promoted();
  const { world } = at;
  await onItsWay(at);
  const route = world.route('db');
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  world.disconnect('west-1');
  world.state.table.set({ ...route, journal: { ...route.journal!, phase: 'ACTIVATING' } });
  t.equal(await world.refused('quarantine-adopt', ADOPT), 'volume-not-quarantined');
  t.equal(await world.refused('route-forget', { volume: 'db' }), 'route-in-use');
});

t.test('a cell that speaks is no lost one: nothing of it waits for an operator', async (t) => {
  const { world } = await promoted();
  t.equal(await world.refused('quarantine-adopt', ADOPT), 'volume-not-quarantined');
  t.equal(await world.refused('route-forget', { volume: 'db' }), 'route-in-use');
});

t.test(
  'when its host is readmitted the volume is put before an operator, whether anybody asks for it or not',
  async (t) => {
    const at = await promoted();
    await sealedHere(at);
    await restored(at);
    t.match(at.world.route('db'), { status: 'open' });
    await at.world.done('host-readmit', { host: 'east-2' });
    t.match(at.world.route('db'), { status: 'quarantined' });
    t.match(await at.world.done('quarantine-list', {}), { volumes: [{ name: 'db' }] });
  },
);

t.test('adopted, it comes back from the backup once more before anything was asked of it', async (t) => {
  const at = await promoted();
  const { world, id } = at;
  await alone(at);
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  await world.done('quarantine-adopt', ADOPT);
  t.ok(world.host('east-2').owns(id));
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: 4 });
});

t.test('a move of it says so too', async (t) => {
  const at = await promoted();
  const { world } = at;
  await onItsWay(at);
  await restored(at);
  const hint = async () =>
    (await world.done<'move-status', MoveStatus>('move-status', { volume: 'db' })).troubles.map(
      (trouble) => trouble.hint,
    );
  await world.pass(2_000);
  t.match(await hint(), [/`cellblock host readmit east-2`/]);
  await world.done('host-readmit', { host: 'east-2' });
  t.match(await hint(), [/`cellblock quarantine adopt db --cell east`/]);
});

/** Held back after a first backup and readmitted, which has lowered what was seen of it; then it comes back from the same backup once more. */
async function restoredTwice(at: Promoted): Promise<void> {
  const { world, id } = at;
  await world.done('snapshot-create', snapshot('s3'));
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  await restored(at);
  await world.pass(5_000);
  t.match(world.host('east-2').answer(id), { state: 'FAULTED', epoch: 1 });
  t.notOk(world.host('east-2').heard.includes('promote'));
}

async function adopted({ world, id }: Promoted): Promise<void> {
  t.equal(await world.refused('quarantine-adopt', ADOPT), 'host-regressed');
  const { faulted } = await world.done<'host-readmit', ReadmitResult>('host-readmit', { host: 'east-2' });
  t.match(faulted, [{ volume: id, because: /^its epoch is 1/ }]);
  const { epoch } = world.route('db');
  t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: epoch + 1 });
  world.write(id);
  for (const { name, isSilent } of world.hosts.values()) if (isSilent) await world.connect(name);
  await world.until('the seal', () => world.route('db').alternate?.mustSeal == null);
  t.equal(world.disagreement('db'), null);
  t.ok(await world.connect('east-2'));
  t.ok(world.host('east-2').owns(id), 'and is held back no more');
}

const gone = async (at: Promoted) => {
  await sealedHere(at);
  at.world.disconnect('east-1');
};

for (const [what, before] of Object.entries({
  'has never come back': async () => undefined,
  'was sealed, and is gone': gone,
}))
  t.test(
    `it comes back from the backup twice before it is adopted; the primary of before ${what}`,
    async () => {
      const at = await promoted();
      await before(at);
      await restoredTwice(at);
      await adopted(at);
    },
  );

t.test('its host comes back from an older backup after that, and is readmitted twice', async (t) => {
  const at = await promoted();
  const { world, id } = at;
  world.host('east-2').boot = 7;
  await world.connect('east-2');
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  await restored({ ...at, backup: { ...at.backup, boot: at.backup.boot - 1 } });
  const { faulted } = await world.done<'host-readmit', ReadmitResult>('host-readmit', { host: 'east-2' });
  t.match(faulted, [{ volume: id, because: /^its epoch is 1/ }]);
  await world.pass(5_000);
  t.match(world.host('east-2').answer(id), { state: 'FAULTED', epoch: 1 });
  t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: 3 });
});

t.test('adopted, it comes back from the backup twice more', async () => {
  const at = await promoted();
  await restored(at);
  await at.world.done('host-readmit', { host: 'east-2' });
  await at.world.done('quarantine-adopt', ADOPT);
  await restoredTwice(at);
  await adopted(at);
});

t.test(
  'a replica that has not heard of its promotion, and lacks what it was promoted with, is not promoted',
  async (t) => {
    const world = await CoordinatorWorld.begin(HOSTS);
    const id = await world.volume('db', 'east-1', 2);
    await world.done('replica-add', { volume: 'db', host: 'east-2' });
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
    const older = { ...world.host('east-2').backup(), boot: 1 };
    await world.done('snapshot-create', snapshot('s3'));
    await world.until('the replica', () => world.host('east-2').lineage(id).length === 3);
    world.fateOf = (_from, _host, what) => (what === 'promote' ? 'lost' : 'delivered');
    world.disconnect('east-1');
    await world.done('cell-promote', PROMOTE);
    world.disconnect('east-2');
    world.host('east-2').restore(older);
    world.fateOf = () => 'delivered';
    await world.connect('east-2');
    t.match(world.host('east-2').answer(id), { state: 'RECEIVING' }, 'nothing shows that it is older');
    await world.until('it to be held back', () => world.host('east-2').answer(id).state === 'FAULTED');
    t.notOk(world.host('east-2').heard.includes('promote'));
    const at = { world, id, backup: older };
    t.match(await troubles(at), [
      { because: /epoch 1 and snapshot 2, the route epoch 2 and snapshot 3/, hint: /quarantine adopt db/ },
    ]);
    t.match(await world.done('quarantine-adopt', ADOPT), { host: 'east-2', epoch: 3 });
    t.match(await world.done('snapshot-create', snapshot('s3')), { host: 'east-2', seq: 3 });
  },
);

t.test('that it has heard is kept before anything is written to it', async (t) => {
  const { world } = await promoted();
  t.match(world.route('db'), { active: { epoch: 2, unheardPromotion: null }, alternate: { mustSeal: 2 } });
});

/** The other cell has its copy complete when the sealed owner comes back as the replica it was. */
async function movedWithoutIt(at: Promoted): Promise<void> {
  const { world, id } = at;
  await alone(at);
  world.fateOf = (_from, _host, what) => (what === 'release' || what === 'activate' ? 'lost' : 'delivered');
  await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await world.until(
    'the copy',
    () =>
      world.route('db').journal?.phase === 'RELEASING' && world.host('west-1').answer(id).state === 'STAGED',
  );
  await restored(at);
  world.fateOf = () => 'delivered';
  await world.until('the move', () => world.route('db').active.primary === 'west-1');
  t.match(world.route('db'), { alternate: { primary: 'east-2', needsRepair: false } });
}

t.test(
  'a move of it goes on without it; readmitted it is purged when its time of grace is over',
  async (t) => {
    const at = await promoted();
    const { world, id } = at;
    await movedWithoutIt(at);
    await world.until('the end of the move', () => world.route('db').journal === null);
    await world.done('host-readmit', { host: 'east-2' });
    t.match(world.host('east-2').answer(id), { state: 'RECEIVING', replica: {} });
    await world.pass(10_000);
    t.same(await troubles(at), []);
    t.match(world.host('east-2').answer(id), { state: 'RECEIVING' }, 'it is kept as long as any other');
    await world.until('its purge', () => world.route('db').alternate === null);
    t.equal(world.host('east-2').answer(id).state, 'NONE');
    t.equal(world.disagreement('db'), null);
    await move(at, 'east');
    t.equal(world.disagreement('db'), null);
  },
);

t.test('what a replica is left with is kept when it has another store than the route says', async (t) => {
  const at = await promoted();
  const { world, id } = at;
  await movedWithoutIt(at);
  await world.until('the end of the move', () => world.route('db').journal === null);
  world.host('east-2').storeId = 'f'.repeat(32);
  await world.connect('east-2');
  await world.done('host-readmit', { host: 'east-2' });
  await world.pass(100_000, 500);
  t.match(world.host('east-2').answer(id), { state: 'RECEIVING', replica: {} });
  t.match(world.route('db'), { alternate: { primary: 'east-2' } });
});

/** It is decided that east-2 goes on, whose host is gone before it is known to have heard. */
async function decidedInVain(fate: 'lost' | 'answer lost'): Promise<Promoted> {
  const at = await promoted();
  const { world } = at;
  await sealedHere(at);
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  world.fateOf = (_from, _host, what) => (what === 'adopt' ? fate : 'delivered');
  t.equal(await world.refused('quarantine-adopt', ADOPT), 'host-not-connected');
  world.fateOf = () => 'delivered';
  world.disconnect('east-2');
  t.match(world.route('db'), { status: 'quarantined', epoch: 3, active: { primary: 'east-2' } });
  return at;
}

for (const fate of ['lost', 'answer lost'] as const)
  t.test(
    `the host that was to go on is lost, its command ${fate}: the other one of the cell goes on`,
    async (t) => {
      const { world, id } = await decidedInVain(fate);
      await t.rejects(world.settled(world.call('quarantine-adopt', ADOPT)), {
        code: 'host-not-connected',
        hint: /`cellblock quarantine adopt db --cell east --host east-1`/,
      });
      t.match(world.route('db'), { epoch: 3, active: { primary: 'east-2' } }, 'not without being told');
      t.equal(await world.refused('quarantine-adopt', { ...ADOPT, host: 'west-1' }), 'replica-not-found');
      const chosen = { ...ADOPT, host: 'east-1' };
      t.match(await world.done('quarantine-adopt', chosen), { host: 'east-1', epoch: 4, left: 'east-2' });
      t.match(await world.done('snapshot-create', snapshot('s3')), { host: 'east-1' });
      world.write(id);
      t.match(world.route('db'), { alternate: { primary: 'east-2', mustSeal: 4 } });
      await world.connect('east-2');
      await world.until('it to be sealed', () => world.route('db').alternate?.mustSeal == null);
      t.notOk(world.host('east-2').owns(id));
      t.equal(world.disagreement('db'), null);
    },
  );

t.test('of two parts in one cell nothing is decided for a host that is not connected', async (t) => {
  const at = await promoted();
  const { world } = at;
  await sealedHere(at);
  await restored(at);
  await world.done('host-readmit', { host: 'east-2' });
  world.disconnect('east-1');
  t.equal(await world.refused('quarantine-adopt', { ...ADOPT, host: 'east-1' }), 'host-not-connected');
  t.match(world.route('db'), { epoch: 2, active: { primary: 'east-2' } });
  t.match(await world.done('quarantine-adopt', { ...ADOPT, host: 'east-2' }), { host: 'east-2', epoch: 3 });
});

t.test('what is FAULTED by damage, and as far as its route, is not called older', async (t) => {
  const at = await promoted();
  const { world, id } = at;
  world.host('east-2').command(id, { do: 'fault' });
  const [trouble] = await troubles(at);
  t.match(trouble, {
    because: /is as far as its route, with epoch 2 and snapshot 2/,
    hint: /quarantine adopt db/,
  });
  t.notMatch(trouble, { because: /older/ });
});
