// The state of coordinators in memory, for tests and simulations: what is stored outlives the coordinators, and who does not lead is refused, as with
// etcd. The same contract tests hold it to what the real ones do.

import { RouteTable } from '../../src/coordinator/route-table.js';
import { nameTaken, notLeader, uncertain } from '../../src/coordinator/state-errors.js';
import {
  changesByKey,
  nameKey,
  recordKey,
  recordsOf,
  routeKey,
  routeOf,
  routeText,
} from '../../src/coordinator/state-values.js';
import type {
  Change,
  CoordinatorStore,
  Leader,
  Leadership,
  RecordKind,
  Records,
  Replaced,
} from '../../src/coordinator/store.js';
import type { Route } from '../../src/model/cell/route.js';

/** What becomes of a write: it is stored and answered, stored and not answered, or nothing of it happens. */
export type Fate = 'answered' | 'stored' | 'lost';

/** What lies behind all stores. */
export class MemoryState {
  readonly table = new RouteTable();
  readonly records = new Map<string, string>();
  /** Number of the one that may write. */
  leader = 0;
  /** What others are told of who leads, by GivenLeadership. */
  said: Leader | null = null;
  /** Called for each write, with what it is about: `createRoute`, `put operation`, … May take its time, or throw: then nothing happens. */
  fate: (what: string) => Fate | Promise<Fate> = () => 'answered';
  /** Told of every route that takes the place of another in the instant in which it is stored, answered or not. */
  onRoute: (route: Route) => void = () => {};
  /** And of records. */
  onPut: (changes: readonly Change[]) => void = () => {};
  #numbers = 0;

  /** Of all volumes, by name. */
  get routes(): Route[] {
    return this.table.page(null, this.table.size);
  }

  /** `KIND/KEY` of every record. */
  get recordKeys(): string[] {
    return [...this.records.keys()].map((key) => key.slice('record/'.length)).sort();
  }

  /** As it was when it was taken: a backup. */
  copy(): MemoryState {
    const copy = new MemoryState();
    for (const route of this.routes) copy.table.set(route);
    for (const [key, text] of this.records) copy.records.set(key, text);
    copy.leader = this.leader;
    copy.said = this.said;
    copy.#numbers = this.#numbers;
    return copy;
  }

  /** It may write once it leads. */
  store(): MemoryStore {
    return new MemoryStore(this, ++this.#numbers);
  }
}

export class MemoryStore implements CoordinatorStore {
  readonly state: MemoryState;
  readonly number: number;

  constructor(state: MemoryState, number: number) {
    this.state = state;
    this.number = number;
  }

  /** Whoever led before is deposed. */
  lead(): this {
    this.state.leader = this.number;
    return this;
  }

  async route(volume: string): Promise<Route | null> {
    return this.state.table.route(volume);
  }

  async routeNamed(name: string): Promise<Route | null> {
    return this.state.table.named(name);
  }

  async routes(after: string | null, limit: number): Promise<Route[]> {
    return this.state.table.page(after, limit);
  }

  async createRoute(route: Route): Promise<'stored' | 'exists'> {
    requireKeys(route);
    const text = routeText(route, 1);
    return this.#write('createRoute', () => {
      const { table } = this.state;
      if (table.route(route.volume) || table.holder(route.name) !== undefined) return 'exists';
      table.set(storedAs(route, text));
      return 'stored';
    });
  }

  async replaceRoute(route: Route): Promise<Replaced> {
    requireKeys(route);
    const gen = route.gen + 1;
    const text = routeText(route, gen);
    return this.#write<Replaced>('replaceRoute', () => {
      const { table } = this.state;
      const there = table.route(route.volume);
      if (there?.gen !== route.gen) return { stored: false, route: there };
      if (!table.set(storedAs(route, text))) throw nameTaken(route.name);
      const stored = table.route(route.volume)!;
      this.state.onRoute(stored);
      return { stored: true, route: stored };
    });
  }

  async removeRoute(volume: string, gen: number): Promise<boolean> {
    return this.#write('removeRoute', () => {
      const { table } = this.state;
      if (table.route(volume)?.gen !== gen) return false;
      table.delete(volume);
      return true;
    });
  }

  async get<K extends RecordKind>(kind: K, key: string): Promise<Records[K] | null> {
    const text = this.state.records.get(recordKey(kind, key));
    return text === undefined ? null : (JSON.parse(text) as Records[K]);
  }

  async list<K extends RecordKind>(kind: K, prefix = ''): Promise<Records[K][]> {
    const start = `${recordsOf(kind)}${prefix}`;
    return [...this.state.records]
      .filter(([key]) => key.startsWith(start))
      .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map(([, text]) => JSON.parse(text) as Records[K]);
  }

  async put(changes: readonly Change[]): Promise<void> {
    const texts = changesByKey(changes);
    if (texts.size === 0) return;
    const kinds = [...new Set(changes.map(({ kind }) => kind))].join(' ');
    await this.#write(`put ${kinds}`, () => {
      for (const [key, text] of texts) {
        if (text === null) this.state.records.delete(key);
        else this.state.records.set(key, text);
      }
      this.state.onPut(changes);
    });
  }

  async close(): Promise<void> {}

  async #write<T>(what: string, work: () => T): Promise<T> {
    if (this.state.leader !== this.number) throw notLeader();
    const fate = await this.state.fate(what);
    if (this.state.leader !== this.number) throw notLeader();
    if (fate === 'lost') throw uncertain('the simulated network lost it');
    const result = work();
    if (fate === 'stored') throw uncertain('the simulated network lost the answer');
    return result;
  }
}

function storedAs({ volume }: Route, text: string): Route {
  return routeOf(text, routeKey(volume), 'memory');
}

/** As the real stores do. */
function requireKeys({ volume, name }: Route): void {
  routeKey(volume);
  nameKey(name);
}

/** Of the one that may write. */
export class MemoryLeadership implements Leadership {
  readonly #state: MemoryState;
  readonly #store: MemoryStore;
  readonly #self: Leader;
  readonly #listeners: (() => void)[] = [];

  constructor(store: MemoryStore, self: Leader) {
    this.#state = store.state;
    this.#store = store;
    this.#self = self;
  }

  get isLeader(): boolean {
    return this.#state.leader === this.#store.number;
  }

  get leader(): Leader | null {
    return this.isLeader ? this.#self : null;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    listener();
  }

  /** The test has made somebody lead. */
  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  async resign(): Promise<void> {
    if (!this.isLeader) return;
    this.#state.leader = 0;
    this.changed();
  }

  close(): Promise<void> {
    return this.resign();
  }
}

/** Leadership that a test gives and takes: who is deposed may not have heard of it, and finds its writes refused. */
export class GivenLeadership implements Leadership {
  readonly #store: MemoryStore;
  readonly #self: Leader;
  readonly #listeners: (() => void)[] = [];
  isLeader = false;

  constructor(store: MemoryStore, coordinator: string) {
    this.#store = store;
    this.#self = { coordinator, address: `wss://${coordinator}` };
  }

  get leader(): Leader | null {
    return this.#store.state.said;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    listener();
  }

  /** It leads; another that believes it does finds its writes refused. */
  give(): void {
    this.#store.lead();
    this.#store.state.said = this.#self;
    this.isLeader = true;
    this.#changed();
  }

  /** It hears that it does not lead. */
  take(): void {
    this.isLeader = false;
    this.#changed();
  }

  async resign(): Promise<void> {
    const { state, number } = this.#store;
    if (this.isLeader && state.leader === number) {
      state.leader = 0;
      state.said = null;
    }
    this.take();
  }

  close(): Promise<void> {
    return this.resign();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
