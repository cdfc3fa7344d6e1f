// Which value each field of a target gets in a sync, and whether it has it afterwards. Pure: what is on the disks was read before.
//
// Defaults (docs/identity.md): a disk synced by itself keeps its own ids, because an fstab elsewhere names them. With a boot disk in the
// sync an fstab comes along that names the source's ids, so all disks take those; only the GUID of the EFI system partition is kept
// while the firmware variables, whose boot entries name it, stay outside.
// Invariant: every field of the content and every field of the target is in exactly one place of the plan.

import { CellblockError } from '../base/errors.js';
import type { DiskIdentity, DiskPart } from './disk.js';
import type { DiskRestored, WantedField } from './disk-restore.js';
import { freshValue } from './formats.js';
import type { Field, FieldFormat, FieldGroup } from './kind.js';
import { namesOfKind } from './kind-names.js';
import { ESP_TYPE, type FoundTable } from './partitions.js';
import {
  type FieldName,
  type IdentityRule,
  type Matcher,
  matcherOf,
  type Policy,
  vocabularyOf,
  wordOf,
} from './rules.js';

export interface PolicyInputs {
  /** Null: nothing was captured; the target is new. */
  readonly target: DiskIdentity | null;
  /** The source's content as it is seen through the target. */
  readonly content: DiskIdentity;
  readonly bootDiskInSync: boolean;
  /** Whether the firmware's variables are left out of the sync. */
  readonly firmwareOutside: boolean;
  /** Of several that match a field, the last one decides. */
  readonly rules: readonly IdentityRule[];
  /** So many random bytes. */
  readonly random: (bytes: number) => Uint8Array;
}

/**
 * `overwritten`: differs from the target's, which will be put back; `same`: both have one value; `skipped`: the source's is taken by
 * policy; `foreign`: the source's is taken because the target has none; `fresh`: a new one is made; `unsupported`: it should have
 * another value and cannot.
 */
export type FieldState = 'overwritten' | 'same' | 'skipped' | 'foreign' | 'fresh' | 'unsupported';

export interface PlannedField {
  /** For people and in patterns: `partition-2/fs.uuid`. */
  readonly label: string;
  readonly place: string;
  readonly family: string;
  readonly kind: string;
  readonly group: FieldGroup | null;
  readonly field: string;
  /** The target's value; null: it has no such field. */
  readonly before: string | null;
  /** The value in the content; null: it could not be read. */
  readonly source: string | null;
  readonly policy: Policy;
  /** Null: it stays as it is. */
  readonly wanted: string | null;
  readonly state: FieldState;
  /** For `unsupported`, and where a policy could not be followed. */
  readonly reason: string | null;
}

/** A field of the target that has no place in the new content. */
export interface GoneField {
  readonly label: string;
  readonly place: string;
  readonly family: string;
  readonly field: string;
  readonly before: string;
}

export interface IdentityPlan {
  readonly fields: readonly PlannedField[];
  readonly gone: readonly GoneField[];
}

/** Throws `identity-invalid` for a rule that could match nothing. */
export function planIdentity(inputs: PolicyInputs): IdentityPlan {
  const { target, content } = inputs;
  const vocabulary = vocabularyOf(...(target ? [target, content] : [content]));
  const rules = inputs.rules.map(({ field, policy }) => ({ matches: matcherOf(field, vocabulary), policy }));
  const before = new Map(
    target?.parts.flatMap((part) => part.found.fields.map((field) => [keyOf(part, field.name), field.value])),
  );
  const fields = content.parts.flatMap((part) => planPart(part, { inputs, before, rules }));
  const there = new Set(fields.map((field) => keyOf(field, field.field)));
  return { fields, gone: target === null ? [] : goneFrom(target, there) };
}

interface Context {
  readonly inputs: PolicyInputs;
  /** The target's values, by keyOf. */
  readonly before: ReadonlyMap<string, string>;
  readonly rules: readonly { matches: Matcher; policy: Policy }[];
}

function keyOf({ place, family }: { place: string; family: string }, field: string): string {
  return JSON.stringify([place, family, field]);
}

function planPart(part: DiskPart, context: Context): PlannedField[] {
  const { fields, unsupported } = part.found;
  const reasons = new Map(unsupported.map(({ field, reason }) => [field, reason]));
  const planned = fields.map((field) => planField(part, field, reasons.get(field.name) ?? null, context));
  const unread = [...reasons].filter(([name]) => !fields.some((field) => field.name === name));
  return [...planned, ...unread.map(([name, reason]) => planUnread(part, name, reason, context))];
}

function planField(part: DiskPart, field: Field, reason: string | null, context: Context): PlannedField {
  const before = context.before.get(keyOf(part, field.name)) ?? null;
  const policy = policyOf(part, field, context);
  return {
    label: labelOf(part, field),
    place: part.place,
    family: part.family,
    kind: part.found.kind,
    group: field.group,
    field: field.name,
    before,
    source: field.value,
    policy,
    ...decide({ field, before, policy, unsupported: reason }, context.inputs.random),
  };
}

/** A field of which nothing is known but that it is there and is not written. */
function planUnread(part: DiskPart, name: string, reason: string, { before }: Context): PlannedField {
  return {
    label: `${slug(part.title)}/${part.found.kind}.${wordOf({ name })}`,
    place: part.place,
    family: part.family,
    kind: part.found.kind,
    group: null,
    field: name,
    before: before.get(keyOf(part, name)) ?? null,
    source: null,
    policy: 'keep',
    wanted: null,
    state: 'unsupported',
    reason,
  };
}

