// The store behind all coordinators, and who of them leads: a lease that one of them holds, renews, and loses when it is not heard of.
//
// Invariants: one holds the lease at a time, and only its writes are stored, whatever the others believe. Who holds it knows by its own clock when
// it is over, before another one can have it.

import { uncertain, unreachable } from '../../src/coordinator/state-errors.js';
import type {
  Change,
  CoordinatorStore,
  Leader,
  Leadership,
  RecordKind,
} from '../../src/coordinator/store.js';
import { type Fate, MemoryState, type MemoryStore } from '../support/memory-coordinator-store.js';
import type { Network, Party } from './network.js';
import type { Process, Scheduler } from './scheduler.js';

export const ETCD = 'etcd';
const LEASE_MS = 3_000;
/** The part of it that its holder believes in. */
const TRUSTED = 0.6;
const RENEW_MS = 600;
const TIMEOUT_MS = 2_000;

export class SimEtcd {
  readonly state = new MemoryState();
  #holder: { leader: Leader; store: MemoryStore } | null = null;
  #untilMs = 0;
  #random: { next: () => number };
  /** Probability that what becomes of a write is not told. */
  trouble = 0;

  constructor(next: () => number) {
    this.#random = { next };
    this.state.fate = () => this.#fate();
  }

  #fate(): Fate {
    if (this.#random.next() >= this.trouble) return 'answered';
    return this.#random.next() < 0.5 ? 'stored' : 'lost';
  }

  /** Who leads now: the one who asks, if nobody else does. */
  claim(leader: Leader, store: MemoryStore, nowMs: number): Leader {
    if (this.#holder && this.#holder.store !== store && nowMs < this.#untilMs) return this.#holder.leader;
    if (this.#holder?.store !== store) this.state.leader = store.number;
    this.#holder = { leader, store };
    this.#untilMs = nowMs + LEASE_MS;
    return leader;
  }

  release(store: MemoryStore): void {
    if (this.#holder?.store !== store) return;
    this.#holder = null;
    this.state.leader = 0;
  }

  /** The name of whoever leads; null: nobody. */
  leads(nowMs: number): string | null {
    return this.#holder && nowMs < this.#untilMs ? this.#holder.leader.coordinator : null;
  }
}

/** What is around it. */
export interface EtcdWorld {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly etcd: SimEtcd;
}

/** The way from one coordinator to the store. */
class Way {
  readonly #world: EtcdWorld;
  readonly #from: string;
  readonly #process: Process;

  constructor(world: EtcdWorld, from: Party) {
    this.#world = world;
    this.#from = from.name;
    this.#process = from.process!;
  }

  /** `late`: what is thrown when nothing is heard. */
  ask<T>(work: () => Promise<T>, late: () => Error): Promise<T> {
    const { scheduler, network } = this.#world;
    const process = this.#process;
    return new Promise<T>((resolve, reject) => {
      let isOver = false;
      const settle = (how: () => void): void => {
        if (isOver) return;
        isOver = true;
        cancel();
        how();
      };
      const cancel = scheduler.after(TIMEOUT_MS, () => settle(() => reject(late())), process);
      const there = network.lane(this.#from, ETCD);
      const back = network.lane(ETCD, this.#from);
      there.send(scheduler.world, () => {
        // It has been given up: nothing of it is stored behind what is read then.
        if (isOver) return;
        work().then(
          (value) => back.send(process, () => settle(() => resolve(value))),
          (error: Error) => back.send(process, () => settle(() => reject(error))),
        );
      });
    });
  }
}

/** What a coordinator sees of the store, over the network. `onPut`: told of what was stored. */
export function storeOver(
  world: EtcdWorld,
  from: Party,
  { under, onPut }: { under: MemoryStore; onPut: (changes: readonly Change[]) => void },
): CoordinatorStore {
  const way = new Way(world, from);
  const read = <T>(work: () => Promise<T>) =>
    way.ask(work, () => unreachable('the simulated network is cut'));
  const write = <T>(work: () => Promise<T>) => way.ask(work, () => uncertain('the simulated network is cut'));
  return {
    route: (volume) => read(() => under.route(volume)),
    routeNamed: (name) => read(() => under.routeNamed(name)),
    routes: (after, limit) => read(() => under.routes(after, limit)),
    get: (kind, key) => read(() => under.get(kind, key)),
    list: <K extends RecordKind>(kind: K, prefix?: string) => read(() => under.list(kind, prefix)),
    createRoute: (route) => write(() => under.createRoute(route)),
    replaceRoute: (route) => write(() => under.replaceRoute(route)),
    removeRoute: (volume, gen) => write(() => under.removeRoute(volume, gen)),
    put: (changes) =>
      write(async () => {
        await under.put(changes);
        onPut(changes);
      }),
    close: async () => undefined,
  };
}

export class LeaseLeadership implements Leadership {
  readonly #world: EtcdWorld;
  readonly #self: Leader;
  readonly #store: MemoryStore;
  readonly #way: Way;
  readonly #listeners: (() => void)[] = [];
  #known: Leader | null = null;
  #untilMs = 0;
  #told = false;
  #isOver = false;

  constructor(world: EtcdWorld, from: Party, { self, store }: { self: Leader; store: MemoryStore }) {
    this.#world = world;
    this.#self = self;
    this.#store = store;
    this.#way = new Way(world, from);
  }

  get isLeader(): boolean {
    return this.#known === this.#self && this.#world.scheduler.nowMs < this.#untilMs;
  }

  get leader(): Leader | null {
    return this.#known === this.#self && !this.isLeader ? null : this.#known;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    listener();
  }

  campaign(): void {
    void this.#claim();
    this.#world.scheduler.every(RENEW_MS, () => void this.#claim());
  }

  async #claim(): Promise<void> {
    if (this.#isOver) return;
    const { scheduler, etcd } = this.#world;
    const sentMs = scheduler.nowMs;
    try {
      const leader = await this.#way.ask(
        async () => etcd.claim(this.#self, this.#store, scheduler.nowMs),
        () => unreachable('the simulated network is cut'),
      );
      this.#known = leader;
      if (leader === this.#self) this.#untilMs = Math.max(this.#untilMs, sentMs + LEASE_MS * TRUSTED);
    } catch {
      if (!this.isLeader) this.#known = null;
    }
    this.#tell();
    if (this.isLeader) scheduler.after(this.#untilMs - scheduler.nowMs + 0.01, () => this.#tell());
  }

  #tell(): void {
    if (this.isLeader === this.#told) return;
    this.#told = this.isLeader;
    for (const listener of this.#listeners) listener();
  }

  async resign(): Promise<void> {
    this.#untilMs = 0;
    this.#tell();
    this.#world.etcd.release(this.#store);
  }

  close(): Promise<void> {
    this.#isOver = true;
    return this.resign();
  }
}
