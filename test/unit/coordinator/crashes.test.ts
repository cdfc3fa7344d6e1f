// A coordinator that dies after every single thing it has done to the world, a write to its store or a message to a host, one after the other; messages
// that are lost or not answered, and writes of which nobody knows whether they were stored, one after the other; another that leads while the first goes on. What was begun is ended, and asking again gives
// what was asked for, once.

import t, { type Test } from 'tap';
import { CoordinatorWorld, type Running } from '../../support/coordinator-world.js';
import { byEffort } from '../../support/effort.js';
import { forked } from './forked.js';

interface Scenario {
  hosts: Record<string, string>;
  prepare: (world: CoordinatorWorld) => Promise<void>;
  /** What is asked for. */
  act: (world: CoordinatorWorld) => Promise<unknown>;
  /** What asking again may be refused with, because it is done. */
  done: string[];
  /** What happens then. */
  afterwards?: (world: CoordinatorWorld) => Promise<void>;
  /** When everything has come to rest. */
  isOver?: (world: CoordinatorWorld) => boolean;
  /** What is wrong in the end; null: nothing is. */
  wrong: (world: CoordinatorWorld) => string | null;
}

/** Whoever asks again gives it so long. */
const ASKED_AGAIN_MS = 2_000;

const TWO = { 'east-1': 'east', 'west-1': 'west' };

const names = (world: CoordinatorWorld, host: string, volume: string) =>
  world
    .host(host)
    .lineage(world.state.table.holder(volume) ?? '')
    .map(({ name }) => name)
    .join();

const differs = (is: string, should: string) => (is === should ? null : `${is} instead of ${should}`);

/** The west goes on, and what the east has waits for the operator. */
async function decided(world: CoordinatorWorld): Promise<void> {
  const id = await forked(world);
  await world.done('quarantine-adopt', { volume: 'db', cell: 'west' });
  await world.until('the seal', () => world.host('east-1').answer(id).state === 'SEALED');
  await world.until('its note', () => world.route('db').alternate?.mustSeal === null);
}