function policyOf(part: DiskPart, field: Field, { inputs, rules }: Context): Policy {
  const name = nameOf(part, field);
  const rule = rules.findLast(({ matches }) => matches(name));
  if (rule !== undefined) return rule.policy;
  if (!inputs.bootDiskInSync) return 'keep';
  return inputs.firmwareOutside && isEspGuid(field) ? 'keep' : 'take';
}

function isEspGuid(field: Field): boolean {
  return field.group === 'partition' && field.name.endsWith(`:${ESP_TYPE}/guid`);
}

interface Question {
  readonly field: Field;
  readonly before: string | null;
  readonly policy: Policy;
  /** Why it cannot be written, or null. */
  readonly unsupported: string | null;
}
type Decision = Pick<PlannedField, 'wanted' | 'state' | 'reason'>;

function decide(question: Question, random: PolicyInputs['random']): Decision {
  const { field, policy, unsupported } = question;
  const before = isValue(field.format, question.before) ? question.before : null;
  const leave = (state: FieldState, reason: string | null = null): Decision => ({
    wanted: null,
    state,
    reason,
  });
  if (policy === 'new')
    return unsupported === null ? makeNew(field, random) : leave('unsupported', unsupported);
  if (before === field.value) return leave('same');
  if (before === null) return leave('foreign');
  if (policy === 'take') return leave('skipped');
  if (unsupported !== null) return leave('unsupported', unsupported);
  return { wanted: before, state: 'overwritten', reason: null };
}

/** An empty label or signature is a value like any other; an empty id is none. */
function isValue(format: FieldFormat, value: string | null): boolean {
  return value !== null && (value !== '' || format === 'text' || format === 'hex32');
}

function makeNew(field: Field, random: PolicyInputs['random']): Decision {
  const skipped = (reason: string): Decision => ({ wanted: null, state: 'skipped', reason });
  if (field.format === 'text') return skipped('A label or name is not made up: it stays the source’s.');
  if (field.value === '') return skipped('The source has none.');
  return { wanted: freshValue(field.format, random), state: 'fresh', reason: null };
}

function goneFrom(target: DiskIdentity, there: ReadonlySet<string>): GoneField[] {
  return target.parts.flatMap((part) =>
    part.found.fields
      .filter((field) => field.value !== '' && !there.has(keyOf(part, field.name)))
      .map((field) => ({
        label: labelOf(part, field),
        place: part.place,
        family: part.family,
        field: field.name,
        before: field.value,
      })),
  );
}

/** A field as people read and name it: what the table says about a partition stands with that partition. */
export function labelOf(part: DiskPart, field: Field): string {
  const { place, group } = nameOf(part, field);
  return `${place}/${group}.${partitionOf(part, field) === null ? field.name : wordOf(field)}`;
}

function nameOf(part: DiskPart, field: Field): FieldName {
  const number = partitionOf(part, field);
  return {
    place: number === null ? slug(part.title) : `partition-${number}`,
    kinds: namesOfKind(part.family, part.found.kind),
    group: field.group,
    field: field.name,
  };
}

/** Which partition a field of a table is about; null: none, or one that is not on the disk. */
function partitionOf({ found }: DiskPart, { name }: Field): number | null {
  const key = /^partition\/(.+)\/[^/]+$/.exec(name)?.[1];
  const partitions = (found as Partial<FoundTable>).partitions ?? [];
  return partitions.find((partition) => partition.key === key)?.number ?? null;
}

function slug(title: string): string {
  return title.replaceAll(' ', '-');
}

/** What restoreDisk has to write. */
export function wantedFields({ fields }: IdentityPlan): WantedField[] {
  return fields.flatMap(({ place, family, field, wanted }) =>
    wanted === null ? [] : [{ place, family, field, value: wanted }],
  );
}

/** A field that ought to have a value and reads as another one. */
export interface Unrestored {
  readonly label: string;
  readonly wanted: string;
  readonly seen: string | null;
}

/**
 * Compares what the disk holds after a restore with the plan: what it answers is not as wanted. Fields that their kind refused to write,
 * with a reason, are not in it: nothing of those was written, and the report has them.
 */
export function unrestored(plan: IdentityPlan, after: DiskIdentity, restored: DiskRestored): Unrestored[] {
  const seen = new Map(
    after.parts.flatMap((part) => part.found.fields.map(({ name, value }) => [keyOf(part, name), value])),
  );
  const refused = new Set(
    restored.parts.flatMap((part) => part.restored.unsupported.map(({ field }) => keyOf(part, field))),
  );
  return plan.fields.flatMap((field) => {
    const key = keyOf(field, field.field);
    const value = seen.get(key) ?? null;
    if (field.wanted === null || field.wanted === value || refused.has(key)) return [];
    return [{ label: field.label, wanted: field.wanted, seen: value }];
  });
}

/** The error of a sync whose identity does not read back. */
export function notRestored(fields: readonly Unrestored[]): CellblockError {
  const list = fields.map(({ label, wanted, seen }) => `${label} is ${seen ?? 'gone'} instead of ${wanted}`);
  return new CellblockError(
    'identity-damaged',
    `Identity does not read back as it was written: ${list.join('; ')}.`,
    {
      hint: 'The target was put back as it was; please report this with the log of the agent.',
    },
  );
}
