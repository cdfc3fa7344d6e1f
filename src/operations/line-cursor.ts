// Goes through the window records of one line in ascending order of windows, all versions of a window together.
// Invariant: memory is bounded by a page and the versions of one window; a seek far ahead begins with a small page, so that hops
// cost little, and pages grow while what is read is used.

import type { Level, LevelSnapshot } from '../catalog/level.js';
import { lineEnd, parseWindowKey, windowBound } from '../model/keys.js';

export interface StoredVersion {
  version: number;
  stored: Buffer;
}

/** The records of one window, newest version first. */
export interface StoredWindow {
  window: bigint;
  versions: StoredVersion[];
}

interface Entry extends StoredVersion {
  window: bigint;
}

export interface CursorSource {
  level: Level;
  snapshot: LevelSnapshot;
}

const SMALLEST_PAGE = 16;
const LARGEST_PAGE = 1000;

export class LineCursor {
  readonly #source: CursorSource;
  readonly #line: number;
  readonly #largestPage: number;
  #page = SMALLEST_PAGE;
  #entries: Entry[] = [];
  #lastKey: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Nothing of the line lies behind what is buffered. */
  #ended = false;

  constructor(source: CursorSource, line: number, options: { largestPage?: number } = {}) {
    this.#source = source;
    this.#line = line;
    this.#largestPage = Math.max(options.largestPage ?? LARGEST_PAGE, SMALLEST_PAGE);
  }

  /** The first window at or after `from` that has records, or null. `from` never goes down between calls. */
  async seek(from: bigint): Promise<StoredWindow | null> {
    while (this.#at < this.#entries.length && this.#entries[this.#at]!.window < from) this.#at++;
    if (this.#at === this.#entries.length && !(await this.#read(from))) return null;
    const { window } = this.#entries[this.#at]!;
    let end = this.#at + 1;
    for (;;) {
      while (end < this.#entries.length && this.#entries[end]!.window === window) end++;
      if (end < this.#entries.length || this.#ended) break;
      end -= this.#at;
      await this.#more();
    }
    return { window, versions: this.#entries.slice(this.#at, end) };
  }

  /** Buffers the first page at or after `from`; false: there is none. */
  async #read(from: bigint): Promise<boolean> {
    const last = this.#entries[this.#entries.length - 1];
    const goesOn = last !== undefined && from <= last.window + 1n;
    this.#page = goesOn ? Math.min(this.#page * 4, this.#largestPage) : SMALLEST_PAGE;
    this.#entries = [];
    this.#at = 0;
    let gte = goesOn ? after(this.#lastKey) : windowBound(this.#line, from);
    while (this.#entries.length === 0 && !this.#ended) {
      this.#entries = await this.#load(gte);
      gte = after(this.#lastKey);
    }
    return this.#entries.length > 0;
  }

  /** Adds a page to what is buffered from the current window on. */
  async #more(): Promise<void> {
    this.#page = Math.min(this.#page * 4, this.#largestPage);
    const kept = this.#entries.slice(this.#at);
    this.#entries = kept.concat(await this.#load(after(this.#lastKey)));
    this.#at = 0;
  }

  async #load(gte: Buffer): Promise<Entry[]> {
    const { level, snapshot } = this.#source;
    for await (const page of level.scan({ gte, lt: lineEnd(this.#line) }, { snapshot, page: this.#page })) {
      this.#lastKey = page[page.length - 1]![0];
      return page.flatMap(([key, stored]) => {
        const parsed = parseWindowKey(key);
        return parsed ? [{ window: parsed.window, version: parsed.version, stored }] : [];
      });
    }
    this.#ended = true;
    return [];
  }
}

function after(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}
