// A whole store without the addon: operations on a fake data plane and on memory in place of LevelDB, that can be stopped, killed
// or lose power at any batch and any step of the data plane, and be started again on what was left.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryLevel } from 'memory-level';
import type { KeyRange, Level, LevelSnapshot, Operation } from '../../src/catalog/level.js';
import { levelOf } from '../../src/catalog/level.js';
import { Operations } from '../../src/operations/operations.js';
import type { Logger, OperationsOptions } from '../../src/operations/types.js';
import { FakeDisk } from './fake-disk.js';
import { FakePlane } from './fake-plane.js';

export const WINDOW_BYTES = 64 << 10;
export const BLOCKS = WINDOW_BYTES / 4096;

export type Death = 'process-death' | 'power-loss';

/** A new one each time: one for all would keep whoever ever waited for it. */
const never = () => new Promise<never>(() => undefined);

/** One process's sight of the database: gone with the process, failing when told to. */
export class TestLevel implements Level {
  readonly #under: Level;
  dead = false;
  batches = 0;
  readonly log: Operation[][] = [];
  /** Called before ('before') and after ('after') every batch. */
  onBatch: (when: 'before' | 'after', number: number) => void = () => undefined;
  /** So many of the next batches fail; `applied`: whether they are there nevertheless. */
  failures: { applied: boolean }[] = [];
  /** The disk is gone: nothing is written, and a database that was closed is not opened again. */
  lost = false;
  #broken = false;

  constructor(under: Level) {
    this.#under = under;
  }

  async open(): Promise<void> {
    if (this.lost)
      throw Object.assign(new Error('IO error: LOCK: Input/output error'), { code: 'LEVEL_IO_ERROR' });
    this.#broken = false;
    return this.dead ? never() : this.#under.open();
  }

  async close(): Promise<void> {
    this.#broken ||= this.lost;
    return this.dead ? never() : undefined;
  }

  async batch(operations: Operation[]): Promise<void> {
    const number = ++this.batches;
    if (!this.dead) this.onBatch('before', number);
    if (this.dead) return never();
    this.#broken ||= this.lost;
    if (this.#broken) throw new Error('the database has failed and was not reopened');
    const failure = this.failures.shift();
    if (failure) this.#broken = true;
    if (!failure || failure.applied) await this.#under.batch(operations);
    if (failure)
      throw Object.assign(new Error('IO error: No space left on device'), { code: 'LEVEL_IO_ERROR' });
    this.log.push(operations);
    if (!this.dead) this.onBatch('after', number);
    if (this.dead) return never();
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    if (this.#broken) throw new Error('Database is not open');
    return this.dead ? never() : this.#under.get(key);
  }

  async getMany(keys: Buffer[], options?: { snapshot?: LevelSnapshot }): Promise<(Buffer | undefined)[]> {
    return this.dead ? never() : this.#under.getMany(keys, options);
  }

  snapshot(): LevelSnapshot {
    return this.#under.snapshot();
  }

  async *scan(
    range: KeyRange,
    options?: { snapshot?: LevelSnapshot; page?: number },
  ): AsyncIterable<[Buffer, Buffer][]> {
    if (this.dead) await never();
    yield* this.#under.scan(range, { ...options, page: 7 });
  }
}

export const quiet: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export class Store {
  readonly disk = new FakeDisk();
  readonly database: Level = levelOf(
    new MemoryLevel<Buffer, Buffer>({
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      storeEncoding: 'buffer',
    }) as never,
  );
  readonly directory: string;
  readonly troubles: { level: string; message: string; facts: object }[] = [];
  plane!: FakePlane;
  level!: TestLevel;
  operations!: Operations;
  /** Called after every start. */
  started: (store: Store) => void = () => undefined;
  /** Of every start from now on. */
  options: Partial<OperationsOptions> = {};
  #died: (() => void)[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(options: Partial<OperationsOptions> = {}): Promise<Store> {
    const store = new Store(await mkdtemp(join(tmpdir(), 'cellblock-store-')));
    store.options = options;
    await store.start();
    return store;
  }

  /** A new process. `prepare` may set crash points for the start itself. */
  async start(options: Partial<OperationsOptions> = {}, prepare?: (store: Store) => void): Promise<void> {
    this.plane = new FakePlane(this.disk);
    this.level = new TestLevel(this.database);
    prepare?.(this);
    this.operations = await Operations.open({
      directory: this.directory,
      plane: this.plane,
      level: this.level,
      log: this.#logger(),
      windowBytes: WINDOW_BYTES,
      reserveBytes: 0n,
      ballastBytes: 0,
      idleCloseMs: 1_000_000,
      bootId: this.disk.bootId,
      pause: () => new Promise((resolve) => setImmediate(resolve)),
      ...this.options,
      ...options,
    });
    this.started(this);
  }

  #logger(): Logger {
    const note = (level: string) => (facts: object, message: string) =>
      void this.troubles.push({ level, message, facts });
    return { ...quiet, warn: note('warn'), error: note('error') };
  }

  /** The process is gone in this instant; what it awaits never comes. */
  die(how: Death): void {
    this.plane.kill();
    this.level.dead = true;
    if (how === 'power-loss') this.disk.powerLoss();
    for (const died of this.#died.splice(0)) died();
  }

  get isDead(): boolean {
    return this.plane.dead;
  }

  /** Runs until it ends or the process dies under it. */
  async survive(work: () => Promise<unknown>): Promise<'ended' | 'died'> {
    const died = new Promise<'died'>((resolve) => this.#died.push(() => resolve('died')));
    const ended = work().then(
      (): 'ended' => 'ended',
      (error: unknown) => {
        if (this.isDead) return 'died' as const;
        throw error;
      },
    );
    return Promise.race([ended, died]);
  }

  async restart(how: 'clean' | Death, options: Partial<OperationsOptions> = {}): Promise<void> {
    if (how === 'clean') await this.operations.close();
    else if (!this.isDead) this.die(how);
    await this.start(options);
  }

  /** Everything in the background has ended: reclaiming, punches. */
  async settle(): Promise<void> {
    const { reclaim, punches } = this.operations.parts;
    for (let pass = 0; pass < 3; pass++) {
      reclaim.noteAll();
      await reclaim.kick();
      await punches.settled();
    }
  }

  async end(): Promise<void> {
    if (!this.isDead) await this.operations.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  async readAll(name: string): Promise<number[]> {
    const session = await this.plane.connect(name);
    const blocks = Number((session.volume.sizeBytes + 4095n) / 4096n);
    const values = await session.read(0, blocks);
    session.close();
    return values;
  }
}

export function blocksBytes(blocks: number): bigint {
  return BigInt(blocks) * 4096n;
}
