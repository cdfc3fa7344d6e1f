// Differences between two snapshots, or a snapshot and the current state of a volume: pages of byte ranges out of the maps, no
// data is read. For the control API, the CLI and the changed-since contexts of exports.
//
// What it costs depends on the windows written in between, not on how many versions there are; see written-windows.ts.
//
// Invariants: a page is read from one LevelDB snapshot with the lines as of the same instant; what it takes of memory is a page of
// ranges and a page of records per line of the two chains. Callers pin both versions while they go from page to page, and take a
// round first (Devices.settle) of what is still changing.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { DiffPlan, DiffRange, VersionRuns } from '../model/diff.js';
import {
  cutSince,
  diffWindow,
  mayDiffer,
  nextCut,
  planDiff,
  RangeJoiner,
  wantedBelow,
} from '../model/diff.js';
import type { Base, CutOff } from '../model/entities.js';
import { blocksPerWindow, windowsOf } from '../model/units.js';
import type { Run } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { Watched } from './cancellation.js';
import { throwIfCancelled } from './cancellation.js';
import type { CursorSource, StoredVersion } from './line-cursor.js';
import { LineCursor } from './line-cursor.js';
import { readDown, WrittenPart } from './written-windows.js';

/** One end of a comparison: a live version and how large it is. */
export interface DiffSide extends Base {
  sizeBytes: bigint;
}

export interface DiffOptions extends Watched {
  windowBytes: number;
  /** Ranges of a page, about: a page ends with a whole window. */
  rangesAtOnce?: number;
  /** Records of a scan that a look-up by the index counts for. */
  lookupCost?: number;
}

export interface DiffPage {
  /** Sorted, free of overlaps; neighbours of one kind joined within the page. */
  ranges: DiffRange[];
  /** Where the next page begins; null: this was the last. */
  next: bigint | null;
}

const RANGES_AT_ONCE = 4096;
const WINDOWS_BETWEEN_LOOKS = 256;

/** Everything that differs between `from` (null: an empty disk) and `to`, as it is in `to`; up to the larger of the two sizes. */
export async function* diff(
  catalog: Catalog,
  from: DiffSide | null,
  to: DiffSide,
  options: DiffOptions,
): AsyncGenerator<DiffRange[]> {
  for (let at: bigint | null = 0n; at !== null; ) {
    const page: DiffPage = await diffPage(catalog, from, to, { ...options, offset: at });
    if (page.ranges.length > 0) yield page.ranges;
    at = page.next;
  }
}

/** One page of it, from the window that holds the byte `offset` on. */
export function diffPage(
  catalog: Catalog,
  from: DiffSide | null,
  to: DiffSide,
  options: DiffOptions & { offset: bigint },
): Promise<DiffPage> {
  const first = options.offset / BigInt(options.windowBytes);
  return catalog.queue.readSnapshot(async (level, snapshot) => {
    const sizeBytes = from && from.sizeBytes > to.sizeBytes ? from.sizeBytes : to.sizeBytes;
    const windows = windowsOf(sizeBytes, options.windowBytes);
    const reading = new Reading(
      planDiff(catalog.lines, from, to),
      { level, snapshot },
      { ...options, windows },
    );
    return reading.page(first, new RangeJoiner({ windowBytes: options.windowBytes, sizeBytes }));
  });
}

/**
 * What a changed-since context of an export that reads `of` needs about a snapshot that may not be its ancestor: the nearest version
 * both continue (null: none; every layer of the export has changed then), and where the snapshot itself differs from that. A block
 * that is changed in neither is the same in both.
 */
export async function changedBesides(
  catalog: Catalog,
  of: Base,
  since: DiffSide,
  options: DiffOptions & { mostRanges?: number },
): Promise<{ ancestor: Base | null; alsoChanged: BigUint64Array }> {
  const { ancestor } = planDiff(catalog.lines, since, of);
  if (ancestor?.line === since.line && ancestor.version === since.version) {
    return { ancestor, alsoChanged: new BigUint64Array(0) };
  }
  const pairs: bigint[] = [];
  const base = ancestor && { ...ancestor, sizeBytes: 0n };
  for await (const ranges of diff(catalog, base, since, options)) {
    for (const { offset, length } of ranges) addPair(pairs, offset, length);
    if (pairs.length > 2 * (options.mostRanges ?? Number.POSITIVE_INFINITY)) throw tooFarApart();
  }
  return { ancestor, alsoChanged: BigUint64Array.from(pairs) };
}

function tooFarApart(): CellblockError {
  return new CellblockError('snapshot-unrelated', 'The two snapshots differ in too many places.', {
    hint: 'Take a snapshot that the other one continues.',
  });
}

function addPair(pairs: bigint[], offset: bigint, length: bigint): void {
  const at = pairs.length - 2;
  if (at >= 0 && pairs[at]! + pairs[at + 1]! === offset) pairs[at + 1]! += length;
  else pairs.push(offset, length);
}