const scenarios: Record<string, Scenario> = {
  'a snapshot': {
    hosts: TWO,
    prepare: async (world) => void (await world.volume('db', 'east-1')),
    act: (world) => world.call('snapshot-create', { snapshots: [{ volume: 'db', name: 's2' }] }),
    done: ['snapshot-exists'],
    wrong: (world) => world.disagreement('db') ?? differs(names(world, 'east-1', 'db'), 's1,s2'),
  },
  'a resize': {
    hosts: TWO,
    prepare: async (world) => void (await world.volume('db', 'east-1')),
    act: (world) => world.call('volume-resize', { volume: 'db', sizeBytes: '2097152' }),
    done: [],
    wrong: (world) => {
      const { volume } = world.route('db');
      return (
        world.disagreement('db') ?? differs(world.host('east-1').volumes.get(volume)!.sizeBytes, '2097152')
      );
    },
  },
  'a volume that gets a route': {
    hosts: TWO,
    prepare: async (world) => {
      const id = world.freshId();
      world.host('east-1').locals.set('db', { content: 0, snapshots: [id] });
    },
    act: (world) => world.call('route-claim', { volume: 'db', host: 'east-1' }),
    done: ['route-exists'],
    wrong: (world) => world.disagreement('db') ?? differs(names(world, 'east-1', 'db'), 's0'),
  },
  'a volume that gets a route again': {
    hosts: TWO,
    prepare: async (world) => world.state.table.delete(await world.volume('db', 'east-1', 2)),
    act: (world) => world.call('route-claim', { volume: 'db', host: 'east-1' }),
    done: ['route-exists'],
    wrong: (world) =>
      world.disagreement('db') ??
      differs(`${world.route('db').lineageHead?.seq} ${world.state.table.size}`, '2 1') ??
      differs(names(world, 'east-1', 'db'), 's1,s2'),
  },
  'a move': {
    hosts: TWO,
    prepare: async (world) => void (await world.volume('db', 'east-1', 2)),
    act: (world) => world.call('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false }),
    done: ['move-under-way', 'option-invalid'],
    isOver: (world) => world.route('db').active.cell === 'west',
    wrong: (world) => world.disagreement('db') ?? differs(names(world, 'west-1', 'db'), 's1,s2'),
  },
  'a move that is turned back when its source is sealed': {
    hosts: TWO,
    prepare: async (world) => {
      const id = await world.volume('db', 'east-1', 2);
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the seal', () => {
        if (world.host('east-1').answer(id).state !== 'SEALED') return false;
        world.host('west-1').copies = false;
        return true;
      });
      await world.until('its note', () => world.route('db').journal?.phase === 'SEALED');
    },
    act: (world) => world.call('move-cancel', { volume: 'db' }),
    done: ['move-not-found'],
    wrong: (world) => {
      if (world.route('db').active.cell !== 'east') return 'it was not turned back';
      return world.disagreement('db') ?? differs(names(world, 'east-1', 'db'), 's1,s2');
    },
  },
  'a delete, with a copy left from a move': {
    hosts: TWO,
    prepare: async (world) => {
      await world.volume('db', 'east-1', 2);
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the move', () => world.route('db').journal === null);
    },
    act: (world) => world.call('volume-delete', { volume: 'db' }),
    done: ['volume-not-found'],
    isOver: (world) => world.state.table.named('db') === null,
    wrong: (world) => {
      const left = [...world.hosts.values()].flatMap((host) =>
        [...host.volumes.values()]
          .filter(({ record }) => record.tombstone?.why !== 'delete')
          .map(() => host.name),
      );
      const kept = world.state.recordKeys.filter((key) => !key.startsWith('host/'));
      return differs(left.join(), '') ?? differs(kept.join(), '');
    },
  },
  'a delete of a snapshot that a replica and the cell of before have too': {
    hosts: { 'east-1': 'east', 'west-1': 'west', 'west-2': 'west' },
    prepare: async (world) => {
      await world.volume('db', 'east-1', 2);
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the move', () => world.route('db').journal === null);
      const replica = world.route('db').active.primary === 'west-1' ? 'west-2' : 'west-1';
      await world.done('replica-add', { volume: 'db', host: replica });
      await world.until('the replica', () => names(world, replica, 'db') === 's1,s2');
    },
    act: (world) => world.call('snapshot-delete', { volume: 'db', name: 's1' }),
    done: ['snapshot-not-found'],
    wrong: (world) => {
      const left = [...world.hosts.keys()].map((host) => names(world, host, 'db'));
      return world.disagreement('db') ?? differs(left.join(' '), 's2 s2 s2');
    },
  },
  'a snapshot of three volumes at two hosts': {
    hosts: TWO,
    prepare: async (world) => {
      await world.volume('a', 'east-1');
      await world.volume('b', 'east-1');
      await world.volume('c', 'west-1');
    },
    act: (world) =>
      world.call('snapshot-create', {
        snapshots: ['a', 'b', 'c'].map((volume) => ({ volume, name: 'all' })),
      }),
    done: ['snapshot-exists', 'LINEAGE_MISMATCH', 'group-dropped'],
    wrong: (world) => {
      for (const [volume, host] of [
        ['a', 'east-1'],
        ['b', 'east-1'],
        ['c', 'west-1'],
      ] as const) {
        const wrong = world.disagreement(volume) ?? differs(names(world, host, volume), 's1,all');
        if (wrong) return `${volume}: ${wrong}`;
      }
      return null;
    },
  },
  'a replica that takes the place of its primary, which comes back': {
    hosts: { 'east-1': 'east', 'east-2': 'east' },
    prepare: async (world) => {
      await world.volume('db', 'east-1', 2);
      await world.done('replica-add', { volume: 'db', host: 'east-2' });
      await world.until('the replica', () => names(world, 'east-2', 'db') === 's1,s2');
      await world.pass(500);
      world.disconnect('east-1');
      world.written.clear();
    },
    act: (world) => world.call('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true }),
    done: ['replica-not-found'],
    afterwards: async (world) => {
      await world.until('the new owner', () => world.host('east-2').owns(world.route('db').volume));
      await comesBack(world, 'east-1');
    },
    isOver: (world) => !world.host('east-1').owns(world.route('db').volume),
    wrong: (world) => world.disagreement('db') ?? differs(names(world, 'east-2', 'db'), 's1,s2'),
  },
  'an operator who decides which cell goes on': {
    hosts: TWO,
    prepare: async (world) => void (await forked(world)),
    act: (world) => world.call('quarantine-adopt', { volume: 'db', cell: 'west' }),
    done: ['volume-not-quarantined'],
    isOver: (world) => world.route('db').alternate?.mustSeal === null,
    wrong: (world) => {
      const { volume, alternate } = world.route('db');
      if (world.host('east-1').answer(volume).state !== 'SEALED') return 'the other one is not sealed';
      if (!alternate?.needsRepair) return 'what the other one has is not kept for the operator';
      return world.disagreement('db') ?? differs(world.route('db').active.primary, 'west-1');
    },
  },
  'a fork that is kept as a volume of its own': {
    hosts: TWO,
    prepare: async (world) => void (await decided(world)),
    act: (world) => world.call('quarantine-keep-fork', { volume: 'db', as: 'fork' }),
    done: ['volume-not-quarantined'],
    isOver: (world) => world.route('db').alternate === null,
    wrong: (world) => {
      const { volume, epoch, lineageHead } = world.route('fork');
      if (!world.host('east-1').owns(volume)) return 'nobody owns the fork';
      if (world.host('east-1').answer(world.route('db').volume).state !== 'NONE')
        return 'what was forked is still a part of the volume';
      if (lineageHead?.id !== world.host('east-1').answer(volume).lineageHead?.id)
        return 'the route of the fork has another head';
      return world.disagreement('db') ?? differs(`${names(world, 'east-1', 'fork')} ${epoch}`, 's1,s2 1');
    },
  },
  'a fork that is thrown away': {
    hosts: TWO,
    prepare: async (world) => void (await decided(world)),
    act: (world) => world.call('quarantine-discard', { volume: 'db' }),
    done: ['volume-not-quarantined'],
    isOver: (world) => world.route('db').alternate === null,
    wrong: (world) => {
      const { volume } = world.route('db');
      return world.disagreement('db') ?? differs(world.host('east-1').answer(volume).state, 'NONE');
    },
  },
  'a host that is readmitted, with a volume that has moved away since its backup': {
    hosts: TWO,
    prepare: async (world) => {
      await world.volume('db', 'east-1', 2);
      await world.volume('other', 'east-1', 1);
      const backup = world.host('east-1').backup();
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the move', () => world.route('db').journal === null);
      await world.done('snapshot-create', { snapshots: [{ volume: 'db', name: 'later' }] });
      world.disconnect('east-1');
      world.host('east-1').restore(backup);
      world.host('east-1').boot = 1;
      await world.connect('east-1');
    },
    act: (world) => world.call('host-readmit', { host: 'east-1' }),
    done: ['host-not-regressed'],
    wrong: (world) => {
      const { volume } = world.route('db');
      const { state, released } = world.host('east-1').answer(volume);
      if (!world.host('east-1').owns(world.route('other').volume)) return 'what it owns is not served';
      return (
        world.disagreement('db') ??
        world.disagreement('other') ??
        differs(`${state} ${released}`, 'SEALED 2') ??
        differs(names(world, 'west-1', 'db'), 's1,s2,later')
      );
    },
  },
  'a former primary that is forgotten': {
    hosts: { ...TWO, 'east-2': 'east' },
    prepare: async (world) => {
      const id = await world.volume('db', 'east-1', 2);
      await world.done('replica-add', { volume: 'db', host: 'east-2' });
      await world.until('the replica', () => world.host('east-2').lineage(id).length === 2);
      world.disconnect('east-1');
      await world.done('cell-promote', { volume: 'db', host: 'east-2', acceptLoss: true });
      await world.until('the new primary', () => world.host('east-2').owns(id));
      world.written.clear();
    },
    act: (world) => world.call('host-forget', { host: 'east-1' }),
    done: [],
    afterwards: async (world) => {
      await comesBack(world, 'east-1');
    },
    wrong: (world) => {
      const { volume, alternate } = world.route('db');
      if (alternate !== null) return `its route names ${alternate.primary}`;
      if (world.host('east-1').opened.includes(volume)) return 'what was forgotten is served';
      return world.disagreement('db');
    },
  },
  'what a forgotten host still has is deleted': {
    hosts: TWO,
    prepare: async (world) => {
      const id = await world.volume('db', 'east-1', 2);
      await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
      await world.until('the end of the move', () => world.route('db').journal === null);
      world.disconnect('east-1');
      await world.done('host-forget', { host: 'east-1' });
      await comesBack(world, 'east-1');
      await world.done('host-readmit', { host: 'east-1' });
      const stray = world.host('east-1').volumes.get(id)!;
      stray.record = { ...stray.record, released: null };
    },
    act: (world) => world.call('host-purge', { host: 'east-1', volume: 'db', acceptLoss: false }),
    done: ['stray-not-found'],
    wrong: (world) => {
      const { volume } = world.route('db');
      return world.disagreement('db') ?? differs(world.host('east-1').answer(volume).state, 'NONE');
    },
  },
};

