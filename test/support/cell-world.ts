// A small world for the lineage of one volume: two cells of a host each, coordinators, a volume whose content is the number of the last
// write. The coordinators' decisions and the hosts' judgements are the product's own; the world carries them out, loses them, or
// delivers them late. It is a value: every action gives a new one.

import { createHash } from 'node:crypto';

import type { CellAnswer, HostAnswer } from '../../src/model/cell/answer.js';
import { answerOf, NO_ANSWER, NO_RECORD } from '../../src/model/cell/answer.js';
import { type HostCommand, type HostRecord, judge, newRecord } from '../../src/model/cell/host-record.js';
import { beginMove, copyTarget, planMove } from '../../src/model/cell/move-plan.js';
import type { Operation } from '../../src/model/cell/operation.js';
import type { CommandOutcome, Resolution } from '../../src/model/cell/resolution.js';
import { beginResolution, commanded, effectOf, probed, routed } from '../../src/model/cell/resolution.js';
import type { Place, Route } from '../../src/model/cell/route.js';

export const CELLS = ['east', 'west'] as const;
export type CellName = (typeof CELLS)[number];
const VOLUME = 'volume';

interface Host {
  record: HostRecord | null;
  /** The last write that is in the current map. */
  content: number;
  /** What snapshots hold, hidden ones too, by id. */
  frozen: Record<string, number>;
  /** Ids of the visible snapshots, oldest first. */
  lineage: string[];
}

interface Task {
  /** Null: the loop of a move. */
  resolution: Resolution | null;
  route: Route;
}

export interface World {
  route: Route;
  hosts: Record<CellName, Host>;
  coordinators: (Task | null)[];
  /** Sent by somebody who has stopped waiting; it may still arrive. */
  late: {
    to: CellName;
    command: HostCommand | { do: 'perform'; operation: Operation; epoch: number; parent: string | null };
  }[];
  /** The last write that was answered. */
  acknowledged: number;
  /** Ids of the snapshots that hosts have taken, in order. */
  taken: string[];
  /** What has happened so often, for the bounds of an exploration. */
  used: { writes: number; snapshots: number; moves: number; rollbacks: number; ids: number; carries: number };
  /** How many deltas a move carries before it seals its source. */
  carries: number;
}

export interface Bounds {
  writes: number;
  snapshots: number;
  moves: number;
  rollbacks: number;
  coordinators: number;
  late: number;
  epoch: number;
}

export function newWorld(carries = 0): World {
  const place = (cell: CellName, epoch: number): Place => ({
    cell,
    epoch,
    primary: cell,
    storeId: cell,
    replicas: [],
    mustSeal: null,
    needsRepair: false,
  });
  const empty: Host = { record: null, content: 0, frozen: {}, lineage: [] };
  return {
    route: {
      volume: VOLUME,
      name: 'v',
      status: 'open',
      active: place('east', 1),
      alternate: null,
      gen: 0,
      epoch: 1,
      lineageHead: null,
      journal: null,
    },
    hosts: { east: { ...empty, record: newRecord(VOLUME) }, west: empty },
    coordinators: [null, null],
    late: [],
    acknowledged: 0,
    taken: [],
    used: { writes: 0, snapshots: 0, moves: 0, rollbacks: 0, ids: 0, carries: 0 },
    carries,
  };
}

const owner = (host: Host) => host.record?.state === 'ACTIVE' || host.record?.state === 'OUTGOING';

/** What must be true in every world; the text says what is not. */
export function violation(world: World): string | null {
  const owners = CELLS.filter((cell) => owner(world.hosts[cell]));
  if (owners.length > 1) return 'two cells own the volume';
  for (const cell of owners) {
    const { content, lineage } = world.hosts[cell];
    if (content !== world.acknowledged) return `${cell} owns the volume without write ${world.acknowledged}`;
    if (lineage.join() !== world.taken.join())
      return `${cell} owns the volume with the lineage ${lineage}, taken were ${world.taken}`;
  }
  for (const { resolution } of world.coordinators.flatMap((task) => task ?? [])) {
    const end = resolution?.end;
    if (end && !['performed', 'retry', 'creating'].includes(end.result))
      return `it ended as ${JSON.stringify(end)} in ${JSON.stringify(world.hosts)}`;
  }
  return null;
}

export interface Action {
  name: string;
  next: World;
}

type Delivery = 'answered' | 'answer lost' | 'lost' | 'late';

