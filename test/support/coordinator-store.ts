// A coordinator's store in memory: what several coordinators share, and which of them may write.

import { CellblockError } from '../../src/base/errors.js';
import type {
  Change,
  CoordinatorStore,
  Leadership,
  RecordKind,
  Records,
  Replaced,
} from '../../src/coordinator/store.js';
import type { Route } from '../../src/model/cell/route.js';

/** What outlives every coordinator. */
export class SharedState {
  routes = new Map<string, Route>();
  names = new Map<string, string>();
  records = new Map<string, unknown>();
  /** Who leads; whatever others believe, they write nothing. */
  leader: string | null = null;

  /** As it was when it was taken: a backup. */
  copy(): SharedState {
    const copy = new SharedState();
    copy.routes = structuredClone(this.routes);
    copy.names = new Map(this.names);
    copy.records = structuredClone(this.records);
    copy.leader = this.leader;
    return copy;
  }
}

export class MemoryStore implements CoordinatorStore {
  readonly #state: SharedState;
  readonly #coordinator: string;

  constructor(state: SharedState, coordinator: string) {
    this.#state = state;
    this.#coordinator = coordinator;
  }

  async route(volume: string): Promise<Route | null> {
    return structuredClone(this.#state.routes.get(volume) ?? null);
  }

  async routeNamed(name: string): Promise<Route | null> {
    const volume = this.#state.names.get(name);
    return volume === undefined ? null : this.route(volume);
  }

  async routes(after: string | null, limit: number): Promise<Route[]> {
    const names = [...this.#state.names.keys()].filter((name) => after === null || name > after).sort();
    return names
      .slice(0, limit)
      .map((name) => structuredClone(this.#state.routes.get(this.#state.names.get(name)!)!));
  }

  async createRoute(route: Route): Promise<'stored' | 'exists'> {
    this.#mayWrite();
    if (this.#state.routes.has(route.volume) || this.#state.names.has(route.name)) return 'exists';
    this.#set({ ...route, gen: 1 });
    return 'stored';
  }

  async replaceRoute(route: Route): Promise<Replaced> {
    this.#mayWrite();
    const now = this.#state.routes.get(route.volume) ?? null;
    if (now?.gen !== route.gen) return { stored: false, route: structuredClone(now) };
    if (now.name !== route.name) this.#state.names.delete(now.name);
    return { stored: true, route: this.#set({ ...route, gen: route.gen + 1 }) };
  }

  async removeRoute(volume: string, gen: number): Promise<boolean> {
    this.#mayWrite();
    const now = this.#state.routes.get(volume);
    if (now?.gen !== gen) return false;
    this.#state.routes.delete(volume);
    this.#state.names.delete(now.name);
    return true;
  }

  async get<K extends RecordKind>(kind: K, key: string): Promise<Records[K] | null> {
    return structuredClone((this.#state.records.get(`${kind}:${key}`) as Records[K]) ?? null);
  }

  async list<K extends RecordKind>(kind: K, prefix = ''): Promise<Records[K][]> {
    const keys = [...this.#state.records.keys()].filter((key) => key.startsWith(`${kind}:${prefix}`));
    return keys.sort().map((key) => structuredClone(this.#state.records.get(key) as Records[K]));
  }

  async put(changes: readonly Change[]): Promise<void> {
    this.#mayWrite();
    for (const { kind, key, value } of changes)
      if (value === null) this.#state.records.delete(`${kind}:${key}`);
      else this.#state.records.set(`${kind}:${key}`, structuredClone(value));
  }

  async close(): Promise<void> {}

  #set(route: Route): Route {
    this.#state.routes.set(route.volume, structuredClone(route));
    this.#state.names.set(route.name, route.volume);
    return route;
  }

  #mayWrite(): void {
    if (this.#state.leader !== this.#coordinator)
      throw new CellblockError('not-leader', `${this.#coordinator} does not lead.`, {
        hint: 'Ask the leader.',
      });
  }
}

/** A leadership that a test gives and takes. */
export class GivenLeadership implements Leadership {
  readonly #state: SharedState;
  readonly #coordinator: string;
  #listeners: (() => void)[] = [];
  isLeader = false;

  constructor(state: SharedState, coordinator: string) {
    this.#state = state;
    this.#coordinator = coordinator;
  }

  get leader(): Leadership['leader'] {
    const { leader } = this.#state;
    return leader === null ? null : { coordinator: leader, address: `wss://${leader}` };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** It leads; another that believes it does finds its writes refused. */
  give(): void {
    this.#state.leader = this.#coordinator;
    this.isLeader = true;
    for (const listener of this.#listeners) listener();
  }

  /** It hears that it does not lead. */
  take(): void {
    this.isLeader = false;
    for (const listener of this.#listeners) listener();
  }

  async close(): Promise<void> {}

  async resign(): Promise<void> {
    if (this.isLeader && this.#state.leader === this.#coordinator) this.#state.leader = null;
    this.take();
  }
}
