// Writes identity back into a whole disk: looks what is there now, and runs the restore of each part, file systems before the tables they
// lie in, so that no area moves under a restore that is still to come.
// Invariant: only kinds that were taken by inspectDisk are run, each on its own area.

import { byClaim, type DiskIdentity, type DiskPart, inspectDisk, TABLES } from './disk.js';
import type { Kind, Restored } from './kind.js';
import { type Writing, within } from './steps.js';

/** One field and the value it gets. `family` is the name of the Kind. */
export interface WantedField {
  readonly place: string;
  readonly family: string;
  readonly field: string;
  readonly value: string;
}

export interface RestoredPart extends Pick<DiskPart, 'place' | 'title' | 'family'> {
  readonly restored: Restored;
}

export interface DiskRestored {
  /** In the order in which they were written. */
  readonly parts: readonly RestoredPart[];
  /** Fields that are not in the content, or that its kind did not write and gave no reason for. */
  readonly missing: readonly WantedField[];
}

/**
 * Gives these fields their values in the content that is there now. Tables are restored even when nothing is wanted of them: a GPT has
 * to fit the size of the disk. Throws `identity-invalid` for a malformed value, and what the kinds throw.
 */
export function* restoreDisk(
  bytes: bigint,
  kinds: readonly Kind[],
  wanted: readonly WantedField[],
): Writing<DiskRestored> {
  const content: DiskIdentity = yield* inspectDisk(bytes, kinds);
  const parts: RestoredPart[] = [];
  for (const { part, kind, isTable } of inOrder(content, kinds)) {
    const values = valuesFor(part, wanted);
    if (values.size === 0 && !isTable) continue;
    const restored = yield* within(part, kind.restore(part.bytes, values));
    parts.push({ place: part.place, title: part.title, family: part.family, restored });
  }
  return { parts, missing: wanted.filter((field) => !parts.some((part) => answers(part, field))) };
}

interface Work {
  readonly part: DiskPart;
  readonly kind: Kind;
  readonly isTable: boolean;
}

function inOrder({ parts }: DiskIdentity, kinds: readonly Kind[]): Work[] {
  const works = parts.map((part) => {
    const table = TABLES.find(({ name }) => name === part.family);
    const kind: Kind = table ?? byClaim(kinds).find(({ name }) => name === part.family)!;
    return { part, kind, isTable: table !== undefined };
  });
  return [...works.filter(({ isTable }) => !isTable), ...works.filter(({ isTable }) => isTable)];
}

function valuesFor(part: DiskPart, wanted: readonly WantedField[]): Map<string, string> {
  return new Map(wanted.filter((one) => isOf(part, one)).map(({ field, value }) => [field, value]));
}

function isOf(part: Pick<DiskPart, 'place' | 'family'>, { place, family }: WantedField): boolean {
  return part.place === place && part.family === family;
}

function answers(part: RestoredPart, wanted: WantedField): boolean {
  const { written, unsupported } = part.restored;
  return (
    isOf(part, wanted) &&
    (written.includes(wanted.field) || unsupported.some(({ field }) => field === wanted.field))
  );
}
