// What one fault has to ask: of a chain of maybe a thousand lines those that can say anything of its windows, newest first, and of each
// whether it is scanned or read by exact keys.
// Invariant: a plan is made in the turn in which the LevelDB snapshot is taken, so that what it takes from memory (versions, cut-offs,
// lists of written windows) is never behind that snapshot. A version leaves its line in memory when it has no records left in
// LevelDB, so the live versions are all that have any.

import type { Catalog } from '../catalog/catalog.js';
import type { KeptVersion } from '../catalog/sparse-versions.js';
import type { Link } from '../model/chain.js';
import { countUpTo, liveNumbers } from '../model/chain.js';
import { newestCutOff } from '../model/cut-offs.js';
import { bucketsOf } from '../model/region-set.js';
import { windowsIn } from '../model/window-list.js';
import type { CursorSource } from './line-cursor.js';

export interface WindowRange {
  first: bigint;
  count: number;
}

/** Where a record may be: a window of the fault by its index. */
export interface WantedRecord {
  index: number;
  version: number;
}

export interface AskedLine {
  id: number;
  upTo: number;
  /** By window: versions below are not asked, 0: no cut-off. Null: the line has none. */
  limits: readonly number[] | null;
  mayHaveRecords: boolean;
  /** What its versions wrote, newest version first. Null: not known, the line is scanned. */
  versions: readonly KeptVersion[] | null;
}

/** Of a line with more versions their lists would cost more than the one scan that reads them all. */
const FEW_VERSIONS = 4;
/** More records of one line are read by a scan. */
const FEW_RECORDS = 8;

/** Lines of a chain, newest first, that have to be asked about a range of windows. */
export function planFault(links: readonly Link[], range: WindowRange): AskedLine[] {
  const buckets = bucketsOf(range.first, range.count);
  const asked: AskedLine[] = [];
  for (const { line, upTo } of links) {
    const mayHaveRecords = line.regions.hasAnyOf(buckets);
    const hasCutOffs = line.cutOffs.length > 0;
    if (!mayHaveRecords && !hasCutOffs) continue;
    const limits = hasCutOffs ? limitsOf({ line, upTo }, range) : null;
    asked.push({ id: line.id, upTo, limits, mayHaveRecords, versions: null });
  }
  return asked;
}

function limitsOf({ line, upTo }: Link, { first, count }: WindowRange): number[] {
  return Array.from({ length: count }, (_, index) => newestCutOff(line.cutOffs, first + BigInt(index), upTo));
}

/** Looks up what the frozen versions of the lines wrote; some of it may have to be waited for. */
export function lookUpVersions(catalog: Catalog, asked: readonly AskedLine[], source: CursorSource): void {
  catalog.sparse.tick();
  for (const one of asked) {
    if (!one.mayHaveRecords) continue;
    const line = catalog.lines.get(one.id)!;
    const live = liveNumbers(line);
    const count = countUpTo(live, one.upTo);
    // The version being written grows all the time.
    const isWritten = count > 0 && line.versions[count - 1]!.state === 'current';
    if (count > FEW_VERSIONS || isWritten) continue;
    one.versions = keptVersions(catalog, one.id, live.slice(0, count).reverse(), source);
  }
}

function keptVersions(
  { sparse }: Catalog,
  line: number,
  versions: readonly number[],
  source: CursorSource,
): KeptVersion[] | null {
  const kept: KeptVersion[] = [];
  for (const version of versions) {
    const one = sparse.of(line, version, source);
    if (one === null) return null;
    kept.push(one);
  }
  return kept;
}

/** The few records the line may have, newest version of a window first; null: it has to be scanned. */
export function wantedOf(line: AskedLine, { first, count }: WindowRange): WantedRecord[] | null {
  if (!line.mayHaveRecords) return [];
  if (line.versions === null) return null;
  const wanted: WantedRecord[] = [];
  for (const { version, windows } of line.versions) {
    if (windows === null) return null;
    for (const window of windowsIn(windows, first, count))
      wanted.push({ index: window - Number(first), version });
    if (wanted.length > FEW_RECORDS) return null;
  }
  return wanted;
}
