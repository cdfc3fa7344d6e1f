// The table of lineage: for what the active cell (row) and the alternate cell (column) say, the one rule that keeps the lineage whole.
//
// Invariant (I6): every pair has exactly one rule; guards, which may send it on to another, are in guards.ts.

import type { CellState } from './states.js';

export const RULES = [
  'stay',
  'stay-extend',
  'follow',
  'switch-back',
  'follow-degraded',
  'finish-y',
  'finish-x',
  'reopen-x',
  'reopen-y',
  'elect',
  'fence',
  'stay-alone',
  'follow-alone',
  'adopt-staged',
  'wait',
  'creating',
  'quarantine',
  'not-found',
] as const;

export type Rule = (typeof RULES)[number];

/** Columns in the order of CELL_STATES: NONE, RECEIVING, STAGED, SEALED, ACTIVE, OUTGOING, FAULTED, UNKNOWN. */
type Row = readonly [Rule, Rule, Rule, Rule, Rule, Rule, Rule, Rule];

const ACTIVE_ROW: Row = [
  'stay',
  'stay-extend',
  'stay-extend',
  'stay',
  'fence',
  'fence',
  'stay',
  'stay-alone',
];

// biome-ignore format: it is a table
const TABLE: Readonly<Record<CellState, Row>> = {
  NONE:      ['not-found', 'creating', 'adopt-staged', 'reopen-y', 'follow', 'follow', 'quarantine', 'wait'],
  RECEIVING: ['creating', 'creating', 'quarantine', 'reopen-y', 'switch-back', 'switch-back', 'quarantine', 'wait'],
  STAGED:    ['adopt-staged', 'quarantine', 'quarantine', 'finish-x', 'switch-back', 'switch-back', 'adopt-staged', 'wait'],
  SEALED:    ['reopen-x', 'reopen-x', 'finish-y', 'elect', 'follow', 'follow', 'reopen-x', 'wait'],
  ACTIVE:    ACTIVE_ROW,
  OUTGOING:  ACTIVE_ROW,
  FAULTED:   ['quarantine', 'quarantine', 'adopt-staged', 'reopen-y', 'follow-degraded', 'follow-degraded', 'quarantine', 'wait'],
  UNKNOWN:   ['wait', 'wait', 'wait', 'wait', 'follow-alone', 'follow-alone', 'wait', 'wait'],
};

const COLUMNS: Readonly<Record<CellState, number>> = {
  NONE: 0,
  RECEIVING: 1,
  STAGED: 2,
  SEALED: 3,
  ACTIVE: 4,
  OUTGOING: 5,
  FAULTED: 6,
  UNKNOWN: 7,
};

/** The rule for the pair of answers; without an alternate cell `y` is NONE. */
export function ruleFor(x: CellState, y: CellState): Rule {
  return TABLE[x][COLUMNS[y]]!;
}
