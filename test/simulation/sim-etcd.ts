// The store behind all coordinators, and who of them leads: a lease that one of them holds, renews, and loses when it is not heard of.
//
// Invariants: one holds the lease at a time, and only its writes are stored, whatever the others believe. Who holds it knows by its own clock when
// it is over, before another one can have it.

import { uncertain, unreachable } from '../../src/coordinator/state-errors.js';
import type { CoordinatorStore, Leader, Leadership, RecordKind } from '../../src/coordinator/store.js';
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

  /** Who leads now: the one who asks, if nobody else does. `isOwn`: by the key of this store. */
  claim(leader: Leader, store: MemoryStore, nowMs: number): { leader: Leader; isOwn: boolean } {
    if (this.#holder && this.#holder.store !== store && nowMs < this.#untilMs)
      return { leader: this.#holder.leader, isOwn: false };
    if (this.#holder?.store !== store) this.state.leader = store.number;
    this.#holder = { leader, store };
    this.#untilMs = nowMs + LEASE_MS;
    return { leader, isOwn: true };
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

/**
 * What a coordinator sees of the store, over the network. `under`: that of its present time of leading, so a write that was sent in an earlier one, and
 * comes later, is refused, as etcd does whose key of leadership it compares.
 */
export function storeOver(world: EtcdWorld, from: Party, under: () => MemoryStore): CoordinatorStore {
  const way = new Way(world, from);
  type Work<T> = (store: MemoryStore) => Promise<T>;
  const sent = <T>(work: Work<T>, late: (why: string) => Error): Promise<T> => {
    const store = under();
    return way.ask(
      () => work(store),
      () => late('the simulated network is cut'),
    );
  };
  const read = <T>(work: Work<T>) => sent(work, unreachable);
  const write = <T>(work: Work<T>) => sent(work, uncertain);
  return {
    route: (volume) => read((store) => store.route(volume)),
    routeNamed: (name) => read((store) => store.routeNamed(name)),
    routes: (after, limit) => read((store) => store.routes(after, limit)),
    get: (kind, key) => read((store) => store.get(kind, key)),
    list: <K extends RecordKind>(kind: K, prefix?: string) => read((store) => store.list(kind, prefix)),
    createRoute: (route) => write((store) => store.createRoute(route)),
    replaceRoute: (route) => write((store) => store.replaceRoute(route)),
    removeRoute: (volume, gen) => write((store) => store.removeRoute(volume, gen)),
    put: (changes) => write((store) => store.put(changes)),
    close: async () => undefined,
  };
}

/** Whoever has led never leads again by the same key: a new time of leading is a new store, with a number of its own. */
export class LeaseLeadership implements Leadership {
  readonly #world: EtcdWorld;
  readonly #self: Leader;
  readonly #way: Way;
  readonly #listeners: (() => void)[] = [];
  #store: MemoryStore;
  #known: Leader | null = null;
  #untilMs = 0;
  #told = false;
  #isOver = false;

  constructor(world: EtcdWorld, from: Party, self: Leader) {
    this.#world = world;
    this.#self = self;
    this.#way = new Way(world, from);
    this.#store = world.etcd.state.store();
  }

  /** By which it writes now, if it leads. */
  get store(): MemoryStore {
    return this.#store;
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
    const store = this.#store;
    try {
      const { leader, isOwn } = await this.#way.ask(
        async () => etcd.claim(this.#self, store, scheduler.nowMs),
        () => unreachable('the simulated network is cut'),
      );
      // Its time may be over by its own clock, which nobody has told it yet: then it does not lead by that key again.
      this.#tell();
      if (store !== this.#store) return;
      // A key of its own that it has given up leads nobody.
      this.#known = leader === this.#self && !isOwn ? null : leader;
      if (isOwn) this.#untilMs = Math.max(this.#untilMs, sentMs + LEASE_MS * TRUSTED);
    } catch {
      if (!this.isLeader) this.#known = null;
    }
    this.#tell();
    if (this.isLeader) scheduler.after(this.#untilMs - scheduler.nowMs + 0.01, () => this.#tell());
  }

  #tell(): void {
    if (this.isLeader === this.#told) return;
    if (this.#told) void this.resign();
    else this.#tellThat(true);
  }

  #tellThat(isLeader: boolean): void {
    if (this.#told === isLeader) return;
    this.#told = isLeader;
    for (const listener of this.#listeners) listener();
  }

  /** Resolves when the store knows it, or cannot be told: then the lease ends by itself. */
  async resign(): Promise<void> {
    const store = this.#store;
    this.#store = this.#world.etcd.state.store();
    this.#known = null;
    this.#untilMs = 0;
    this.#tellThat(false);
    await this.#way
      .ask(
        async () => this.#world.etcd.release(store),
        () => unreachable('the simulated network is cut'),
      )
      .catch(() => undefined);
  }

  close(): Promise<void> {
    this.#isOver = true;
    return this.resign();
  }
}
