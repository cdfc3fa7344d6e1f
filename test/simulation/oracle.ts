// What must be so, whatever happens: it sees every write and every snapshot in the instant in which a host does it, and knows what may be read
// afterwards.
//
// Invariants it holds the hosts to: writes of a volume are acknowledged under epochs that never fall, by one host an epoch; a seq of a lineage
// belongs to one snapshot for ever, wherever it is; epochs of hosts and routes only rise; a snapshot holds what was acknowledged before its cut and
// nothing that was begun after it; of a group all or none are there, of one instant.

import type { Route } from '../../src/model/cell/route.js';
import { owns } from '../../src/model/cell/states.js';
import type { Lineage } from '../../src/model/lineage.js';
import type { Operations } from '../../src/operations/operations.js';
import type { Chance } from './chance.js';
import type { SimEtcd } from './sim-etcd.js';
import type { Cut } from './sim-plane.js';
import type { Statistics } from './statistics.js';

export const BLOCKS = 20;

/** So often may be seen, when nothing goes wrong any more, that a host serves whose place was taken: it has to hear of it in about 5 s. */
const SERVED_ON = 25;

interface Block {
  /** The last write that was acknowledged; nothing older may be read. */
  acknowledged: number;
  /** The last one that was begun; nothing newer may be read. */
  begun: number;
  /** Under way: nobody begins another one. */
  isBusy: boolean;
  /** `at`: how many writes had been begun anywhere when it was acknowledged. */
  history: { write: number; at: number }[];
}

interface Write {
  volume: string;
  block: number;
  /** Null: it has not arrived. */
  executingAt: string | null;
}

/** What a snapshot may hold if it was cut in that instant. */
interface Instant {
  /** It was cut then; else then or later. */
  isExact: boolean;
  floors: number[];
  ceilings: number[];
}

export class SimVolume {
  readonly name: string;
  /** Null: it has no route yet. */
  id: string | null = null;
  isDeleted = false;
  readonly blocks: Block[] = Array.from({ length: BLOCKS }, () => ({
    acknowledged: 0,
    begun: 0,
    isBusy: false,
    history: [],
  }));
  /** Snapshots whose users have been told that they are there. */
  readonly told = new Map<string, { id: string; seq: number }>();
  readonly idOfSeq = new Map<number, string>();
  /** Who has acknowledged writes, by epoch. */
  readonly writers = new Map<number, string>();
  lastEpoch = 0;
  routeEpoch = 0;
  /** An operator has given up what some host had: two may serve it until that one hears. */
  lossAccepted = false;
  /** The replica that an operator wants in the place of the primary; null: none. */
  mayTakePlace: string | null = null;
  /** Whoever owns it under a lower epoch has lost its place to a replica: what it acknowledges is given up. */
  givenUpBelow = 0;
  /** How often it was seen, by host, that one goes on serving whose place was taken. */
  readonly servedOn = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
  }
}

export interface WatchedHost {
  readonly name: string;
  /** Null: it does not run. */
  readonly operations: Operations | null;
  /** It was restored from a backup that lacks something, and nobody has readmitted it. */
  readonly isStale: boolean;
  readonly isConnected: boolean;
  lineages(): Lineage[];
  lineage(volume: string): Lineage | null;
  /** Whether clients are let in to the volume. */
  serves(volume: string): boolean;
}

export interface WatchedWorld {
  readonly chance: Chance;
  readonly statistics: Statistics;
  readonly etcd: SimEtcd;
  readonly hosts: ReadonlyMap<string, WatchedHost>;
  readonly isHealed: boolean;
  violated(what: string): void;
}

export class Oracle {
  readonly #world: WatchedWorld;
  readonly volumes = new Map<string, SimVolume>();
  readonly instants = new Map<string, Instant[]>();
  readonly groups = new Map<string, { volume: string; snapshot: string }[]>();
  readonly #writes = new Map<number, Write>();
  readonly #epochs = new Map<string, number>();
  #lastWrite = 0;

  constructor(world: WatchedWorld) {
    this.#world = world;
  }

  volume(name: string): SimVolume {
    let volume = this.volumes.get(name);
    if (!volume) {
      volume = new SimVolume(name);
      this.volumes.set(name, volume);
    }
    return volume;
  }

  byId(id: string): SimVolume | undefined {
    return [...this.volumes.values()].find((volume) => volume.id === id);
  }

  /** Null: every block has a write under way. */
  begin(name: string): { write: number; block: number } | null {
    const { blocks } = this.volume(name);
    const free = blocks.flatMap(({ isBusy }, index) => (isBusy ? [] : [index]));
    if (free.length === 0) return null;
    const block = this.#world.chance.of('block', free);
    const write = ++this.#lastWrite;
    blocks[block]!.begun = write;
    blocks[block]!.isBusy = true;
    this.#writes.set(write, { volume: name, block, executingAt: null });
    return { write, block };
  }

  arrived(write: number, host: string): void {
    const known = this.#writes.get(write);
    if (known) known.executingAt = host;
  }

