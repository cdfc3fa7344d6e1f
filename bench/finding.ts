// What a row of the bench says: the verdicts, and the numbers they rest on.
import type { Spread } from './statistics.js';

/** Whose numbers a column holds; `before` is another build of ours. */
export type ServerName = 'cellblock' | 'before' | 'limit' | 'qemu-raw' | 'qcow2' | 'nbdkit' | 'nbd-server';

export type Verdict = 'met' | 'missed' | 'not measured';

export interface Finding {
  /** Which part of the row: "1 process", "p99, overwriting", ... */
  readonly part: string;
  readonly target: string;
  /** The measured answer to the target, in words. */
  readonly measured: string;
  /** How far: 1 is just met, more is better. */
  readonly score?: Spread;
  readonly verdict: Verdict;
}

export interface Column {
  readonly name: string;
  /** One value a round, or nothing and why. */
  readonly values: readonly number[];
  readonly absent?: string;
}

export interface NumbersTable {
  readonly title: string;
  readonly unit: string;
  readonly columns: readonly Column[];
}

export interface Plot {
  /** File name without directory, ending in .svg. */
  readonly file: string;
  readonly title: string;
  /** Absent in a report that was read. */
  readonly svg?: string;
}

export interface RowResult {
  readonly id: string;
  readonly work: string;
  readonly findings: readonly Finding[];
  readonly tables: readonly NumbersTable[];
  readonly plots: readonly Plot[];
  readonly notes: readonly string[];
}
