// What is planned for a run, done.

import type { Call } from '../../src/protocol/exchange.js';
import type { Arguments, Verb } from '../../src/protocol/verbs.js';
import { isKnownToBeOlder } from './backups.js';
import type { SimVolume } from './oracle.js';
import type { Action } from './plan.js';
import type { SimHost } from './sim-host.js';
import type { World } from './world.js';

type Of<Do extends Action['do']> = Extract<Action, { do: Do }>;

export class Actions {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  run(action: Action): void {
    this.#world.trace('PLAN', Object.values({ ...action, atMs: '' }).join(' '));
    this.#world.statistics.count(`action ${action.do}`);
    (DO[action.do] as (world: World, action: Action) => void)(this.#world, action);
  }
}

/** A verb that somebody types at any host; null: it was not done, or nobody knows. */
export async function ask<V extends Verb>(
  world: World,
  verb: V,
  given: Arguments<V>,
): Promise<Record<string, unknown> | null> {
  const hosts = [...world.hosts.values()].filter(({ isConnected }) => isConnected);
  if (hosts.length === 0) return null;
  const host = world.chance.of('shell', hosts);
  const what = `${verb} ${JSON.stringify(given)}`;
  const outcome = await host.call({ verb, arguments: given } as Call);
  const end = outcome.kind === 'failed' ? outcome.code : outcome.kind;
  world.trace(host.name, `called ${what}: ${outcome.kind === 'failed' ? outcome.message : end}`);
  world.statistics.count(`verb ${verb} ${end}`);
  return outcome.kind === 'done' ? (outcome.value as Record<string, unknown>) : null;
}

const DO: { [D in Action['do']]: (world: World, action: Of<D>) => void } = {
  snapshot: (world, { volume, name }) => void snapshot(world, volume, name),
  group: (world, { volumes, name }) => void group(world, volumes, name),
  'crash in group': (world, { volumes, name, ...crash }) => {
    crashAtBatch(world, crash);
    void group(world, volumes, name);
  },
  'snapshot at seal': (world, { volume, name }) =>
    world.atSeal.set(volume, () => void snapshot(world, volume, name)),
  'local snapshot': (world, { volume, name }) => void localSnapshot(world, volume, name),
  move: (world, { volume, cell }) =>
    void ask(world, 'move-start', { volume, cell, withBases: false, dryRun: false }),
  cancel: (world, { volume }) => void ask(world, 'move-cancel', { volume }),
  split: (world, { cell, into }) =>
    void ask(world, 'cell-split', { cell, into, volumes: null, dryRun: false }),
  'roll back': (world, { cell }) => void ask(world, 'cell-rollback', { cell }),
  replica: (world, action) => void replica(world, action),
  drain: (world, { host }) => void ask(world, 'host-drain', { host, dryRun: false }),
  delete: (world, { volume }) => void remove(world, volume),
  'crash host': (world, action) => crashHost(world, action),
  'crash at snapshot': (world, { host, how, afterMs, downMs }) =>
    world.atSnapshot.set(host, () =>
      world.scheduler.after(afterMs, () => crashOf(world, { host, how, downMs }), world.scheduler.world),
    ),
  'lose primary': (world, action) => void losePrimary(world, action),
  'lose host': (world, action) => void loseHost(world, action),
  'restore host': (world, action) => void restoreHost(world, action),
  'crash coordinator': (world, { coordinator, how, downMs }) =>
    crashCoordinator(world, coordinator, { how, downMs }),
  'crash leader': (world, { downMs }) => {
    const leader = world.leader();
    if (leader) crashCoordinator(world, leader.name, { how: 'crash', downMs });
  },
  pause: (world, { who, forMs }) => {
    const process = world.party(who)?.process;
    if (!process) return;
    process.isPaused = true;
    world.scheduler.after(forMs, () => world.scheduler.resume(process));
  },
  cut: (world, { a, b, forMs }) => {
    world.network.cut(a, b);
    world.scheduler.after(forMs, () => world.network.heal(a, b));
  },
  isolate: (world, { who, forMs }) => {
    const others = [...world.hosts.keys(), ...world.coordinators.keys(), 'etcd'].filter(
      (each) => each !== who,
    );
    for (const other of others) world.network.cut(who, other);
    world.scheduler.after(forMs, () => {
      for (const other of others) world.network.heal(who, other);
    });
  },
  break: (world, { a, b, how }) => world.wires.breakBetween(a, b, how),
  slow: (world, { probability, forMs }) => {
    world.network.slowness = probability;
    world.scheduler.after(forMs, () => {
      world.network.slowness = 0;
    });
  },
  'store trouble': (world, { probability, forMs }) => {
    world.etcd.trouble = probability;
    world.scheduler.after(forMs, () => {
      world.etcd.trouble = 0;
    });
  },
  'database trouble': (world, { host, batches }) => void world.failingBatches.set(host, batches),
};

export async function snapshot(world: World, volume: string, name: string): Promise<boolean> {
  const done = await ask(world, 'snapshot-create', { snapshots: [{ volume, name }] });
  if (done) world.oracle.told(volume, done as never);
  return done !== null;
}

async function group(world: World, volumes: readonly string[], name: string): Promise<void> {
  const done = await ask(world, 'snapshot-create', {
    snapshots: volumes.map((volume) => ({ volume, name })),
  });
  const snapshots = (done?.snapshots ?? []) as {
    volume: string;
    name: string;
    id: string;
    seq: number | null;
  }[];
  for (const each of snapshots) world.oracle.told(each.volume, each);
}

/** By whoever believes to own it. */
async function localSnapshot(world: World, volume: string, name: string): Promise<void> {
  const id = world.oracle.volume(volume).id;
  const host = [...world.hosts.values()].find((each) => id !== null && each.serves(id));
  const operations = host?.operations;
  if (!operations || !host.process) return;
  world.scheduler.after(
    0,
    () =>
      void operations.createSnapshots([{ volume, snapshot: name }], { local: true }).then(
        () => world.statistics.count('local snapshot done'),
        () => world.statistics.count('local snapshot refused'),
      ),
    host.process,
  );
}

async function replica(world: World, { volume }: Of<'replica'>): Promise<void> {
  const route = world.etcd.state.table.named(volume);
  if (!route) return;
  const { active } = route;
  const other = [...world.hosts.values()].find(
    ({ name, cell }) => cell === active.cell && name !== active.primary && !active.replicas.includes(name),
  );
  if (other) await ask(world, 'replica-add', { volume, host: other.name });
  else await ask(world, 'replica-remove', { volume, host: active.replicas[0] ?? active.primary });
}

async function remove(world: World, volume: string): Promise<void> {
  // Once it is asked for it may come to pass, whatever is answered.
  world.oracle.volume(volume).isDeleted = true;
  await ask(world, 'volume-delete', { volume });
}

function crashHost(world: World, { host: name, how, batches, downMs }: Of<'crash host'>): void {
  if (how === 'stop') stopHost(world, world.host(name), downMs);
  else if (batches === 0) crashOf(world, { host: name, how, downMs });
  else crashAtBatch(world, { host: name, how, batches, downMs });
}

type Crash = Pick<Of<'crash at snapshot'>, 'host' | 'how' | 'downMs'>;

function crashOf(world: World, { host: name, how, downMs }: Crash): void {
  const host = world.host(name);
  noteCrash(world, name);
  host.crash(how);
  world.scheduler.after(downMs, () => host.start(), world.scheduler.world);
}

function crashAtBatch(world: World, { batches, ...dies }: Crash & { batches: number }): void {
  const { host: name } = dies;
  const crash = (): void => crashOf(world, dies);
  world.crashAtBatch.set(name, { left: batches, crash });
  // It is not waited for for ever.
  world.scheduler.after(3_000, () => {
    if (world.crashAtBatch.get(name)?.crash !== crash) return;
    world.crashAtBatch.delete(name);
    crash();
  });
}

function stopHost(world: World, host: SimHost, downMs: number): void {
  const { process } = host;
  if (!process) return;
  noteCrash(world, host.name);
  world.scheduler.after(0, () => void host.stop(), process);
  // A stop that does not end is cut short.
  world.scheduler.after(8_000, () => host.process === process && host.crash('process-death'));
  world.scheduler.after(8_000 + downMs, () => host.start());
}

/** In which phases of moves it died. */
function noteCrash(world: World, name: string): void {
  for (const volume of world.oracle.volumes.values()) {
    const route = volume.id === null ? null : world.etcd.state.table.route(volume.id);
    if (!route?.journal) continue;
    const { journal } = route;
    const part = journal.fromHost === name ? 'source' : journal.toHost === name ? 'destination' : null;
    if (part) world.statistics.count(`crash of ${part} at ${journal.phase} ${journal.direction}`);
    if (world.coordinators.has(name)) world.statistics.count(`crash of leader at ${journal.phase}`);
  }
}

function crashCoordinator(
  world: World,
  name: string,
  { how, downMs }: { how: 'crash' | 'stop'; downMs: number },
): void {
  const coordinator = world.coordinators.get(name)!;
  if (coordinator.isReady) noteCrash(world, name);
  const { process } = coordinator;
  if (how === 'stop' && process) {
    world.scheduler.after(0, () => void coordinator.stop(), process);
    world.scheduler.after(3_000, () => coordinator.process === process && coordinator.crash());
  } else coordinator.crash();
  world.scheduler.after(downMs + (how === 'stop' ? 3_001 : 0), () => coordinator.start());
}

/** Its primary is gone, and an operator puts a replica in its place. */
async function losePrimary(world: World, { volume: name, downMs }: Of<'lose primary'>): Promise<void> {
  const { scheduler, oracle, etcd } = world;
  const volume = oracle.volume(name);
  const route = etcd.state.table.named(name);
  const replica = route?.active.replicas[0];
  if (!route || replica === undefined || volume.isDeleted) return;
  const primary = world.host(route.active.primary);
  primary.crash('power-loss');
  world.crashAtBatch.delete(primary.name);
  // Whoever comes back before that is crashed by nobody else: it may only be down longer.
  await scheduler.sleep(1_500);
  await promote(world, name, replica);
  scheduler.after(downMs, () => primary.start(), scheduler.world);
}

/** From here on what the old primary has may be given up, whether it is told or not; what of it is, the route says, whoever hears of it. */
async function promote(world: World, name: string, replica: string): Promise<void> {
  const volume = world.oracle.volume(name);
  volume.lossAccepted = true;
  volume.mayTakePlace = replica;
  const done = await ask(world, 'cell-promote', { volume: name, host: replica, acceptLoss: true });
  world.statistics.count(done ? 'promoted' : 'not promoted');
}

/** An operator does for each volume what it takes to forget the host, until that is done or the host is back. */
async function loseHost(world: World, { host: name, forgetMs, downMs }: Of<'lose host'>): Promise<void> {
  const { scheduler } = world;
  const host = world.host(name);
  host.crash('power-loss');
  world.crashAtBatch.delete(name);
  scheduler.after(downMs, () => host.start(), scheduler.world);
  await scheduler.sleep(forgetMs);
  for (let tries = 0; tries < 8 && host.process === null; tries++) {
    for (const volume of world.oracle.volumes.values()) await doWithout(world, volume, name);
    // Once it is asked for it may come to pass, whatever is answered.
    world.statistics.count('may be forgotten');
    if (await ask(world, 'host-forget', { host: name })) return world.statistics.count('host forgotten');
    await scheduler.sleep(500);
  }
}

async function doWithout(world: World, { name, id, isDeleted }: SimVolume, host: string): Promise<void> {
  const route = id === null || isDeleted ? null : world.etcd.state.table.route(id);
  if (!route) return;
  const { active, alternate, journal } = route;
  if (journal && [active.primary, alternate?.primary].includes(host))
    await ask(world, 'move-cancel', { volume: name });
  const [replica] = active.replicas;
  if (active.primary === host && replica !== undefined) await promote(world, name, replica);
}

async function restoreHost(world: World, { host: name, afterMs, downMs }: Of<'restore host'>): Promise<void> {
  const { scheduler } = world;
  const host = world.host(name);
  if (!host.isListening || host.isStale) return;
  const backup = await host.backup();
  world.trace(name, 'a backup is made');
  await scheduler.sleep(afterMs);
  if (world.isHealed || !(await isKnownToBeOlder(world.etcd, name, { ...backup, boots: backup.boots + 1 }))) {
    world.statistics.count('backup not restored');
    return;
  }
  host.crash('power-loss');
  await host.restore(backup);
  host.isStale = true;
  world.restored.set(name, backup);
  world.oracle.restored(host);
  world.statistics.count('backup restored');
  scheduler.after(downMs, () => host.start(), scheduler.world);
}
