// Brings atomic groups of operations to LevelDB: one synced batch in flight, groups that come meanwhile share the next.
//
// Invariants: groups become durable in the order they were handed in, each whole in one batch. A batch that failed is neither
// done nor undone: the database is closed and opened again before anything else is written or read, and then the same batch is
// written once more (its operations are absolute, so repeating it is right whatever became of it). A group that was handed in as
// `yielding` is not repeated but given back to its owner, who reads again and comes with a newer one. Nobody waits without limit:
// after `giveUpAfter` failures in a row those who wait, for a write or a read, are told, and who comes then is told at once; the
// groups stay and are tried on.

import { CellblockError } from '../base/errors.js';
import type { Level, LevelSnapshot, Operation } from './level.js';

export const MAX_BATCH_OPERATIONS = 10_000;
export const MAX_BATCH_BYTES = 4 << 20;

export interface CommitQueueOptions {
  /** Called before the database is reopened after a failure: makes room (drops the ballast). */
  makeRoom(): Promise<void>;
  /** `failures`: in a row, of writing or of opening. */
  onTrouble(error: unknown, failures: number): void;
  onHealed(): void;
  /** Waits between attempts; grows with the failures. */
  pause(failures: number): Promise<void>;
  /** After so many failures in a row those who wait are told; the groups stay. */
  giveUpAfter: number;
}

interface Group {
  operations: Operation[];
  bytes: number;
  yielding: boolean;
  done(): void;
  failed(error: unknown): void;
}

export function bytesOf(operations: readonly Operation[]): number {
  let bytes = 0;
  for (const operation of operations)
    bytes += operation.key.length + (operation.type === 'put' ? operation.value.length : 0);
  return bytes;
}

export class CommitQueue {
  readonly #level: Level;
  readonly #options: CommitQueueOptions;
  #waiting: Group[] = [];
  #running = false;
  #inFlight: Group[] = [];
  #healing: Healing | null = null;
  #generation = 0;
  #failures = 0;
  #trouble: unknown = null;
  #stopped = false;
  #wake: () => void = () => undefined;
  #idle: (() => void)[] = [];

  constructor(level: Level, options: CommitQueueOptions) {
    this.#level = level;
    this.#options = options;
  }

  get healing(): boolean {
    return this.#healing !== null || (this.#running && this.#failures > 0);
  }

  /** Not null: writing has failed for so long that nobody waits for it any more. It is tried on and on. */
  get failing(): CellblockError | null {
    return this.#running && this.#failures >= this.#options.giveUpAfter ? writeFailed(this.#trouble) : null;
  }

  /** Resolves when the group is durable. An empty group waits for everything handed in before. */
  commit(operations: Operation[], mode: { yielding?: boolean } = {}): Promise<void> {
    return new Promise((done, failed) => {
      if (this.#stopped) return failed(stopping());
      const { failing } = this;
      if (failing) failed(failing);
      if (failing && (mode.yielding || operations.length === 0)) return;
      this.#waiting.push({
        operations,
        bytes: bytesOf(operations),
        yielding: mode.yielding ?? false,
        done,
        failed,
      });
      if (!this.#running) void this.#run();
    });
  }

