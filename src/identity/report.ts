// What a sync says about the identity of one disk: plain values, the same for people and for `--json`.
// Invariant: nothing that changed or should have changed is missing: a field is in one list of what became of it, or in `same`.

import type { DamagedPart, DiskIdentity } from './disk.js';
import type { DiskRestored } from './disk-restore.js';
import { type IdentityPlan, labelOf, type PlannedField } from './policy.js';
import type { Policy } from './rules.js';

export interface ReportedField {
  /** `partition-2/fs.uuid`. */
  readonly field: string;
  readonly kind: string;
  /** The target's value before; null: none. */
  readonly target: string | null;
  /** The source's value; null: unknown. */
  readonly source: string | null;
  /** What it reads as after the sync; null: unknown. In a dry run, what it would read as. */
  readonly now: string | null;
  readonly policy: Policy;
  readonly reason: string | null;
}

export interface CapturedField {
  readonly field: string;
  readonly kind: string;
  readonly value: string;
}

export interface ReportedDamage {
  readonly disk: 'target' | 'content';
  readonly where: string;
  readonly kind: string;
  readonly reason: string;
}

export interface IdentityReport {
  /** Why the content is that of a boot disk, or null. */
  readonly boot: string | null;
  /** All that the target had. */
  readonly captured: CapturedField[];
  /** Those of the target whose value the content replaced: what claim 1 determines. */
  readonly overwritten: ReportedField[];
  readonly restored: ReportedField[];
  readonly unsupported: ReportedField[];
  /** The source's value, by policy. */
  readonly skipped: ReportedField[];
  /** The source's value, because the target had none. */
  readonly foreign: ReportedField[];
  readonly fresh: ReportedField[];
  readonly same: ReportedField[];
  /** Of the target, without a place in the content. */
  readonly gone: CapturedField[];
  readonly damaged: ReportedDamage[];
  /** What was done besides, and what was left out. One sentence each. */
  readonly notes: string[];
}

export interface ReportInputs {
  readonly target: DiskIdentity | null;
  readonly content: DiskIdentity;
  readonly plan: IdentityPlan;
  /** Null: a dry run. */
  readonly restored: DiskRestored | null;
  /** Why it counts as a boot disk, or null. */
  readonly boot: string | null;
}

export function reportOf({ target, content, boot, plan, restored }: ReportInputs): IdentityReport {
  const refusals = refusalsOf(restored);
  const outcomes = plan.fields.map((field) => ({ field, ...outcomeOf(field, refusals) }));
  const where = (...states: PlannedField['state'][]): ReportedField[] =>
    outcomes.filter(({ state }) => states.includes(state)).map(({ reported }) => reported);
  const replaced = outcomes.filter(({ field }) => field.before !== null && field.before !== field.source);
  return {
    boot,
    captured: capturedFrom(target),
    overwritten: replaced.map(({ reported }) => reported),
    restored: restored === null ? [] : where('overwritten'),
    unsupported: [...where('unsupported'), ...tableRefusals(plan, restored)],
    skipped: where('skipped'),
    foreign: where('foreign'),
    fresh: where('fresh'),
    same: where('same'),
    gone: plan.gone.map(({ label, family, before }) => ({ field: label, kind: family, value: before })),
    damaged: [...damageOf('target', target), ...damageOf('content', content)],
    notes: notesOf(content, restored),
  };
}

type Refusals = ReadonlyMap<string, string>;

function refusalKey({ place, family }: { place: string; family: string }, field: string): string {
  return JSON.stringify([place, family, field]);
}

/** Why a kind did not write what it was asked to, when it came to it. */
function refusalsOf(restored: DiskRestored | null): Refusals {
  const missing = restored?.missing.map(
    (one) =>
      [refusalKey(one, one.field), 'It was not found in the content when it was to be written.'] as const,
  );
  const refused = restored?.parts.flatMap((part) =>
    part.restored.unsupported.map(({ field, reason }) => [refusalKey(part, field), reason] as const),
  );
  return new Map([...(missing ?? []), ...(refused ?? [])]);
}

function outcomeOf(
  field: PlannedField,
  refusals: Refusals,
): { state: PlannedField['state']; reported: ReportedField } {
  const refusal = field.wanted === null ? undefined : refusals.get(refusalKey(field, field.field));
  const reported = {
    field: field.label,
    kind: field.kind,
    target: field.before,
    source: field.source,
    now: refusal === undefined ? (field.wanted ?? field.source) : field.source,
    policy: field.policy,
    reason: refusal ?? field.reason,
  };
  return { state: refusal === undefined ? field.state : 'unsupported', reported };
}

/** Refusals about what is no planned field: the backup of a GPT that does not fit. */
function tableRefusals({ fields }: IdentityPlan, restored: DiskRestored | null): ReportedField[] {
  const planned = new Set(fields.map((field) => refusalKey(field, field.field)));
  return (restored?.parts ?? []).flatMap((part) =>
    part.restored.unsupported
      .filter(({ field }) => !planned.has(refusalKey(part, field)))
      .map(({ field, reason }) => ({
        field: `${part.title.replaceAll(' ', '-')}/${part.family}.${field}`,
        kind: part.family,
        target: null,
        source: null,
        now: null,
        policy: 'keep' as const,
        reason,
      })),
  );
}

function capturedFrom(target: DiskIdentity | null): CapturedField[] {
  return (target?.parts ?? []).flatMap((part) =>
    part.found.fields.map((field) => ({
      field: labelOf(part, field),
      kind: part.found.kind,
      value: field.value,
    })),
  );
}

function damageOf(disk: ReportedDamage['disk'], identity: DiskIdentity | null): ReportedDamage[] {
  return (identity?.damaged ?? []).map(({ title, family, reason }: DamagedPart) => ({
    disk,
    where: title,
    kind: family,
    reason,
  }));
}

function notesOf(content: DiskIdentity, restored: DiskRestored | null): string[] {
  const found = content.parts.flatMap(({ found: { notes } }) => notes);
  const done = (restored?.parts ?? []).flatMap((part) => part.restored.notes);
  return [...content.notes, ...found, ...done];
}