/** Everything that can happen next. */
export function actions(world: World, bounds: Bounds): Action[] {
  const found: Action[] = [];
  const add = (name: string, next: World) => found.push({ name, next });
  for (const cell of CELLS) {
    if (owner(world.hosts[cell]) && world.used.writes < bounds.writes)
      add(`write at ${cell}`, write(world, cell));
    const pulled = pull(world, cell);
    if (pulled) add(`${cell} pulls`, pulled);
  }
  world.late.forEach(({ to, command }, index) => {
    const rest = { ...world, late: world.late.toSpliced(index, 1) };
    add(
      `late: ${command.do} at ${to}`,
      command.do === 'perform' ? perform(rest, to, command).world : obey(rest, to, command).world,
    );
  });
  if (world.route.journal?.direction === 'forward' && world.used.rollbacks < bounds.rollbacks)
    add('roll the move back', {
      ...store(world, { ...world.route, journal: { ...world.route.journal, direction: 'rollback' } }),
      used: { ...world.used, rollbacks: world.used.rollbacks + 1 },
    });
  for (let index = 0; index < bounds.coordinators; index++) found.push(...coordinate(world, index, bounds));
  return found;
}

function coordinate(world: World, index: number, bounds: Bounds): Action[] {
  const task = world.coordinators[index];
  const named = (list: Action[]) =>
    list.map(({ name, next }) => ({ name: `coordinator ${index}: ${name}`, next }));
  if (!task) return named(begin(world, index, bounds));
  const crash = { name: 'crash', next: withTask(world, index, null) };
  const deliveries: Delivery[] =
    world.late.length < bounds.late
      ? ['answered', 'answer lost', 'lost', 'late']
      : ['answered', 'answer lost', 'lost'];
  return named([crash, ...step(world, index, task, deliveries)]).filter(
    ({ next }) => next.route.epoch <= bounds.epoch,
  );
}

function begin(world: World, index: number, bounds: Bounds): Action[] {
  const list: Action[] = [];
  const start = (operation: Operation, from = world): World =>
    withTask(from, index, { resolution: beginResolution(from.route, operation), route: from.route });
  if (world.used.snapshots < bounds.snapshots) {
    const number = world.used.snapshots + 1;
    list.push({
      name: `snapshot s${number}`,
      next: start(
        { kind: 'snapshot', id: `s${number}`, name: `s${number}` },
        { ...world, used: { ...world.used, snapshots: number } },
      ),
    });
  }
  const { route } = world;
  if (route.journal)
    list.push({ name: 'goes on with the move', next: withTask(world, index, { resolution: null, route }) });
  else if (world.used.moves < bounds.moves) {
    const to = route.alternate ?? {
      ...route.active,
      cell: 'west',
      primary: 'west',
      storeId: 'west',
      epoch: 0,
    };
    const moving = beginMove(route, { move: `m${world.used.moves + 1}`, to });
    const next = store({ ...world, used: { ...world.used, moves: world.used.moves + 1 } }, moving);
    list.push({
      name: 'begins a move',
      next: withTask(next, index, { resolution: null, route: next.route }),
    });
  }
  return list;
}

/** One step of a coordinator, with everything that can become of it. */
function step(world: World, index: number, task: Task, deliveries: readonly Delivery[]): Action[] {
  const { resolution } = task;
  if (!resolution) return moveStep(world, index, task, deliveries);
  const effect = effectOf(resolution);
  const going = (from: World, next: Resolution): World =>
    withTask(from, index, { resolution: next, route: next.route });
  switch (effect.kind) {
    case 'end':
      return [{ name: effect.end.result, next: withTask(world, index, null) }];
    case 'probe':
      return silences().map((silent) => {
        const [x, y] = ask(world, effect.route, silent);
        return { name: `probe${silentNames(silent)}`, next: going(world, probed(resolution, x, y)) };
      });
    case 'route': {
      const stored = effect.route.gen === world.route.gen;
      const after = stored ? store(world, effect.route) : world;
      return [
        {
          name: stored ? 'route' : 'route was changed',
          next: going(after, routed(resolution, stored, after.route)),
        },
      ];
    }
    case 'perform': {
      const { operation, epoch, parent, place } = effect;
      const command = { do: 'perform' as const, operation, epoch, parent: parent?.id ?? null };
      return deliver(world, place.cell as CellName, command, deliveries, (from, outcome) =>
        going(from, commanded(resolution, outcome)),
      );
    }
    case 'command':
      return deliver(world, effect.place.cell as CellName, effect.command, deliveries, (from, outcome) =>
        going(from, commanded(resolution, outcome)),
      );
  }
}

type Late = World['late'][number]['command'];

