// The state of a coordinator that is the only one: LevelDB in a directory that this process has locked.
//
// Invariants: every batch is synced; what is written has one writer a key at a time, so that the order of asking is the order on disk. Routes are
// all in memory too, and come there when they are durable. A batch that failed is neither done nor undone: the database is opened again, and what
// is found there is what became of it. As long as that does not succeed nothing is read or written.

import { CellblockError } from '../base/errors.js';
import type { Level, Operation } from '../catalog/level.js';
import type { Route } from '../model/cell/route.js';
import { KeyedLocks } from './keyed-locks.js';
import { directoryError, innermost, openDirectory } from './level-directory.js';
import { RouteTable } from './route-table.js';
import { closed, corrupt, nameTaken, stateError, uncertain } from './state-errors.js';
import {
  changesByKey,
  endOfPrefix,
  nameKey,
  ROUTES,
  recordKey,
  recordOf,
  recordsOf,
  routeKey,
  routeOf,
  routeText,
} from './state-values.js';
import type { Change, CoordinatorStore, RecordKind, Records, Replaced } from './store.js';

export class LevelStore implements CoordinatorStore {
  readonly #level: Level;
  readonly #where: string;
  readonly #locks = new KeyedLocks();
  #table = new RouteTable();
  /** While it is being opened again, or after that has failed. */
  #healing: Promise<void> | null = null;
  #isUsable = true;
  /** Grows with every opening. */
  #generation = 0;
  #closed: Promise<void> | null = null;

  private constructor(level: Level, where: string) {
    this.#level = level;
    this.#where = where;
  }

  /**
   * Throws `coordinator-state-locked`, `coordinator-state-foreign`, `coordinator-state-newer`, `coordinator-state-corrupt`, `coordinator-state-failed`,
   * `coordinator-state-full`, `permission-denied`.
   */
  static async open(directory: string): Promise<LevelStore> {
    return LevelStore.over(await openDirectory(directory), directory);
  }

  /** Over a database that is open. */
  static async over(level: Level, where: string): Promise<LevelStore> {
    const store = new LevelStore(level, where);
    try {
      await store.#load();
    } catch (error) {
      await level.close();
      throw error;
    }
    return store;
  }

  async route(volume: string): Promise<Route | null> {
    await this.#usable();
    return this.#table.route(volume);
  }

  async routeNamed(name: string): Promise<Route | null> {
    await this.#usable();
    return this.#table.named(name);
  }

  async routes(after: string | null, limit: number): Promise<Route[]> {
    await this.#usable();
    return this.#table.page(after, limit);
  }