  /** The host says that it is done. */
  acknowledged(write: number, host: WatchedHost): void {
    const known = this.#writes.get(write);
    if (!known) return;
    const volume = this.volume(known.volume);
    const block = volume.blocks[known.block]!;
    this.#checkWriter(volume, host);
    if (!hasLostPlace(volume, host)) {
      block.acknowledged = write;
      block.history.push({ write, at: this.#lastWrite });
    }
    this.#settle(write);
    this.#world.statistics.count('writes acknowledged');
  }

  /** The client hears nothing of it. */
  unanswered(write: number): void {
    if (this.#writes.get(write)?.executingAt === null) this.#settle(write);
  }

  /** It was refused, or its host has done what it does of it. */
  ended(write: number): void {
    this.#settle(write);
  }

  hostDied(name: string): void {
    for (const [write, { executingAt }] of this.#writes) if (executingAt === name) this.#settle(write);
  }

  #settle(write: number): void {
    const known = this.#writes.get(write);
    this.#writes.delete(write);
    if (known) this.volume(known.volume).blocks[known.block]!.isBusy = false;
  }

  #checkWriter(volume: SimVolume, host: WatchedHost): void {
    const { id, name } = volume;
    if (id === null) return;
    const record = host.lineage(id)?.record;
    if (!record) return;
    const { epoch, state } = record;
    if (host.isStale) this.#violated(`${host.name}, restored from a backup, acknowledges a write to ${name}`);
    if (state === 'GONE' || !owns(state))
      this.#violated(`${host.name} acknowledges a write to ${name}, which is ${state} there`);
    if (epoch < volume.lastEpoch && !volume.lossAccepted)
      this.#violated(
        `${host.name} acknowledges a write to ${name} under epoch ${epoch}, after one under ${volume.lastEpoch}`,
      );
    volume.lastEpoch = Math.max(volume.lastEpoch, epoch);
    const before = volume.writers.get(epoch);
    if (before !== undefined && before !== host.name)
      this.#violated(`${before} and ${host.name} acknowledge writes to ${name} under epoch ${epoch}`);
    volume.writers.set(epoch, host.name);
  }

  /** At an owner it is the birth of a snapshot; elsewhere a copy of one. */
  cut(host: WatchedHost, { handle, id }: Cut): void {
    const volume = this.#ownedBy(host, host.operations?.parts.devices.byHandle(handle)?.container);
    if (!volume) return;
    const exact = (this.instants.get(id) ?? []).filter(({ isExact }) => isExact);
    this.instants.set(id, [...exact, { ...instantOf(volume), isExact: true }]);
  }

  /** A snapshot is about to be taken; of a volume that nobody has open no cut follows. */
  taking(host: WatchedHost, name: string, id: string): void {
    const volume = this.#ownedBy(host, host.operations?.parts.catalog.containerNamed(name)?.id);
    if (!volume) return;
    const unknown = { ...instantOf(volume), ceilings: volume.blocks.map(() => Number.POSITIVE_INFINITY) };
    this.instants.set(id, [...(this.instants.get(id) ?? []), { ...unknown, isExact: false }]);
  }

  #ownedBy({ operations }: WatchedHost, container: number | undefined): SimVolume | undefined {
    const lineage =
      container === undefined ? undefined : operations!.parts.catalog.lineages.ofContainer(container);
    if (!lineage || lineage.record.state === 'GONE' || !owns(lineage.record.state)) return undefined;
    return this.byId(lineage.record.volume);
  }

  told(name: string, snapshot: { name: string; id: string; seq: number | null }): void {
    const volume = this.volume(name);
    if (snapshot.seq === null) return;
    volume.told.set(snapshot.name, { id: snapshot.id, seq: snapshot.seq });
    this.#seen(volume, snapshot.seq, snapshot.id, 'the coordinator');
  }

