// Everything on a disk that has an identity: its partition table, and what is inside each partition, or on the bare disk.
//
// A table with partitions comes before whatever else the bare disk seems to hold, as Linux has it; a table without any (a boot sector that
// looks like one) gives way to a file system. Where several kinds claim one area, somebody formatted over an older one and not all of it
// was overwritten: the strongest claim (kind-names.ts) is taken, and the others are named and never written.
// Invariant: no area is looked at twice, and no two looked-at areas overlap, so no restore undoes another.

import { CellblockError } from '../base/errors.js';
import { gpt } from './gpt.js';
import type { Found, Kind } from './kind.js';
import { claimRank } from './kind-names.js';
import { mbr } from './mbr.js';
import type { FoundTable, Partition } from './partitions.js';
import { type Area, type Reading, within } from './steps.js';

/** The place of what lies on the bare disk, the table included. */
export const DISK_PLACE = 'disk';
/** A table may have thousands of partitions; a disk in use has not. */
export const MAX_PARTITIONS = 256;
export const TABLES = [gpt, mbr] as const;

export interface DiskPart {
  /** `disk`, or the key of the partition. */
  readonly place: string;
  /** The same for people: `disk`, `partition 2`. */
  readonly title: string;
  readonly at: bigint;
  readonly bytes: bigint;
  /** The name of the Kind that found it: `ext` where `found.kind` is `ext3`. */
  readonly family: string;
  readonly found: Found;
}

/** What calls itself by a kind's name but cannot be believed. */
export interface DamagedPart {
  readonly place: string;
  readonly title: string;
  readonly family: string;
  readonly reason: string;
}

export interface DiskIdentity {
  readonly bytes: bigint;
  /** Why it is a boot disk, or null. */
  readonly bootable: string | null;
  /** The table first, then partitions by number. At most one part per area, besides the table. */
  readonly parts: readonly DiskPart[];
  /** Only where nothing else was found in the area: the caller decides whether that ends a sync. */
  readonly damaged: readonly DamagedPart[];
  /** One sentence each: what was left out, and why. */
  readonly notes: readonly string[];
}

interface Place extends Area {
  readonly place: string;
  readonly title: string;
}

interface Looked {
  readonly parts: DiskPart[];
  readonly damaged: DamagedPart[];
  readonly notes: string[];
}

/** Finds all there is on a disk of so many bytes. Throws nothing for what is on it. */
export function* inspectDisk(bytes: bigint, kinds: readonly Kind[]): Reading<DiskIdentity> {
  const disk: Place = { place: DISK_PLACE, title: DISK_PLACE, at: 0n, bytes };
  const tables = yield* look<FoundTable>(disk, TABLES);
  const bare = yield* look(disk, byClaim(kinds));
  const { table, ...whole } = settle(tables, bare);
  const looked: Looked = whole;
  const { areas, notes } = apart(table?.partitions ?? []);
  looked.notes.push(...notes);
  for (const partition of areas) {
    const { number, key, at, bytes } = partition;
    const inside = yield* look({ place: key, title: `partition ${number}`, at, bytes }, byClaim(kinds));
    looked.parts.push(...inside.parts);
    looked.damaged.push(...inside.damaged);
    looked.notes.push(...inside.notes);
  }
  return { bytes, bootable: table?.bootable ?? null, ...looked };
}

/** Strongest claim first; those of one strength as they were given. */
export function byClaim(kinds: readonly Kind[]): Kind[] {
  return [...kinds].sort((a, b) => claimRank(a.name) - claimRank(b.name));
}

interface LookedAs<F extends Found> extends Looked {
  /** What `parts` has, in its own type. */
  readonly first: F | null;
}

interface Detector<F extends Found> {
  readonly name: string;
  detect(bytes: bigint): Reading<F | null>;
}

/** Asks every kind about one area; the first one that finds something has it. */
function* look<F extends Found>(place: Place, kinds: readonly Detector<F>[]): Reading<LookedAs<F>> {
  const damaged: DamagedPart[] = [];
  const claims: { family: string; found: F }[] = [];
  for (const kind of kinds) {
    const found = yield* attempt(place, kind);
    if (typeof found === 'string')
      damaged.push({ place: place.place, title: place.title, family: kind.name, reason: found });
    else if (found !== null) claims.push({ family: kind.name, found });
  }
  const [taken, ...others] = claims;
  if (taken === undefined) return { parts: [], damaged, notes: [], first: null };
  const notes = [
    ...others.map(({ found }) => leftOver(place, taken.found, found)),
    ...damaged.map(({ reason }) => `On ${place.title}, ${taken.found.kind} was taken. ${reason}`),
  ];
  return { parts: [{ ...place, ...taken }], damaged: [], notes, first: taken.found };
}

/** What it found, or why that cannot be believed. */
function* attempt<F extends Found>(area: Area, kind: Detector<F>): Reading<F | null | string> {
  try {
    return yield* within(area, kind.detect(area.bytes));
  } catch (error) {
    if (error instanceof CellblockError && error.code === 'identity-damaged') return error.message;
    throw error;
  }
}

function leftOver({ title }: Place, taken: Found, other: Found): string {
  const values = other.fields
    .filter(({ value }) => value !== '')
    .map(({ name, value }) => `${name} ${value}`);
  const which = values.length > 0 ? ` (${values.slice(0, 3).join(', ')})` : '';
  return `On ${title}, ${taken.kind} was taken; ${other.kind}${which} was found as well and is left as it is.`;
}

/** The table, or what is on the bare disk: one of them. */
function settle(tables: LookedAs<FoundTable>, bare: LookedAs<Found>): Looked & { table: FoundTable | null } {
  const table = tables.first;
  const tableWins = table !== null && (table.partitions.length > 0 || bare.first === null);
  // A GPT that cannot be believed still says that the disk is partitioned: what else shows there is left over.
  const [winner, loser] = tableWins || tables.damaged.length > 0 ? [tables, bare] : [bare, tables];
  const notes = [...winner.notes];
  const disk: Place = { place: DISK_PLACE, title: DISK_PLACE, at: 0n, bytes: 0n };
  if (winner.first !== null && loser.first !== null) notes.push(leftOver(disk, winner.first, loser.first));
  if (winner.first !== null) notes.push(...loser.damaged.map(({ reason }) => reason));
  const damaged = winner.first === null ? [...winner.damaged, ...loser.damaged] : [];
  return { parts: winner.parts, damaged, notes, table: tableWins ? table : null };
}

/** Partitions of which none overlaps one of a lower number, and sentences for the others. */
function apart(partitions: readonly Partition[]): { areas: Partition[]; notes: string[] } {
  const areas: Partition[] = [];
  const notes: string[] = [];
  for (const partition of partitions) {
    const over = areas.find((other) => overlap(other, partition));
    if (over !== undefined)
      notes.push(`Partition ${partition.number} overlaps partition ${over.number} and was not looked into.`);
    else if (areas.length >= MAX_PARTITIONS)
      notes.push(
        `Partition ${partition.number} is behind the first ${MAX_PARTITIONS} and was not looked into.`,
      );
    else areas.push(partition);
  }
  return { areas, notes };
}

function overlap(a: Area, b: Area): boolean {
  return a.at < b.at + b.bytes && b.at < a.at + a.bytes;
}