/** One pass over the lines of two chains, window by window. */
class Reading {
  readonly #plan: DiffPlan;
  readonly #source: CursorSource;
  readonly #options: DiffOptions;
  readonly #blocks: number;
  readonly #cuts: CutOff[];
  /** Lines of which a few of many versions differ: the index of written windows says which windows are looked at. */
  readonly #written = new Map<number, WrittenPart>();
  /** Other lines with something only one side has: their records say it. */
  readonly #driving = new Map<number, LineCursor>();
  /** What lies below; asked where a cut-off is, or somebody says zero. */
  readonly #asked = new Map<number, LineCursor>();

  constructor(plan: DiffPlan, source: CursorSource, options: DiffOptions & { windows: bigint }) {
    this.#plan = plan;
    this.#source = source;
    this.#options = options;
    this.#blocks = blocksPerWindow(options.windowBytes);
    this.#cuts = cutSince(plan);
    for (const part of [...plan.from, ...plan.to]) {
      if (part.line.regions.size === 0) continue;
      const written = WrittenPart.of(part, source, options);
      if (written) this.#written.set(part.line.id, written);
      else this.#driving.set(part.line.id, new LineCursor(source, part.line.id));
    }
    for (const { line } of plan.below) {
      if (line.regions.size === 0 || this.#driving.has(line.id)) continue;
      this.#asked.set(line.id, new LineCursor(source, line.id));
    }
  }

  async page(first: bigint, joiner: RangeJoiner): Promise<DiffPage> {
    const limit = this.#options.rangesAtOnce ?? RANGES_AT_ONCE;
    let seen = 0;
    for (let window = await this.#next(first); window !== null; window = await this.#next(window + 1n)) {
      if (joiner.count >= limit)
        return { ranges: joiner.ranges, next: window * BigInt(this.#options.windowBytes) };
      if (seen++ % WINDOWS_BETWEEN_LOOKS === 0) throwIfCancelled(this.#options.signal);
      joiner.add(window, await this.#look(window));
    }
    return { ranges: joiner.ranges, next: null };
  }

  /** The next window worth a look: one side wrote there, or a cut-off lies over records of what is below. */
  async #next(from: bigint): Promise<bigint | null> {
    let next = await nearest(this.#driving.values(), from);
    for (const written of this.#written.values()) {
      const found = await written.next(from);
      if (found !== null && (next === null || found < next)) next = found;
    }
    for (let at = from; this.#asked.size > 0; ) {
      const cut = nextCut(this.#cuts, at);
      if (!cut || (next !== null && cut.first >= next)) break;
      const below = await nearest(this.#asked.values(), cut.first);
      if (below === null) break;
      if (cut.end === null || below < cut.end) {
        if (next === null || below < next) next = below;
        break;
      }
      at = below;
    }
    return next;
  }

  async #look(window: bigint): Promise<ReturnType<typeof diffWindow>> {
    const records = new Map<number, VersionRuns[]>();
    for (const [line, written] of this.#written) records.set(line, this.#lazily(await written.at(window)));
    for (const [line, cursor] of this.#driving) records.set(line, await this.#seek(cursor, window));
    const windowOf = (line: number): VersionRuns[] => records.get(line) ?? NONE;
    if (!mayDiffer(this.#plan, window, windowOf)) return [];
    const wanted = wantedBelow(this.#plan, window, windowOf, this.#blocks);
    if (wanted.length > 0) await this.#lookBelow(window, wanted, records);
    return diffWindow(this.#plan, window, windowOf);
  }

  async #lookBelow(
    window: bigint,
    wanted: readonly Run[],
    records: Map<number, VersionRuns[]>,
  ): Promise<void> {
    for (const { line, upTo } of this.#plan.below) {
      const above = records.get(line.id) ?? NONE;
      if (this.#written.has(line.id)) {
        const at = { line: line.id, version: upTo, window };
        const below = await readDown(this.#source, at, wanted, this.#blocks);
        records.set(line.id, [...above, ...this.#lazily(below)]);
        continue;
      }
      const cursor = this.#asked.get(line.id);
      if (cursor) records.set(line.id, await this.#seek(cursor, window));
    }
  }

  async #seek(cursor: LineCursor, window: bigint): Promise<VersionRuns[]> {
    const found = await cursor.seek(window);
    return found?.window === window ? this.#lazily(found.versions) : NONE;
  }

  /** Records are decoded when somebody looks into them: of a long line most are too old or too new. */
  #lazily(versions: readonly StoredVersion[]): VersionRuns[] {
    const blocks = this.#blocks;
    return versions.map(({ version, stored }) => ({
      version,
      get runs() {
        return decodeWindowRecord(stored, blocks).runs;
      },
    }));
  }
}

const NONE: VersionRuns[] = [];

async function nearest(cursors: Iterable<LineCursor>, from: bigint): Promise<bigint | null> {
  let next: bigint | null = null;
  for (const cursor of cursors) {
    const found = await cursor.seek(from);
    if (found && (next === null || found.window < next)) next = found.window;
  }
  return next;
}
