// Where a volume is: the record of the coordinator, changed by compare-and-set on `gen` only.
//
// Invariants: `epoch` never falls; it is at least that of every answer that was ever decided upon. `alternate` stays until the move is
// over, its time of grace too, and no snapshot's parent lies in the other cell.

import type { Direction } from './states.js';

/** A snapshot as the end of a lineage. Hidden snapshots, which carry deltas, have the seq of the visible one before them. */
export interface Head {
  /** 32 hexadecimal digits. */
  id: string;
  /** 1 for the first snapshot of the volume, one more for each visible one. */
  seq: number;
}

/** The hosts that hold a volume in one cell. */
export interface Place {
  cell: string;
  /** Of the volume in this cell, as last seen. */
  epoch: number;
  /** Serves it. */
  primary: string;
  /** The store it is in: an answer from another store of that host is none. */
  storeId: string;
  /** Pull every snapshot from the primary. */
  replicas: string[];
  /** It has to accept a seal, as released to this epoch, before it serves again; null: nothing is asked of it. */
  mustSeal: number | null;
  /** Somebody has to look after the copy there. */
  needsRepair: boolean;
  /** The epoch under which an operator has put this primary, a replica, in the place of another, as long as it is not known to have heard; else null or absent. */
  unheardPromotion?: number | null;
}

/** In order. A phase is written before what it announces is sent. */
export const MOVE_PHASES = [
  'PREPARED',
  'COPYING',
  'SEALING',
  'SEALED',
  'RELEASING',
  'ACTIVATING',
  'ACTIVATED',
] as const;
export type MovePhase = (typeof MOVE_PHASES)[number];

/** How far the move of a volume is. Alone it proves nothing: it may come from a backup (I4). */
export interface MoveJournal {
  /** 32 hexadecimal digits. */
  move: string;
  direction: Direction;
  phase: MovePhase;
  /** Cells; the same one when a volume only changes its host. */
  from: string;
  to: string;
  fromHost: string;
  toHost: string;
  /** The id the source is to be sealed with: chosen before it is asked, so that asking again is the same. Null before that. */
  sealId: string | null;
  /** What the source was sealed at; null before that. */
  sealedHead: Head | null;
}

/** `lost`: neither cell knows the volume; `quarantined`: an operator has to decide; `gone`: deleted, until all hosts have confirmed. */
export type RouteStatus = 'open' | 'lost' | 'quarantined' | 'gone';

export interface Route {
  /** Id of the volume everywhere: 32 hexadecimal digits. */
  volume: string;
  name: string;
  status: RouteStatus;
  active: Place;
  alternate: Place | null;
  /** Grows by one with every change. */
  gen: number;
  epoch: number;
  /** Null: it has no snapshot yet. */
  lineageHead: Head | null;
  journal: MoveJournal | null;
}

/** A replica owns nothing before it has heard; of one that has, a backup may say again that it is a replica. */
export function awaitsPromotion({ epoch, unheardPromotion }: Place): boolean {
  return unheardPromotion === epoch;
}

/** Whether the move is not as far as `phase`; no move is before everything. */
export function isBefore(journal: MoveJournal | null, phase: MovePhase): boolean {
  return journal === null || MOVE_PHASES.indexOf(journal.phase) < MOVE_PHASES.indexOf(phase);
}

export function sameHead(a: Head | null, b: Head | null): boolean {
  return a?.id === b?.id;
}
