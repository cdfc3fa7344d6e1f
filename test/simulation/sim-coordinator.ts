// A coordinator of the simulation: the product's own, behind its own protocol, over the simulated store.

import { Coordinator } from '../../src/coordinator/coordinator.js';
import type { Settings } from '../../src/coordinator/settings.js';
import { freshId } from '../../src/protocol/exchange.js';
import type { Log } from '../../src/protocol/log.js';
import { CoordinatorServer } from '../../src/protocol/server.js';
import type { Wire } from '../../src/protocol/socket.js';
import type { Clock } from '../../src/protocol/timing.js';
import type { Party } from './network.js';
import { Process } from './scheduler.js';
import { type EtcdWorld, LeaseLeadership, storeOver } from './sim-etcd.js';
import type { SimHost } from './sim-host.js';
import type { Wires } from './wires.js';

export const SETTINGS: Partial<Settings> = {
  probeMs: 1_000,
  commandMs: 2_500,
  performMs: 2_500,
  digestMs: 4_000,
  operationMs: 8_000,
  retryAfterMs: 500,
  backoffMs: { first: 50, last: 800 },
  holdMs: 1_500,
  copyPollMs: 300,
  copyStallMs: 5_000,
  close: { bytes: 4096, milliseconds: 50, rounds: 3 },
  graceMs: 4_000,
};

/** Shorter than in production, so that a run sees more of them. */
const TIMES = { heartbeatMs: 1_500, silenceMs: 4_000, resumeMs: 8_000, admissionMs: 4_000, helloMs: 4_000 };

/** What is around it. */
export interface CoordinatorWorld extends EtcdWorld {
  readonly clock: Clock;
  readonly wires: Wires;
  logOf(name: string): Log;
  trace(who: string, what: string): void;
}

export class SimCoordinator implements Party {
  readonly name: string;
  readonly world: CoordinatorWorld;
  process: Process | null = null;
  isOff = false;
  #server: CoordinatorServer | null = null;
  #coordinator: Coordinator | null = null;
  #leadership: LeaseLeadership | null = null;

  constructor(world: CoordinatorWorld, name: string) {
    this.world = world;
    this.name = name;
  }

  get address(): string {
    return `ws://${this.name}:7000`;
  }

  get isReady(): boolean {
    return this.process !== null && (this.#coordinator?.isReady ?? false);
  }

  start(): void {
    if (this.process) return;
    const process = new Process(this.name);
    this.process = process;
    this.world.trace(this.name, 'starts');
    this.world.scheduler.after(0, () => this.#open(), process);
  }

  #open(): void {
    const { world, name } = this;
    const log = world.logOf(name);
    const leadership = new LeaseLeadership(world, this, { coordinator: name, address: this.address });
    this.#leadership = leadership;
    this.#coordinator = new Coordinator({
      store: storeOver(world, this, () => leadership.store),
      leadership,
      clock: world.clock,
      log,
      freshId,
      random: Math.random,
      settings: SETTINGS,
    });
    this.#server = new CoordinatorServer({
      coordinator: name,
      identify: () => null,
      application: this.#coordinator,
      log,
      clock: world.clock,
      times: TIMES as never,
    });
    this.#coordinator.start(this.#server);
    this.#leadership.campaign();
  }

  accept(wire: Wire, { name, cell }: SimHost): void {
    this.#server?.accept(wire, { host: name, cell });
  }

  crash(): void {
    const { process, world } = this;
    if (!process) return;
    process.isDead = true;
    this.process = null;
    this.#server = null;
    this.#coordinator = null;
    world.wires.died(process, 'told');
    world.trace(this.name, 'process-death');
  }

  /** As by SIGTERM: another one may lead at once. */
  async stop(): Promise<void> {
    this.world.trace(this.name, 'stops');
    await this.#coordinator?.stop();
    this.#server?.stop();
    await this.#leadership?.close();
    this.crash();
  }
}
