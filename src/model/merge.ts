// What a deleted version's record hands to the record of its one dependent. DESIGN "Deleting a snapshot", HAZARDS 4, J12.
// Invariant: every block of the dependent reads as before; what nobody reads any more is named in `freed`.

import type { BlockRange } from './punch.js';
import { droppedPlaces, overlay, placesOf, splitRuns } from './runs.js';
import type { WindowRecord } from './window-record.js';

export interface MergeInput {
  deleted: WindowRecord;
  dependent: WindowRecord | null;
  /** A cut-off of the dependent lies over the window: it counts as zero for every block. */
  cutOff: boolean;
  /** Something lies below the deleted version; else its zeros say nothing. */
  below: boolean;
}

export interface MergeOutput {
  /** The dependent's record to store, or null when it does not change. */
  record: WindowRecord | null;
  freed: BlockRange[];
}

export function mergeRecords({ deleted, dependent, cutOff, below }: MergeInput): MergeOutput {
  const mine = dependent?.runs ?? [];
  if (cutOff) return { record: null, freed: droppedPlaces(deleted.runs, mine, new Set()) };
  const { silent, covered } = splitRuns(deleted.runs, mine);
  const taken = silent.filter((run) => run.slot !== null || below);
  const freed = droppedPlaces(covered, mine, new Set());
  if (taken.length === 0) return { record: null, freed };
  return { record: { ownSlot: dependent?.ownSlot ?? null, runs: overlay(taken, mine) }, freed };
}

/** What a version that nobody reads leaves behind. */
export function freeRecord(record: WindowRecord): BlockRange[] {
  return placesOf(record.runs);
}
