// Records of some versions of a line by their exact keys, which the index of written windows tells: what it costs depends on what these
// versions wrote, not on how many others there are.
// Invariant: the index says more than there is, never less, in every LevelDB snapshot; a key without a record is passed over.

import type { Level, LevelSnapshot } from '../catalog/level.js';
import { liveNumbers } from '../model/chain.js';
import type { Part } from '../model/diff.js';
import type { Base } from '../model/entities.js';
import {
  parseWindowKey,
  parseWrittenKey,
  windowBound,
  windowKey,
  writtenBy,
  writtenKey,
} from '../model/keys.js';
import { splitRuns } from '../model/runs.js';
import type { Run } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import { chunkOf, indexInChunk, WrittenSet, windowAt } from '../model/written-set.js';
import type { CursorSource, StoredVersion } from './line-cursor.js';
import { LineCursor } from './line-cursor.js';

export interface Source {
  level: Level;
  snapshot?: LevelSnapshot;
}

export interface WrittenPage {
  records: { window: bigint; stored: Buffer }[];
  /** Where the next page begins; null: this was the last. */
  next: bigint | null;
}

const CHUNKS_AT_ONCE = 4;
const SETS_AT_ONCE = 1000;
const KEYS_AT_ONCE = 500;
const LOADED_CHUNKS = 16;
const MAX_CHUNKS = 4096n;
/** Other versions whose sets are read to know how much a scan would read in vain. */
const SAMPLED_VERSIONS = 32;
/** A record looked up costs as much as so many scanned, at worst: measured cold, windows written at random. */
const LOOKUP_COST = 16;

/** Records of one version in windows [first, end), ascending: what up to `limit` keys give, which may be nothing. */
export async function writtenPage(
  { level, snapshot }: Source,
  { line, version }: Base,
  range: { first: bigint; end: bigint | null },
  limit = KEYS_AT_ONCE,
): Promise<WrittenPage> {
  const options = snapshot ? { snapshot } : {};
  const windows: bigint[] = [];
  let next: bigint | null = null;
  const chunks = writtenBy(line, version, chunkOf(range.first));
  for await (const page of level.scan(chunks, { ...options, page: CHUNKS_AT_ONCE })) {
    next = collect(page, range, limit, windows);
    if (next !== null || isBehind(page, range.end)) break;
  }
  if (windows.length === 0) return { records: [], next: null };
  const keys = windows.map((window) => windowKey(line, window, version));
  const found = await level.getMany(keys, options);
  const records = windows.flatMap((window, at) => (found[at] ? [{ window, stored: found[at] }] : []));
  return { records, next };
}

/** The chunks the index has of a version. */
export async function writtenChunks(level: Level, { line, version }: Base): Promise<bigint[]> {
  const chunks: bigint[] = [];
  for await (const page of level.scan(writtenBy(line, version)))
    for (const [key] of page) chunks.push(parseWrittenKey(key)!.chunk);
  return chunks;
}

/** Adds windows of the chunks up to the limit; answers the first that found no room. */
function collect(
  page: readonly [Buffer, Buffer][],
  { first, end }: { first: bigint; end: bigint | null },
  limit: number,
  windows: bigint[],
): bigint | null {
  for (const [key, stored] of page) {
    const chunk = parseWrittenKey(key)?.chunk;
    if (chunk === undefined) continue;
    const set = WrittenSet.read(stored);
    for (
      let index = set.next(chunk === chunkOf(first) ? indexInChunk(first) : 0);
      index >= 0;
      index = set.next(index + 1)
    ) {
      const window = windowAt(chunk, index);
      if (end !== null && window >= end) return null;
      if (windows.length === limit) return window;
      windows.push(window);
    }
  }
  return null;
}

function isBehind(page: readonly [Buffer, Buffer][], end: bigint | null): boolean {
  const last = parseWrittenKey(page[page.length - 1]![0]);
  return end !== null && last !== null && windowAt(last.chunk + 1n, 0) >= end;
}

/** The records of one window at or below a version, newest first, until they cover all that is `wanted`. */
export async function readDown(
  { level, snapshot }: Source,
  at: Base & { window: bigint },
  wanted: readonly Run[],
  blocksPerWindow: number,
): Promise<StoredVersion[]> {
  const range = {
    gte: windowKey(at.line, at.window, at.version),
    lt: windowBound(at.line, at.window + 1n),
  };
  const versions: StoredVersion[] = [];
  let left = wanted;
  for await (const page of level.scan(range, { ...(snapshot ? { snapshot } : {}), page: 8 })) {
    for (const [key, stored] of page) {
      if (left.length === 0) return versions;
      const parsed = parseWindowKey(key);
      if (!parsed) continue;
      versions.push({ version: parsed.version, stored });
      left = splitRuns(left, decodeWindowRecord(stored, blocksPerWindow).runs).silent;
    }
  }
  return versions;
}

interface LoadedChunk {
  sets: WrittenSet[];
  all: WrittenSet;
  /** So large a share of what the line has there that it is cheaper to go through everything. */
  scanned: boolean;
}

/** The windows that the versions of a part of a line wrote, in ascending order, and their records. */
export class WrittenPart {
  readonly line: number;
  readonly #source: Source;
  /** Newest first. */
  readonly #versions: number[];
  readonly #sampled: number[];
  /** Each of the sampled stands for so many. */
  readonly #weight: number;
  readonly #lastChunk: bigint;
  readonly #lookupCost: number;
  readonly #cursor: LineCursor;
  #firstLoaded = 0n;
  #loaded: LoadedChunk[] = [];
  #records = new Map<bigint, StoredVersion[]>();