async function comesToRest(world: CoordinatorWorld, { isOver, afterwards }: Scenario): Promise<void> {
  await afterwards?.(world);
  await world.until('rest', () => world.isQuiet && (isOver?.(world) ?? true), 120_000);
  await world.pass(500);
}

/** As a host does whose hello could not be looked at: again, until it is admitted. */
async function comesBack(world: CoordinatorWorld, host: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    if (await world.connect(host).catch(() => false)) return;
    if (tries === 10) throw new Error(`${host} is not admitted`);
    await world.pass(100);
  }
}

/** How much there is to go wrong. */
interface Counts {
  steps: number;
  messages: number;
  writes: number;
}

async function whole(t: Test, scenario: Scenario): Promise<Counts> {
  const world = await CoordinatorWorld.begin(scenario.hosts);
  await scenario.prepare(world);
  const before = world.running.steps.length;
  const counts = { messages: 0, writes: 0 };
  world.fateOf = () => {
    counts.messages += 1;
    return 'delivered';
  };
  world.fateOfWrite = () => {
    counts.writes += 1;
    return 'delivered';
  };
  await world.settled(scenario.act(world));
  // As long as a trouble is given time before it is asked for again.
  await world.pass(ASKED_AGAIN_MS);
  await comesToRest(world, scenario);
  t.equal(scenario.wrong(world), null, 'without a crash');
  return { steps: world.running.steps.length - before, ...counts };
}

