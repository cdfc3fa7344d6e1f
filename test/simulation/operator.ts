// The operator of a simulated installation: does what people are told to do with what the coordinators leave to them, until nothing is left.

import { hostsOf } from '../../src/coordinator/route-book.js';
import type { HostRecord } from '../../src/model/cell/host-record.js';
import type { Head, Route } from '../../src/model/cell/route.js';
import { owns } from '../../src/model/cell/states.js';
import { ask, snapshot } from './actions.js';
import type { SimVolume } from './oracle.js';
import type { SimHost } from './sim-host.js';
import type { World } from './world.js';

export class Operator {
  readonly #world: World;
  readonly #done = new Set<string>();
  #snapshots = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Everything once. */
  async look(): Promise<void> {
    await this.#readmit();
    for (const volume of this.#world.oracle.volumes.values()) {
      const route = this.#routeOf(volume);
      if (!route) {
        await this.#purge(volume, null);
        continue;
      }
      if (route.status === 'lost' || this.#isBeginningOnly(route)) await this.#forget(volume);
      else if (route.status === 'quarantined') await this.#adopt(volume, route);
      else if (route.alternate?.needsRepair && route.alternate.mustSeal === null)
        await ask(this.#world, 'quarantine-discard', { volume: volume.name });
      if (route.status === 'open') await this.#purge(volume, route);
      if (route.status === 'open' && !this.#done.has(volume.name) && (await this.#snapshot(volume)))
        this.#done.add(volume.name);
    }
  }

  /** What is not as it should be when nobody does anything any more; null: all is. */
  whyNotQuiet(): string | null {
    const { etcd, hosts, oracle } = this.#world;
    for (const key of etcd.state.records.keys())
      if (/^.?(operation|group)/.test(key) || key.includes('/operation/') || key.includes('/group/'))
        return `there is a record ${key}`;
    for (const host of hosts.values()) {
      if (!host.isConnected) return `${host.name} is not connected`;
      if (host.isStale) return `${host.name} is held back`;
    }
    for (const volume of oracle.volumes.values()) {
      const why = this.#whyNotQuiet(volume);
      if (why) return `${volume.name}: ${why}`;
    }
    return null;
  }

  #whyNotQuiet(volume: SimVolume): string | null {
    const route = this.#routeOf(volume);
    if (!route && !volume.isDeleted) return 'it has no route';
    const [stray] = this.#strays(volume, route);
    if (stray) return `${stray.name} has something of it, and no route names that host`;
    if (!route) return null;
    if (route.status !== 'open') return `its route is ${route.status}`;
    if (route.journal) return `its move is at ${route.journal.phase}`;
    if (route.alternate) return `it has an alternate at ${route.alternate.primary}`;
    if (!this.#done.has(volume.name)) return 'no last snapshot of it could be taken';
    const owner = this.#world.host(route.active.primary);
    const record = owner.lineage(route.volume)?.record;
    if (!record || record.state === 'GONE' || !owns(record.state) || !owner.serves(route.volume))
      return `${owner.name} does not serve it, where it is ${record?.state ?? 'NONE'}`;
    if (record.epoch !== route.epoch) return `its epoch is ${route.epoch}, and ${record.epoch} at its owner`;
    if (record.head?.id !== route.lineageHead?.id) return 'its owner has another head than its route';
    return null;
  }

  /** Of a deleted volume a backup may bring back its owner, which nobody can know to be none: what is unclaimed is left alone. */
  #strays({ id }: SimVolume, route: Route | null): SimHost[] {
    const named = route ? hostsOf(route) : [];
    return [...this.#world.hosts.values()].filter((host) => {
      const state = id === null ? undefined : host.lineage(id)?.record.state;
      if (state === undefined || state === 'GONE' || named.includes(host.name)) return false;
      return route !== null || !host.broughtBack.has(id!);
    });
  }

  /** What no route names is of no use to anybody, as it is at rest. */
  async #purge(volume: SimVolume, route: Route | null): Promise<void> {
    if (route?.journal || route?.alternate || volume.id === null) return;
    for (const { name: host } of this.#strays(volume, route)) {
      this.#world.excused('purged', `${host} has something of ${volume.name} without a route or a cause`);
      await ask(this.#world, 'host-purge', { host, volume: volume.id, acceptLoss: true });
    }
  }

  /** A backup has lost the owner's part before the other cell had all of it. */
  #isBeginningOnly({ volume, status, active, alternate }: Route): boolean {
    if (status !== 'open' || !alternate) return false;
    const [owner, other] = [active, alternate].map(({ primary }) => this.#world.host(primary));
    if (!owner!.isConnected || !other!.isConnected || owner!.isStale || owner!.lineage(volume)) return false;
    return other!.lineage(volume)?.record.state === 'RECEIVING';
  }

  #routeOf({ id, name }: SimVolume): Route | null {
    const { table } = this.#world.etcd.state;
    return id === null ? table.named(name) : table.route(id);
  }