  #seen(volume: SimVolume, seq: number, id: string, by: string): void {
    const known = volume.idOfSeq.get(seq);
    if (known !== undefined && known !== id && !volume.lossAccepted)
      this.#violated(`a fork of ${volume.name}: snapshot ${seq} is ${known}, and ${id} at ${by}`);
    volume.idOfSeq.set(seq, id);
  }

  /** Everything that can be seen in this instant. */
  look(): void {
    for (const host of this.#world.hosts.values()) this.#lookAt(host);
    for (const volume of this.volumes.values()) {
      this.#lookAtServing(volume);
      this.#lookAtTakenPlace(volume);
    }
    for (const volume of this.volumes.values()) {
      const route = volume.id === null ? null : this.#world.etcd.state.table.route(volume.id);
      if (!route) continue;
      if (route.epoch < volume.routeEpoch)
        this.#violated(`the route of ${volume.name} falls from epoch ${volume.routeEpoch} to ${route.epoch}`);
      volume.routeEpoch = route.epoch;
    }
  }

  #lookAt(host: WatchedHost): void {
    const { operations } = host;
    if (!operations) return;
    const { lineages } = operations.parts.catalog;
    for (const { record } of host.lineages()) {
      const volume = this.byId(record.volume);
      if (!volume) continue;
      const key = `${host.name}/${record.volume}`;
      const before = this.#epochs.get(key) ?? 0;
      if (record.epoch < before)
        this.#violated(`${volume.name} falls from epoch ${before} to ${record.epoch} at ${host.name}`);
      this.#epochs.set(key, record.epoch);
      if (host.isStale) continue;
      for (const seq of lineages.seqsOf(record.volume))
        this.#seen(volume, seq, lineages.idAt(record.volume, seq)!, host.name);
    }
  }

  #lookAtServing(volume: SimVolume): void {
    const { id } = volume;
    if (id === null || volume.lossAccepted) return;
    const serving = [...this.#world.hosts.values()].filter((host) => host.serves(id)).map(({ name }) => name);
    if (serving.length > 1) this.#violated(`${serving} serve ${volume.name}`);
  }

  /** An operator's word for a replica is no leave to let the old primary go on. */
  #lookAtTakenPlace(volume: SimVolume): void {
    const { id, name, servedOn } = volume;
    if (id === null || !this.#world.isHealed) return;
    for (const host of this.#world.hosts.values()) {
      const isServed = host.isConnected && host.serves(id) && hasLostPlace(volume, host);
      const times = isServed ? (servedOn.get(host.name) ?? 0) + 1 : 0;
      servedOn.set(host.name, times);
      if (times > SERVED_ON)
        this.#violated(`${host.name} goes on serving ${name}, and has lost its place to another`);
    }
  }

  /** A coordinator has stored this route. */
  routed({ volume: id, status, active, alternate, epoch, lineageHead }: Route): void {
    const volume = this.byId(id);
    if (!volume || volume.mayTakePlace === null) return;
    // What an operator decides of a quarantine is another word.
    if (status === 'quarantined') volume.mayTakePlace = null;
    if (active.primary !== volume.mayTakePlace || alternate?.mustSeal !== epoch) return;
    volume.mayTakePlace = null;
    volume.givenUpBelow = epoch;
    this.lost(volume, lineageHead);
  }

  /** The host's store is another one from now on. */
  restored(host: WatchedHost): void {
    for (const key of [...this.#epochs.keys()]) if (key.startsWith(`${host.name}/`)) this.#epochs.delete(key);
  }

  /** An operator lets the volume go on from this snapshot; null: from none. */
  lost(volume: SimVolume, through: { id: string; seq: number } | null): void {
    volume.lossAccepted = true;
    const floors = through ? this.instants.get(through.id)?.at(-1)?.floors : undefined;
    for (const [index, block] of volume.blocks.entries()) {
      block.acknowledged = Math.min(block.acknowledged, floors?.[index] ?? 0);
      block.history = block.history.filter(({ write }) => write <= block.acknowledged);
    }
    for (const seq of [...volume.idOfSeq.keys()]) if (seq > (through?.seq ?? 0)) volume.idOfSeq.delete(seq);
    for (const [name, { seq }] of [...volume.told]) if (seq > (through?.seq ?? 0)) volume.told.delete(name);
  }

  /** What is wrong with what was read of a snapshot; null: nothing is. */
  wrongIn(id: string, values: readonly number[]): string | null {
    const instants = this.instants.get(id);
    if (!instants) return 'nobody has cut it';
    const wrong = instants.map((instant) => wrongAgainst(instant, values));
    return wrong.some((each) => each === null) ? null : wrong.at(-1)!;
  }

  wrongInVolume({ blocks }: SimVolume, values: readonly number[]): string | null {
    const floors = blocks.map(({ acknowledged }) => acknowledged);
    return wrongAgainst({ floors, ceilings: blocks.map(({ begun }) => begun) }, values);
  }

  /** What was read of the members of a group, by volume. */
  wrongInGroup(contents: ReadonlyMap<string, readonly number[]>): string | null {
    const newest = Math.max(...[...contents.values()].flat());
    for (const [name, values] of contents)
      for (const [index, { history }] of this.volume(name).blocks.entries()) {
        const before = history.findLast(({ at }) => at < newest);
        if (before && before.write > values[index]!)
          return `block ${index} of ${name} is ${values[index]}; ${before.write} was acknowledged before ${newest} began, which is there`;
      }
    return null;
  }

  #violated(what: string): void {
    this.#world.violated(what);
  }
}

function hasLostPlace({ id, givenUpBelow }: SimVolume, host: WatchedHost): boolean {
  const record = id === null ? undefined : host.lineage(id)?.record;
  return record !== undefined && record.epoch < givenUpBelow;
}

function instantOf({ blocks }: SimVolume): Pick<Instant, 'floors' | 'ceilings'> {
  return {
    floors: blocks.map(({ acknowledged }) => acknowledged),
    ceilings: blocks.map(({ begun }) => begun),
  };
}

function wrongAgainst(
  { floors, ceilings }: Pick<Instant, 'floors' | 'ceilings'>,
  values: readonly number[],
): string | null {
  for (const [index, value] of values.entries())
    if (value < floors[index]! || value > ceilings[index]!)
      return `block ${index} is ${value}, and has to be ${floors[index]} to ${ceilings[index]}`;
  return null;
}
