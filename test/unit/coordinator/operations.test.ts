// One operation on one volume: what becomes of it when its host does it, fails, refuses or is silent; and what is known of both cells afterwards.

import t from 'tap';

import type { RouteDetails } from '../../../src/coordinator/results.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const TWO_CELLS = { 'east-1': 'east', 'west-1': 'west' };

const snapshot = (name: string, volume = 'db') => ({ snapshots: [{ volume, name }] });

const explained = (world: CoordinatorWorld) =>
  world.done<'route-show', RouteDetails>('route-show', { volume: 'db', explain: true });

t.test('success: the head moves on in the route, and the decision is kept with its reasons', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  const taken = await world.done('snapshot-create', snapshot('s2'));
  t.match(taken, { volume: 'db', name: 's2', seq: 2, cell: 'east', host: 'east-1', rule: 'stay' });
  t.same(world.route('db').lineageHead, world.host('east-1').answer(id).lineageHead);
  const { explained: why, unfinished } = await explained(world);
  t.match(why, {
    rule: 'stay',
    outcome: 'perform',
    trials: [{ rule: 'stay', holds: true }],
    steps: ['do what is asked at x'],
  });
  t.match(why?.decisions.at(-1), { operation: 'snapshot s2', result: 'performed at east' });
  t.same(unfinished, []);
});

t.test('of the decisions of a volume the last sixteen are kept', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  await world.volume('db', 'east-1', 20);
  const { explained: why } = await explained(world);
  t.equal(why?.decisions.length, 16);
  t.equal(why?.decisions.at(-1)?.operation, 'snapshot s20');
  await world.lead();
  await world.done('snapshot-create', snapshot('s21'));
  const after = (await explained(world)).explained!;
  t.equal(after.decisions.length, 16, 'another leader goes on counting');
  t.equal(after.decisions.at(-1)?.operation, 'snapshot s21');
});

t.test(
  'a definite failure: the owner stays, the error is told under its code, nothing is left',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    await world.volume('db', 'east-1', 1);
    const before = world.route('db');
    world.host('east-1').failing = { code: 'no-space', message: 'The store is full.' };
    t.equal(await world.refused('snapshot-create', snapshot('s2')), 'no-space');
    t.same(world.route('db').lineageHead, before.lineageHead);
    t.match((await explained(world)).explained?.decisions.at(-1), { result: 'failed at east: no-space' });
    t.ok(world.isQuiet);
    world.host('east-1').failing = { code: 'some-new-code', message: 'Unheard of' };
    t.equal(await world.refused('snapshot-create', snapshot('s2')), 'host-failed');
  },
);

t.test('no answer: the same snapshot is asked for again, of the same cell, and taken once', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  let lost = 0;
  world.fateOf = (_from, _host, what) => (what === 'snapshot' && lost++ < 1 ? 'answer lost' : 'delivered');
  t.match(await world.done('snapshot-create', snapshot('s2')), { seq: 2 });
  t.equal(world.host('east-1').lineage(id).length, 2);
  t.notOk(world.host('west-1').heard.includes('snapshot'));
});

t.test(
  'no answer to the end: it may have been done, the next one ends it first, and the same again is the same',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 1);
    world.fateOf = (_from, _host, what) =>
      what === 'snapshot' || what === 'probe' ? 'answer lost' : 'delivered';
    let probes = 0;
    world.fateOf = (_from, _host, what) =>
      what === 'snapshot' || (what === 'probe' && ++probes > 1) ? 'answer lost' : 'delivered';
    const error = await world.done('snapshot-create', snapshot('s2')).catch((thrown) => thrown);
    t.match(error, { code: 'volume-unavailable', hint: /may yet be made/, facts: { retryAfterMs: 5_000 } });
    t.equal(world.host('east-1').lineage(id).length, 2);
    t.equal(world.route('db').lineageHead?.seq, 1, 'what was not answered is not known');
    world.fateOf = () => 'delivered';
    t.match(await world.done('snapshot-create', snapshot('s2')), { seq: 2 }, 'it is found, not taken again');
    t.match(await world.done('snapshot-create', snapshot('s3')), { seq: 3 });
    t.equal(world.host('east-1').lineage(id).length, 3);
    t.ok(world.isQuiet);
  },
);

t.test('a silent owner: nothing was sent, so nothing is left to be ended', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  await world.volume('db', 'east-1', 1);
  world.disconnect('east-1');
  const error = await world.done('snapshot-create', snapshot('s2')).catch((thrown) => thrown);
  t.match(error, {
    code: 'volume-unavailable',
    message: /nothing is heard of east-1/,
    hint: /Nothing was changed/,
  });
  t.ok(world.isQuiet);
  await world.connect('east-1');
  t.match(await world.done('snapshot-create', snapshot('s2')), { seq: 2 });
});

t.test(
  'why a volume is in quarantine is explained, also by whoever leads next, until it is decided',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 2);
    const explained = async () =>
      (
        await world.done<'route-show', { explained: { evidence: { at: string } | null } }>('route-show', {
          volume: 'db',
          explain: true,
        })
      ).explained.evidence;
    t.equal(await explained(), null);
    const held = world.host('east-1').volumes.get(id)!;
    held.snapshots.pop();
    held.record = { ...held.record, head: { id: held.snapshots[0]!.id, seq: 1 } };
    t.equal(await world.refused('snapshot-create', snapshot('s3')), 'volume-quarantined');
    const evidence = await explained();
    t.match(evidence, { volume: id, x: { state: 'ACTIVE' }, y: { state: 'NONE' } });
    await world.lead();
    t.same(await explained(), evidence);
    await world.done('host-readmit', { host: 'east-1' });
    await world.done('quarantine-adopt', { volume: 'db', cell: 'east' });
    t.equal(await explained(), null);
  },
);

