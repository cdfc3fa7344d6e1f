// The cut-offs of one line: ranges of whole windows where readers at version v or later ask nothing older than v.
// Invariant: adjacent ranges of one version are joined; a cut-off never hides records of its own version or later.

import type { CutOff } from './entities.js';

/** Adds cut-offs; answers a new list, sorted by version and first window, ranges of a version joined. */
export function addCutOffs(cutOffs: readonly CutOff[], added: readonly CutOff[]): CutOff[] {
  const joined: CutOff[] = [];
  for (const { first, end, version } of [...cutOffs, ...added].sort(compareCutOffs)) {
    const last = joined[joined.length - 1];
    if (last?.version !== version || (last.end !== null && last.end < first))
      joined.push({ first, end, version });
    else if (last.end !== null && (end === null || end > last.end)) last.end = end;
  }
  return joined;
}

export function addCutOff(cutOffs: readonly CutOff[], added: CutOff): CutOff[] {
  return addCutOffs(cutOffs, [added]);
}

function compareCutOffs(a: CutOff, b: CutOff): number {
  return a.version - b.version || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0);
}

export function covers(cutOff: CutOff, window: bigint): boolean {
  return cutOff.first <= window && (cutOff.end === null || window < cutOff.end);
}

/** The ranges of one version, sorted and free of overlaps. */
interface VersionRanges {
  version: number;
  ranges: CutOff[];
}

/** By list: lists are replaced at a change, never written to. */
const indexes = new WeakMap<readonly CutOff[], VersionRanges[]>();

/** Newest version first. */
function indexOf(cutOffs: readonly CutOff[]): VersionRanges[] {
  let index = indexes.get(cutOffs);
  if (!index) {
    index = [];
    for (const cutOff of addCutOffs(cutOffs, [])) {
      const newest = index[index.length - 1];
      if (newest?.version === cutOff.version) newest.ranges.push(cutOff);
      else index.push({ version: cutOff.version, ranges: [cutOff] });
    }
    index.reverse();
    indexes.set(cutOffs, index);
  }
  return index;
}

/** The newest version with a cut-off over `window` at or below `upTo` (and above `above`); 0: none. */
export function newestCutOff(cutOffs: readonly CutOff[], window: bigint, upTo: number, above = 0): number {
  if (cutOffs.length === 0) return 0;
  for (const { version, ranges } of indexOf(cutOffs)) {
    if (version <= above) return 0;
    if (version > upTo) continue;
    const range = ranges[firstEndingBehind(ranges, window)];
    if (range && covers(range, window)) return version;
  }
  return 0;
}

/** Index of the first of sorted ranges free of overlaps that does not end before `window`. */
export function firstEndingBehind(ranges: readonly CutOff[], window: bigint): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { end } = ranges[middle]!;
    if (end !== null && end <= window) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Cut-offs of a version that leaves its line stay with the next live one: nothing lies between the two. */
export function renumberCutOffs(cutOffs: readonly CutOff[], from: number, to: number): CutOff[] {
  const renumbered = cutOffs.map((cutOff) => (cutOff.version === from ? { ...cutOff, version: to } : cutOff));
  return addCutOffs(renumbered, []);
}

/** Cut-offs in force at `upTo` that came after `above`, as cut-offs of `version` of another line. */
export function inheritCutOffs(
  cutOffs: readonly CutOff[],
  range: { above: number; upTo: number },
  version: number,
): CutOff[] {
  return cutOffs
    .filter((cutOff) => cutOff.version > range.above && cutOff.version <= range.upTo)
    .map((cutOff) => ({ ...cutOff, version }));
}
