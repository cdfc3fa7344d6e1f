// A volume is moved to and fro under load, and during each move something befalls one party, at one step of the move. Afterwards everything has to
// come together again, and nothing may be lost.

import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../support/waiting.js';
import { type Installation, SELDOM } from './installation.js';
import { HARMS, type Harm, type HostParty, type Party } from './parties.js';
import type { Subject } from './subject.js';

export const ROLES = [
  'source',
  'receiver',
  'idle host',
  'leading coordinator',
  'following coordinator',
  'leading etcd',
  'following etcd',
] as const;
export type Role = (typeof ROLES)[number];

/** Who may be cut off from one another, while both reach everybody else. */
const PAIRS: readonly (readonly [Role, Role])[] = [
  ['source', 'receiver'],
  ['source', 'leading coordinator'],
  ['receiver', 'leading coordinator'],
  ['leading coordinator', 'leading etcd'],
  ['leading etcd', 'following etcd'],
];

/** Messages of a move, by whose gate they pass. */
const STEPS = {
  source: [
    'command outgoing',
    'reply to command outgoing',
    'describe',
    'reply to describe',
    'command carry',
    'reply to command carry',
    'digest',
    'reply to digest',
    'command seal',
    'reply to command seal',
    'command release',
    'reply to command release',
  ],
  receiver: [
    'command receive',
    'reply to command receive',
    'pull',
    'reply to pull',
    'call copy-digest',
    'reply to call copy-digest',
    'event staged',
    'command activate',
    'reply to command activate',
  ],
} as const;

/** How long something lasts: shorter and longer than a lease of leadership (6 s) and the patience of a session (15 s). */
const OUTAGES_MS = [500, 3_000, 9_000, 18_000] as const;

export interface Plan {
  role: Role;
  harm: Harm;
  /** Whom it is cut off from; null: from everybody. */
  from: Role | null;
  at: 'source' | 'receiver';
  step: string;
  outageMs: number;
}

export interface Result extends Plan {
  party: string;
  other: string | null;
  /** The step came before the move was over. */
  reached: boolean;
  /** How the move has ended. */
  ended: string;
  /** From the harm to the end of the move. */
  endedMs: number;
  /** From the healing until all are connected and agree. */
  togetherMs: number;
  /** The longest time that a client had no answer. */
  silenceMs: number;
  problems: string[];
}

/** Every role with every harm, in an order and at steps that the numbers decide; then again. */
export function* plans(random: () => number): Generator<Plan> {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  for (;;) {
    const all: Pick<Plan, 'role' | 'harm' | 'from'>[] = [
      ...ROLES.flatMap((role) => HARMS.map((harm) => ({ role, harm, from: null }))),
      ...PAIRS.map(([role, from]) => ({ role, harm: 'cut' as const, from })),
    ];
    while (all.length > 0) {
      const [{ role, harm, from }] = all.splice(Math.floor(random() * all.length), 1) as [
        (typeof all)[number],
      ];
      const at = pick(['source', 'receiver'] as const);
      yield { role, harm, from, at, step: pick(STEPS[at]), outageMs: pick(OUTAGES_MS) };
    }
  }
}

export async function runRound(site: Installation, subject: Subject, plan: Plan): Promise<Result> {
  await subject.snapshot();
  subject.load.takeLongestSilenceMs();
  const source = await subject.settled();
  const to = source.cell === 'east' ? 'west' : 'east';
  const receiver = await receiverOf(site, subject, to);
  const held = (plan.at === 'source' ? source : receiver).gate.hold(plan.step);
  await began(site, subject, to);
  const over = moveOver(site, subject);
  over.catch(() => undefined); // told when it is waited for
  const reached = await Promise.race([held.reached.then(() => true), over.then(() => false)]);
  const party = await partyOf(site, plan.role, { source, receiver });
  const other = plan.from && (await partyOf(site, plan.from, { source, receiver }));
  const harmed = performance.now();
  await party.harm(plan.harm, other);
  held.release();
  const snapshot = subject.snapshot();
  snapshot.catch(() => undefined);
  await sleep(plan.outageMs);
  await party.heal();
  const healed = performance.now();
  const { result: ended, at } = await over;
  await snapshot;
  await subject.settled();
  await site.connected();
  const togetherMs = performance.now() - healed;
  const silenceMs = subject.load.takeLongestSilenceMs();
  const problems = await subject.problems();
  const endedMs = Math.max(0, at - harmed);
  return {
    ...plan,
    party: party.name,
    other: other?.name ?? null,
    reached,
    ended,
    endedMs,
    togetherMs,
    silenceMs,
    problems,
  };
}

