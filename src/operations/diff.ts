// Differences between two snapshots, or a snapshot and the current state of a volume: pages of byte ranges out of the maps, no
// data is read. For the control API, the CLI and the changed-since contexts of exports.
//
// Invariants: a page is read from one LevelDB snapshot with the lines as of the same instant; what it takes of memory is a page of
// ranges and a page of records per line of the two chains. Callers pin both versions while they go from page to page, and take a
// round first (Devices.settle) of what is still changing.

import type { Catalog } from '../catalog/catalog.js';
import type { Level, LevelSnapshot } from '../catalog/level.js';
import type { DiffPlan, DiffRange, Part, VersionRuns } from '../model/diff.js';
import { cutSince, diffWindow, mayDiffer, nextCut, planDiff, RangeJoiner } from '../model/diff.js';
import type { Base, CutOff } from '../model/entities.js';
import { blocksPerWindow } from '../model/units.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { Watched } from './cancellation.js';
import { throwIfCancelled } from './cancellation.js';
import type { StoredWindow } from './line-cursor.js';
import { LineCursor } from './line-cursor.js';

/** One end of a comparison: a live version and how large it is. */
export interface DiffSide extends Base {
  sizeBytes: bigint;
}

export interface DiffOptions extends Watched {
  windowBytes: number;
  /** Ranges of a page, about: a page ends with a whole window. */
  rangesAtOnce?: number;
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
    const reading = new Reading(planDiff(catalog.lines, from, to), { level, snapshot }, options);
    const sizeBytes = from && from.sizeBytes > to.sizeBytes ? from.sizeBytes : to.sizeBytes;
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
  options: DiffOptions,
): Promise<{ ancestor: Base | null; alsoChanged: BigUint64Array }> {
  const { ancestor } = planDiff(catalog.lines, since, of);
  if (ancestor?.line === since.line && ancestor.version === since.version) {
    return { ancestor, alsoChanged: new BigUint64Array(0) };
  }
  const pairs: bigint[] = [];
  const base = ancestor && { ...ancestor, sizeBytes: 0n };
  for await (const ranges of diff(catalog, base, since, options)) {
    for (const { offset, length } of ranges) addPair(pairs, offset, length);
  }
  return { ancestor, alsoChanged: BigUint64Array.from(pairs) };
}

function addPair(pairs: bigint[], offset: bigint, length: bigint): void {
  const at = pairs.length - 2;
  if (at >= 0 && pairs[at]! + pairs[at + 1]! === offset) pairs[at + 1]! += length;
  else pairs.push(offset, length);
}

/** One pass over the lines of two chains, window by window. */
class Reading {
  readonly #plan: DiffPlan;
  readonly #options: DiffOptions;
  readonly #blocks: number;
  readonly #cuts: CutOff[];
  /** Lines with something only one side has: they say which windows are looked at. */
  readonly #driving: LineCursor[];
  /** All others; asked where a driving line or a cut-off is. */
  readonly #asked: LineCursor[];
  readonly #cursors = new Map<number, LineCursor>();

  constructor(plan: DiffPlan, source: { level: Level; snapshot: LevelSnapshot }, options: DiffOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#blocks = blocksPerWindow(options.windowBytes);
    this.#cuts = cutSince(plan);
    const cursorsOf = (parts: Part[]): LineCursor[] => {
      const cursors: LineCursor[] = [];
      for (const { line } of parts) {
        if (line.regions.size === 0 || this.#cursors.has(line.id)) continue;
        const cursor = new LineCursor(source, line.id);
        this.#cursors.set(line.id, cursor);
        cursors.push(cursor);
      }
      return cursors;
    };
    this.#driving = cursorsOf([...plan.from, ...plan.to]);
    this.#asked = cursorsOf(plan.below);
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

  /** The next window worth a look: a driving line has records there, or a cut-off lies over records of another. */
  async #next(from: bigint): Promise<bigint | null> {
    let next = await nearest(this.#driving, from);
    for (let at = from; this.#asked.length > 0; ) {
      const cut = nextCut(this.#cuts, at);
      if (!cut || (next !== null && cut.first >= next)) break;
      const below = await nearest(this.#asked, cut.first);
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
    for (const [line, cursor] of this.#cursors) {
      const found = await cursor.seek(window);
      if (found?.window === window) records.set(line, this.#lazily(found));
    }
    const windowOf = (line: number): VersionRuns[] => records.get(line) ?? NONE;
    return mayDiffer(this.#plan, window, windowOf) ? diffWindow(this.#plan, window, windowOf) : [];
  }

  /** Records are decoded when somebody looks into them: of a long line most are too old or too new. */
  #lazily({ versions }: StoredWindow): VersionRuns[] {
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

async function nearest(cursors: readonly LineCursor[], from: bigint): Promise<bigint | null> {
  let next: bigint | null = null;
  for (const cursor of cursors) {
    const found = await cursor.seek(from);
    if (found && (next === null || found.window < next)) next = found.window;
  }
  return next;
}