function deliver(
  world: World,
  to: CellName,
  command: Late,
  deliveries: readonly Delivery[],
  next: (from: World, outcome: CommandOutcome) => World,
): Action[] {
  return deliveries.map((delivery) => {
    const name = `${command.do} at ${to}, ${delivery}`;
    if (delivery === 'lost') return { name, next: next(world, { kind: 'silent' }) };
    if (delivery === 'late')
      return { name, next: next({ ...world, late: [...world.late, { to, command }] }, { kind: 'silent' }) };
    const done = command.do === 'perform' ? perform(world, to, command) : obey(world, to, command);
    return { name, next: next(done.world, delivery === 'answered' ? done.outcome : { kind: 'silent' }) };
  });
}

function moveStep(world: World, index: number, { route }: Task, deliveries: readonly Delivery[]): Action[] {
  if (route.gen !== world.route.gen || !route.journal)
    return [
      {
        name: 'reads the route again',
        next: withTask(world, index, world.route.journal ? { resolution: null, route: world.route } : null),
      },
    ];
  return silences().flatMap((silent) => moveStepOf(world, index, route, { silent, deliveries }));
}

function moveStepOf(
  world: World,
  index: number,
  route: Route,
  { silent, deliveries }: { silent: ReadonlySet<CellName>; deliveries: readonly Delivery[] },
): Action[] {
  const [x, y] = ask(world, route, silent);
  const ids = world.used.ids + 1;
  const plan = planMove(
    { route, x, y },
    {
      close: ({ y: copy }) =>
        world.used.carries >= world.carries &&
        (copy.state === 'STAGED' || copy.lineageHead?.id === x.lineageHead?.id),
      freshId: () => `h${ids}`,
    },
  );
  const probe = `move: probe${silentNames(silent)}, `;
  const going = (from: World): World => withTask(from, index, { resolution: null, route: from.route });
  switch (plan.kind) {
    case 'await-answer':
    case 'await-copy':
      return [];
    case 'settle':
      return [
        {
          name: `${probe}settle`,
          next: withTask(world, index, { resolution: beginResolution(route, { kind: 'settle' }), route }),
        },
      ];
    case 'route': {
      const used = { ...world.used, ids: plan.route.journal?.sealId === `h${ids}` ? ids : world.used.ids };
      const after = store({ ...world, used }, plan.route);
      const { journal } = after.route;
      return [
        {
          name: `${probe}route: ${journal?.phase ?? 'the move is over'}`,
          next: journal ? going(after) : withTask(after, index, null),
        },
      ];
    }
    case 'command': {
      const carries = world.used.carries + 1;
      const used = plan.command.do === 'carry' ? { ...world.used, ids, carries } : world.used;
      return deliver({ ...world, used }, plan.place.cell as CellName, plan.command, deliveries, (from) =>
        going(from),
      ).map(({ name, next }) => ({ name: probe + name, next }));
    }
  }
}

/** Which cells do not answer. */
function silences(): ReadonlySet<CellName>[] {
  return [new Set(), new Set(['east']), new Set(['west'])] as Set<CellName>[];
}

const silentNames = (silent: ReadonlySet<CellName>) => (silent.size === 0 ? '' : `, ${[...silent]} silent`);

function ask(world: World, route: Route, silent: ReadonlySet<CellName>): [CellAnswer, CellAnswer] {
  const of = (place: Place): CellAnswer => {
    const cell = place.cell as CellName;
    return silent.has(cell) ? NO_ANSWER : answerOf(place, [answer(world.hosts[cell], cell)]);
  };
  return [of(route.active), route.alternate ? of(route.alternate) : NO_RECORD];
}

function answer({ record, content, frozen, lineage }: Host, cell: CellName): HostAnswer {
  const common = { host: cell, cell, storeId: cell, inFlight: null, replica: null };
  if (!record || record.state === 'GONE')
    return { ...common, ...NO_RECORD, state: 'NONE', tombstone: record?.tombstone ?? null };
  const { state, epoch, head, sealedHead, activatedFrom, released, move } = record;
  return {
    ...common,
    state,
    epoch,
    lineageHead: head,
    sealedHead,
    activatedFrom,
    released,
    move,
    tombstone: null,
    dirtySinceHead: content !== (head ? frozen[head.id] : 0),
    lineage: Object.fromEntries(lineage.map((id, at) => [at + 1, id])),
  };
}

function obey(world: World, to: CellName, command: HostCommand): { world: World; outcome: CommandOutcome } {
  const host = world.hosts[to];
  const judged = judge(VOLUME, host.record, command);
  if (!judged.ok)
    return { world, outcome: { kind: 'refused', refusal: judged.refusal, because: judged.because } };
  const next: Host = { ...host, record: judged.next };
  // The hidden snapshot that holds what was written last.
  if ((command.do === 'seal' || command.do === 'carry') && !judged.already)
    next.frozen = { ...host.frozen, [command.id]: host.content };
  // What was copied of the last delta becomes the content that is served.
  const from = judged.next.activatedFrom;
  if (command.do === 'activate' && !judged.already && from) next.content = host.frozen[from.id]!;
  return { world: withHost(world, to, next), outcome: { kind: 'done', head: judged.next.head } };
}