async function crashed(scenario: Scenario, after: number): Promise<string | null> {
  const world = await CoordinatorWorld.begin(scenario.hosts);
  await scenario.prepare(world);
  world.killAfter(after);
  const asked = scenario.act(world);
  asked.catch(() => undefined);
  await world.until('the crash', () => world.running.isDead, 60_000).catch(() => undefined);
  const at = world.running.steps.at(-1);
  await world.lead();
  await world.pass(1_000);
  const again = await outcomeOf(world, scenario.act(world));
  const where = `after step ${after}, ${at}; asked again: ${again}`;
  if (again !== 'done' && !scenario.done.includes(again)) return where;
  try {
    await comesToRest(world, scenario);
  } catch (error) {
    return `${where}; ${(error as Error).message}`;
  }
  const wrong = scenario.wrong(world);
  return wrong && `${where}: ${wrong}`;
}

type Fate = 'lost' | 'answer lost';

/** From now on; what it returns says whether it has come to it. */
type Trouble = (world: CoordinatorWorld, number: number) => () => boolean;

const nth = (number: number, fate: Fate): { fateOf: () => Fate | 'delivered'; hasCome: () => boolean } => {
  let count = 0;
  return {
    fateOf: () => {
      count += 1;
      return count === number ? fate : 'delivered';
    },
    hasCome: () => count >= number,
  };
};

