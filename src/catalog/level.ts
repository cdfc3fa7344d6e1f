// The little of LevelDB that is used, as an interface, so that tests can put memory or a failing disk in its place.
// Invariant: every batch is synced (the LevelDB in classic-level drops its old log unsynced at rotation); clear() is never used.

import type { AbstractLevel, AbstractSnapshot } from 'abstract-level';
import { ClassicLevel } from 'classic-level';

export type Operation = { type: 'put'; key: Buffer; value: Buffer } | { type: 'del'; key: Buffer };

export interface KeyRange {
  gte: Buffer;
  lt: Buffer;
}

/** What a reader sees stays as it was when it was taken; close() it. */
export interface LevelSnapshot {
  close(): Promise<void>;
}

export interface Level {
  open(): Promise<void>;
  close(): Promise<void>;
  /** Applies all or nothing, synced. */
  batch(operations: Operation[]): Promise<void>;
  get(key: Buffer): Promise<Buffer | undefined>;
  getMany(keys: Buffer[], options?: { snapshot?: LevelSnapshot }): Promise<(Buffer | undefined)[]>;
  snapshot(): LevelSnapshot;
  /** Pages of entries in key order. */
  scan(
    range: KeyRange,
    options?: { snapshot?: LevelSnapshot; page?: number },
  ): AsyncIterable<[Buffer, Buffer][]>;
}

/** classic-level fetches pages of 16 KiB else, which a region of windows does not fit into. */
const PAGES = { highWaterMarkBytes: 1 << 20 };

type Database = AbstractLevel<string | Buffer | Uint8Array, Buffer, Buffer>;

class LevelOfAbstractLevel implements Level {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  open(): Promise<void> {
    return this.#database.open();
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  batch(operations: Operation[]): Promise<void> {
    return this.#database.batch(operations, { sync: true } as object);
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    return this.#database.get(key);
  }

  getMany(keys: Buffer[], options: { snapshot?: LevelSnapshot } = {}): Promise<(Buffer | undefined)[]> {
    const snapshot = options.snapshot as AbstractSnapshot | undefined;
    return this.#database.getMany(keys, snapshot ? { snapshot } : {});
  }

  snapshot(): LevelSnapshot {
    return this.#database.snapshot();
  }

  async *scan(
    range: KeyRange,
    options: { snapshot?: LevelSnapshot; page?: number } = {},
  ): AsyncIterable<[Buffer, Buffer][]> {
    const snapshot = options.snapshot as AbstractSnapshot | undefined;
    const iterator = this.#database.iterator({ ...range, ...PAGES, ...(snapshot ? { snapshot } : {}) });
    try {
      for (;;) {
        const page = await iterator.nextv(options.page ?? 1000);
        if (page.length === 0) return;
        yield page;
      }
    } finally {
      await iterator.close();
    }
  }
}

/** Wraps a database whose keys and values are Buffers. */
export function levelOf(database: Database): Level {
  return new LevelOfAbstractLevel(database);
}

export function classicLevel(location: string): Level {
  const encodings = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
  return levelOf(new ClassicLevel<Buffer, Buffer>(location, encodings) as unknown as Database);
}
