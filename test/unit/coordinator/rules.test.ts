// Every rule of the table, reached by what happens to hosts and coordinators, and told by `route show --explain`.

import t from 'tap';

import type { RouteDetails } from '../../../src/coordinator/results.js';
import { RULES, type Rule } from '../../../src/model/cell/rules.js';
import { CoordinatorWorld } from '../../support/coordinator-world.js';

const TWO = { 'east-1': 'east', 'west-1': 'west' };

interface Reached {
  world: CoordinatorWorld;
  id: string;
}

async function begin(): Promise<Reached> {
  const world = await CoordinatorWorld.begin(TWO);
  return { world, id: await world.volume('db', 'east-1', 2) };
}

const move = (world: CoordinatorWorld) =>
  world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });

/** A move that has come so far that `holds`, when its coordinator dies. */
async function diedWhen(holds: (reached: Reached) => boolean): Promise<Reached> {
  const reached = await begin();
  const { world } = reached;
  await move(world);
  world.running.diesWhen = () => holds(reached);
  await world.until('that', () => world.running.isDead);
  return reached;
}

/** As its coordinator has left it: nothing goes on by itself. */
const state = ({ world, id }: Reached, host: string) => world.host(host).answer(id).state;

async function moved(): Promise<Reached> {
  const reached = await begin();
  await move(reached.world);
  await reached.world.until('the move', () => reached.world.route('db').journal === null);
  return reached;
}

function change({ world, id }: Reached, host: string, changes: object): void {
  const held = world.host(host).volumes.get(id)!;
  held.record = { ...held.record, ...changes };
}

function erase({ world, id }: Reached, host: string): void {
  world.host(host).volumes.delete(id);
}

/** Swaps the sides of the route: a coordinator whose state is older than what has become of its volume. */
function mirror({ world, id }: Reached): void {
  const route = world.state.table.route(id)!;
  world.state.table.set({ ...route, active: route.alternate!, alternate: route.active });
}

const sealed = () =>
  diedWhen(
    ({ world, id }) =>
      world.host('east-1').answer(id).state === 'SEALED' && world.route('db').journal?.phase === 'SEALED',
  );

const staged = () =>
  diedWhen(
    ({ world, id }) =>
      world.host('east-1').answer(id).state === 'SEALED' &&
      world.host('east-1').answer(id).released === null &&
      world.host('west-1').answer(id).move?.completeThrough?.id ===
        world.host('east-1').answer(id).sealedHead?.id,
  );

