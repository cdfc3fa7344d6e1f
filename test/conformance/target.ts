// What the conformance cases are run against, and how: a case is one claim about a server at an address, so the same cases
// judge cellblock (cellblock.test.ts), its peers (bench/conformance) and, when asked by environment, any other server (peer.ts).
import type { Test } from 'tap';
import { RawNbd } from '../support/raw-nbd.js';
import type { RequirementId } from './requirements.js';

/** What a server may offer or leave out. */
export const OFFERS = [
  'structured',
  'contexts',
  'flush',
  'fua',
  'trim',
  'writeZeroes',
  'df',
  'canMultiConn',
  'cache',
  'fastZero',
  /** A writable and a read-only export at one time. */
  'secondExport',
  'extendedHeaders',
] as const;
export type Offer = (typeof OFFERS)[number];

export interface Target {
  /** `unix:PATH` or `tcp:HOST:PORT`. */
  address: string;
  /** A writable export that nobody else uses. At least 256 MiB; all its content may be changed. */
  writable: string;
  size: bigint;
  /** A read-only export, or null where the server has none. */
  readOnly: string | null;
  /** X of a context qemu:dirty-bitmap:X of the writable export, or null. */
  bitmap: string | null;
  /** An export that is there but not for this client, or null. */
  forbidden: string | null;
  /** The export the empty name means, of the size above, or null. */
  defaultExport: string | null;
  /** What the writable export says of itself, or null where that is not known. */
  description: string | null;
  /** The server promises what cellblock promises beyond the protocol's MUST (`promise` in requirements.ts). */
  promises: boolean;
  /** To watch its memory; null where it is not ours to watch. */
  processId: number | null;
  /** Where a case would negotiate structured replies, it negotiates extended headers instead. */
  extended?: boolean;
  /** Absent: everything. */
  offers?: ReadonlySet<Offer>;
}

type Message = [] | [string];

/** Of tap's assertions those that cases use. Anything that has them can judge a server. */
export interface Claims {
  ok(value: unknown, ...message: Message): unknown;
  notOk(value: unknown, ...message: Message): unknown;
  equal(found: unknown, wanted: unknown, ...message: Message): unknown;
  not(found: unknown, wanted: unknown, ...message: Message): unknown;
  same(found: unknown, wanted: unknown, ...message: Message): unknown;
  match(found: unknown, pattern: RegExp | string, ...message: Message): unknown;
  resolves(promise: Promise<unknown>, ...message: Message): Promise<unknown>;
}

export type Need =
  | Offer
  | 'readOnly'
  | 'bitmap'
  | 'forbidden'
  | 'defaultExport'
  | 'description'
  | 'promises'
  /** The headers are not the extended ones. */
  | 'compact';

export interface Case {
  name: string;
  /** Where the claim comes from. */
  covers?: readonly RequirementId[];
  needs?: Need | readonly Need[];
  run: (t: Claims, target: Target) => Promise<void>;
}

export interface Group {
  name: string;
  cases: readonly Case[];
  /** Its cases see the server with extended headers. */
  extended?: boolean;
}

/** The target as the cases of the group see it. */
export function seenBy({ extended = false }: Group, target: Target): Target {
  return { ...target, extended };
}

/** What tells the runs of a case apart: one is in a group once, but may be in several. */
export const caseId = (group: { name: string }, one: { name: string }): string =>
  `${group.name}: ${one.name}`;

export function offers(target: Target, offer: Offer): boolean {
  return target.offers?.has(offer) ?? true;
}

/** Both kinds of replies, or the one that the server has: for claims that hold with either. */
export function replyStyles(target: Target): boolean[] {
  return offers(target, 'structured') ? [true, false] : [false];
}

const isOffer = (need: Need): need is Offer => (OFFERS as readonly string[]).includes(need);

function has(target: Target, need: Need): boolean {
  if (need === 'compact') return !target.extended;
  return isOffer(need) ? offers(target, need) : Boolean(target[need]);
}

/** What the case needs and the server has not, or null. */
export function lacking({ needs = [] }: Case, target: Target): Need | null {
  const wanted: readonly Need[] = typeof needs === 'string' ? [needs] : needs;
  const all = target.extended ? (['extendedHeaders', ...wanted] as const) : wanted;
  return all.find((need) => !has(target, need)) ?? null;
}

/** A connection in transmission, its answers in chunks unless told otherwise, as the target has it. */
export function openTarget(
  target: Target,
  options: { name?: string | null; structured?: boolean; contexts?: string[] } = {},
): ReturnType<typeof RawNbd.open> {
  const { name, ...rest } = options;
  return RawNbd.open(target.address, name ?? target.writable, {
    structured: offers(target, 'structured'),
    ...rest,
    extended: target.extended ?? false,
  });
}

/** A connection in the handshake with answers in chunks negotiated. */
export async function negotiateTarget(target: Target): Promise<RawNbd> {
  const client = await RawNbd.negotiate(target.address);
  await client.negotiateChunks({ extended: target.extended ?? false });
  return client;
}

const whySkipped = (need: Need): string =>
  need === 'compact' ? 'its claim does not hold with extended headers' : `the server at hand has no ${need}`;

/** Runs the cases one after another, each as a test of its own. */
export async function runGroup(t: Test, group: Group, target: Target): Promise<void> {
  const seen = seenBy(group, target);
  await t.test(group.name, async (t) => {
    for (const one of group.cases) {
      const need = lacking(one, seen);
      const skip = need !== null && whySkipped(need);
      await t.test(one.name, { skip }, (t) => one.run(t, seen));
    }
  });
}
