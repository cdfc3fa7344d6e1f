// One run: an installation is made, goes through its plan, is healed and has to come to rest; then everything in it is read.

import { isHiddenName } from '../../src/model/names.js';
import { Actions, ask } from './actions.js';
import { Chance } from './chance.js';
import { install } from './environment.js';
import { NbdConnection } from './nbd.js';
import type { Party } from './network.js';
import { Operator } from './operator.js';
import { BLOCKS, type SimVolume } from './oracle.js';
import { type Action, actionText, FAULTS_END_MS, type Plan, planOf } from './plan.js';
import type { SimHost } from './sim-host.js';
import { Statistics } from './statistics.js';
import { World } from './world.js';
import { Writer } from './writers.js';

const BYTES = BigInt(BLOCKS * 4096);
const SETUP_MS = 60_000;
const REST_MS = 300_000;
const LOOK_MS = 200;

export interface RunResult {
  seed: number;
  /** Null: everything was as it has to be. */
  failure: string | null;
  trace: readonly string[];
  statistics: Statistics;
  simulatedMs: number;
  events: number;
  /** How long it took to come to rest when nothing went wrong any more. */
  restMs: number;
}

export interface RunOptions {
  verbose?: boolean;
  /** Instead of the plan of the seed. */
  actions?: readonly Action[];
}

export function planOfSeed(seed: number): Plan {
  return planOf(new Chance(seed));
}

export async function runSeed(
  seed: number,
  { verbose = false, actions }: RunOptions = {},
): Promise<RunResult> {
  const statistics = new Statistics();
  const world = new World(seed, statistics);
  world.verbose = verbose;
  const uninstall = install(world.scheduler, () => world.chance.next('machine'));
  const run = new Run(world, { ...planOfSeed(seed), ...(actions ? { actions: [...actions] } : {}) });
  let failure: string | null;
  try {
    failure = await run.whole();
  } catch (error) {
    failure = `the simulation itself failed: ${(error as Error).stack}`;
  } finally {
    uninstall();
  }
  const { nowMs, events } = world.scheduler;
  return { seed, failure, trace: world.lines, statistics, simulatedMs: nowMs, events, restMs: run.restMs };
}

class Run {
  readonly #world: World;
  readonly #plan: Plan;
  readonly #checker: Party;
  restMs = 0;

  constructor(world: World, plan: Plan) {
    this.#world = world;
    this.#plan = plan;
    this.#checker = { name: 'checker', process: world.scheduler.world, isOff: false };
  }

