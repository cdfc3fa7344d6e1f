// Which snapshots of other volumes a move has to bring along so that those of the moved volume go on sharing with them: what they continue, and
// what that continues in turn, as far as the destination does not have it.

import type { SnapshotFacts } from '../protocol/exchange.js';
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
  /** Bases that cannot be brought, with why. */
  impossible: { base: Base; because: string }[];
}

type PlanParts = Pick<Ports, 'hosts' | 'settings'> & { book: RouteBook };

export class BasePlanner {
  readonly #parts: PlanParts;
  readonly #from: { host: string; cell: string };
  readonly #to: HostRecord;
  readonly #plan: BasePlan = { records: [], carried: [], impossible: [] };
  readonly #seen = new Set<string>();

  constructor(parts: PlanParts, { from, to }: { from: { host: string; cell: string }; to: HostRecord }) {
    this.#parts = parts;
    this.#from = from;
    this.#to = to;
  }

  async plan(bases: readonly Base[]): Promise<BasePlan> {
    await this.#bring(bases);
    return this.#plan;
  }

  /** Volumes that are to be there before: what comes of them is continued. */
  async #bring(bases: readonly Base[]): Promise<string[]> {
    const volumes = [...new Set(bases.map(({ volume }) => volume))];
    const before: string[] = [];
    for (const volume of volumes) {
      // Of two volumes that continue one another one comes first, and shares less.
      if (this.#seen.has(volume)) continue;
      this.#seen.add(volume);
      const because = await this.#one(
        volume,
        bases.filter((base) => base.volume === volume),
      );
      if (because === null) before.push(volume);
      else
        this.#plan.impossible.push(
          ...bases.filter((base) => base.volume === volume).map((base) => ({ base, because })),
        );
    }
    return before;
  }

  /** Null: it is in the plan. */
  async #one(volume: string, bases: readonly Base[]): Promise<string | null> {
    const { book } = this.#parts;
    const route = await book.route(volume);
    if (!route || route.status !== 'open') return `volume ${route?.name ?? volume} has no open route`;
    if (hostsOf(route).includes(this.#to.host))
      return `host ${this.#to.host} has another part of volume ${route.name}, which lacks it`;
    const described = await describeWhole(this.#parts, this.#from.host, volume).catch(() => null);
    const snapshots = described?.snapshots ?? [];
    const last = Math.max(
      -1,
      ...bases.map(({ snapshot }) => snapshots.findIndex(({ id }) => id === snapshot)),
    );
    const chain = snapshots.slice(0, last + 1).filter(({ hidden }) => !hidden);
    const through = chain.at(-1);
    if (!through || bases.some(({ snapshot }) => !chain.some(({ id }) => id === snapshot)))
      return `host ${this.#from.host} does not give all of volume ${route.name}`;
    const there = new Set(
      (await describeWhole(this.#parts, this.#to.host, volume).catch(() => null))?.snapshots.map(
        ({ id }) => id,
      ),
    );
    const sent = chain.filter(({ id }) => !there.has(id));
    const behind = await this.#bring(
      sent.flatMap(({ base }) => (base && base.volume !== volume ? [base] : [])),
    );
    this.#plan.records.push({
      volume,
      name: route.name,
      host: this.#to.host,
      from: this.#from,
      through: { id: through.id, seq: through.seq },
      complete: false,
      behind,
    });
    this.#plan.carried.push({ volume: route.name, snapshots: sent.length, sizeBytes: described!.sizeBytes });
    return null;
  }
}
