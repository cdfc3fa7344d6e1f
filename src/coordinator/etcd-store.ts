// The state of several coordinators: etcd. Whoever leads writes, and reads routes from memory; everybody may read.
//
// Why memory is right: it is loaded by a linearizable read after this coordinator's key of leadership was made, and as long as that key is there nobody
// else writes (every write compares it). A write comes into it when it is known to be stored; one of which that is not known is settled before anything
// is read or written here. A write that is under way is waited for by who reads its route: others may have read it from etcd already. And leadership ends by this machine's own clock before the key can be gone, which every reading looks at.

import type { Route } from '../model/cell/route.js';
import type { EtcdClient } from './etcd-client.js';
import { type EtcdKeys, type KeyValue, type Request, textOf } from './etcd-keys.js';
import { EtcdReader } from './etcd-reader.js';
import {
  type Fence,
  type FencedWrite,
  FencedWriter,
  type Unsettled,
  UnsettledWrite,
  type Written,
} from './fenced-writer.js';
import { KeyedLocks } from './keyed-locks.js';
import type { RouteTable } from './route-table.js';
import { closed, corrupt, nameTaken, notLeader, uncertain, unreachable } from './state-errors.js';
import {
  changesByKey,
  nameKey,
  recordKey,
  recordOf,
  recordsOf,
  routeKey,
  routeOf,
  routeText,
} from './state-values.js';
import type { Change, CoordinatorStore, RecordKind, Records, Replaced } from './store.js';

/** What the store wants of the one who competes for leadership. */
export interface FenceSource {
  /** The same object as long as it leads without a break; null by its own clock before another one can lead. */
  readonly fence: Fence | null;
  /** A write has shown that this one does not lead any more. */
  deposed(fence: Fence): void;
}

/** One time of leadership. */
interface Reign {
  fence: Fence;
  writer: FencedWriter;
  locks: KeyedLocks;
  table: Promise<RouteTable> | null;
  unsettled: Set<Pending>;
  settling: Promise<void> | null;
}

interface Pending {
  write: Unsettled;
  stored: (revision: string) => void;
}

interface RouteReading<T> {
  /** Whose writes are waited for, when they began before. */
  underWay: (table: RouteTable) => string[];
  fromMemory: (table: RouteTable) => T;
  fromEtcd: () => Promise<T>;
}

export class EtcdStore implements CoordinatorStore {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly #reader: EtcdReader;
  readonly #leadership: FenceSource;
  #reign: Reign | null = null;
  #isClosed = false;

  private constructor(client: EtcdClient, keys: EtcdKeys, leadership: FenceSource) {
    this.#client = client;
    this.#keys = keys;
    this.#reader = new EtcdReader(client, keys);
    this.#leadership = leadership;
  }

  /** The client stays its owner's. Throws `coordinator-state-foreign`, `-newer`, `-unreachable`, `-refused`. */
  static async open(client: EtcdClient, keys: EtcdKeys, leadership: FenceSource): Promise<EtcdStore> {
    const store = new EtcdStore(client, keys, leadership);
    await store.#reader.requireFormat();
    return store;
  }