  async whole(): Promise<string | null> {
    const { scheduler, violations } = this.#world;
    const failed = () => violations.length > 0;
    const writers = this.#plan.volumes.map(({ name }) => new Writer(this.#world, name));
    if (!(await this.#until(SETUP_MS, () => this.#setUp()))) return this.#why('nothing could be set up');
    for (const writer of writers) writer.start();
    const began = scheduler.nowMs;
    const actions = new Actions(this.#world);
    for (const action of this.#plan.actions) scheduler.after(action.atMs, () => actions.run(action));
    const endLooking = scheduler.every(LOOK_MS, () => this.#world.oracle.look());
    await scheduler.run(began + FAULTS_END_MS, failed);
    if (failed()) return this.#why();
    this.#world.heal();
    const healed = scheduler.nowMs;
    const operator = new Operator(this.#world);
    let last = 'nobody has looked';
    const isQuiet = await this.#until(REST_MS, async () => {
      for (;;) {
        await operator.look();
        const why = operator.whyNotQuiet();
        if (why === null) return;
        last = why;
        await scheduler.sleep(500);
      }
    });
    this.restMs = scheduler.nowMs - healed;
    if (failed()) return this.#why();
    if (!isQuiet) {
      await this.#until(30_000, () => this.#tellHowItIs());
      return this.#why(`it does not come to rest: ${last}`);
    }
    for (const writer of writers) writer.isResting = true;
    await scheduler.run(scheduler.nowMs + 8_000, failed);
    endLooking();
    if (!(await this.#until(120_000, () => this.#check()))) return this.#why('not everything could be read');
    return failed() ? this.#why() : null;
  }

  #why(what?: string): string {
    return this.#world.violations[0] ?? what ?? '';
  }

  /** False: it has not ended in time. */
  async #until(milliseconds: number, work: () => Promise<unknown>): Promise<boolean> {
    const { scheduler, violations } = this.#world;
    let ended = false;
    scheduler.after(
      0,
      () =>
        void work().then(
          () => {
            ended = true;
          },
          (error: Error) => {
            ended = true;
            this.#world.violated(`the simulation itself failed: ${error.stack}`);
          },
        ),
      scheduler.world,
    );
    await scheduler.run(scheduler.nowMs + milliseconds, () => ended || violations.length > 0);
    return ended;
  }

  async #setUp(): Promise<void> {
    const { hosts, coordinators, scheduler } = this.#world;
    for (const coordinator of coordinators.values()) coordinator.start();
    for (const host of hosts.values()) host.start();
    while (!this.#world.leader() || [...hosts.values()].some(({ isConnected }) => !isConnected))
      await scheduler.sleep(100);
    for (const { name, host } of this.#plan.volumes) await this.#claim(name, this.#world.host(host));
  }

  async #claim(name: string, host: SimHost): Promise<void> {
    const { scheduler, oracle } = this.#world;
    await new Promise<void>((resolve, reject) =>
      scheduler.after(
        0,
        () =>
          void host
            .operations!.createVolume(name, { sizeBytes: BYTES })
            .then(() => scheduler.after(0, resolve, scheduler.world), reject),
        host.process!,
      ),
    );
    for (;;) {
      const done = await ask(this.#world, 'route-claim', { volume: name, host: host.name });
      if (!done) continue;
      oracle.volume(name).id = done.volume as string;
      return;
    }
  }

  /** For whoever reads the trace. */
  async #tellHowItIs(): Promise<void> {
    const { oracle, etcd, hosts } = this.#world;
    for (const { name, id } of oracle.volumes.values()) {
      const route = id === null ? null : etcd.state.table.route(id);
      this.#world.trace(name, `route ${JSON.stringify(route)}`);
      for (const host of hosts.values())
        this.#world.trace(name, `at ${host.name}: ${JSON.stringify(id && host.lineage(id)?.record)}`);
      if (!route) continue;
      const shown = await ask(this.#world, 'route-show', { volume: name, explain: true });
      this.#world.trace(
        name,
        `in the way: ${JSON.stringify(shown?.troubles)}; ${JSON.stringify(shown?.explained)}`,
      );
    }
  }

  /** Every snapshot, at every host that has it, and what the owners serve. */
  async #check(): Promise<void> {
    const { oracle, etcd } = this.#world;
    oracle.look();
    const contents = new Map<string, number[]>();
    for (const volume of oracle.volumes.values()) {
      const route = volume.id === null ? null : etcd.state.table.route(volume.id);
      if (!route) {
        this.#checkGone(volume);
        continue;
      }
      for (const host of this.#world.hosts.values()) await this.#checkAt(host, volume, contents);
      const owner = this.#world.host(route.active.primary);
      this.#checkLineage(owner, volume);
      const wrong = oracle.wrongInVolume(volume, await this.#read(owner, volume.name));
      if (wrong) this.#world.violated(`${volume.name} at ${owner.name}: ${wrong}`);
    }
    this.#checkGroups(contents);
  }

  #checkGone({ name, id, lossAccepted }: SimVolume): void {
    // Of a volume whose route was dropped hosts keep what they have.
    if (lossAccepted) return;
    for (const host of this.#world.hosts.values()) {
      // Its tombstone was not in the backup, and when all have confirmed a delete nothing is left of it elsewhere: what came back is unclaimed.
      if (host.broughtBack.has(id!)) continue;
      const state = host.lineage(id!)?.record.state;
      if (state !== undefined && state !== 'GONE')
        this.#world.violated(`${name} was deleted, and is ${state} at ${host.name}`);
    }
  }

  /** One path from the first snapshot to the head, with everything that users were told of. */
  #checkLineage(owner: SimHost, { name, id, told }: SimVolume): void {
    const { lineages, snapshots } = owner.operations!.parts.catalog;
    const head = owner.lineage(id!)!.record.head;
    const ids: (string | undefined)[] = [];
    for (let seq = 1; seq <= (head?.seq ?? 0); seq++) ids.push(lineages.idAt(id!, seq));
    if (ids.includes(undefined) || ids.at(-1) !== head?.id || lineages.seqsOf(id!).length !== ids.length)
      this.#world.violated(`the lineage of ${name} at ${owner.name} is no path to ${head?.id}: ${ids}`);
    for (const each of ids)
      if (each !== undefined && !snapshots.has(each))
        this.#world.violated(`${owner.name} lacks snapshot ${each} of ${name}`);
    for (const [snapshot, { seq, id: toldId }] of told)
      if (ids[seq - 1] !== toldId)
        this.#world.violated(
          `${name}@${snapshot} was told to be snapshot ${seq}, ${toldId}, and is not there`,
        );
  }

  async #checkAt(host: SimHost, volume: SimVolume, contents: Map<string, number[]>): Promise<void> {
    const { catalog } = host.operations!.parts;
    const lineage = host.lineage(volume.id!);
    const container = lineage?.container == null ? undefined : catalog.containers.get(lineage.container);
    if (!container) return;
    for (const snapshot of catalog.snapshotsOf(container)) {
      if (isHiddenName(snapshot.name)) continue;
      const values = await this.#read(host, `${container.name}@${snapshot.name}`);
      const wrong = this.#world.oracle.wrongIn(snapshot.id, values);
      this.#world.statistics.count('snapshots read');
      if (wrong) this.#world.violated(`${container.name}@${snapshot.name} at ${host.name}: ${wrong}`);
      contents.set(snapshot.id, values);
    }
  }

  /** Decided ones: all of them are there or none is, and they are of one instant. */
  #checkGroups(contents: ReadonlyMap<string, number[]>): void {
    const { oracle } = this.#world;
    for (const [group, members] of oracle.groups) {
      const living = members.filter(({ volume }) => {
        const known = oracle.byId(volume);
        return known && !known.isDeleted && !known.lossAccepted;
      });
      const there = living.filter(({ snapshot }) => contents.has(snapshot));
      this.#world.statistics.count(there.length > 0 ? 'groups published' : 'groups dropped');
      if (there.length !== 0 && there.length !== living.length)
        this.#world.violated(`of group ${group} only ${JSON.stringify(there)} are there`);
      const read = new Map(
        there.map(({ volume, snapshot }) => [oracle.byId(volume)!.name, contents.get(snapshot)!]),
      );
      const wrong = read.size > 1 ? oracle.wrongInGroup(read) : null;
      if (wrong) this.#world.violated(`group ${group}: ${wrong}`);
    }
  }

  async #read(host: SimHost, exportName: string): Promise<number[]> {
    const { network, scheduler } = this.#world;
    const connection = await NbdConnection.open(network, scheduler, {
      from: this.#checker,
      to: host,
      exportName,
    });
    try {
      return await connection.request((session) => session.read(0, BLOCKS));
    } finally {
      connection.end();
    }
  }
}

export function planText({ actions, volumes }: Plan): string[] {
  return [
    ...volumes.map(({ name, host }) => `volume ${name} at ${host}`),
    ...actions.map((action) => actionText(action)),
  ];
}
