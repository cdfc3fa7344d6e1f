// Linearizable reads of a coordinator's state in etcd; those of several steps are all of one revision.

import type { Route } from '../model/cell/route.js';
import { type EtcdClient, EtcdFailure } from './etcd-client.js';
import type { EtcdKeys, KeyValue, RangeAnswer, RangeRequest, TxnAnswer } from './etcd-keys.js';
import { LEADER_PATH, textOf } from './etcd-keys.js';
import { definite } from './fenced-writer.js';
import { RouteTable } from './route-table.js';
import { corrupt, foreign, newer } from './state-errors.js';
import {
  FORMAT,
  FORMAT_KEY,
  formatOf,
  formatText,
  NAMES,
  nameKey,
  ROUTES,
  routeKey,
  routeOf,
} from './state-values.js';

/** Of one answer. */
const PAGE = 1_000;
/** etcd takes 128 requests in a transaction. */
const MOST_RANGES = 100;

export class EtcdReader {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;

  constructor(client: EtcdClient, keys: EtcdKeys) {
    this.#client = client;
    this.#keys = keys;
  }

  /** Writes the format where nothing is yet. */
  async requireFormat(): Promise<void> {
    const where = `${this.#client.where}, ${this.#keys.prefix}`;
    if ((await this.text(FORMAT_KEY)) === null) {
      // Somebody may compete for leadership already, or have made the format just now.
      const { kvs = [] } = await this.#range({ ...this.#keys.all(''), limit: 3, keys_only: true });
      const isOwn = kvs.every((entry) => [FORMAT_KEY, LEADER_PATH].includes(this.#keys.path(entry)));
      if (!isOwn) throw foreign(where);
      const compare = [this.#keys.madeAt(FORMAT_KEY, '0')];
      const success = [this.#keys.put(FORMAT_KEY, formatText())];
      await this.#ask('/v3/kv/txn', { compare, success, failure: [] });
    }
    const format = formatOf((await this.text(FORMAT_KEY)) ?? '');
    if (format === undefined || format < 1) throw foreign(where);
    if (format > FORMAT) throw newer(where, format, FORMAT);
  }

  async text(path: string): Promise<string | null> {
    const { kvs } = await this.#range({ key: this.#keys.key(path) });
    return kvs ? textOf(kvs[0]!) : null;
  }

  async route(volume: string): Promise<Route | null> {
    const path = routeKey(volume);
    const text = await this.text(path);
    return text === null ? null : routeOf(text, path, this.#client.where);
  }

  async routeNamed(name: string): Promise<Route | null> {
    const { kvs, header } = await this.#range({ key: this.#keys.key(nameKey(name)) });
    return kvs ? ((await this.#routesOf(kvs, header.revision))[0] ?? null) : null;
  }

  async routes(after: string | null, limit: number): Promise<Route[]> {
    if (limit <= 0) return [];
    const range = this.#keys.all(NAMES, after === null ? null : `${NAMES}${after}`);
    const { kvs = [], header } = await this.#range({ ...range, limit });
    return this.#routesOf(kvs, header.revision);
  }

  async table(): Promise<RouteTable> {
    const table = new RouteTable();
    for await (const page of this.#pages(ROUTES)) {
      for (const entry of page) {
        const route = routeOf(textOf(entry), this.#keys.path(entry), this.#client.where);
        if (!table.set(route, entry.mod_revision))
          throw corrupt(this.#client.where, `two routes have the name ${route.name}`);
      }
    }
    return table;
  }

  /** Whose path begins so, in the order of their paths. */
  async all(path: string): Promise<KeyValue[]> {
    const entries: KeyValue[] = [];
    for await (const page of this.#pages(path)) entries.push(...page);
    return entries;
  }

  async *#pages(path: string): AsyncGenerator<KeyValue[]> {
    let after: string | null = null;
    let revision: string | undefined;
    for (;;) {
      const range: RangeRequest = { ...this.#keys.all(path, after), limit: PAGE };
      const {
        kvs = [],
        more,
        header,
      }: RangeAnswer = await this.#range({ ...range, ...(revision ? { revision } : {}) });
      yield kvs;
      if (!more) return;
      revision ??= header.revision;
      after = this.#keys.path(kvs.at(-1)!);
    }
  }

  /** Of entries of names. */
  async #routesOf(names: readonly KeyValue[], revision: string): Promise<Route[]> {
    const routes: Route[] = [];
    for (let start = 0; start < names.length; start += MOST_RANGES) {
      const success = names.slice(start, start + MOST_RANGES).map((entry) => ({
        request_range: { key: this.#keys.key(routeKey(textOf(entry))), revision },
      }));
      const { responses = [] } = await this.#ask<TxnAnswer>('/v3/kv/txn', {
        compare: [],
        success,
        failure: [],
      });
      for (const { response_range } of responses) {
        const entry = response_range?.kvs?.[0];
        if (!entry) throw corrupt(this.#client.where, 'a name has no route');
        routes.push(routeOf(textOf(entry), this.#keys.path(entry), this.#client.where));
      }
    }
    return routes;
  }

  #range(range: RangeRequest): Promise<RangeAnswer> {
    return this.#ask('/v3/kv/range', range);
  }

  async #ask<T>(path: string, body: object): Promise<T> {
    try {
      return (await this.#client.ask<T>(path, body)).answer;
    } catch (error) {
      throw error instanceof EtcdFailure ? definite(error) : error;
    }
  }
}
