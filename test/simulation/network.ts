// The network between the parties of a run: how long things take, who reaches whom, and connections that keep their order until they break.
//
// Invariants: what is on its way while two are cut off from one another waits, as with TCP, and arrives when they are not any more, unless its
// connection has ended meanwhile. A message arrives once and in order, or not at all.

import type { Chance } from './chance.js';
import type { Process, Scheduler } from './scheduler.js';

/** A place on the network: what runs there may be another process after a crash. */
export interface Party {
  readonly name: string;
  /** Null: nothing runs there. */
  readonly process: Process | null;
  /** Of a machine that is off nobody hears even that nothing runs there. */
  readonly isOff: boolean;
}

const QUICK_MS = { from: 0.2, to: 3 };
const SLOW_MS = { from: 50, to: 2_500 };

export class Network {
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  readonly #cut = new Map<string, (() => void)[]>();
  /** Probability that something takes long. */
  slowness = 0;

  constructor(scheduler: Scheduler, chance: Chance) {
    this.#scheduler = scheduler;
    this.#chance = chance;
  }

  cut(a: string, b: string): void {
    const key = pairOf(a, b);
    if (!this.#cut.has(key)) this.#cut.set(key, []);
  }

  heal(a: string, b: string): void {
    const key = pairOf(a, b);
    const waiting = this.#cut.get(key) ?? [];
    this.#cut.delete(key);
    for (const arrive of waiting) this.#scheduler.after(0, arrive, this.#scheduler.world);
  }

  healAll(): void {
    for (const key of [...this.#cut.keys()]) {
      const [a, b] = key.split(' ') as [string, string];
      this.heal(a, b);
    }
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(pairOf(a, b));
  }

  latencyMs(): number {
    const { from, to } = this.#chance.isSo('network slow', this.slowness) ? SLOW_MS : QUICK_MS;
    return this.#chance.between('network', from, to);
  }

  /** One direction of a connection. */
  lane(from: string, to: string): Lane {
    return new Lane(this, this.#scheduler, { from, to });
  }

  /** When the two can reach one another. */
  whenReachable(a: string, b: string, arrive: () => void): void {
    const waiting = this.#cut.get(pairOf(a, b));
    if (waiting) waiting.push(() => this.whenReachable(a, b, arrive));
    else arrive();
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

export class Lane {
  readonly #network: Network;
  readonly #scheduler: Scheduler;
  readonly #ends: { from: string; to: string };
  readonly #queue: (() => void)[] = [];
  #lastMs = 0;
  #isOver = false;

  constructor(network: Network, scheduler: Scheduler, ends: { from: string; to: string }) {
    this.#network = network;
    this.#scheduler = scheduler;
    this.#ends = ends;
  }

  /** `arrive` is called in the process, behind everything that was sent before. */
  send(process: Process, arrive: () => void): void {
    const { from, to } = this.#ends;
    const atMs = Math.max(this.#lastMs, this.#scheduler.nowMs + this.#network.latencyMs());
    this.#lastMs = atMs;
    this.#queue.push(() => this.#scheduler.after(0, () => !this.#isOver && arrive(), process));
    this.#scheduler.after(
      atMs - this.#scheduler.nowMs,
      () => this.#network.whenReachable(from, to, () => this.#queue.shift()?.()),
      this.#scheduler.world,
    );
  }

  /** What is on its way never arrives. */
  end(): void {
    this.#isOver = true;
  }
}