/** What happens, to whom; then the rule that is tried first, and which of its like in the end. */
const cases: Record<Rule, () => Promise<Reached>> = {
  stay: begin,
  'stay-extend': () =>
    diedWhen(
      (reached) => state(reached, 'west-1') === 'RECEIVING' && state(reached, 'east-1') === 'OUTGOING',
    ),
  follow: async () => {
    const reached = await moved();
    mirror(reached);
    return reached;
  },
  'switch-back': async () => {
    const reached = await diedWhen(
      (each) => state(each, 'west-1') === 'RECEIVING' && state(each, 'east-1') === 'OUTGOING',
    );
    mirror(reached);
    return reached;
  },
  'follow-degraded': async () => {
    const reached = await moved();
    change(reached, 'east-1', { state: 'FAULTED', faultedFrom: 'SEALED' });
    mirror(reached);
    return reached;
  },
  'finish-y': staged,
  'finish-x': async () => {
    const reached = await staged();
    mirror(reached);
    return reached;
  },
  'reopen-x': async () => {
    const reached = await sealed();
    erase(reached, 'west-1');
    return reached;
  },
  'reopen-y': async () => {
    const reached = await sealed();
    erase(reached, 'west-1');
    mirror(reached);
    return reached;
  },
  elect: async () => {
    const reached = await moved();
    change(reached, 'west-1', { state: 'SEALED', sealedHead: { id: 'e'.repeat(32), seq: 2 } });
    return reached;
  },
  fence: async () => {
    const reached = await moved();
    change(reached, 'east-1', { state: 'ACTIVE', released: null, sealedHead: null });
    const held = reached.world.host('east-1').volumes.get(reached.id)!;
    held.content = held.snapshots.find(({ id }) => id === held.record.head?.id)!.content;
    return reached;
  },
  'stay-alone': async () => {
    const reached = await diedWhen(
      (each) => state(each, 'west-1') === 'RECEIVING' && state(each, 'east-1') === 'OUTGOING',
    );
    reached.world.host('west-1').isSilent = true;
    return reached;
  },
  'follow-alone': async () => {
    const reached = await diedWhen(
      ({ world }) =>
        world.route('db').journal?.phase === 'ACTIVATED' && world.route('db').active.cell === 'east',
    );
    reached.world.host('east-1').isSilent = true;
    return reached;
  },
  'adopt-staged': async () => {
    const reached = await staged();
    // The seal is in the journal: the source may be gone.
    const { world, id } = reached;
    const { journal } = world.route('db');
    const { sealedHead } = world.host('east-1').answer(id);
    world.state.table.set({
      ...world.route('db'),
      journal: { ...journal!, phase: 'SEALED', sealedHead },
    });
    erase(reached, 'east-1');
    return reached;
  },
  wait: async () => {
    const reached = await sealed();
    reached.world.host('west-1').isSilent = true;
    return reached;
  },
  creating: async () => {
    const reached = await diedWhen(
      (each) => state(each, 'west-1') === 'RECEIVING' && state(each, 'east-1') === 'OUTGOING',
    );
    erase(reached, 'east-1');
    return reached;
  },
  quarantine: async () => {
    const reached = await moved();
    change(reached, 'east-1', { state: 'ACTIVE', epoch: 2, released: null });
    return reached;
  },
  'not-found': async () => {
    const reached = await begin();
    erase(reached, 'east-1');
    return reached;
  },
};

/** What a snapshot gives then: performed by that rule, or refused with that code. */
const GIVES: Partial<Record<Rule, string>> = {
  fence: 'stay',
  'finish-y': 'stay',
  'finish-x': 'stay',
  'adopt-staged': 'stay',
  wait: 'volume-unavailable',
  creating: 'volume-creating',
  quarantine: 'volume-quarantined',
  'not-found': 'volume-lost',
};

t.test('there is a way to each', async (t) => t.same(Object.keys(cases).sort(), [...RULES].sort()));

for (const rule of RULES)
  t.test(rule, async (t) => {
    const reached = await cases[rule]();
    const { world } = reached;
    // A new leader, which is asked before it has had the time for anything of itself.
    const next = world.another();
    world.running = next;
    next.leadership.give();
    await world.until('a leader', () => next.coordinator.isReady);
    for (const host of world.hosts.values())
      if (!host.isSilent) next.connected.set(host.name, { ...host.facts() } as never);
    const { explained } = await world.done<'route-show', RouteDetails>('route-show', {
      volume: 'db',
      explain: true,
    });
    t.equal(explained?.rule, rule);
    const taken = await world
      .done<'snapshot-create', { rule: string; host: string }>('snapshot-create', {
        snapshots: [{ volume: 'db', name: 'next' }],
      })
      .catch((error) => ({ rule: error.code as string, host: '' }));
    t.equal(taken.rule, GIVES[rule] ?? rule);
    const after = await world.done<'route-show', RouteDetails>('route-show', { volume: 'db', explain: true });
    const decided = after.explained?.decisions.find((decision) => decision.rule === rule);
    t.match(
      decided,
      { x: { state: explained!.x.state }, y: { state: explained!.y.state }, steps: explained!.steps },
      'it is told afterwards as it was decided: the sides of then, and what followed from them',
    );
    // Two that say they own it are for an operator to decide between.
    if (rule !== 'quarantine') t.equal(world.violation('db'), null);
    const owners = [...world.hosts.values()].filter((host) => host.owns(reached.id) && !host.isSilent);
    if (taken.host)
      t.same(
        owners.map(({ name }) => name),
        [taken.host],
        'who has taken it is the only owner',
      );
  });
