// An agent of the simulation: the product's own operations, cells, copies, membership and protocol, over a simulated data plane, database and network.
//
// Invariants: what survives a crash is what the fake disk and the database say is stable; a process that died does nothing more. A new start
// is a new process on what was left.

import { MemoryLevel } from 'memory-level';

import { Membership } from '../../src/agent/membership.js';
import { type Level, levelOf } from '../../src/catalog/level.js';
import type { Lineage } from '../../src/model/lineage.js';
import { VolumeCopies } from '../../src/operations/copy/volume-copies.js';
import { Operations } from '../../src/operations/operations.js';
import type { CallOutcome } from '../../src/protocol/client.js';
import { type Call, freshId } from '../../src/protocol/exchange.js';
import type { Log } from '../../src/protocol/log.js';
import type { Wire } from '../../src/protocol/socket.js';
import { FakeDisk } from '../support/fake-disk.js';
import { type Death, TestLevel, WINDOW_BYTES } from '../support/store-harness.js';
import type { Chance } from './chance.js';
import { SIMULATED } from './environment.js';
import { type Server, sourcesOf } from './nbd.js';
import type { Network, Party } from './network.js';
import type { Oracle } from './oracle.js';
import { Process, type Scheduler } from './scheduler.js';
import { type Cut, SimPlane } from './sim-plane.js';
import type { Wires } from './wires.js';

type Database = MemoryLevel<Buffer, Buffer>;

const COPIES = {
  connectMs: 2_000,
  silenceMs: 4_000,
  firstPauseMs: 100,
  longestPauseMs: 1_000,
  giveUpMs: 10_000,
};
const HOLD_LIMIT_MS = 2_000;
const CALL_MS = 20_000;

export interface Backup {
  disk: FakeDisk;
  entries: [Buffer, Buffer][];
  boots: number;
  /** Of each volume, as far as it had one. */
  marks: Map<string, { epoch: number; seq: number; state: string }>;
}

/** What is around it. */
export interface HostWorld {
  readonly scheduler: Scheduler;
  readonly chance: Chance;
  readonly network: Network;
  readonly wires: Wires;
  readonly oracle: Oracle;
  readonly addresses: string[];
  hostAt(address: string): Server;
  dialCoordinator(from: SimHost, address: string): Wire;
  /** The database takes its time, fails when it is told to, and the host may die around any batch. */
  late(level: Level, process: Process, name: string): void;
  /** It is open, and will say so. */
  lookAtBackup(host: SimHost): Promise<void>;
  /** This host begins to take a snapshot. */
  snapshotBegins(host: string): void;
  logOf(name: string): Log;
  trace(who: string, what: string): void;
}

export class SimHost implements Party {
  readonly name: string;
  readonly cell: string;
  readonly world: HostWorld;
  disk = new FakeDisk();
  #database = emptyDatabase();
  process: Process | null = null;
  isOff = false;
  plane!: SimPlane;
  level!: TestLevel;
  operations: Operations | null = null;
  #membership: Membership | null = null;
  #copies: VolumeCopies | null = null;
  boots = 0;
  /** It was restored from a backup that lacks something, and nobody has readmitted it. */
  isStale = false;
  /** Volumes that a backup of it has brought back, by id: whether they were deleted meanwhile it cannot know. */
  readonly broughtBack = new Set<string>();
  /** Who has typed a verb here and waits for its answer. */
  readonly #waiting = new Set<(outcome: CallOutcome) => void>();
  /** Told of each snapshot that is cut here. */
  onCut: (cut: Cut) => void = () => undefined;

  constructor(world: HostWorld, { name, cell }: { name: string; cell: string }) {
    this.world = world;
    this.name = name;
    this.cell = cell;
  }

  get isListening(): boolean {
    return this.operations !== null && this.process !== null;
  }

