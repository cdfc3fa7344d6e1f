// Which windows frozen versions have written, in memory, for faults through chains of many lines: of each version that wrote few.
//
// Invariant: a list that is kept here holds every window of which any later LevelDB snapshot has a record. For a list is read from a
// snapshot that was taken in the turn in which it was asked for, when all that was ever said of the version was durable; and it is
// forgotten in the turn in which a group is handed in that says more (`WrittenIndex.onGrowth`), so before that can be durable. Who
// holds one that is forgotten meanwhile reads from an older snapshot, for which it is right. A list that is too short loses data.
// Memory is bounded: where there is no room for one more, and none is unused, the answer is that it is not known.

import { parseWrittenKey, writtenBy } from '../model/keys.js';
import type { WindowList } from '../model/window-list.js';
import { windowListOf } from '../model/window-list.js';
import { CHUNK_WINDOWS, WrittenSet } from '../model/written-set.js';
import type { Level, LevelSnapshot } from './level.js';
import type { WrittenIndex } from './written-index.js';

/** One version. `windows` null: too many, or not known. */
export interface KeptVersion {
  readonly version: number;
  windows: WindowList | null;
  /** Until it was read; null: it was. */
  reading: Promise<void> | null;
}

interface KeptLine {
  versions: Map<number, KeptVersion>;
  bytes: number;
  /** The fault that asked last. */
  used: number;
}

/** A version that wrote more is scanned: 32 KiB each. */
const FEW_WINDOWS = 8192;
const KEPT_BYTES = 16 << 20;
/** What a line and a version take besides, about. */
const ENTRY_BYTES = 400;
/** Unused for so many faults: makes room. Less would go round in circles when a chain does not fit. */
const UNUSED_FAULTS = 10_000;
/** Lines looked at to make room for one. */
const LOOKED_AT = 8;
const CHUNKS_AT_ONCE = 64;
/** Lists read for one fault: it may turn out that it did not need them. */
const READINGS_AT_ONCE = 64;

export class SparseVersions {
  readonly #written: WrittenIndex;
  readonly #keptBytes: number;
  /** About the longest unused first: whoever was used is put behind when room is looked for. */
  readonly #lines = new Map<number, KeptLine>();
  #bytes = 0;
  #faults = 0;
  /** That may still be begun for this fault. */
  #readings = READINGS_AT_ONCE;

  constructor(written: WrittenIndex, { keptBytes = KEPT_BYTES }: { keptBytes?: number } = {}) {
    this.#written = written;
    this.#keptBytes = keptBytes;
    written.onGrowth = (line, version) => this.#forget(line, version);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A fault begins that asks for lists. */
  tick(): void {
    this.#faults++;
    this.#readings = READINGS_AT_ONCE;
  }

  /**
   * What a frozen version wrote, in the turn in which `snapshot` was taken. Null: not known. `windows` counts when `reading` is null or
   * has been waited for.
   */
  of(line: number, version: number, source: { level: Level; snapshot: LevelSnapshot }): KeptVersion | null {
    const kept = this.#lines.get(line);
    if (kept) kept.used = this.#faults;
    const known = kept?.versions.get(version);
    if (known) return known;
    if (this.#readings === 0 || !this.#hasRoom() || !this.#written.isSettled(line, version)) return null;
    this.#readings--;
    return this.#read(line, version, source);
  }

  #read(line: number, version: number, source: { level: Level; snapshot: LevelSnapshot }): KeptVersion {
    const entry: KeptVersion = { version, windows: null, reading: null };
    this.#keep(line, entry);
    entry.reading = readWindows(source, line, version).then(
      (windows) => {
        entry.windows = windows;
        entry.reading = null;
        this.#grow(line, entry);
      },
      () => {
        // Nobody is told: the line is scanned, which fails in its own words.
        entry.reading = null;
        if (this.#lines.get(line)?.versions.get(version) === entry) this.#forget(line, version);
      },
    );
    return entry;
  }

  #keep(line: number, entry: KeptVersion): void {
    const kept = this.#lines.get(line) ?? { versions: new Map(), bytes: 0, used: this.#faults };
    this.#lines.set(line, kept);
    kept.versions.set(entry.version, entry);
    this.#account(kept, ENTRY_BYTES);
  }

  /** It was read; it may have been forgotten meanwhile. */
  #grow(line: number, entry: KeptVersion): void {
    const kept = this.#lines.get(line);
    if (kept?.versions.get(entry.version) === entry) this.#account(kept, entry.windows?.byteLength ?? 0);
  }

  #account(kept: KeptLine, bytes: number): void {
    kept.bytes += bytes;
    this.#bytes += bytes;
  }

  #forget(line: number, version: number): void {
    const kept = this.#lines.get(line);
    const entry = kept?.versions.get(version);
    if (!kept || !entry) return;
    kept.versions.delete(version);
    this.#account(kept, -ENTRY_BYTES - (entry.windows?.byteLength ?? 0));
    if (kept.versions.size === 0) this.#lines.delete(line);
  }

  #hasRoom(): boolean {
    let looked = 0;
    for (const [line, kept] of this.#lines) {
      if (this.#bytes < this.#keptBytes || looked++ === LOOKED_AT) break;
      this.#lines.delete(line);
      if (kept.used + UNUSED_FAULTS < this.#faults) this.#bytes -= kept.bytes;
      else this.#lines.set(line, kept);
    }
    if (this.#bytes < this.#keptBytes) return true;
    this.#readings = 0;
    return false;
  }
}

/** Null: more than a few. */
async function readWindows(
  { level, snapshot }: { level: Level; snapshot: LevelSnapshot },
  line: number,
  version: number,
): Promise<WindowList | null> {
  const windows: number[] = [];
  for await (const page of level.scan(writtenBy(line, version), { snapshot, page: CHUNKS_AT_ONCE })) {
    for (const [key, stored] of page) {
      const chunk = parseWrittenKey(key)?.chunk;
      if (chunk === undefined) continue;
      for (const index of WrittenSet.indexes(stored)) windows.push(Number(chunk) * CHUNK_WINDOWS + index);
      if (windows.length > FEW_WINDOWS) return null;
    }
  }
  return windowListOf(windows);
}
