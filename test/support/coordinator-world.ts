// Coordinators and hosts in memory, on a clock that the test moves. A coordinator can be made to die after any single thing it has done to the
// world: a write to the store, or a message to a host.

import { setImmediate as breathe } from 'node:timers/promises';

import { Coordinator } from '../../src/coordinator/coordinator.js';
import type { Hosts } from '../../src/coordinator/ports.js';
import type { Settings } from '../../src/coordinator/settings.js';
import { uncertain } from '../../src/coordinator/state-errors.js';
import type { CoordinatorStore } from '../../src/coordinator/store.js';
import type { Route } from '../../src/model/cell/route.js';
import type { Call } from '../../src/protocol/exchange.js';
import type { Hello } from '../../src/protocol/messages.js';
import type { Arguments, Verb } from '../../src/protocol/verbs.js';
import { KeptLog } from './coordinator-scene.js';
import { HandClock } from './hand-clock.js';
import { CellHost } from './judged-host.js';
import { GivenLeadership, MemoryState, type MemoryStore } from './memory-coordinator-store.js';
import { randomOf } from './random.js';

export const SETTINGS: Partial<Settings> = {
  probeMs: 1_000,
  commandMs: 1_000,
  performMs: 1_000,
  operationMs: 5_000,
  backoffMs: { first: 50, last: 400 },
  copyPollMs: 200,
  copyStallMs: 2_000,
  close: { bytes: 0, milliseconds: 500, rounds: 3 },
  graceMs: 60_000,
};

/** Never settles: whoever waits for it is dead. */
const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

/** `late`: it arrives later than what is sent after it. */
export type Fate = 'delivered' | 'late' | 'lost' | 'answer lost';

/** A coordinator that runs, or ran until it was killed. */
export class Running {
  readonly name: string;
  readonly coordinator: Coordinator;
  readonly leadership: GivenLeadership;
  readonly connected = new Map<string, Hello>();
  readonly #world: CoordinatorWorld;
  isDead = false;
  /** Writes and messages so far. */
  steps: string[] = [];
  /** Dies after that many. */
  diesAfter = Number.POSITIVE_INFINITY;
  /** Dies after the first step after which this is so. */
  diesWhen: () => boolean = () => false;
  #steps = new Map<number, () => void>();

  constructor(world: CoordinatorWorld, name: string) {
    this.#world = world;
    this.name = name;
    const store = world.state.store();
    this.leadership = new GivenLeadership(store, name);
    this.coordinator = new Coordinator({
      store: this.#store(store),
      leadership: this.leadership,
      clock: world.clock,
      log: world.log,
      freshId: () => world.freshId(),
      random: world.random,
      settings: { ...SETTINGS, ...world.settings },
    });
    this.coordinator.start(this.#hosts());
  }

  /** Something happens after that many steps. */
  onStep(number: number, happens: () => void): void {
    this.#steps.set(number, happens);
  }

  async #step<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.isDead) return never();
    const result = await work();
    if (this.isDead) return never();
    this.steps.push(what);
    this.#steps.get(this.steps.length)?.();
    if (this.steps.length === this.diesAfter || this.diesWhen()) {
      this.isDead = true;
      return never();
    }
    return result;
  }