  start(): void {
    if (this.process) return;
    const process = new Process(this.name);
    this.process = process;
    this.isOff = false;
    this.world.trace(this.name, 'starts');
    this.world.scheduler.after(0, () => void this.#open(process), process);
  }

  async #open(process: Process): Promise<void> {
    const { world, name, cell } = this;
    const { scheduler, chance, network } = world;
    this.plane = new SimPlane(this.disk, { scheduler, chance, process, name });
    this.plane.onCut = (cut) => this.onCut(cut);
    this.level = new TestLevel(levelOf(this.#database as never));
    world.late(this.level, process, name);
    const settings = {
      addresses: world.addresses,
      host: name,
      cell,
      tls: {},
      tokenFile: null,
      serveAloneAfterMs: null,
      announce: null,
      copyBytesPerSecond: null,
    };
    const log = world.logOf(name);
    const operations = await Operations.open({
      directory: `${SIMULATED}${name}`,
      plane: this.plane,
      level: this.level,
      log,
      windowBytes: WINDOW_BYTES,
      reserveBytes: 0n,
      ballastBytes: 0,
      idleCloseMs: 20_000,
      holdLimitMs: HOLD_LIMIT_MS,
      bootId: this.disk.bootId,
      cells: settings,
    });
    if (process.isDead) return;
    const { parts } = operations;
    const connect = sourcesOf(network, scheduler, { from: this, hostAt: (address) => world.hostAt(address) });
    this.#copies = new VolumeCopies(
      { parts, host: parts.cells.copyHost, log },
      { ...COPIES, connect, atOnce: 2, connections: 1 },
    );
    parts.cells.copies = this.#copies;
    const { create, createLocked } = parts.snapshots;
    parts.snapshots.createLocked = (wishes, options) => {
      world.snapshotBegins(name);
      return createLocked.call(parts.snapshots, wishes, options);
    };
    parts.snapshots.create = (wishes, options) => {
      world.snapshotBegins(name);
      for (const { volume, id } of wishes) if (id) world.oracle.taking(this, volume, id);
      return create.call(parts.snapshots, wishes, options);
    };
    this.boots = parts.catalog.boots;
    this.operations = operations;
    await world.lookAtBackup(this);
    if (process.isDead) return;
    this.#membership = new Membership({
      settings,
      operations,
      listeners: [`sim:${name}`],
      version: '0.0.0',
      log,
      dial: (address) => world.dialCoordinator(this, address),
    });
    this.#membership.start();
  }

  /** The process is gone in this instant. */
  crash(how: Death): void {
    const { process, world } = this;
    if (!process) return;
    process.isDead = true;
    this.process = null;
    this.operations = null;
    this.#membership = null;
    this.isOff = how === 'power-loss';
    this.plane?.kill();
    if (this.level) this.level.dead = true;
    if (how === 'power-loss') this.disk.powerLoss();
    world.wires.died(process, how === 'power-loss' ? 'silently' : 'told');
    world.oracle.hostDied(this.name);
    for (const hear of this.#waiting)
      world.scheduler.after(0, () => hear({ kind: 'silent' }), world.scheduler.world);
    world.trace(this.name, how);
  }

  /** As by SIGTERM; resolves when it is gone. */
  async stop(): Promise<void> {
    const { process, operations } = this;
    if (!process || !operations) return this.crash('process-death');
    this.world.trace(this.name, 'stops');
    this.#membership?.stop();
    await this.#copies?.stopAll();
    await operations.close({ deadlineMs: 1_000 });
    if (this.process === process) this.crash('process-death');
  }

  /** Of this instant: what would be found if power were lost now. */
  async backup(): Promise<Backup> {
    const disk = this.disk.copy();
    const marks = new Map(
      this.lineages().map(({ record: { volume, epoch, head, state } }) => [
        volume,
        { epoch, seq: head?.seq ?? 0, state },
      ]),
    );
    const entries = await this.#database.iterator().all();
    return { disk, entries, boots: this.boots, marks };
  }

  /** While nothing runs. */
  async restore({ disk, entries, marks }: Backup): Promise<void> {
    for (const [volume, { state }] of marks) if (state !== 'GONE') this.broughtBack.add(volume);
    this.disk = disk.copy();
    this.#database = emptyDatabase();
    await this.#database.batch(entries.map(([key, value]) => ({ type: 'put' as const, key, value })));
    this.world.trace(this.name, 'is restored from a backup');
  }

  /** A verb that somebody types here; of an agent that dies nothing more is heard. */
  async call(call: Call): Promise<CallOutcome> {
    const membership = this.#membership;
    if (!membership) return { kind: 'silent' };
    let hear!: (outcome: CallOutcome) => void;
    const heard = new Promise<CallOutcome>((resolve) => {
      hear = resolve;
    });
    this.#waiting.add(hear);
    void membership.call(call, { timeoutMs: CALL_MS, id: freshId() }).then(hear);
    return heard.finally(() => this.#waiting.delete(hear));
  }

  get isConnected(): boolean {
    return this.#membership?.status.connected ?? false;
  }

  lineages(): Lineage[] {
    return this.operations ? [...this.operations.parts.catalog.lineages.values()] : [];
  }

  lineage(volume: string): Lineage | null {
    return this.operations?.parts.catalog.lineages.of(volume) ?? null;
  }

  /** Whether clients are let in to the volume. */
  serves(volume: string): boolean {
    const cells = this.operations?.parts.cells;
    const lineage = this.lineage(volume);
    if (!cells || lineage?.container == null) return false;
    return cells.stateOf({ id: lineage.container })?.served ?? false;
  }
}

function emptyDatabase(): Database {
  return new MemoryLevel<Buffer, Buffer>({
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    storeEncoding: 'buffer',
  });
}