  /** The only host that had it came back without it, or with a copy that was not complete then. */
  async #forget(volume: SimVolume): Promise<void> {
    this.#world.excused('lost', `${volume.name} is lost without a cause`);
    this.#world.oracle.lost(volume, null);
    volume.isDeleted = true;
    await ask(this.#world, 'route-forget', { volume: volume.name });
  }

  /** Each under a name of its own: one that nobody has answered for may have been taken. */
  async #snapshot({ name }: SimVolume): Promise<boolean> {
    this.#snapshots += 1;
    return snapshot(this.#world, name, `final${this.#snapshots}`);
  }

  async #readmit(): Promise<void> {
    const { hosts, etcd, oracle } = this.#world;
    const store = etcd.state.store();
    for (const host of hosts.values()) {
      const known = await store.get('host', host.name);
      if (!known?.regressed) continue;
      if (!host.isStale)
        this.#world.excused('readmitted', `${host.name} is held back, and was never restored`);
      // Said by its own backup: from here on what it has is what there is.
      host.isStale = false;
      for (const volume of oracle.volumes.values()) {
        const record = volume.id === null ? undefined : host.lineage(volume.id)?.record;
        const route = this.#routeOf(volume);
        if (route?.active.primary === host.name) oracle.lost(volume, record?.head ?? null);
      }
      await ask(this.#world, 'host-readmit', { host: host.name });
    }
  }

  /** The cell that has most goes on. */
  async #adopt(volume: SimVolume, route: Route): Promise<void> {
    const { oracle } = this.#world;
    // Whoever decides looks at both first.
    if (
      [route.active, route.alternate].some((place) => place && !this.#world.host(place.primary).isConnected)
    )
      return;
    this.#world.excused('quarantined', `${volume.name} is in quarantine without a cause`);
    const places = [route.active, ...(route.alternate ? [route.alternate] : [])].map((place) => ({
      place,
      record: this.#world.host(place.primary).lineage(route.volume)?.record,
    }));
    const usable = places
      .filter(({ record }) => record && isUsable(record))
      // Of two parts in one cell the active one is adopted.
      .filter(({ place }, at, all) => all.findIndex((each) => each.place.cell === place.cell) === at);
    usable.sort((a, b) => rankOf(b.record!) - rankOf(a.record!));
    const chosen = usable[0];
    // What was complete is lost, with the backup that brought back the beginning of a copy.
    if (!chosen) return this.#forget(volume);
    const head: Head | null = chosen.record!.head;
    oracle.lost(volume, head);
    await ask(this.#world, 'quarantine-adopt', { volume: volume.name, cell: chosen.place.cell });
  }
}

function isUsable({ state, faultedFrom, replica, head }: HostRecord): boolean {
  const was = faultedFrom ?? state;
  if (was === 'GONE') return false;
  return replica ? head !== null : was !== 'RECEIVING';
}

function rankOf({ epoch, head }: { epoch: number; head: Head | null }): number {
  return (head?.seq ?? 0) * 1_000 + epoch;
}
