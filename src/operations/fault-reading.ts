// Reads what one fault has to know from one LevelDB snapshot: line after line, newest first, until no block of a window is open.
//
// Invariant: a scan and exact keys give the same answer. What exact keys ask is never less than what the snapshot has (fault-plan.ts),
// and both hand their records to the same answer in the same order; exact keys of several lines are only fetched together.

import { parseWindowKey, windowBound, windowKey } from '../model/keys.js';
import type { Device } from './devices.js';
import type { FaultAnswer } from './fault-answer.js';
import type { AskedLine, WantedRecord } from './fault-plan.js';
import { wantedOf } from './fault-plan.js';
import type { CursorSource } from './line-cursor.js';

/** A line whose records, as far as they were wanted, are there. */
interface Fetched {
  wanted: readonly WantedRecord[];
  stored: readonly (Buffer | undefined)[];
}

/** Large enough for 64 windows of a few versions. */
const FIRST_PAGE = 256;
const PAGE_AFTER_HOP = 32;
/** Records read in vain before it is worth looking for the next that is wanted. */
const PASSED_AT_MOST = 24;
/** Keys fetched together. The first are fewer: what they bring may leave nothing open. */
const FIRST_KEYS = 64;
const MORE_KEYS = 512;

export class FaultReading {
  readonly #device: Device;
  readonly #answer: FaultAnswer;
  readonly #source: CursorSource;
  readonly #lines: readonly AskedLine[];
  /** By line, as far as was come; null: it has to be scanned. */
  readonly #wanted: (readonly WantedRecord[] | null)[] = [];
  readonly #fetched = new Map<AskedLine, Fetched>();
  #keysAtOnce = FIRST_KEYS;

  constructor(device: Device, answer: FaultAnswer, lines: readonly AskedLine[], source: CursorSource) {
    this.#device = device;
    this.#answer = answer;
    this.#source = source;
    this.#lines = lines;
  }

  async run(): Promise<void> {
    for (let at = 0; at < this.#lines.length && !this.#answer.isDone; at++) {
      const line = this.#lines[at]!;
      const wanted = this.#wantedAt(at);
      if (wanted === null) await this.#scanLine(line);
      else if (wanted.length > 0) await this.#readLine(at);
      this.#endLine(line);
    }
  }

  #wantedAt(at: number): readonly WantedRecord[] | null {
    const known = this.#wanted[at];
    if (known !== undefined) return known;
    const wanted = wantedOf(this.#lines[at]!, this.#answer);
    this.#wanted[at] = wanted;
    return wanted;
  }

  /** Nothing older is asked of what is still open under a cut-off of the line. */
  #endLine({ id, limits }: AskedLine): void {
    limits?.forEach((limit, index) => {
      if (limit !== 0 && this.#answer.isOpen(index)) this.#answer.cutOff(index, this.#layerOf(id, limit));
    });
  }

  #isWanted({ limits }: AskedLine, index: number, version: number): boolean {
    return this.#answer.isOpen(index) && version >= (limits?.[index] ?? 0);
  }

  #take(line: AskedLine, { index, version }: WantedRecord, record: Buffer): void {
    this.#answer.take(index, this.#layerOf(line.id, version), record);
  }

  async #readLine(at: number): Promise<void> {
    const line = this.#lines[at]!;
    if (!this.#fetched.has(line)) await this.#fetch(at);
    const { wanted, stored } = this.#fetched.get(line)!;
    wanted.forEach((one, index) => {
      const record = stored[index];
      if (record && this.#isWanted(line, one.index, one.version)) this.#take(line, one, record);
    });
  }

  /** Of this line and those behind it up to the next that is scanned. */
  async #fetch(first: number): Promise<void> {
    const keys: Buffer[] = [];
    const lines: { line: AskedLine; wanted: WantedRecord[]; from: number }[] = [];
    for (let at = first; at < this.#lines.length && keys.length < this.#keysAtOnce; at++) {
      const line = this.#lines[at]!;
      const all = this.#wantedAt(at);
      if (all === null) break;
      const wanted = all.filter(({ index, version }) => this.#isWanted(line, index, version));
      lines.push({ line, wanted, from: keys.length });
      for (const one of wanted)
        keys.push(windowKey(line.id, this.#answer.first + BigInt(one.index), one.version));
    }
    this.#keysAtOnce = MORE_KEYS;
    const { level, snapshot } = this.#source;
    const stored = keys.length > 0 ? await level.getMany(keys, { snapshot }) : [];
    for (const { line, wanted, from } of lines)
      this.#fetched.set(line, { wanted, stored: stored.slice(from, from + wanted.length) });
  }

  async #scanLine(line: AskedLine): Promise<void> {
    let from: Buffer | null = windowBound(line.id, this.#answer.first);
    for (let page = FIRST_PAGE; from; page = PAGE_AFTER_HOP) from = await this.#scanFrom(line, from, page);
  }

  /** Null: to the end; else where to go on, over records nobody wants. */
  async #scanFrom(line: AskedLine, from: Buffer, page: number): Promise<Buffer | null> {
    const { first, count } = this.#answer;
    const { level, snapshot } = this.#source;
    const range = { gte: from, lt: windowBound(line.id, first + BigInt(count)) };
    let passed = 0;
    for await (const entries of level.scan(range, { snapshot, page })) {
      for (const [bytes, record] of entries) {
        const key = parseWindowKey(bytes);
        if (!key) continue;
        const { window, version } = key;
        const index = Number(window - first);
        const tooNew = version > line.upTo;
        if (!tooNew && this.#isWanted(line, index, version)) {
          passed = 0;
          this.#take(line, { index, version }, record);
        } else if (++passed >= PASSED_AT_MOST) {
          return tooNew ? windowKey(line.id, window, line.upTo) : windowBound(line.id, window + 1n);
        }
      }
    }
    return null;
  }

  #layerOf(line: number, version: number): number {
    const layer = this.#device.layers.layerOf(line, version);
    if (layer === undefined)
      throw new Error(`version ${version} of line ${line} is no layer of handle ${this.#device.handle}`);
    return layer;
  }
}
