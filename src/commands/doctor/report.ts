// All checks over one set of facts, and what they found, for people and for programs.

import { paragraph } from '../paragraph.js';
import { printable } from '../table.js';
import { AGENT_CHECKS } from './agent-checks.js';
import { CELL_CHECKS } from './cell-checks.js';
import type { Facts } from './facts.js';
import { AREAS, type Area, type Check, type Finding, type Verdict, warning } from './finding.js';
import { KERNEL_CHECKS } from './kernel-checks.js';
import { PERMISSION_CHECKS } from './permission-checks.js';
import { STORE_CHECKS } from './store-checks.js';
import { SYSTEMD_CHECKS } from './systemd-checks.js';

export const CHECKS: readonly Check[] = [
  ...AGENT_CHECKS,
  ...KERNEL_CHECKS,
  ...PERMISSION_CHECKS,
  ...STORE_CHECKS,
  ...CELL_CHECKS,
  ...SYSTEMD_CHECKS,
];

export interface ReportLine {
  check: string;
  area: Area;
  verdict: Verdict;
  message: string;
  /** Null: nothing is to be done. */
  remedy: string | null;
}

export interface DoctorReport {
  /** No problem was found. */
  healthy: boolean;
  counts: Record<Verdict, number>;
  /** By area. */
  checks: ReportLine[];
}

export function examine(facts: Facts): DoctorReport {
  const checks = CHECKS.map((check) => lineOf(check, lookAt(check, facts))).sort(
    (a, b) => AREAS.indexOf(a.area) - AREAS.indexOf(b.area),
  );
  const counts = { ok: 0, warning: 0, problem: 0, 'not-checked': 0 };
  for (const { verdict } of checks) counts[verdict]++;
  return { healthy: counts.problem === 0, counts, checks };
}

function lineOf({ id, area }: Check, { verdict, message, remedy }: Finding): ReportLine {
  return { check: id, area, verdict, message, remedy: remedy ?? null };
}

/** A check that stumbles over facts nobody thought of must not keep the others from being seen. */
function lookAt({ look }: Check, facts: Facts): Finding {
  try {
    return look(facts);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return warning(`This check itself failed: ${why}.`, 'Report it: this is a defect of cellblock.');
  }
}

const MARKS: Readonly<Record<Verdict, string>> = {
  ok: 'ok',
  warning: 'WARNING',
  problem: 'PROBLEM',
  'not-checked': '-',
};
const COLUMNS = 'PROBLEM  '.length;

/** `all`: what is well too. */
export function reportText({ checks, counts }: DoctorReport, { all }: { all: boolean }): string {
  const shown = checks.filter(({ verdict }) => all || verdict === 'problem' || verdict === 'warning');
  const lines = shown.map(({ verdict, message, remedy, check }) => {
    const first = MARKS[verdict].padEnd(COLUMNS);
    const what = paragraph(`${printable(message)} [${check}]`, first, COLUMNS);
    return remedy === null ? what : what + paragraph(printable(remedy), ' '.repeat(COLUMNS), COLUMNS);
  });
  return `${lines.join('')}${summary(counts)}\n`;
}

function summary({ ok, warning, problem, 'not-checked': unchecked }: Record<Verdict, number>): string {
  const number = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;
  const skipped = unchecked === 0 ? '' : `, ${unchecked} not checked`;
  return `${number(problem, 'problem')}, ${number(warning, 'warning')}, ${ok} ok${skipped}.`;
}
