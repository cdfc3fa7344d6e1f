// Which snapshots of other volumes a move needs at its destination so that those of the moved volume go on sharing with them: what they continue, and
// what that continues in turn. What is on its way there already is waited for; the rest has to be brought along.
//
// Invariants: nothing is brought twice to a host. Of volumes that continue one another one comes first, and shares less: nobody waits for whoever waits for him.

import type { Route } from '../model/cell/route.js';
import type { SnapshotFacts } from '../protocol/exchange.js';
import type { Coming, Source } from './coming.js';
import { describeWhole } from './describing.js';
import type { Ports } from './ports.js';
import { hostsOf, type RouteBook } from './route-book.js';
import type { BaseRecord, HostRecord } from './store.js';

export type Base = NonNullable<SnapshotFacts['base']>;

export interface CarriedBase {
  /** Of the volume it is one of. */
  volume: string;
  snapshots: number;
  sizeBytes: string;
}

export interface BasePlan {
  records: Omit<BaseRecord, 'needed'>[];
  carried: CarriedBase[];
  /** Volumes of which the destination has what is continued. */
  present: string[];
  /** Names of volumes that are on their way to the destination, and waited for. */
  awaited: string[];
  /** Ids of the snapshots that the moved volume goes on sharing with. */
  brought: Set<string>;
  /** Bases that cannot be brought, with why. */
  impossible: { base: Base; because: string }[];
}

export interface PlanOf {
  /** The moved volume. */
  volume: string;
  from: Source;
  to: HostRecord;
  coming: Coming;
  /** Whether anything may be brought along that does not come by itself. */
  carry: boolean;
}

type PlanParts = Pick<Ports, 'hosts' | 'settings'> & { book: RouteBook };

/** `apart`: it is left behind, and nothing is shared with it. */
type Found = { kind: 'brought' } | { kind: 'apart' } | { kind: 'impossible'; because: string };

const BROUGHT: Found = { kind: 'brought' };
const APART: Found = { kind: 'apart' };
const impossible = (because: string): Found => ({ kind: 'impossible', because });

export class BasePlanner {
  readonly #parts: PlanParts;
  readonly #of: PlanOf;
  readonly #plan: BasePlan = emptyPlan();
  readonly #seen: Set<string>;

  constructor(parts: PlanParts, of: PlanOf) {
    this.#parts = parts;
    this.#of = of;
    this.#seen = new Set([of.volume]);
  }

  async plan(bases: readonly Base[]): Promise<BasePlan> {
    await this.#bring(bases);
    return this.#plan;
  }

  /** Volumes that are to be there before: what comes of them is continued. */
  async #bring(bases: readonly Base[]): Promise<string[]> {
    const before: string[] = [];
    for (const volume of new Set(bases.map((base) => base.volume))) {
      // Of two volumes that continue one another one comes first, and shares less.
      if (this.#seen.has(volume)) continue;
      this.#seen.add(volume);
      const its = bases.filter((base) => base.volume === volume);
      const found = await this.#one(volume, its);
      if (found.kind === 'impossible')
        this.#plan.impossible.push(...its.map((base) => ({ base, because: found.because })));
      if (found.kind !== 'brought') continue;
      before.push(volume);
      for (const { snapshot } of its) this.#plan.brought.add(snapshot);
    }
    return before;
  }

  async #one(volume: string, bases: readonly Base[]): Promise<Found> {
    const { to, coming } = this.#of;
    const there = await this.#idsAt(to.host, volume);
    if (bases.every(({ snapshot }) => there.has(snapshot))) {
      this.#plan.present.push(volume);
      return BROUGHT;
    }
    const route = await this.#parts.book.route(volume);
    if (!route || route.status !== 'open')
      return this.#unless(`volume ${route?.name ?? volume} has no open route`);
    const mover = await coming.withItsVolume(volume, to.host);
    if (mover) return this.#await(route, mover, bases);
    if (hostsOf(route).includes(to.host))
      return this.#unless(`host ${to.host} has another part of volume ${route.name}, which lacks it`);
    return this.#carry(route, { bases, there });
  }

  #unless(because: string): Found {
    return this.#of.carry ? impossible(because) : APART;
  }

  /** Its volume is on the move to the same host. */
  async #await(route: Route, from: Source, bases: readonly Base[]): Promise<Found> {
    if (await this.#of.coming.waitsFor(route.volume, this.#of.volume)) return APART;
    const { chain } = await this.#chain(route.volume, from.host, bases);
    if (!chain) return this.#unless(`host ${from.host} does not give all of volume ${route.name}`);
    this.#note(route, { from, through: chain.at(-1)!, behind: [] });
    this.#plan.awaited.push(route.name);
    return BROUGHT;
  }

  async #carry(
    route: Route,
    { bases, there }: { bases: readonly Base[]; there: ReadonlySet<string> },
  ): Promise<Found> {
    const { from, to, coming, carry } = this.#of;
    const { volume, name } = route;
    const { all, chain, sizeBytes } = await this.#chain(volume, from.host, bases);
    if (!chain) return this.#unless(`host ${from.host} does not give all of volume ${name}`);
    const through = coming.broughtThrough(volume, to.host);
    const comes = new Set(all.slice(0, all.findLastIndex(({ id }) => through.includes(id)) + 1));
    const sent = chain.filter((snapshot) => !comes.has(snapshot) && !there.has(snapshot.id));
    if (sent.length > 0 && !carry) return APART;
    const behind = await this.#bring(
      sent.flatMap(({ base }) => (base && base.volume !== volume ? [base] : [])),
    );
    this.#note(route, { from, through: chain.at(-1)!, behind });
    if (sent.length === 0) this.#plan.awaited.push(name);
    else this.#plan.carried.push({ volume: name, snapshots: sent.length, sizeBytes });
    return BROUGHT;
  }

  /** `chain`: the visible ones from the oldest to the last of these; null: the host does not have all of them. */
  async #chain(
    volume: string,
    host: string,
    bases: readonly Base[],
  ): Promise<{ all: readonly SnapshotFacts[]; chain: SnapshotFacts[] | null; sizeBytes: string }> {
    const described = await describeWhole(this.#parts, host, volume).catch(() => null);
    const all = described?.snapshots ?? [];
    const last = Math.max(-1, ...bases.map(({ snapshot }) => all.findIndex(({ id }) => id === snapshot)));
    const chain = all.slice(0, last + 1).filter(({ hidden }) => !hidden);
    const isWhole = bases.every(({ snapshot }) => chain.some(({ id }) => id === snapshot));
    return {
      all,
      chain: isWhole && chain.length > 0 ? chain : null,
      sizeBytes: described?.sizeBytes ?? '0',
    };
  }

  async #idsAt(host: string, volume: string): Promise<Set<string>> {
    const described = await describeWhole(this.#parts, host, volume).catch(() => null);
    return new Set(described?.snapshots.map(({ id }) => id));
  }

  #note(
    { volume, name }: Route,
    {
      from,
      through: { id, seq },
      behind,
    }: { from: Source; through: Pick<SnapshotFacts, 'id' | 'seq'>; behind: string[] },
  ): void {
    const { host } = this.#of.to;
    this.#plan.records.push({
      volume,
      name,
      host,
      from,
      through: { id, seq },
      complete: false,
      behind,
    });
  }
}

export function emptyPlan(): BasePlan {
  return { records: [], carried: [], present: [], awaited: [], brought: new Set(), impossible: [] };
}