  /** Reads with the database open; repeats the whole reading when the database had to be reopened in the middle. */
  async read<T>(reading: (level: Level) => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#healing) await this.#healing.usable;
      const generation = this.#generation;
      try {
        return await reading(this.#level);
      } catch (error) {
        if (error instanceof CellblockError || (generation === this.#generation && !this.#healing))
          throw readFailed(error);
      }
    }
  }

  /** One consistent view for a reading of several steps. */
  readSnapshot<T>(reading: (level: Level, snapshot: LevelSnapshot) => Promise<T>): Promise<T> {
    return this.read(async (level) => {
      const snapshot = level.snapshot();
      try {
        return await reading(level, snapshot);
      } finally {
        await snapshot.close();
      }
    });
  }

  /** Refuses what comes from now on and resolves when nothing is in flight; what cannot be written is given back. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    if (!this.#running) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const groups = this.#take();
      await this.#write(groups);
    }
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #take(): Group[] {
    let count = 0;
    let operations = 0;
    let bytes = 0;
    for (const group of this.#waiting) {
      operations += group.operations.length;
      bytes += group.bytes;
      if (count > 0 && (operations > MAX_BATCH_OPERATIONS || bytes > MAX_BATCH_BYTES)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #write(groups: Group[]): Promise<void> {
    for (let attempt = 1; groups.length > 0; attempt++) {
      this.#inFlight = groups;
      try {
        const operations = groups.flatMap((group) => group.operations);
        if (operations.length > 0) await this.#level.batch(operations);
        for (const group of groups) group.done();
        if (operations.length > 0 && this.#failures > 0) this.#healed();
        return;
      } catch (error) {
        this.#note(error);
        // At once: a round that is told late keeps those waiting who would get ENOSPC. Its owner's next reading waits for the healing.
        groups = this.#yield(groups, error);
        await this.#heal();
        if (this.#stopped && attempt >= 2) return this.#abandon(groups, error);
        if (attempt > 1 && groups.length > 0) await this.#pause();
      }
    }
  }

  #healed(): void {
    this.#failures = 0;
    this.#trouble = null;
    this.#options.onHealed();
  }

  #note(error: unknown): void {
    this.#failures++;
    this.#trouble = error;
    this.#options.onTrouble(error, this.#failures);
    if (this.#failures < this.#options.giveUpAfter) return;
    for (const group of [...this.#inFlight, ...this.#waiting]) group.failed(writeFailed(error));
    this.#waiting = this.#waiting.filter(({ operations }) => operations.length > 0);
    this.#healing?.giveUp(readFailed(error));
  }

  /** A stop does not wait for its end. */
  #pause(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
      void this.#options.pause(this.#failures).then(resolve);
    });
  }

  /** Yielding groups go back to their owners: of this batch and, as they were made for a state that did not come, those behind. */
  #yield(groups: Group[], error: unknown): Group[] {
    const yielding = [...groups, ...this.#waiting].filter((group) => group.yielding);
    this.#waiting = this.#waiting.filter((group) => !group.yielding);
    for (const group of yielding) group.failed(writeFailed(error));
    return groups.filter((group) => !group.yielding);
  }

  #abandon(groups: Group[], error: unknown): void {
    for (const group of [...groups, ...this.#waiting.splice(0)]) group.failed(writeFailed(error));
  }

  async #heal(): Promise<void> {
    const healing = new Healing();
    this.#healing = healing;
    if (this.#failures >= this.#options.giveUpAfter) healing.giveUp(readFailed(this.#trouble));
    await this.#reopen();
    this.#healing = null;
    this.#generation++;
    healing.done();
  }

  async #reopen(): Promise<void> {
    await this.#options.makeRoom();
    for (;;) {
      try {
        await this.#level.close();
        await this.#level.open();
        return;
      } catch (error) {
        this.#note(error);
        if (this.#stopped) return;
        this.#yield([], error);
        await this.#pause();
      }
    }
  }
}

/** While the database is closed: readers wait for `usable`, but not for ever. */
class Healing {
  readonly usable: Promise<void>;
  done!: () => void;
  giveUp!: (error: unknown) => void;

  constructor() {
    this.usable = new Promise((resolve, reject) => {
      this.done = resolve;
      this.giveUp = reject;
    });
    this.usable.catch(() => undefined);
  }
}

/** Cuts a list of operations whose parts may become durable one after the other into batches of the allowed size. */
export function* batchesOf(operations: Iterable<Operation[]>): Generator<Operation[]> {
  let batch: Operation[] = [];
  let bytes = 0;
  for (const unit of operations) {
    const unitBytes = bytesOf(unit);
    if (
      batch.length > 0 &&
      (batch.length + unit.length > MAX_BATCH_OPERATIONS || bytes + unitBytes > MAX_BATCH_BYTES)
    ) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(...unit);
    bytes += unitBytes;
  }
  if (batch.length > 0) yield batch;
}

function stopping(): CellblockError {
  return new CellblockError('store-stopping', 'The store is being stopped.', {
    hint: 'Try again when the agent runs again.',
  });
}

function writeFailed(cause: unknown): CellblockError {
  const why =
    cause instanceof Error
      ? cause.cause instanceof Error
        ? cause.cause.message
        : cause.message
      : String(cause);
  return new CellblockError('catalog-write-failed', `The metadata of the store cannot be written: ${why}.`, {
    hint: 'Make room or repair the disk; the change stays queued and is written as soon as the disk works again.',
    cause,
  });
}

function readFailed(cause: unknown): unknown {
  if (cause instanceof CellblockError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof Error && (cause as NodeJS.ErrnoException).code === 'LEVEL_CORRUPTION') {
    return new CellblockError('catalog-corrupt', `The metadata of the store is damaged: ${why}.`, {
      hint: 'Run `cellblock store check`, and restore the store from a copy.',
      cause,
    });
  }
  return new CellblockError('catalog-read-failed', `The metadata of the store cannot be read: ${why}.`, {
    hint: 'Check the disk and the log of the agent.',
    cause,
  });
}