/** The host of that cell which has a copy already, or that a preview names. */
async function receiverOf(site: Installation, subject: Subject, cell: string): Promise<HostParty> {
  const words = ['move', subject.name, '--to', cell, '--dry-run'];
  const { toHost } = await until(
    'a preview of the move',
    async () => {
      const { code, stdout } = await site.typed('--json', ...words);
      return code === 0 ? (JSON.parse(stdout) as { toHost: string }) : null;
    },
    SELDOM,
  );
  return site.host(toHost);
}

/** One that was not answered may have been begun. */
export async function began(site: Installation, subject: Subject, cell: string): Promise<void> {
  let said = '';
  await until(
    `a move of ${subject.name}`,
    async () => {
      const { code, stdout, stderr } = await site.typed('--json', 'move', subject.name, '--to', cell);
      said = stderr + stdout;
      return code === 0 || said.includes('move-under-way');
    },
    SELDOM,
  ).catch((error) => {
    throw new Error(`${error.message}: ${said}`);
  });
}

/** How the move has ended, and when it was heard. */
export async function moveOver(
  site: Installation,
  subject: Subject,
): Promise<{ result: string; at: number }> {
  let said = '';
  const result = await until(
    'the end of the move',
    async () => {
      const { code, stdout, stderr } = await site.typed('--json', 'move', 'status', subject.name);
      said = stderr + stdout;
      return code === 0 ? (JSON.parse(stdout) as { result: string | null }).result : null;
    },
    SELDOM,
  ).catch((error) => {
    throw new Error(`${error.message}: ${said}`);
  });
  return { result, at: performance.now() };
}

async function partyOf(
  site: Installation,
  role: Role,
  { source, receiver }: { source: HostParty; receiver: HostParty },
): Promise<Party> {
  switch (role) {
    case 'source':
      return source;
    case 'receiver':
      return receiver;
    case 'idle host':
      return [...site.hosts.values()].find((host) => host !== source && host !== receiver)!;
    case 'leading coordinator':
      return until('a coordinator that leads', () => site.leadingCoordinator());
    case 'following coordinator': {
      const leading = await until('a coordinator that leads', () => site.leadingCoordinator());
      return [...site.coordinators.values()].find((each) => each !== leading)!;
    }
    case 'leading etcd':
      return until('a member of etcd that leads', () => site.leadingMember());
    case 'following etcd': {
      const leading = await until('a member of etcd that leads', () => site.leadingMember());
      return [...site.members.values()].find((each) => each !== leading)!;
    }
  }
}

const seconds = (milliseconds: number) => (milliseconds / 1000).toFixed(1);

export const TABLE_HEAD = `| # | to whom | what | at the step | for, s | the move | it ended after, s | together, s after the healing | longest silence for clients, s |
|---|---|---|---|---|---|---|---|---|`;

export function tableLine(number: number, result: Result): string {
  const {
    role,
    party,
    harm,
    other,
    from,
    step,
    reached,
    outageMs,
    ended,
    endedMs,
    togetherMs,
    silenceMs,
    at,
  } = result;
  const where = reached ? `\`${step}\` (${at})` : 'after its end';
  const cells = [
    number,
    `${role} ${party}`,
    other === null ? harm : `cut from ${from} ${other}`,
    where,
    seconds(outageMs),
    ended,
    seconds(endedMs),
    seconds(togetherMs),
    seconds(silenceMs),
  ];
  return `| ${cells.join(' | ')} |`;
}
