// What a cell can say of a volume, and what each of these states allows.
//
// Invariant: at most one cell is in a state that owns the volume under one epoch (I1); only an owner serves clients and takes snapshots.

export const CELL_STATES = [
  'NONE',
  'RECEIVING',
  'STAGED',
  'SEALED',
  'ACTIVE',
  'OUTGOING',
  'FAULTED',
  'UNKNOWN',
] as const;

/**
 * - `NONE`: no record. `RECEIVING`: an incomplete incoming copy. `STAGED`: a complete one, not activated.
 * - `ACTIVE`: the owner under its epoch. `OUTGOING`: the owner, source of a move that has not sealed it.
 * - `SEALED`: the former owner, complete through its sealed head, fenced. `FAULTED`: a record whose data cannot be served.
 * - `UNKNOWN`: no answer in time.
 */
export type CellState = (typeof CELL_STATES)[number];

/** Which way a move goes: rolling it back turns the merits, and so who wins. */
export type Direction = 'forward' | 'rollback';

export interface StateTraits {
  /** Owns the volume: serves its clients and takes its snapshots. */
  readonly owns: boolean;
  /** The greater wins. Null: says nothing. */
  readonly merit: Readonly<Record<Direction, number>> | null;
}

export const STATE_TRAITS: Readonly<Record<CellState, StateTraits>> = {
  NONE: { owns: false, merit: { forward: 0, rollback: 0 } },
  RECEIVING: { owns: false, merit: { forward: 20, rollback: 20 } },
  STAGED: { owns: false, merit: { forward: 50, rollback: 30 } },
  SEALED: { owns: false, merit: { forward: 40, rollback: 50 } },
  ACTIVE: { owns: true, merit: { forward: 70, rollback: 70 } },
  OUTGOING: { owns: true, merit: { forward: 60, rollback: 60 } },
  FAULTED: { owns: false, merit: { forward: 10, rollback: 10 } },
  UNKNOWN: { owns: false, merit: null },
};

export function owns(state: CellState): boolean {
  return STATE_TRAITS[state].owns;
}
