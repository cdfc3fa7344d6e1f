// The index of written windows as writers need it: sets in memory, put together with the first records they speak of.
//
// Invariants: a set in memory holds everything any group that was ever handed in says of it, so a later put never takes back an
// earlier one; whether it is durable is known by counting: a group puts a set unless what memory has of it was durable before.
// So a group that failed leaves a set that the next group touching it puts again. A set that is not durable, or that a group under way
// names, is never dropped from memory; the others are, the longest unused first. Readers never come here: they read from LevelDB what
// belongs to the records they read there. Who keeps what he read there has to ask `isSettled` and listen to `onGrowth`.

import { writtenKey } from '../model/keys.js';
import { chunkOf, indexInChunk, LARGEST_SET_BYTES, WrittenSet } from '../model/written-set.js';
import type { CommitQueue } from './commit-queue.js';
import type { Operation } from './level.js';

interface KeptSet {
  line: number;
  version: number;
  key: Buffer;
  set: WrittenSet;
  /** How often the set grew, and how often it had when it was last durable. */
  grown: number;
  durable: number;
  /** Groups under way that name it. */
  groups: number;
  /** Until it was read; null: it is there. */
  reading: Promise<void> | null;
}

/** What one group has to note. */
interface Noted {
  line: number;
  version: number;
  chunk: bigint;
  indexes: number[];
}

/** Sets kept in memory, of 4 KiB each: one speaks of 64 GiB with windows of 2 MiB. */
const KEPT_SETS = 512;
/** What the put of a set takes of a batch at most. */
const PUT_BYTES = LARGEST_SET_BYTES + writtenKey(0, 0, 0n).length;

export class WrittenIndex {
  readonly #queue: CommitQueue;
  /** The longest unused first. */
  readonly #sets = new Map<string, KeptSet>();
  /** What the index says of a version is about to grow, or goes: called in the turn in which the group is handed in. */
  onGrowth: (line: number, version: number) => void = () => undefined;

  constructor(queue: CommitQueue) {
    this.#queue = queue;
  }

  notes(): WrittenNotes {
    return new WrittenNotes(this);
  }

  /** The version has left its line. */
  forget(line: number, version: number, chunk: bigint): void {
    this.#sets.delete(nameOf(line, version, chunk));
    this.onGrowth(line, version);
  }

  /** All that was ever handed in about the version is durable. */
  isSettled(line: number, version: number): boolean {
    for (const kept of this.#sets.values())
      if (kept.line === line && kept.version === version && kept.grown !== kept.durable) return false;
    return true;
  }

  /** @internal */
  noteGrowth({ line, version }: KeptSet): void {
    this.onGrowth(line, version);
  }

  /** @internal It is known to be durable that the window is in it. */
  isNoted(name: string, index: number): boolean {
    const kept = this.#sets.get(name);
    return kept !== undefined && !kept.reading && kept.grown === kept.durable && kept.set.has(index);
  }

  /** @internal The sets under these names, read when they are not in memory; they stay until they are let go of. */
  async hold(noted: ReadonlyMap<string, Noted>): Promise<KeptSet[]> {
    const held: KeptSet[] = [];
    for (const [name, one] of noted) {
      const kept = this.#sets.get(name) ?? this.#read(name, one);
      this.#sets.delete(name);
      this.#sets.set(name, kept);
      kept.groups++;
      held.push(kept);
    }
    try {
      for (const { reading } of held) if (reading) await reading;
      return held;
    } catch (error) {
      this.letGo(held);
      throw error;
    }
  }

  /** @internal */
  letGo(held: readonly KeptSet[]): void {
    for (const kept of held) kept.groups--;
    if (this.#sets.size <= KEPT_SETS) return;
    for (const [name, { groups, grown, durable }] of this.#sets) {
      if (groups === 0 && grown === durable) this.#sets.delete(name);
      if (this.#sets.size <= KEPT_SETS) return;
    }
  }

  #read(name: string, { line, version, chunk }: Noted): KeptSet {
    const key = writtenKey(line, version, chunk);
    const unread = { set: new WrittenSet(), grown: 0, durable: 0, groups: 0, reading: null };
    const kept: KeptSet = { line, version, key, ...unread };
    kept.reading = this.#queue
      .read((level) => level.get(key))
      .then(
        (stored) => {
          kept.reading = null;
          try {
            if (stored) kept.set = WrittenSet.decode(stored);
          } catch {
            // Put again with the next record, whatever it is.
            kept.set = WrittenSet.full();
            kept.grown = 1;
          }
        },
        (error: unknown) => {
          if (this.#sets.get(name) === kept) this.#sets.delete(name);
          throw error;
        },
      );
    // Whoever holds it is told.
    kept.reading.catch(() => undefined);
    return kept;
  }
}

/** The written windows of one group. */
export class WrittenNotes {
  readonly #index: WrittenIndex;
  readonly #noted = new Map<string, Noted>();
  #held: { kept: KeptSet; grown: number }[] = [];

  constructor(index: WrittenIndex) {
    this.#index = index;
  }

  get isEmpty(): boolean {
    return this.#noted.size === 0;
  }

  /** Operations they take of the group, and bytes at most. */
  get operations(): number {
    return this.#noted.size;
  }

  get bytes(): number {
    return this.#noted.size * PUT_BYTES;
  }

  add(line: number, version: number, window: bigint): void {
    const chunk = chunkOf(window);
    const name = nameOf(line, version, chunk);
    const index = indexInChunk(window);
    if (this.#index.isNoted(name, index)) return;
    const noted = this.#noted.get(name);
    if (noted) noted.indexes.push(index);
    else this.#noted.set(name, { line, version, chunk, indexes: [index] });
  }

  /** Reads what is not in memory. From here until `done` or `failed` the sets stay in memory. */
  async hold(): Promise<void> {
    this.#held = (await this.#index.hold(this.#noted)).map((kept) => ({ kept, grown: 0 }));
  }

  /** What the group has to put; it is handed in in the same turn. */
  puts(): Operation[] {
    [...this.#noted.values()].forEach(({ indexes }, at) => {
      const { kept } = this.#held[at]!;
      let grown = false;
      for (const index of indexes) if (kept.set.add(index)) grown = true;
      if (grown) {
        kept.grown++;
        this.#index.noteGrowth(kept);
      }
      this.#held[at]!.grown = kept.grown;
    });
    return this.#held
      .filter(({ kept }) => kept.grown !== kept.durable)
      .map(({ kept: { key, set } }) => ({ type: 'put', key, value: set.encode() }));
  }

  done(): void {
    for (const { kept, grown } of this.#held) kept.durable = Math.max(kept.durable, grown);
    this.failed();
  }

  failed(): void {
    this.#index.letGo(this.#held.map(({ kept }) => kept));
    this.#held = [];
  }
}

function nameOf(line: number, version: number, chunk: bigint): string {
  return `${line}/${version}/${chunk}`;
}
