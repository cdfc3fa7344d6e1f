// The cut-offs of one line: ranges of whole windows where readers at version v or later ask nothing older than v.
// Invariant: adjacent ranges of one version are joined; a cut-off never hides records of its own version or later.

import type { CutOff } from './entities.js';

/** Adds a cut-off; answers a new list, sorted by version and first window, ranges of a version joined. */
export function addCutOff(cutOffs: readonly CutOff[], added: CutOff): CutOff[] {
  let { first, end } = added;
  const kept: CutOff[] = [];
  for (const old of cutOffs) {
    const apart =
      old.version !== added.version ||
      (old.end !== null && old.end < first) ||
      (end !== null && end < old.first);
    if (apart) {
      kept.push(old);
      continue;
    }
    if (old.first < first) first = old.first;
    if (end !== null && (old.end === null || old.end > end)) end = old.end;
  }
  kept.push({ first, end, version: added.version });
  return kept.sort(compareCutOffs);
}

function compareCutOffs(a: CutOff, b: CutOff): number {
  return a.version - b.version || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0);
}

export function covers(cutOff: CutOff, window: bigint): boolean {
  return cutOff.first <= window && (cutOff.end === null || window < cutOff.end);
}

/** The newest version with a cut-off over `window` at or below `upTo` (and above `above`); 0: none. */
export function newestCutOff(cutOffs: readonly CutOff[], window: bigint, upTo: number, above = 0): number {
  let newest = 0;
  for (const cutOff of cutOffs) {
    if (
      cutOff.version > newest &&
      cutOff.version > above &&
      cutOff.version <= upTo &&
      covers(cutOff, window)
    ) {
      newest = cutOff.version;
    }
  }
  return newest;
}

/** Cut-offs of a version that leaves its line stay with the next live one: nothing lies between the two. */
export function renumberCutOffs(cutOffs: readonly CutOff[], from: number, to: number): CutOff[] {
  let result: CutOff[] = cutOffs.filter((cutOff) => cutOff.version !== from);
  for (const cutOff of cutOffs) {
    if (cutOff.version === from) result = addCutOff(result, { ...cutOff, version: to });
  }
  return result;
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
