// What hosts say of a volume, and what a cell says by them.
//
// Invariant: a cell speaks by its primary. Who is silent, or answers from another store than the one on record, has said nothing: only a
// primary's NONE, or tombstones of all named hosts, mean that there is nothing.

import type { Head, Place } from './route.js';
import type { CellState } from './states.js';

/** The move a host takes part in. */
export interface MovePart {
  id: string;
  role: 'source' | 'destination';
  phase: string;
  peerCell: string;
  /** The last snapshot that is complete here; null: none is. */
  completeThrough: Head | null;
}

/** What stays of a volume that was deleted: never forgotten by time. */
export interface Tombstone {
  epoch: number;
  /** `delete`: a user's; `purge`: a copy that was given up. */
  why: 'delete' | 'purge';
}

/** What the host has on record; it has no state UNKNOWN. */
export interface HostAnswer {
  host: string;
  cell: string;
  storeId: string;
  state: Exclude<CellState, 'UNKNOWN'>;
  epoch: number;
  lineageHead: Head | null;
  /** What it was sealed at; null while it owns the volume. */
  sealedHead: Head | null;
  /** The head it was activated at; null: it was made here. */
  activatedFrom: Head | null;
  /** Written to since `lineageHead`. */
  dirtySinceHead: boolean;
  /** The epoch it has released the volume to: it may never be reopened below. Null: it has not. */
  released: number | null;
  move: MovePart | null;
  tombstone: Tombstone | null;
  /** Id of a snapshot that is being taken. */
  inFlight: string | null;
  /** A replica: holds complete snapshots through this one and does not vote. */
  replica: { completeThrough: Head | null } | null;
  /** Ids of its lineage by seq, of those that were asked for and the latest ones. */
  lineage: Readonly<Record<number, string>>;
}

/** The answer of a cell. */
export type CellAnswer = Pick<
  HostAnswer,
  | 'epoch'
  | 'lineageHead'
  | 'sealedHead'
  | 'activatedFrom'
  | 'dirtySinceHead'
  | 'released'
  | 'move'
  | 'tombstone'
  | 'inFlight'
  | 'replica'
  | 'lineage'
> & { state: CellState };

export const NO_RECORD: CellAnswer = {
  state: 'NONE',
  epoch: 0,
  lineageHead: null,
  sealedHead: null,
  activatedFrom: null,
  dirtySinceHead: false,
  released: null,
  move: null,
  tombstone: null,
  inFlight: null,
  replica: null,
  lineage: {},
};

export const NO_ANSWER: CellAnswer = { ...NO_RECORD, state: 'UNKNOWN' };

/** Nothing a volume could go on with: no record, or a copy that was never complete. */
export function hasNothing({
  state,
  move,
  replica,
}: Pick<CellAnswer, 'state' | 'move' | 'replica'>): boolean {
  if (state === 'NONE' || state === 'RECEIVING') return true;
  if (state !== 'FAULTED') return false;
  return replica ? replica.completeThrough === null : move?.role === 'destination' && move.phase !== 'STAGED';
}

/** What the hosts of a place that have answered make it say. Answers of other hosts are ignored. */
export function answerOf(place: Place, answers: readonly HostAnswer[]): CellAnswer {
  const of = (host: string) => answers.find((answer) => answer.host === host && answer.cell === place.cell);
  const primary = of(place.primary);
  if (primary && primary.storeId === place.storeId) return spokenFor(primary);
  // Its disk may have been replaced, or an empty store stands in for it: what it does not know proves nothing.
  const all = [place.primary, ...place.replicas].map(of);
  if (all.every((answer) => answer?.tombstone)) {
    const tombstone = all
      .map((answer) => answer!.tombstone!)
      .reduce((highest, next) => (next.epoch > highest.epoch ? next : highest));
    return { ...NO_RECORD, tombstone };
  }
  return NO_ANSWER;
}

function spokenFor(primary: HostAnswer): CellAnswer {
  const { host: _host, cell: _cell, storeId: _storeId, ...answer } = primary;
  if (answer.tombstone) return { ...NO_RECORD, tombstone: answer.tombstone };
  // A replica that is asked as the primary has not been promoted: it owns nothing. One that is held back is promoted by nobody: it has lost what
  // the route knows of it, and says so as any other does.
  return answer.replica && answer.state !== 'FAULTED' ? { ...answer, state: 'UNKNOWN' } : answer;
}

/**
 * Whether a snapshot is on a lineage, at `seq` or before it. Null: it cannot be said, because the answer has no id for that seq; it has
 * to be asked for.
 */
export function isOnLineage(
  head: Head | null,
  { lineage }: Pick<CellAnswer, 'lineage'>,
  seq: number,
): boolean | null {
  if (head === null) return true;
  if (head.seq > seq) return false;
  const there = lineage[head.seq];
  return there === undefined ? null : there === head.id;
}

/** Whether the end of one lineage is the other's end or lies before it. */
export function precedes(
  head: Head | null,
  answer: Pick<CellAnswer, 'lineageHead' | 'lineage'>,
): boolean | null {
  const end = answer.lineageHead;
  if (head === null) return true;
  if (end === null) return false;
  return head.id === end.id ? true : isOnLineage(head, answer, end.seq);
}
