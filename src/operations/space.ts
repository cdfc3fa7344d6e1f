// Free space: the reserve below which nothing new is begun, and the ballast that is given up when LevelDB meets a full disk.
// Invariant: the ballast is dropped before LevelDB is reopened after a failure, and rebuilt only when there is room for twice as much.

import { open, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';

import { CellblockError } from '../base/errors.js';
import type { Logger } from './types.js';

const CHUNK = Buffer.alloc(1 << 20, 0x5a);
const REBUILD_MS = 60_000;
/** Room so far above the reserve is not gone in so short a time. */
const AMPLE_BYTES = 4n << 30n;
const AMPLE_FOR_MS = 100;

export interface FreeSpace {
  freeBytes: bigint;
  reserveBytes: bigint;
  /** Nothing new is begun: first writes get ENOSPC, new volumes and snapshots are refused. */
  belowReserve: boolean;
}

export class Space {
  readonly #directory: string;
  readonly #ballast: string;
  readonly #log: Logger;
  readonly #options: { reserveBytes: bigint; ballastBytes: number };
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  /** How often in a row the ballast could not be removed. */
  #stuck = 0;
  #ampleUntil = 0;

  get reserveBytes(): bigint {
    return this.#options.reserveBytes;
  }

  constructor(directory: string, log: Logger, options: { reserveBytes: bigint; ballastBytes: number }) {
    this.#directory = directory;
    this.#ballast = join(directory, 'ballast');
    this.#log = log;
    this.#options = options;
  }

  async freeBytes(): Promise<bigint> {
    const { bavail, bsize } = await statfs(this.#directory, { bigint: true });
    return bavail * bsize;
  }

  /** Null: the file system does not say. */
  async look(): Promise<FreeSpace | null> {
    const { reserveBytes } = this.#options;
    const freeBytes = await this.freeBytes().catch(() => null);
    return freeBytes === null ? null : { freeBytes, reserveBytes, belowReserve: freeBytes < reserveBytes };
  }

  /** At start: a store that takes nothing new looks as if all were well. */
  async warn(): Promise<void> {
    const space = await this.look();
    if (!space?.belowReserve) return;
    const { freeBytes, reserveBytes } = space;
    this.#log.warn(
      { freeBytes: Number(freeBytes), reserveBytes: Number(reserveBytes) },
      'the file system has less free than the reserve (store.reserve): new writes are refused until there is room',
    );
  }

  /** Throws `no-space` when the file system has fewer free bytes than the reserve. */
  async check(): Promise<void> {
    if (this.#options.reserveBytes === 0n || performance.now() < this.#ampleUntil) return;
    const free = await this.freeBytes();
    if (free >= this.#options.reserveBytes) {
      if (free >= this.#options.reserveBytes + AMPLE_BYTES)
        this.#ampleUntil = performance.now() + AMPLE_FOR_MS;
      return;
    }
    throw new CellblockError(
      'no-space',
      `The file system of the store has ${free} bytes left, fewer than its reserve of ${this.#options.reserveBytes}.`,
      {
        hint: 'Make room there, or delete volumes or snapshots; nothing was changed.',
        facts: { freeBytes: free.toString(), reserveBytes: this.#options.reserveBytes.toString() },
      },
    );
  }

  /** Gives up the ballast. Never throws: it is called when things already go wrong. */
  async makeRoom(): Promise<void> {
    await rm(this.#ballast, { force: true }).then(
      () => {
        this.#stuck = 0;
      },
      (error: unknown) => {
        this.#stuck++;
        if (this.#stuck === 1) this.#log.warn({ err: error }, 'the ballast file could not be removed');
      },
    );
    this.#later();
  }

  /** Builds the ballast when it is not there and there is room; else later. */
  async build(): Promise<void> {
    try {
      const there = await stat(this.#ballast).then(
        ({ size }) => size,
        () => 0,
      );
      if (this.#stopped || there >= this.#options.ballastBytes) return;
      const needed = this.#options.reserveBytes + 2n * BigInt(this.#options.ballastBytes);
      if ((await this.freeBytes()) < needed) return this.#later();
      await this.#write();
    } catch (error) {
      this.#log.warn({ err: error }, 'the ballast file could not be built; it is tried again later');
      await rm(this.#ballast, { force: true }).catch(() => undefined);
      this.#later();
    }
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  async #write(): Promise<void> {
    const file = await open(this.#ballast, 'w', 0o600);
    try {
      for (let left = this.#options.ballastBytes; left > 0; left -= CHUNK.length) {
        await file.write(CHUNK, 0, Math.min(left, CHUNK.length));
      }
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  #later(): void {
    if (this.#timer || this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.build();
    }, REBUILD_MS);
    this.#timer.unref();
  }
}
