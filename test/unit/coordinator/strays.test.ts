// What a host still has of a volume whose route does not name it: shown, and deleted when the owner has all of it, or when the loss is accepted.

import t from 'tap';

import type { HostDetails, PurgeResult } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const HOSTS = { 'east-1': 'east', 'west-1': 'west', 'west-2': 'west' };

const purge = (world: CoordinatorWorld, host: string, acceptLoss = false) =>
  world.done<'host-purge', PurgeResult>('host-purge', { host, volume: 'db', acceptLoss });

const refusal = (world: CoordinatorWorld, host: string, acceptLoss = false) =>
  purge(world, host, acceptLoss).then(
    () => 'done',
    (error) => `${error.code}: ${error.message} ${error.hint}`,
  );

const straysAt = async (world: CoordinatorWorld, host: string) =>
  (await world.done<'host-show', HostDetails>('host-show', { host })).strays;

/** Its volume has moved from east-1 to west-1, and east-1 was forgotten and comes back. */
async function moved(): Promise<{ world: CoordinatorWorld; id: string }> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'east-1', 2);
  await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await world.until('the end of the move', () => world.route('db').journal === null);
  world.disconnect('east-1');
  await world.done('host-forget', { host: 'east-1' });
  await world.connect('east-1');
  return { world, id };
}

/** west-1 was replaced by its replica, had written more, and was forgotten before it heard of that. `snapshots` of its own that nobody else has. */
async function replaced(snapshots: number): Promise<{ world: CoordinatorWorld; id: string }> {
  const world = await CoordinatorWorld.begin(HOSTS);
  const id = await world.volume('db', 'west-1', 2);
  await world.done('replica-add', { volume: 'db', host: 'west-2' });
  await world.until('the replica', () => world.host('west-2').lineage(id).length === 2);
  world.host('west-2').copies = false;
  for (let number = 1; number <= snapshots; number++)
    await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: `own${number}` }] });
  world.disconnect('west-1');
  await world.done('cell-promote', { volume: 'db', host: 'west-2', acceptLoss: true });
  await world.until('the new primary', () => world.host('west-2').owns(id));
  world.written.clear();
  await world.done('host-forget', { host: 'west-1' });
  await world.connect('west-1');
  await world.done('host-readmit', { host: 'west-1' });
  return { world, id };
}

t.test('a former owner whose volume has moved on: nothing is lost with it', async (t) => {
  const { world, id } = await moved();
  t.match(
    await refusal(world, 'east-1'),
    /^host-regressed: .*cellblock host readmit east-1/,
    'not before it is believed',
  );
  await world.done('host-readmit', { host: 'east-1' });
  t.match(await straysAt(world, 'east-1'), [{ id, name: 'db', state: 'SEALED' }]);
  t.strictSame(await purge(world, 'east-1'), { volume: 'db', host: 'east-1', loss: null });
  t.equal(world.host('east-1').answer(id).state, 'NONE');
  t.strictSame(await straysAt(world, 'east-1'), [], 'it is shown no more, though its hello named it');
  t.match(await refusal(world, 'east-1'), /^stray-not-found: Host east-1 has nothing of volume db/);
  t.equal(world.disagreement('db'), null);
  t.match(await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'next' }] }), {
    rule: 'stay',
  });
});

t.test('what was written there and nobody else has is lost only when that is accepted', async (t) => {
  const { world, id } = await replaced(0);
  t.match(
    await refusal(world, 'west-1'),
    /^loss-not-accepted: Host west-1 has of volume db what host west-2 is not known to have: what was written since snapshot 2\. Accept that it is lost with `cellblock host purge west-1 db --accept-loss`/,
  );
  t.equal(world.host('west-1').answer(id).state, 'SEALED', 'it is still there');
  t.match(await purge(world, 'west-1', true), { loss: { ownerHasIt: true, written: true } });
  t.equal(world.host('west-1').answer(id).state, 'NONE');
  t.ok(world.host('west-2').owns(id));
});

t.test('nor snapshots that nobody else has', async (t) => {
  const { world, id } = await replaced(1);
  await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'own1' }] });
  t.match(
    await refusal(world, 'west-1'),
    /^loss-not-accepted: .* what host west-2 is not known to have: snapshot 3\. /,
    'the owner has a third one too, and it is another',
  );
  t.match(await purge(world, 'west-1', true), { loss: { lastSnapshot: { seq: 3 }, ownerHasIt: false } });
  t.equal(world.host('west-1').answer(id).state, 'NONE');
});

t.test('it may be a replica again afterwards', async (t) => {
  const { world, id } = await replaced(0);
  await purge(world, 'west-1', true);
  world.host('west-2').copies = true;
  await world.done('replica-add', { volume: 'db', host: 'west-1' });
  await world.until('the replica', () => world.host('west-1').lineage(id).length === 2);
  t.match(
    await refusal(world, 'west-1', true),
    /^host-needed: The route of volume db names host west-1\. .*cellblock replica remove db --host west-1/,
  );
});

t.test('refused with the reason, and nothing is deleted', async (t) => {
  const { world, id } = await replaced(0);
  t.match(await refusal(world, 'nobody', true), /^host-not-found: /);
  t.match(await refusal(world, 'west-2', true), /^host-needed: /, 'the owner');
  t.match(await refusal(world, 'east-1', true), /^stray-not-found: /);
  t.equal(
    await world.refused('host-purge', { host: 'west-1', volume: 'other', acceptLoss: true }),
    'volume-not-found',
  );
  world.host('west-2').isSilent = true;
  t.match(await refusal(world, 'west-1', true), /^host-not-connected: Host west-2 does not answer/);
  world.host('west-2').isSilent = false;
  const { storeId } = world.host('west-2');
  world.host('west-2').storeId = 'f'.repeat(32);
  t.match(await refusal(world, 'west-1', true), /^owner-unproven: /, 'whose store is another');
  world.host('west-2').storeId = storeId;
  const { record } = world.host('west-2').volumes.get(id)!;
  world.host('west-2').volumes.get(id)!.record = { ...record, state: 'FAULTED', faultedFrom: 'ACTIVE' };
  t.match(await refusal(world, 'west-1', true), /^owner-unproven: Host west-2 does not say that it owns/);
  world.host('west-2').volumes.get(id)!.record = record;
  const stray = world.host('west-1').volumes.get(id)!;
  const sealed = stray.record;
  stray.record = { ...sealed, state: 'ACTIVE', sealedHead: null, released: null };
  t.match(await refusal(world, 'west-1', true), /^owned-elsewhere: .*cellblock quarantine adopt db/);
  stray.record = sealed;
  world.disconnect('west-1');
  t.match(await refusal(world, 'west-1', true), /^host-not-connected: /);
  await world.connect('west-1');
  t.equal(world.host('west-1').answer(id).state, 'SEALED', 'it is still there');
  t.match(await purge(world, 'west-1', true), { host: 'west-1' });
});

t.test('of a sealed one it is known first that it owns nothing', async (t) => {
  const { world, id } = await moved();
  await world.done('host-readmit', { host: 'east-1' });
  const stray = world.host('east-1').volumes.get(id)!;
  stray.record = { ...stray.record, released: null };
  world.host('east-1').heard = [];
  await purge(world, 'east-1');
  t.strictSame(world.host('east-1').heard, ['fence', 'purge']);
});