  #write<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.#step(what, async () => {
      const fate = this.#world.fateOfWrite(what);
      const result = fate === 'lost' ? null : await work();
      if (fate !== 'delivered') throw uncertain('the test has it so');
      return result as T;
    });
  }

  #store(store: MemoryStore): CoordinatorStore {
    const read = <T>(work: Promise<T>): Promise<T> => (this.isDead ? never() : work);
    return {
      route: (volume) => read(store.route(volume)),
      routeNamed: (name) => read(store.routeNamed(name)),
      routes: (after, limit) => read(store.routes(after, limit)),
      get: (kind, key) => read(store.get(kind, key)),
      list: (kind, prefix) => read(store.list(kind, prefix)),
      createRoute: (route) => this.#write('create route', () => store.createRoute(route)),
      replaceRoute: (route) =>
        this.#write(`route ${route.journal?.phase ?? ''}`, () => store.replaceRoute(route)),
      removeRoute: (volume, gen) => this.#write('remove route', () => store.removeRoute(volume, gen)),
      put: (changes) => this.#write(`put ${changes.map(({ kind }) => kind)}`, () => store.put(changes)),
      close: async () => undefined,
    };
  }

  /** `null`: it was not answered in time. */
  async #ask<T>(host: string, what: string, answer: (host: CellHost) => T): Promise<T | null> {
    return this.#step(`${what} at ${host}`, async () => {
      const there = this.#world.host(host);
      const fate = this.#world.fateOf(this, host, what);
      if (fate === 'lost' || there.isSilent || !this.connected.has(host)) {
        await this.#world.after(1_000);
        return null;
      }
      if (fate === 'late') await this.#world.after(500);
      const given = answer(there);
      if (fate !== 'answer lost') return given;
      await this.#world.after(1_000);
      return null;
    });
  }

  #hosts(): Hosts {
    const world = this.#world;
    const connected = this.connected;
    const silent = { kind: 'silent' } as const;
    const failed = {
      kind: 'failed',
      code: 'volume-not-found',
      message: 'It is not here.',
      hint: '',
    } as const;
    const replied = <T>(reply: T | null | undefined) =>
      reply === null ? silent : reply === undefined ? failed : ({ kind: 'done', reply } as never);
    return {
      get hosts() {
        return [...connected.values()];
      },
      holdersOf: (volume) =>
        [...connected.values()].flatMap(({ host, volumes }) =>
          volumes.some(({ id, state }) => id === volume && state !== 'GONE') ? [host] : [],
        ),
      isConnected: (host) => connected.has(host),
      probe: (host, { volume }) => this.#ask(host, 'probe', (there) => there.answer(volume)),
      command: async (host, { volume, command }) =>
        (await this.#ask(host, command.do, (there) => there.command(volume, command))) ?? silent,
      perform: async (host, asked) =>
        (await this.#ask(host, asked.operation.kind, (there) => there.perform(asked.volume, asked))) ??
        silent,
      claim: async (host, { volume, name }) =>
        replied(
          await this.#ask(host, 'claim', (there) => {
            return there.claim(volume, name) ?? undefined;
          }),
        ),
      describe: async (host, { volume, after }) =>
        replied(
          await this.#ask(host, 'describe', (there) => {
            const description = there.describe(volume, after);
            return description ? { description } : undefined;
          }),
        ),
      pull: async (host, { volume, pull }) =>
        (await this.#ask(host, 'pull', (there) => {
          world.copy(there, volume, pull);
          return { kind: 'done' } as const;
        })) ?? silent,
      digest: async (host) =>
        replied(await this.#ask(host, 'digest', () => ({ sha256: '0'.repeat(64), bytes: '1' }))),
      group: async (host, { group, step }) =>
        replied(await this.#ask(host, step.do, (there) => ({ outcome: there.group(group, step) }))),
      load: async (host) =>
        replied(
          await this.#ask(host, 'load', ({ volumes }) => ({
            volumes: [...volumes].map(([id, { writes }]) => ({ id, writtenBytes: String(writes * 4096) })),
          })),
        ),
      dismiss: () => connected.clear(),
    };
  }
}

export class CoordinatorWorld {
  readonly clock = new HandClock();
  readonly log = new KeptLog();
  readonly hosts = new Map<string, CellHost>();
  readonly settings: Partial<Settings>;
  readonly random: () => number;
  state = new MemoryState();
  #ids = 0;
  #coordinators = 0;
  running!: Running;
  writes = 0;
  /** The last write to each volume that was taken. */
  readonly written = new Map<string, number>();
  /** What becomes of messages. */
  fateOf: (from: Running, host: string, what: string) => Fate = () => 'delivered';
  /** What becomes of writes to the store; whoever writes knows nothing of it, unless it is delivered. */
  fateOfWrite: (what: string) => Exclude<Fate, 'late'> = () => 'delivered';