  /** Null: the line has to be scanned. `windows`: what lies behind them is of no interest. */
  static of(
    part: Part,
    source: CursorSource,
    { windows, lookupCost = LOOKUP_COST }: { windows: bigint; lookupCost?: number },
  ): WrittenPart | null {
    const live = liveNumbers(part.line);
    const versions = live.filter((version) => version > part.above && version <= part.upTo);
    const chunks = chunkOf(windows > 0n ? windows - 1n : 0n);
    if (versions.length === live.length || chunks > MAX_CHUNKS) return null;
    const others = live.filter((version) => version <= part.above || version > part.upTo);
    return new WrittenPart(part.line.id, source, {
      versions: versions.reverse(),
      others,
      lastChunk: chunks,
      lookupCost,
    });
  }

  private constructor(
    line: number,
    source: CursorSource,
    part: { versions: number[]; others: number[]; lastChunk: bigint; lookupCost: number },
  ) {
    this.line = line;
    this.#source = source;
    this.#versions = part.versions;
    this.#weight = Math.ceil(part.others.length / SAMPLED_VERSIONS);
    this.#sampled = part.others.filter((_, at) => at % this.#weight === 0);
    this.#lastChunk = part.lastChunk;
    this.#lookupCost = part.lookupCost;
    this.#cursor = new LineCursor(source, line);
  }

  /** The first window at or after `from` that may have records, or null. `from` never goes down between calls. */
  async next(from: bigint): Promise<bigint | null> {
    if (this.#versions.length === 0) return null;
    let index = indexInChunk(from);
    for (let chunk = chunkOf(from); chunk <= this.#lastChunk; chunk++) {
      const found = (await this.#chunk(chunk)).all.next(index);
      if (found >= 0) return windowAt(chunk, found);
      index = 0;
    }
    return null;
  }

  /** The records of a window, newest first. Windows are asked in ascending order. */
  async at(window: bigint): Promise<StoredVersion[]> {
    if (this.#versions.length === 0 || chunkOf(window) > this.#lastChunk) return [];
    const { all, scanned } = await this.#chunk(chunkOf(window));
    if (!all.has(indexInChunk(window))) return [];
    if (scanned) {
      const found = await this.#cursor.seek(window);
      if (found?.window !== window) return [];
      return found.versions.filter(({ version }) => this.#versions.includes(version));
    }
    if (!this.#records.has(window)) await this.#fetch(window);
    return this.#records.get(window) ?? [];
  }

  async #chunk(chunk: bigint): Promise<LoadedChunk> {
    const at = Number(chunk - this.#firstLoaded);
    if (at >= 0 && at < this.#loaded.length) return this.#loaded[at]!;
    const asked = [...this.#versions, ...this.#sampled];
    const many = BigInt(Math.min(LOADED_CHUNKS, Math.max(1, Math.floor(SETS_AT_ONCE / asked.length))));
    const end = chunk + many <= this.#lastChunk ? chunk + many : this.#lastChunk + 1n;
    const keys: Buffer[] = [];
    for (let one = chunk; one < end; one++)
      for (const version of asked) keys.push(writtenKey(this.line, version, one));
    const stored = await this.#getMany(keys);
    this.#firstLoaded = chunk;
    this.#loaded = [];
    for (let from = 0; from < stored.length; from += asked.length)
      this.#loaded.push(this.#chunkOf(stored.slice(from, from + asked.length)));
    return this.#loaded[0]!;
  }

  #chunkOf(stored: readonly (Buffer | undefined)[]): LoadedChunk {
    const sets = stored.slice(0, this.#versions.length).map((bytes) => WrittenSet.read(bytes));
    const all = new WrittenSet();
    let records = 0;
    for (const set of sets) {
      all.addAll(set);
      records += set.count();
    }
    let others = 0;
    for (const bytes of stored.slice(sets.length)) if (bytes) others += WrittenSet.read(bytes).count();
    return { sets, all, scanned: records * this.#lookupCost > records + others * this.#weight };
  }

  /** Records of this window and those behind it in its chunk. */
  async #fetch(window: bigint): Promise<void> {
    const chunk = chunkOf(window);
    const { sets, all } = await this.#chunk(chunk);
    const wanted: { window: bigint; version: number }[] = [];
    for (
      let index = indexInChunk(window);
      index >= 0 && wanted.length < KEYS_AT_ONCE;
      index = all.next(index + 1)
    ) {
      sets.forEach((set, at) => {
        if (set.has(index)) wanted.push({ window: windowAt(chunk, index), version: this.#versions[at]! });
      });
    }
    const stored = await this.#getMany(wanted.map((one) => windowKey(this.line, one.window, one.version)));
    this.#records = new Map();
    wanted.forEach((one, at) => {
      const bytes = stored[at];
      const versions = this.#records.get(one.window) ?? [];
      if (bytes) versions.push({ version: one.version, stored: bytes });
      this.#records.set(one.window, versions);
    });
  }

  #getMany(keys: Buffer[]): Promise<(Buffer | undefined)[]> {
    const { level, snapshot } = this.#source;
    return level.getMany(keys, snapshot ? { snapshot } : {});
  }
}