  async createRoute(route: Route): Promise<'stored' | 'exists'> {
    const key = routeKey(route.volume);
    return this.#change([key, nameKey(route.name)], async () => {
      if (this.#table.route(route.volume) || this.#table.holder(route.name) !== undefined) return 'exists';
      await this.#storeRoute(key, { ...route, gen: 1 });
      return 'stored';
    });
  }

  async replaceRoute(route: Route): Promise<Replaced> {
    const key = routeKey(route.volume);
    return this.#change([key, nameKey(route.name)], async () => {
      const there = this.#table.route(route.volume);
      if (there?.gen !== route.gen) return { stored: false, route: there };
      const holder = this.#table.holder(route.name);
      if (holder !== undefined && holder !== route.volume) throw nameTaken(route.name);
      return { stored: true, route: await this.#storeRoute(key, { ...route, gen: route.gen + 1 }) };
    });
  }

  async removeRoute(volume: string, gen: number): Promise<boolean> {
    const key = routeKey(volume);
    return this.#change([key], async () => {
      if (this.#table.route(volume)?.gen !== gen) return false;
      await this.#batch([{ type: 'del', key: Buffer.from(key) }]);
      this.#table.delete(volume);
      return true;
    });
  }

  async get<K extends RecordKind>(kind: K, key: string): Promise<Records[K] | null> {
    const path = recordKey(kind, key);
    const stored = await this.#read((level) => level.get(Buffer.from(path)));
    return stored ? (recordOf(stored.toString(), path, this.#where) as Records[K]) : null;
  }

  async list<K extends RecordKind>(kind: K, prefix = ''): Promise<Records[K][]> {
    const entries = await this.#read((level) => entriesOf(level, `${recordsOf(kind)}${prefix}`));
    return entries.map(([key, text]) => recordOf(text, key, this.#where) as Records[K]);
  }

  async put(changes: readonly Change[]): Promise<void> {
    const texts = changesByKey(changes);
    if (texts.size === 0) return;
    const operations = [...texts].map(([key, text]): Operation => operationOf(key, text));
    await this.#change(texts.keys(), () => this.#batch(operations));
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#healing?.catch(() => undefined);
      await this.#level.close();
    })();
    return this.#closed;
  }

  async #storeRoute(key: string, route: Route): Promise<Route> {
    const text = routeText(route, route.gen);
    await this.#batch([operationOf(key, text)]);
    const stored = routeOf(text, key, this.#where);
    this.#table.set(stored);
    return stored;
  }

  #change<T>(keys: Iterable<string>, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(keys, async () => {
      await this.#usable();
      return work();
    });
  }

  /** Resolves when it is durable; after a failure the database says whether it is. */
  async #batch(operations: Operation[]): Promise<void> {
    const generation = this.#generation;
    try {
      await this.#level.batch(operations);
      return;
    } catch (error) {
      if (this.#closed) throw uncertain('it was being closed', error);
      try {
        await this.#heal(generation);
        if (await this.#isThere(operations)) return;
      } catch (again) {
        throw uncertain(
          `writing failed (${innermost(error).message}), and opening ${this.#where} again`,
          again,
        );
      }
      throw this.#failed('written', error);
    }
  }

  /** All of a batch is there or nothing of it, and nobody else writes these keys now. */
  async #isThere(operations: readonly Operation[]): Promise<boolean> {
    const found = await this.#level.getMany(operations.map(({ key }) => key));
    return operations.every((operation, index) => {
      const value = found[index];
      return operation.type === 'del' ? value === undefined : value?.equals(operation.value) === true;
    });
  }

  async #read<T>(reading: (level: Level) => Promise<T>): Promise<T> {
    for (;;) {
      await this.#usable();
      const generation = this.#generation;
      try {
        return await reading(this.#level);
      } catch (error) {
        if (this.#closed) throw closed();
        if (generation === this.#generation && !this.#healing) throw this.#failed('read', error);
      }
    }
  }

  async #usable(): Promise<void> {
    if (this.#closed) throw closed();
    if (this.#isUsable) return;
    try {
      await this.#heal(this.#generation);
    } catch (error) {
      throw this.#failed('opened again', error);
    }
  }

  /** Opens the database again, unless somebody has done it since `generation`. */
  #heal(generation: number): Promise<void> {
    if (generation !== this.#generation) return this.#healing ?? Promise.resolve();
    this.#healing ??= this.#reopen().finally(() => {
      this.#healing = null;
    });
    return this.#healing;
  }

  async #reopen(): Promise<void> {
    this.#isUsable = false;
    await this.#level.close();
    await this.#level.open();
    await this.#load();
    this.#generation++;
    this.#isUsable = true;
  }

  async #load(): Promise<void> {
    const table = new RouteTable();
    for (const [key, text] of await entriesOf(this.#level, ROUTES)) {
      const route = routeOf(text, key, this.#where);
      if (!table.set(route)) throw corrupt(this.#where, `two routes have the name ${route.name}`);
    }
    this.#table = table;
  }

  #failed(what: string, cause: unknown): Error {
    if (cause instanceof CellblockError) return cause;
    const error = innermost(cause);
    if ((cause as NodeJS.ErrnoException).code === 'LEVEL_CORRUPTION')
      return corrupt(this.#where, error.message, cause);
    const known = directoryError(this.#where, cause);
    if (known.code === 'coordinator-state-full') return known;
    return stateError(
      'coordinator-state-failed',
      `The state of the coordinator cannot be ${what}: ${error.message}.`,
      'Check the disk and the log of the coordinator.',
      cause,
    );
  }
}

function operationOf(key: string, text: string | null): Operation {
  return text === null
    ? { type: 'del', key: Buffer.from(key) }
    : { type: 'put', key: Buffer.from(key), value: Buffer.from(text) };
}

async function entriesOf(level: Level, prefix: string): Promise<[string, string][]> {
  const gte = Buffer.from(prefix);
  const entries: [string, string][] = [];
  for await (const page of level.scan({ gte, lt: endOfPrefix(gte) }))
    for (const [key, value] of page) entries.push([key.toString(), value.toString()]);
  return entries;
}