  constructor(
    hosts: Record<string, string>,
    { settings = {}, seed = 1 }: { settings?: Partial<Settings>; seed?: number } = {},
  ) {
    this.settings = settings;
    this.random = randomOf(seed);
    for (const [name, cell] of Object.entries(hosts)) this.hosts.set(name, new CellHost(name, cell));
  }

  /** With a coordinator that leads, and all hosts connected. */
  static async begin(
    hosts: Record<string, string>,
    options: { settings?: Partial<Settings>; seed?: number } = {},
  ): Promise<CoordinatorWorld> {
    const world = new CoordinatorWorld(hosts, options);
    await world.lead();
    return world;
  }

  freshId(): string {
    this.#ids += 1;
    return this.#ids.toString(16).padStart(32, '0');
  }

  host(name: string): CellHost {
    return this.hosts.get(name)!;
  }

  after(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(milliseconds, resolve));
  }

  /** A coordinator that does not lead yet. */
  another(): Running {
    this.#coordinators += 1;
    return new Running(this, `c${this.#coordinators}`);
  }

  /** A new one leads: the one of before is dead, or is cut off from the store. */
  async lead(next = this.another()): Promise<Running> {
    this.running = next;
    next.leadership.give();
    await this.until('a leader', () => next.coordinator.isReady);
    await this.connectAll();
    return next;
  }

  async connectAll(): Promise<void> {
    for (const { name, isSilent } of this.hosts.values()) if (!isSilent) await this.connect(name);
  }

  /** Whether it was admitted. */
  async connect(name: string, to = this.running): Promise<boolean> {
    this.host(name).isSilent = false;
    return this.settled(this.join(name, to));
  }

  /** As `connect`, by whoever lets the time pass himself. */
  async join(name: string, to: Running): Promise<boolean> {
    const host = this.host(name);
    const hello = { type: 'hello', resume: null, ...host.facts() } as Hello;
    const admission = await to.coordinator.admit(hello);
    if (!admission.admit) return false;
    host.welcomed(admission);
    to.connected.set(name, hello);
    to.coordinator.joined(hello, false);
    return true;
  }

  disconnect(name: string): void {
    this.host(name).isSilent = true;
    this.running.connected.delete(name);
    this.running.coordinator.left();
  }

  /** A verb of the command line, as host `from` forwards it. */
  call<V extends Verb>(verb: V, given: Arguments<V>, to = this.running): Promise<unknown> {
    return to.coordinator.call('shell', { verb, arguments: given } as Call);
  }

  async done<V extends Verb, Result = Record<string, unknown>>(
    verb: V,
    given: Arguments<V>,
  ): Promise<Result> {
    return (await this.settled(this.call(verb, given))) as Result;
  }

  /** The code it is refused with. */
  async refused<V extends Verb>(verb: V, given: Arguments<V>): Promise<string> {
    try {
      await this.done(verb, given);
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    }
    return 'done';
  }

  /** A volume with that many snapshots, of which the coordinator knows. */
  async volume(name: string, host: string, snapshots = 1): Promise<string> {
    this.host(host).locals.set(name, { content: 0, snapshots: [] });
    await this.done('route-claim', { volume: name, host });
    const { volume } = this.route(name);
    for (let number = 1; number <= snapshots; number++) {
      this.write(volume);
      await this.done('snapshot-create', { snapshots: [{ volume: name, name: `s${number}` }] });
    }
    this.write(volume);
    return volume;
  }

  /** By whoever owns it. False: nobody does. */
  write(volume: string): boolean {
    this.writes += 1;
    const owner = [...this.hosts.values()].find((host) => host.owns(volume) && !host.isSilent);
    if (!owner?.write(volume, this.writes)) return false;
    this.written.set(volume, this.writes);
    return true;
  }

  route(name: string): Route {
    return this.state.table.named(name)!;
  }

  /** A host begins to pull; it has everything after a while, if both are there. */
  copy(to: CellHost, volume: string, pull: Parameters<CellHost['pulled']>[1]): void {
    this.clock.after(20, () => {
      const source = this.host(pull.from.host);
      if (!to.copies || to.isSilent || source.isSilent) return;
      const through = to.pulled(volume, pull, source);
      if (through === null) return;
      const { record } = to.volumes.get(volume)!;
      const { running } = this;
      if (!running.connected.has(to.name) || running.isDead) return;
      running.coordinator.event(to.name, {
        type: 'event',
        seq: 1,
        ack: 0,
        name: 'staged',
        volume: { id: volume, epoch: record.epoch, head: record.head, state: record.state },
        move: pull.move,
        through,
        message: '',
      });
    });
  }

  /** Everything that needs no time happens; then a little time passes. */
  async pass(milliseconds: number, stepMs = 50): Promise<void> {
    for (let left = milliseconds; ; left -= stepMs) {
      await this.rest();
      if (left <= 0) return;
      this.clock.pass(Math.min(stepMs, left));
    }
  }

  /** Everything that needs no time happens. */
  async rest(): Promise<void> {
    for (let turn = 0; turn < 4; turn++) await breathe();
  }

  async until(what: string, holds: () => boolean, limitMs = 60_000): Promise<void> {
    for (let passed = 0; ; passed += 50) {
      await this.rest();
      if (holds()) return;
      if (passed > limitMs) throw new Error(`${what} did not come about`);
      this.clock.pass(50);
    }
  }

  /** The result, with as much time passing as it takes. */
  async settled<T>(work: Promise<T>): Promise<T> {
    let state: { value: T } | { error: unknown } | null = null;
    work.then(
      (value) => {
        state = { value };
      },
      (error) => {
        state = { error };
      },
    );
    await this.until('an end', () => state !== null || this.running.isDead);
    const ended = state as { value: T } | { error: unknown } | null;
    if (ended === null) throw new Error('the coordinator died');
    if ('error' in ended) throw ended.error;
    return ended.value;
  }

  /** Dies after that many more writes and messages. */
  killAfter(steps: number): void {
    this.running.diesAfter = this.running.steps.length + steps;
  }

  /** Nothing is under way any more, as far as the store says. */
  get isQuiet(): boolean {
    const isBusy = this.state.recordKeys.some((key) => /^(operation|group|snapshot-deletion)\//.test(key));
    return !isBusy && this.state.routes.every(({ journal, status }) => !journal && status !== 'gone');
  }

  /** What is wrong with a volume that somebody owns; null: nothing is, and its route says how it is. */
  disagreement(name: string): string | null {
    const wrong = this.violation(name);
    if (wrong !== null) return wrong;
    const { volume, active, lineageHead, epoch } = this.route(name);
    const owner = this.host(active.primary);
    if (!owner.owns(volume)) return `${active.primary} does not own ${name}`;
    const answer = owner.answer(volume);
    if (answer.lineageHead?.id !== lineageHead?.id)
      return `the route of ${name} has another head than its owner`;
    if (answer.epoch !== epoch) return `the route of ${name} has epoch ${epoch}, its owner ${answer.epoch}`;
    return null;
  }

  /** What is wrong with the volume; null: nothing is. */
  violation(name: string): string | null {
    const volumeId = this.state.table.holder(name);
    if (volumeId === undefined) return null;
    const owners = [...this.hosts.values()].filter((host) => host.owns(volumeId));
    if (owners.length > 1) return `${owners.map((host) => host.name)} own ${name}`;
    const owner = owners[0];
    const written = this.written.get(volumeId);
    if (owner && written !== undefined && owner.volumes.get(volumeId)!.content !== written)
      return `${owner.name} lacks write ${written} of ${name}`;
    return null;
  }
}