/** One message that is lost, or is not answered in time. */
const losing =
  (fate: Fate): Trouble =>
  (world, number) => {
    const { fateOf, hasCome } = nth(number, fate);
    world.fateOf = fateOf;
    return hasCome;
  };

/** One write of which nobody knows what has become of it. */
const doubting =
  (fate: Fate): Trouble =>
  (world, number) => {
    const { fateOf, hasCome } = nth(number, fate);
    world.fateOfWrite = fateOf;
    return hasCome;
  };

/** Another leads after so many steps; the one of before goes on as if it did not know, and is heard by the hosts. */
const deposing: Trouble = (world, step) => {
  const before = world.running;
  let hasCome = false;
  before.onStep(before.steps.length + step, () => {
    hasCome = true;
    void takeOver(world, before);
  });
  return () => hasCome;
};

async function takeOver(world: CoordinatorWorld, before: Running): Promise<void> {
  const next = world.another();
  world.running = next;
  next.leadership.give();
  while (!next.coordinator.isReady) await world.after(50);
  for (const { name, isSilent } of world.hosts.values()) if (!isSilent) await world.join(name, next);
  await world.after(1_000);
  // It hears of it late.
  before.leadership.take();
}

async function troubled(scenario: Scenario, trouble: Trouble, number: number): Promise<string | null> {
  const world = await CoordinatorWorld.begin(scenario.hosts);
  await scenario.prepare(world);
  const before = world.running;
  const hasCome = trouble(world, number);
  const first = await outcomeOf(world, scenario.act(world));
  await world.pass(ASKED_AGAIN_MS);
  const again =
    first === 'done' && world.running === before ? first : await outcomeOf(world, scenario.act(world));
  const where = `number ${number}: ${first}, asked again: ${again}`;
  if (again !== 'done' && !scenario.done.includes(again)) return where;
  try {
    await comesToRest(world, scenario);
  } catch (error) {
    return `${where}; ${(error as Error).message}`;
  }
  if (!hasCome()) return `${where}: it has not come to that`;
  const wrong = scenario.wrong(world);
  return wrong && `${where}: ${wrong}`;
}

async function outcomeOf(world: CoordinatorWorld, work: Promise<unknown>): Promise<string> {
  return world.settled(work).then(
    () => 'done',
    (error) => String(error.code ?? error),
  );
}

/** All of them, or some where there is little time. */
function* numbersTo(last: number): Generator<number> {
  const every = byEffort({ quick: Math.max(1, Math.floor(last / 8)), normal: 1, long: 1 });
  for (let number = 1; number <= last; number += every) yield number;
}

interface Going {
  /** What may go wrong so. */
  of: keyof Counts;
  run: (scenario: Scenario, number: number) => Promise<string | null>;
}

const goes = (of: keyof Counts, trouble: Trouble): Going => ({
  of,
  run: (scenario, number) => troubled(scenario, trouble, number),
});

const troubles: Record<string, Going> = {
  'the coordinator dies': { of: 'steps', run: crashed },
  'a message is lost': goes('messages', losing('lost')),
  'an answer is lost': goes('messages', losing('answer lost')),
  'a write is lost': goes('writes', doubting('lost')),
  'a write is stored, and nobody knows': goes('writes', doubting('answer lost')),
  'another coordinator leads': goes('steps', deposing),
};

for (const [what, scenario] of Object.entries(scenarios))
  t.test(what, async (t) => {
    const counts = await whole(t, scenario);
    t.comment(`${counts.steps} steps: ${counts.messages} messages, ${counts.writes} writes`);
    for (const [happens, { of, run }] of Object.entries(troubles))
      for (const number of numbersTo(counts[of]))
        t.equal(await run(scenario, number), null, `${happens}, ${of} ${number}`);
  });
