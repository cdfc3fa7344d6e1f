// One simulated installation: hosts in cells, coordinators on one store, the network between them, and clients that write. Everything in it
// follows from the seed.

import type { Level } from '../../src/catalog/level.js';
import type { Change } from '../../src/coordinator/store.js';
import type { Route } from '../../src/model/cell/route.js';
import type { Log } from '../../src/protocol/log.js';
import type { Wire } from '../../src/protocol/socket.js';
import type { Clock } from '../../src/protocol/timing.js';
import { isKnownToBeOlder } from './backups.js';
import { Chance } from './chance.js';
import { Network, type Party } from './network.js';
import { Oracle } from './oracle.js';
import { type Process, Scheduler } from './scheduler.js';
import { SimCoordinator } from './sim-coordinator.js';
import { SimEtcd } from './sim-etcd.js';
import { type Backup, SimHost } from './sim-host.js';
import type { Statistics } from './statistics.js';
import { Wires } from './wires.js';

export const HOSTS: Readonly<Record<string, string>> = {
  'east-1': 'east',
  'east-2': 'east',
  'west-1': 'west',
  'west-2': 'west',
};
export const COORDINATORS = ['c1', 'c2', 'c3'] as const;

const LINES_KEPT = 4_000;
/** The database answers a write that late at most. */
const COMMIT_MS = 4;

export class World {
  readonly scheduler = new Scheduler();
  readonly chance: Chance;
  readonly network: Network;
  readonly wires: Wires;
  readonly etcd: SimEtcd;
  readonly oracle: Oracle;
  readonly statistics: Statistics;
  readonly hosts = new Map<string, SimHost>();
  readonly coordinators = new Map<string, SimCoordinator>();
  readonly lines: string[] = [];
  /** What is wrong; a run ends with the first. */
  readonly violations: string[] = [];
  /** Batches of hosts until the next one that kills its host; by host. */
  readonly crashAtBatch = new Map<string, { left: number; crash: () => void }>();
  /** The backups that hosts were restored from, last, by host. */
  readonly restored = new Map<string, Backup>();
  /** What happens when a host begins to take a snapshot, by host; once. */
  readonly atSnapshot = new Map<string, () => void>();
  /** What happens when the source of a move of a volume is about to be sealed, by the name of the volume; once. */
  readonly atSeal = new Map<string, () => void>();
  /** Batches of hosts that are not written. */
  readonly failingBatches = new Map<string, number>();
  verbose = false;
  /** Nothing goes wrong any more. */
  isHealed = false;

  constructor(seed: number, statistics: Statistics) {
    this.chance = new Chance(seed);
    this.statistics = statistics;
    this.network = new Network(this.scheduler, this.chance);
    this.wires = new Wires(this.scheduler, this.network);
    this.etcd = new SimEtcd(() => this.chance.next('etcd'));
    this.etcd.state.onPut = (changes) => this.#noted(changes);
    this.etcd.state.onRoute = (route) => this.#routed(route);
    this.oracle = new Oracle(this);
    for (const [name, cell] of Object.entries(HOSTS)) {
      const host = new SimHost(this, { name, cell });
      host.onCut = (cut) => this.oracle.cut(host, cut);
      this.hosts.set(name, host);
    }
    for (const name of COORDINATORS) this.coordinators.set(name, new SimCoordinator(this, name));
  }

  readonly clock: Clock = {
    now: () => ({ clockMs: Date.now(), uptimeMs: performance.now() }),
    every: (milliseconds, callback) => this.scheduler.every(milliseconds, callback),
    after: (milliseconds, callback) => this.scheduler.after(milliseconds, callback),
  };

  get addresses(): string[] {
    return [...this.coordinators.values()].map(({ address }) => address);
  }

  host(name: string): SimHost {
    return this.hosts.get(name)!;
  }

  /** Of an NBD address. */
  hostAt(address: string): SimHost {
    return this.host(address.replace('sim:', ''));
  }

  party(name: string): Party | undefined {
    return this.hosts.get(name) ?? this.coordinators.get(name);
  }

  dialCoordinator(from: SimHost, address: string): Wire {
    const to = [...this.coordinators.values()].find((each) => each.address === address)!;
    return this.wires.dial(from, to, (wire) => to.accept(wire, from));
  }

  trace(who: string, what: string): void {
    const line = `${(this.scheduler.nowMs / 1000).toFixed(3).padStart(8)}  ${who.padEnd(7)} ${what}`;
    this.lines.push(line);
    if (this.lines.length > LINES_KEPT) this.lines.splice(0, LINES_KEPT / 4);
    if (this.verbose) console.log(line);
  }