function perform(
  world: World,
  to: CellName,
  { operation, epoch, parent }: Extract<Late, { do: 'perform' }>,
): { world: World; outcome: CommandOutcome } {
  if (operation.kind !== 'snapshot') throw new Error(`${operation.kind} is never sent`);
  const host = world.hosts[to];
  const judged = judge(VOLUME, host.record, { do: 'snapshot', epoch, id: operation.id, parent });
  if (!judged.ok)
    return { world, outcome: { kind: 'refused', refusal: judged.refusal, because: judged.because } };
  const { head } = judged.next;
  if (judged.already) return { world, outcome: { kind: 'done', head } };
  const next: Host = {
    ...host,
    record: judged.next,
    frozen: { ...host.frozen, [operation.id]: host.content },
    lineage: [...host.lineage, operation.id],
  };
  return {
    world: { ...withHost(world, to, next), taken: [...world.taken, operation.id] },
    outcome: { kind: 'done', head },
  };
}

function write(world: World, cell: CellName): World {
  const content = world.used.writes + 1;
  return {
    ...withHost(world, cell, { ...world.hosts[cell], content }),
    acknowledged: content,
    used: { ...world.used, writes: content },
  };
}

/** A copy takes everything its source has; null: there is nothing to take. */
function pull(world: World, cell: CellName): World | null {
  const host = world.hosts[cell];
  const { record } = host;
  if (record?.state !== 'RECEIVING' || !record.move) return null;
  const source = world.hosts[record.move.peerCell as CellName];
  const state = source.record?.state;
  if (state !== 'SEALED' && state !== 'OUTGOING') return null;
  const { sealedHead, head, move } = source.record!;
  const through = copyTarget({ state, sealedHead, lineageHead: head, move });
  if (!through) return null;
  const judged = judge(VOLUME, record, {
    do: 'staged',
    move: record.move.id,
    through,
    lineageHead: source.record!.head,
  });
  if (!judged.ok) return null;
  return withHost(world, cell, {
    record: judged.next,
    content: host.content,
    frozen: { ...host.frozen, ...source.frozen },
    lineage: source.lineage,
  });
}

function store(world: World, route: Route): World {
  return { ...world, route: { ...route, gen: world.route.gen + 1 } };
}

function withHost(world: World, cell: CellName, host: Host): World {
  return { ...world, hosts: { ...world.hosts, [cell]: host } };
}

function withTask(world: World, index: number, task: Task | null): World {
  return { ...world, coordinators: world.coordinators.with(index, task) };
}

/** What distinguishes a world from others; of `gen` only whether it is that of the record counts. */
export function keyOf({ route, hosts, coordinators, late, acknowledged, taken, used }: World): string {
  const plain = (of: Route) => ({ ...of, gen: Number(of.gen === route.gen) });
  const tasks = coordinators.map((task) =>
    task?.resolution
      ? { ...task, route: 0, resolution: { ...task.resolution, route: plain(task.resolution.route) } }
      : task && plain(task.route),
  );
  const text = JSON.stringify([plain(route), hosts, tasks, late, acknowledged, taken, used]);
  return createHash('sha1').update(text).digest('base64');
}

/** The world when everybody who was at work has crashed. */
export function alone(world: World): World {
  return { ...world, coordinators: world.coordinators.map(() => null), late: [] };
}

/**
 * With nothing lost any more and one coordinator: a move under way ends, and one more snapshot is taken. Returns the end, or null when it
 * has not come to one.
 */
export function settles(from: World): World | null {
  let world = alone(from);
  const bounds: Bounds = {
    writes: 0,
    snapshots: world.used.snapshots + 1,
    moves: 0,
    rollbacks: 0,
    coordinators: 1,
    late: 0,
    epoch: Number.POSITIVE_INFINITY,
  };
  for (let turn = 0; turn < 120; turn++) {
    const before = world;
    for (const cell of CELLS) world = pull(world, cell) ?? world;
    const task = world.coordinators[0];
    const next = task ? step(world, 0, task, ['answered'])[0] : begin(world, 0, bounds).findLast(() => true);
    if (next) world = next.next;
    else if (!task) return world.taken.length > 0 && !world.route.journal ? world : null;
    if (world === before) return null;
    if (violation(world)) return null;
  }
  return null;
}
