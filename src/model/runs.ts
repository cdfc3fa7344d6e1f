// Algebra of runs of blocks: what lies over what, what is dropped. All lists are sorted and free of overlaps.

import type { BlockRange } from './punch.js';
import type { Run } from './window-record.js';
import { joinRuns } from './window-record.js';

/** The parts of `runs` where `by` has nothing (`silent`), or something (`covered`). */
export function splitRuns(runs: readonly Run[], by: readonly Run[]): { silent: Run[]; covered: Run[] } {
  const silent: Run[] = [];
  const covered: Run[] = [];
  let from = 0;
  for (const run of runs) {
    const end = run.start + run.count;
    let at = run.start;
    while (from < by.length && by[from]!.start + by[from]!.count <= at) from++;
    for (let index = from; index < by.length && by[index]!.start < end; index++) {
      const over = by[index]!;
      const first = Math.max(over.start, at);
      const last = Math.min(over.start + over.count, end);
      if (first > at) silent.push({ start: at, count: first - at, slot: run.slot });
      covered.push({ start: first, count: last - first, slot: run.slot });
      at = last;
    }
    if (at < end) silent.push({ start: at, count: end - at, slot: run.slot });
  }
  return { silent, covered };
}

/** `upper` on top of `lower`. */
export function overlay(lower: readonly Run[], upper: readonly Run[]): Run[] {
  const merged = [...upper, ...splitRuns(lower, upper).silent].sort((a, b) => a.start - b.start);
  return joinRuns(merged);
}

/** Places `before` names and `after` does not, but for those in `kept` slots. */
export function droppedPlaces(
  before: readonly Run[],
  after: readonly Run[],
  kept: ReadonlySet<bigint>,
): BlockRange[] {
  const dropped: BlockRange[] = [];
  for (const run of before) {
    if (run.slot === null || kept.has(run.slot)) continue;
    const slot = run.slot;
    const same = after.filter((other) => other.slot === slot);
    for (const { start, count } of splitRuns([run], same).silent) dropped.push({ slot, start, count });
  }
  return dropped;
}

/** A set of the slots that are not null. */
export function slotSet(...slots: (bigint | null | undefined)[]): Set<bigint> {
  return new Set(slots.filter((slot) => slot !== null && slot !== undefined));
}

/** The data runs of a record as places. */
export function placesOf(runs: readonly Run[]): BlockRange[] {
  return droppedPlaces(runs, [], new Set());
}
