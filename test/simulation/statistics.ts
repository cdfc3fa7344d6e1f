// What a run, or many of them, has come by: rules and guards of the table, crashes and where, what was asked and what became of it.

import type { DecisionRecord } from '../../src/coordinator/store.js';

export class Statistics {
  readonly counts = new Map<string, number>();

  count(what: string, by = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + by);
  }

  decided({ rule, trials }: DecisionRecord): void {
    this.count(`rule ${rule}`);
    for (const trial of trials) this.count(`guard ${trial.rule} ${trial.holds ? 'holds' : 'fails'}`);
  }

  add(other: Iterable<readonly [string, number]>): void {
    for (const [what, number] of other) this.count(what, number);
  }

  /** Lines `what: number`, those of a kind together. */
  lines(): string[] {
    return [...this.counts]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([what, number]) => `${what}: ${number}`);
  }
}
