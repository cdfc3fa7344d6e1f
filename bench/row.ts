// A row of the bench: one piece of work and its target.
import type { Bench } from './bench.js';
import type { DataSets } from './data-sets.js';
import type { RowResult } from './finding.js';

export interface Row {
  /** As in docs/benchmarks.md: B1, B2, ... */
  readonly id: string;
  readonly work: string;
  /** A row that has no peers says nothing without our daemon. */
  readonly needsCellblock: boolean;
  readonly run: (bench: Bench, data: DataSets) => Promise<Omit<RowResult, 'id' | 'work'>>;
}