  route(volume: string): Promise<Route | null> {
    return this.#readRoutes({
      underWay: () => [routeKey(volume)],
      fromMemory: (table) => table.route(volume),
      fromEtcd: () => this.#reader.route(volume),
    });
  }

  routeNamed(name: string): Promise<Route | null> {
    return this.#readRoutes({
      underWay: (table) => [nameKey(name), ...routeKeyOf(table.holder(name))],
      fromMemory: (table) => table.named(name),
      fromEtcd: () => this.#reader.routeNamed(name),
    });
  }

  routes(after: string | null, limit: number): Promise<Route[]> {
    return this.#readRoutes({
      underWay: () => [],
      fromMemory: (table) => table.page(after, limit),
      fromEtcd: () => this.#reader.routes(after, limit),
    });
  }

  async createRoute(route: Route): Promise<'stored' | 'exists'> {
    const paths = [routeKey(route.volume), nameKey(route.name)] as const;
    const text = routeText(route, 1);
    return this.#change(paths, async (reign, table) => {
      if (table.route(route.volume) || table.holder(route.name) !== undefined) return 'exists';
      const written = await this.#write(
        reign,
        {
          compare: paths.map((path) => this.#keys.unchanged(path, '0')),
          requests: [this.#keys.put(paths[0], text), this.#keys.put(paths[1], route.volume)],
          look: [paths[0]],
        },
        (revision) => this.#keep(table, paths[0], text, revision),
      );
      if (written.stored) return 'stored';
      this.#learn(table, route.volume, written.found[0]!);
      return 'exists';
    });
  }

  async replaceRoute(route: Route): Promise<Replaced> {
    const [path, newName] = [routeKey(route.volume), nameKey(route.name)];
    return this.#change([path, newName], async (reign, table) => {
      const there = table.entry(route.volume);
      if (there?.route.gen !== route.gen) return { stored: false, route: there?.route ?? null };
      const holder = table.holder(route.name);
      if (holder !== undefined && holder !== route.volume) throw nameTaken(route.name);
      const gen = route.gen + 1;
      const text = routeText(route, gen);
      const oldName = there.route.name;
      const isRenamed = oldName !== route.name;
      const written = await this.#write(
        reign,
        {
          compare: [
            this.#keys.unchanged(path, there.revision),
            ...(isRenamed ? [this.#keys.unchanged(newName, '0')] : []),
          ],
          requests: [
            this.#keys.put(path, text),
            ...(isRenamed
              ? [this.#keys.put(newName, route.volume), this.#keys.delete(nameKey(oldName))]
              : []),
          ],
          look: [path],
        },
        (revision) => this.#keep(table, path, text, revision),
      );
      if (written.stored) return { stored: true, route: table.route(route.volume)! };
      const found = written.found[0]!;
      if (found?.mod_revision === there.revision) throw nameTaken(route.name);
      this.#learn(table, route.volume, found);
      return { stored: false, route: table.route(route.volume) };
    });
  }

  async removeRoute(volume: string, gen: number): Promise<boolean> {
    const path = routeKey(volume);
    return this.#change([path], async (reign, table) => {
      const there = table.entry(volume);
      if (there?.route.gen !== gen) return false;
      const written = await this.#write(
        reign,
        {
          compare: [this.#keys.unchanged(path, there.revision)],
          requests: [this.#keys.delete(path), this.#keys.delete(nameKey(there.route.name))],
          look: [path],
        },
        () => table.delete(volume),
      );
      if (!written.stored) this.#learn(table, volume, written.found[0]!);
      return written.stored;
    });
  }

  async get<K extends RecordKind>(kind: K, key: string): Promise<Records[K] | null> {
    await this.#settled();
    const path = recordKey(kind, key);
    const text = await this.#reader.text(path);
    return text === null ? null : (recordOf(text, path, this.#client.where) as Records[K]);
  }

  async list<K extends RecordKind>(kind: K, prefix = ''): Promise<Records[K][]> {
    await this.#settled();
    const found = await this.#reader.all(`${recordsOf(kind)}${prefix}`);
    return found.map(
      (entry) => recordOf(textOf(entry), this.#keys.path(entry), this.#client.where) as Records[K],
    );
  }

  async put(changes: readonly Change[]): Promise<void> {
    const texts = changesByKey(changes);
    if (texts.size === 0) return;
    const requests = [...texts].map(
      ([path, text]): Request => (text === null ? this.#keys.delete(path) : this.#keys.put(path, text)),
    );
    await this.#change(texts.keys(), async (reign) => {
      await this.#write(reign, { compare: [], requests, look: [] }, () => undefined);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  // ---- the time of leadership ----

  #current(): Reign | null {
    if (this.#isClosed) throw closed();
    const { fence } = this.#leadership;
    if (!fence) this.#reign = null;
    else if (this.#reign?.fence !== fence)
      this.#reign = {
        fence,
        writer: new FencedWriter(this.#client, this.#keys, fence),
        locks: new KeyedLocks(),
        table: null,
        unsettled: new Set(),
        settling: null,
      };
    return this.#reign;
  }

  async #readRoutes<T>({ underWay, fromMemory, fromEtcd }: RouteReading<T>): Promise<T> {
    for (;;) {
      const reign = this.#current();
      if (!reign) return fromEtcd();
      const table = await this.#table(reign);
      for (const path of underWay(table)) await reign.locks.ended(path);
      // Looked at in the same turn as the table is read.
      if (this.#current() === reign && reign.unsettled.size === 0) return fromMemory(table);
    }
  }

  async #change<T>(
    paths: Iterable<string>,
    work: (reign: Reign, table: RouteTable) => Promise<T>,
  ): Promise<T> {
    const reign = this.#current();
    if (!reign) throw notLeader();
    return reign.locks.run(paths, async () => {
      const table = await this.#table(reign);
      if (this.#current() !== reign) throw notLeader();
      return work(reign, table);
    });
  }

  /** `stored` is called when it is known to be stored, now or when it is settled. */
  async #write(reign: Reign, write: FencedWrite, stored: (revision: string) => void): Promise<Written> {
    try {
      const written = await reign.writer.write(write);
      if (written.stored) stored(written.revision);
      return written;
    } catch (error) {
      if (error instanceof UnsettledWrite) {
        reign.unsettled.add({ write: error.unsettled, stored });
        throw uncertain(error.message, error);
      }
      this.#noteDeposed(reign, error);
      throw error;
    }
  }

  async #table(reign: Reign): Promise<RouteTable> {
    reign.table ??= this.#reader.table().catch((error: unknown) => {
      reign.table = null;
      throw error;
    });
    const table = await reign.table;
    if (reign.unsettled.size > 0) await this.#settle(reign);
    return table;
  }

  async #settled(): Promise<void> {
    const reign = this.#current();
    if (reign && reign.unsettled.size > 0) await this.#settle(reign);
  }

  #settle(reign: Reign): Promise<void> {
    reign.settling ??= this.#settleAll(reign).finally(() => {
      reign.settling = null;
    });
    return reign.settling;
  }

  async #settleAll(reign: Reign): Promise<void> {
    for (const pending of reign.unsettled) {
      try {
        const settled = await reign.writer.settle(pending.write);
        if (settled.stored) pending.stored(settled.revision);
        reign.unsettled.delete(pending);
      } catch (error) {
        this.#noteDeposed(reign, error);
        if (error instanceof UnsettledWrite) throw unreachable(error.message, error);
        throw error;
      }
    }
  }

  #noteDeposed({ fence }: Reign, error: unknown): void {
    const { code } = error as { code?: string };
    if (code === 'not-leader') this.#leadership.deposed(fence);
  }

  /** What a comparison has shown: somebody else has changed a route by hand. */
  #learn(table: RouteTable, volume: string, found: KeyValue | null): void {
    table.delete(volume);
    if (found) this.#keep(table, this.#keys.path(found), textOf(found), found.mod_revision);
  }

  #keep(table: RouteTable, path: string, text: string, revision: string): void {
    const route = routeOf(text, path, this.#client.where);
    if (!table.set(route, revision))
      throw corrupt(this.#client.where, `two routes have the name ${route.name}`);
  }
}

function routeKeyOf(volume: string | undefined): string[] {
  return volume === undefined ? [] : [routeKey(volume)];
}
