// Who takes part in an installation, and what can befall each: killed and started again, stopped and going on, cut off and mended.

import { cpSync, rmSync } from 'node:fs';
import { NbdClient } from '../../src/nbd-client/nbd-client.js';
import type { Daemon } from '../support/daemon.js';
import type { Spot } from '../support/network-lab.js';
import type { Running } from '../support/programs.js';
import { until } from '../support/waiting.js';
import type { Gate } from './gate.js';

export const HARMS = ['kill', 'pause', 'cut'] as const;
export type Harm = (typeof HARMS)[number];

/** A client that is not answered at once asks the next one. */
const CONNECT_MS = 3_000;

export abstract class Party {
  readonly spot: Spot;
  #harm: Harm | null = null;
  /** Whom it is cut off from; null: from everybody. */
  #cutFrom: Party | null = null;

  constructor(spot: Spot) {
    this.spot = spot;
  }

  get name(): string {
    return this.spot.name;
  }

  get harmed(): Harm | null {
    return this.#harm;
  }

  protected abstract get pid(): number;
  protected abstract kill(): Promise<void>;
  /** Until it can be asked. */
  abstract run(): Promise<void>;
  abstract get output(): string;

  /** kill -9, SIGSTOP, or nothing gets to it or comes from it: of everybody, or of one other party. */
  async harm(how: Harm, from: Party | null = null): Promise<void> {
    this.#harm = how;
    this.#cutFrom = from;
    if (how === 'kill') await this.kill();
    else if (how === 'pause') process.kill(this.pid, 'SIGSTOP');
    else if (from) this.spot.cutFrom(from.spot);
    else this.spot.unplug();
  }

  async heal(): Promise<void> {
    const how = this.#harm;
    this.#harm = null;
    if (how === 'kill') await this.run();
    else if (how === 'pause') process.kill(this.pid, 'SIGCONT');
    else if (how === 'cut' && this.#cutFrom) this.spot.mendTo(this.#cutFrom.spot);
    else if (how === 'cut') this.spot.plugIn();
  }

  async end(): Promise<void> {
    await this.kill();
  }

  /** What it keeps on its disk. */
  protected abstract get disk(): string;

  /** Of its disk, as kill -9 leaves it; it runs again afterwards. */
  async backUp(): Promise<string> {
    await this.kill();
    const copy = this.copied();
    await this.run();
    return copy;
  }

  /** While it does not run. */
  copied(): string {
    const copy = `${this.disk}-backup-${++this.#backups}`;
    cpSync(this.disk, copy, { recursive: true });
    return copy;
  }

  /** Its disk is that of then; it has to be run. */
  async putBack(copy: string): Promise<void> {
    await this.kill();
    rmSync(this.disk, { recursive: true });
    cpSync(copy, this.disk, { recursive: true });
  }

  #backups = 0;
}

/** A program that is started by words alone. */
abstract class ProgramParty extends Party {
  readonly #start: () => Running;
  protected readonly disk: string;
  protected running: Running | null = null;
  #before = '';

  constructor(spot: Spot, { disk, start }: { disk: string; start: () => Running }) {
    super(spot);
    this.disk = disk;
    this.#start = start;
  }

  protected get pid(): number {
    return this.running!.pid;
  }

  get output(): string {
    return this.#before + (this.running?.output ?? '');
  }

  async run(): Promise<void> {
    this.running = this.#start();
  }

  protected async kill(): Promise<void> {
    this.#before = this.output.slice(-20_000);
    await this.running?.stop('SIGKILL');
    this.running = null;
  }
}

export class EtcdParty extends ProgramParty {}

export class CoordinatorParty extends ProgramParty {
  /** Between it and etcd; null: it has none. */
  readonly gate: Gate | null;

  constructor(spot: Spot, { gate, ...program }: { disk: string; start: () => Running; gate: Gate | null }) {
    super(spot, program);
    this.gate = gate;
  }

  override async end(): Promise<void> {
    await super.end();
    await this.gate?.close();
  }

  override async run(): Promise<void> {
    for (;;) {
      await super.run();
      const { running } = this;
      const listens = await until(`${this.name} to listen`, () =>
        running!.isOver ? 'ended' : running!.output.includes('"event":"listening"') ? 'listens' : null,
      );
      if (listens === 'listens') return;
      // Without etcd it ends with a sentence; whoever runs it starts it again.
      if (!running!.output.includes('cannot be reached'))
        throw new Error(`${this.name} ended at its start:\n${running!.output}`);
    }
  }
}

export interface Standing {
  connected: boolean;
  coordinator: string | null;
  leader: string | null;
  volumes: { name: string; state: string; epoch: number }[];
}

export interface ListedSnapshot {
  id: string;
  name: string;
}

export class HostParty extends Party {
  readonly cell: string;
  readonly daemon: Daemon;
  readonly gate: Gate;

  constructor(spot: Spot, { cell, daemon, gate }: { cell: string; daemon: Daemon; gate: Gate }) {
    super(spot);
    this.cell = cell;
    this.daemon = daemon;
    this.gate = gate;
  }

  protected get pid(): number {
    return this.daemon.pid;
  }

  get output(): string {
    return this.daemon.output;
  }

  protected get disk(): string {
    return this.daemon.store;
  }

  /** Its unix sockets answer. */
  get isUsable(): boolean {
    return !this.daemon.hasEnded && this.harmed !== 'pause';
  }

  run(): Promise<void> {
    return this.daemon.run();
  }

  protected kill(): Promise<void> {
    return this.daemon.kill();
  }

  override async end(): Promise<void> {
    await super.end();
    await this.gate.close();
  }

  async standing(): Promise<Standing> {
    return this.daemon.api.call<Standing>('GET', '/v1/coordinator');
  }

  /** Not one that something has befallen: what is cut off does not know it at once. */
  async isConnected(): Promise<boolean> {
    if (!this.isUsable || this.harmed !== null) return false;
    return this.standing().then(
      ({ connected }) => connected,
      () => false,
    );
  }

  /** What it is for a volume; NONE: it has nothing of it. */
  async stateOf(volume: string): Promise<{ state: string; epoch: number }> {
    const { volumes } = await this.standing();
    return volumes.find(({ name }) => name === volume) ?? { state: 'NONE', epoch: 0 };
  }

  connect(exportName: string): Promise<NbdClient> {
    return NbdClient.connect({
      address: `unix:${this.daemon.nbdPath}`,
      exportName,
      timeoutMs: CONNECT_MS,
    });
  }
}