  violated(what: string): void {
    this.violations.push(what);
    this.trace('ORACLE', what);
  }

  logOf(name: string): Log {
    const line = (level: string) => (facts: object, message: string) => {
      const { err, ...rest } = facts as { err?: { code?: string; message?: string; stack?: string } };
      const told = err ? { ...rest, error: `${err.code ?? ''} ${err.stack ?? err.message}` } : rest;
      this.trace(name, `${level}: ${message} ${Object.keys(told).length > 0 ? asText(told) : ''}`);
    };
    return { debug: () => undefined, info: line('info'), warn: line('warn'), error: line('error') };
  }

  /** The database of a host takes its time, fails when it is told to, and its host may die around any batch. */
  late(level: Level, process: Process, name: string): void {
    const { scheduler, chance } = this;
    const { batch } = level;
    level.batch = async (operations) => {
      await scheduler.sleep(chance.next(`batch ${name}`) * COMMIT_MS);
      const failing = this.failingBatches.get(name) ?? 0;
      if (failing > 0) {
        this.failingBatches.set(name, failing - 1);
        (level as unknown as { failures: object[] }).failures.push({
          applied: chance.isSo(`failure ${name}`, 0.5),
        });
      }
      const crash = this.crashAtBatch.get(name);
      if (crash && --crash.left === 0) {
        this.crashAtBatch.delete(name);
        // What it has handed over may be there or not.
        if (chance.isSo(`crash ${name}`, 0.5)) await batch.call(level, operations);
        if (!process.isDead) crash.crash();
        return new Promise(() => undefined);
      }
      await batch.call(level, operations);
      await scheduler.sleep(0);
      return undefined;
    };
  }

  /** A coordinator has stored this. */
  #noted(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'decision' && change.value) this.statistics.decided(change.value);
      if (change.kind === 'group' && change.value)
        this.oracle.groups.set(change.value.id, change.value.members);
      if (change.kind === 'highest' && change.value === null)
        void this.lookAtBackup(this.host(change.key.split('/')[0]!));
      // With a store that has nothing in it it begins anew.
      if (change.kind === 'host' && change.value?.forgotten !== undefined)
        void this.lookAtBackup(this.host(change.key));
    }
  }

  /**
   * Whether anybody can still know that it came back from a backup: with a volume that is deleted goes what was known of it, and a host that is started
   * often enough has the boot counter it had.
   */
  async lookAtBackup(host: SimHost): Promise<void> {
    const backup = this.restored.get(host.name);
    if (!host.isStale || !backup) return;
    const boots = host.operations ? host.boots : backup.boots + 1;
    if (!(await isKnownToBeOlder(this.etcd, host.name, { ...backup, boots }))) host.isStale = false;
  }

  /** A coordinator has stored this route. */
  #routed(route: Route): void {
    const { name, journal } = route;
    this.oracle.routed(route);
    if (journal?.phase === 'SEALING') happens(this.atSeal, name);
  }

  snapshotBegins(host: string): void {
    happens(this.atSnapshot, host);
  }

  /** Nothing goes wrong from now on, and everybody is there. */
  heal(): void {
    this.isHealed = true;
    this.trace('PLAN', 'nothing goes wrong any more');
    this.network.slowness = 0;
    this.etcd.trouble = 0;
    this.crashAtBatch.clear();
    this.atSnapshot.clear();
    this.atSeal.clear();
    this.failingBatches.clear();
    this.network.healAll();
    for (const party of [...this.hosts.values(), ...this.coordinators.values()]) {
      if (party.process?.isPaused) this.scheduler.resume(party.process);
      party.start();
    }
  }

  /** What only an operator's word, or a backup, may bring about: without either it is a violation. */
  excused(what: string, without: string): void {
    this.statistics.count(`operator: ${what}`);
    if (this.statistics.counts.has('backup restored') || this.statistics.counts.has('promoted')) return;
    if (this.statistics.counts.has('not promoted') || this.statistics.counts.has('may be forgotten')) return;
    this.violated(without);
  }

  /** Who leads, and has taken up what was left; null: nobody. */
  leader(): SimCoordinator | null {
    return [...this.coordinators.values()].find(({ isReady }) => isReady) ?? null;
  }
}

function happens(what: Map<string, () => void>, key: string): void {
  const happening = what.get(key);
  what.delete(key);
  happening?.();
}

function asText(facts: object): string {
  return JSON.stringify(facts, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
}
