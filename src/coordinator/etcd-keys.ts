// The part of etcd's keys and messages that is used: keys under one prefix, and bytes as base64, as its gateway wants them.

import { endOfPrefix } from './state-values.js';

export interface KeyValue {
  key: string;
  value?: string;
  create_revision: string;
  mod_revision: string;
}

export interface RangeAnswer {
  header: { revision: string };
  kvs?: KeyValue[];
  more?: boolean;
}

export interface TxnAnswer {
  header: { revision: string };
  succeeded?: boolean;
  responses?: { response_range?: RangeAnswer }[];
}

/** `revision` 0: there is no such key. */
export type Compare = { key: string; result: 'EQUAL' } & (
  | { target: 'CREATE'; create_revision: string }
  | { target: 'MOD'; mod_revision: string }
);

export type Request =
  | { request_put: { key: string; value: string; lease?: string } }
  | { request_delete_range: { key: string } }
  | { request_range: RangeRequest }
  | { request_txn: { success: Request[] } };

export interface RangeRequest {
  key: string;
  range_end?: string;
  limit?: number;
  revision?: string;
  keys_only?: boolean;
}

export interface Txn {
  compare: Compare[];
  success: Request[];
  failure: Request[];
}

/** Of the key of whoever leads. */
export const LEADER_PATH = 'leader';

/** Absolute: `/cellblock/`. */
export class EtcdKeys {
  readonly prefix: string;
  readonly #prefixBytes: number;

  constructor(prefix: string) {
    this.prefix = prefix;
    this.#prefixBytes = Buffer.byteLength(prefix);
  }

  key(path: string): string {
    return base64(this.prefix + path);
  }

  /** Everything whose path begins so, or what of it lies behind `after`. */
  all(path: string, after: string | null = null): { key: string; range_end: string } {
    const first = after === null ? this.key(path) : base64(`${this.prefix}${after}\0`);
    return { key: first, range_end: endOfPrefix(Buffer.from(this.prefix + path)).toString('base64') };
  }

  path({ key }: KeyValue): string {
    return Buffer.from(key, 'base64').subarray(this.#prefixBytes).toString();
  }

  put(path: string, text: string, lease?: string): Request {
    return { request_put: { key: this.key(path), value: base64(text), ...(lease ? { lease } : {}) } };
  }

  delete(path: string): Request {
    return { request_delete_range: { key: this.key(path) } };
  }

  range(path: string): Request {
    return { request_range: { key: this.key(path) } };
  }

  /** As it was when it was last changed at `revision`; '0': it is not there. */
  unchanged(path: string, revision: string): Compare {
    return { key: this.key(path), result: 'EQUAL', target: 'MOD', mod_revision: revision };
  }

  /** Made at `revision`, whatever has become of its value; '0': it is not there. */
  madeAt(path: string, revision: string): Compare {
    return { key: this.key(path), result: 'EQUAL', target: 'CREATE', create_revision: revision };
  }
}

export function textOf({ value = '' }: KeyValue): string {
  return Buffer.from(value, 'base64').toString();
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