t.test(
  'an owner without a snapshot that was taken has come back from somewhere: quarantine of this volume only',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    const id = await world.volume('db', 'east-1', 2);
    await world.volume('other', 'east-1', 1);
    const held = world.host('east-1').volumes.get(id)!;
    held.snapshots.pop();
    held.record = { ...held.record, head: { id: held.snapshots[0]!.id, seq: 1 } };
    t.equal(await world.refused('snapshot-create', snapshot('s3')), 'volume-quarantined');
    t.equal(world.route('db').status, 'quarantined');
    const [evidence] = (
      await world.done<'quarantine-list', { volumes: { name: string; at: string }[] }>('quarantine-list', {})
    ).volumes;
    t.match(evidence, { name: 'db', x: { state: 'ACTIVE' }, y: { state: 'NONE' } });
    await world.pass(1_000);
    t.equal(await world.refused('snapshot-create', snapshot('s4')), 'volume-quarantined');
    const [same] = (await world.done<'quarantine-list', { volumes: { at: string }[] }>('quarantine-list', {}))
      .volumes;
    t.equal(same?.at, evidence?.at, 'the evidence is that of the first time');
    t.match(await world.done('snapshot-create', snapshot('s2', 'other')), { seq: 2 });
    t.match(await world.done('quarantine-adopt', { volume: 'db', cell: 'east' }), {
      host: 'east-1',
      epoch: 2,
      left: null,
    });
    t.match(await world.done('snapshot-create', snapshot('s3')), { seq: 2, rule: 'stay' });
  },
);

t.test('a volume whose host knows nothing of it is lost, and only an operator drops its route', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  t.equal(await world.refused('route-forget', { volume: 'db' }), 'route-in-use');
  const held = world.host('east-1').volumes.get(id)!;
  world.host('east-1').volumes.delete(id);
  t.equal(await world.refused('snapshot-create', snapshot('s2')), 'volume-lost');
  t.equal(world.route('db').status, 'lost');
  world.host('east-1').volumes.set(id, held);
  t.match(await world.done('snapshot-create', snapshot('s2')), { seq: 2 }, 'found again');
  t.equal(world.route('db').status, 'open');
  world.host('east-1').volumes.delete(id);
  await world.refused('snapshot-create', snapshot('s3'));
  t.match(await world.done('route-forget', { volume: 'db' }), { status: 'lost' });
  t.equal(await world.refused('route-show', { volume: 'db', explain: false }), 'volume-not-found');
});

t.test('a delete ends everywhere, and the name is free when every host has confirmed', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await world.until('the move', () => world.route('db').journal === null);
  world.disconnect('east-1');
  const deleted = await world.done('volume-delete', { volume: 'db' });
  t.match(deleted, { cell: 'west', unconfirmed: ['east-1'] });
  await world.pass(10_000);
  t.equal(world.route('db').status, 'gone');
  t.equal(await world.refused('snapshot-create', snapshot('s2')), 'volume-not-found');
  await world.connect('east-1');
  await world.until('the route to go', () => world.state.table.named('db') === null);
  for (const host of world.hosts.values())
    t.match(host.answer(id), { state: 'NONE', tombstone: { why: 'delete' } }, host.name);
});

t.test('a late answer of a deposed coordinator changes nothing: its writes are refused', async (t) => {
  const world = await CoordinatorWorld.begin(TWO_CELLS);
  const id = await world.volume('db', 'east-1', 1);
  const before = world.running;
  const next = world.another();
  before.onStep(before.steps.length + 2, () => next.leadership.give());
  const error = await world.done('snapshot-create', snapshot('s2')).catch((thrown) => thrown);
  t.equal(error.code, 'not-leader');
  world.running = next;
  await world.until('the new leader', () => next.coordinator.isReady);
  await world.connectAll();
  await world.until('what was begun to end', () => world.isQuiet);
  t.equal(world.disagreement('db'), null);
  t.equal(world.host('east-1').lineage(id).length, 2, 'the new leader has ended it');
});

t.test(
  'what waits when a coordinator stops leading is not begun when the same one leads again',
  async (t) => {
    const world = await CoordinatorWorld.begin(TWO_CELLS);
    await world.volume('db', 'east-1', 1);
    await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
    // A step of the move holds the volume, and waits for an answer.
    let isAsked = false;
    world.fateOf = (_from, _host, what) => {
      isAsked ||= what === 'probe';
      return 'lost';
    };
    await world.until('a step', () => isAsked);
    const refused = world.call('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] }).then(
      () => 'done',
      (error) => error.code,
    );
    await world.rest();
    const { leadership, coordinator } = world.running;
    leadership.take();
    world.fateOf = () => 'delivered';
    leadership.give();
    await world.until('a leader', () => coordinator.isReady);
    await world.connectAll();
    t.equal(await world.settled(refused), 'not-leader');
    await world.until('rest', () => world.isQuiet);
    t.equal(world.disagreement('db'), null);
    t.same(
      world
        .host('west-1')
        .lineage(world.route('db').volume)
        .map(({ name }) => name),
      ['s1'],
    );
  },
);
