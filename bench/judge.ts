// Targets of BENCH.md as arithmetic over rounds. Pure. A score of 1 is a target just met; a verdict is taken on the
// median score, never on a single round.
import type { Finding, ServerName } from './finding.js';
import { ratios, type Spread, spread } from './statistics.js';

/** One value a round and server; the rounds of all servers were taken in turn. */
export type Series = ReadonlyMap<ServerName, readonly number[]>;

export type Better = 'higher' | 'lower';

const PEERS: readonly ServerName[] = ['qemu-raw', 'qcow2', 'nbdkit', 'nbd-server'];

export interface Best {
  readonly name: ServerName;
  readonly values: readonly number[];
}

export function bestOf(series: Series, names: readonly ServerName[], better: Better): Best | null {
  let best: Best | null = null;
  for (const name of names) {
    const values = series.get(name);
    if (values === undefined || values.length === 0) continue;
    const sign = better === 'higher' ? 1 : -1;
    if (best === null || sign * spread(values).median > sign * spread(best.values).median)
      best = { name, values };
  }
  return best;
}

export function bestPeer(series: Series, better: Better): Best | null {
  return bestOf(series, PEERS, better);
}

export function number(value: number): string {
  if (!Number.isFinite(value)) return '-';
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toPrecision(3).replace(/\.0+$/, '');
}

function times(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return Math.abs(value) >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
}

export function factor(of: Spread): string {
  return `${times(of.median)} (${times(of.min)}-${times(of.max)})`;
}

export interface Question {
  readonly part: string;
  readonly target: string;
  readonly unit: string;
  readonly better: Better;
}

function versus(ours: readonly number[], theirs: Best | null, label: string): string {
  if (theirs === null) return `${label} was not measured`;
  return `${factor(spread(ratios(ours, theirs.values)))} x ${label}${label === theirs.name ? '' : ` (${theirs.name})`}`;
}

/** Holds ours against what was needed in each round. */
export function judge(
  question: Question,
  ours: readonly number[],
  needed: readonly number[],
  words: string[],
): Finding {
  const score = spread(question.better === 'higher' ? ratios(ours, needed) : ratios(needed, ours));
  return {
    part: question.part,
    target: question.target,
    measured: [`${number(spread(ours).median)} ${question.unit}`, ...words].join('; '),
    score,
    verdict: score.median >= 1 ? 'met' : 'missed',
  };
}

export function notMeasured(question: Pick<Question, 'part' | 'target'>, why: string): Finding {
  return { part: question.part, target: question.target, measured: why, verdict: 'not measured' };
}

/** Runs of one build differ by as much: less than this is no change. */
const NO_CHANGE = 0.03;

/** Two builds of ours against each other, whatever the target of the row is. */
function judgeBuilds({ part, unit, better }: Question, series: Series): Finding {
  const [ours, before] = [series.get('cellblock') ?? [], series.get('before') ?? []];
  const share = better === 'higher' ? 1 - NO_CHANGE : 1 + NO_CHANGE;
  const target = `unchanged or better: ${better === 'higher' ? '>=' : '<='} ${share} x before`;
  const needed = before.map((value) => value * share);
  const words = [versus(ours, { name: 'before', values: before }, 'before')];
  return judge({ part, target, unit, better }, ours, needed, words);
}

export interface PeerRule {
  /** Given the best peer and the limit in one round, what is needed. */
  readonly needed: (best: number, limit: number) => number;
  readonly usesLimit: boolean;
  /** What the limit is, where it is not the limit server. */
  readonly limitName?: string;
}

/** B1, B2: the lower of 1.3 x the best peer and 0.85 x the limit, never below the best peer. */
export const AHEAD_OF_PEERS: PeerRule = {
  needed: (best, limit) => Math.max(best, Math.min(1.3 * best, 0.85 * limit)),
  usesLimit: true,
};

/** B4: at least the best peer and at least 0.9 x the limit. */
export const NEAR_THE_LIMIT: PeerRule = {
  needed: (best, limit) => Math.max(best, 0.9 * limit),
  usesLimit: true,
};

/** B6: not behind the best peer. */
export const BEST_PEER: PeerRule = { needed: (best) => best, usesLimit: false };

export function judgeByRule(question: Question, series: Series, rule: PeerRule): Finding {
  if (series.has('before')) return judgeBuilds(question, series);
  const best = bestPeer(series, question.better);
  const limit = bestOf(series, ['limit'], question.better);
  const ours = series.get('cellblock');
  if (best === null || (rule.usesLimit && limit === null))
    return notMeasured(question, 'no peer was measured');
  const needed = best.values.map((value, round) => rule.needed(value, limit?.values[round] ?? Number.NaN));
  if (ours === undefined || ours.length === 0) {
    const found = `best peer ${best.name}: ${number(spread(best.values).median)} ${question.unit}`;
    return notMeasured(question, `${found}; needed: ${number(spread(needed).median)}`);
  }
  const words = [versus(ours, best, 'best peer')];
  if (limit !== null)
    words.push(`${factor(spread(ratios(ours, limit.values)))} x ${rule.limitName ?? 'limit'}`);
  return judge(question, ours, needed, words);
}

/** Ours against some servers, each with its own factor; all must hold, so the hardest one of a round counts. */
export function judgeAgainst(
  question: Question,
  series: Series,
  factors: readonly (readonly [server: ServerName, factor: number])[],
): Finding {
  if (series.has('before')) return judgeBuilds(question, series);
  const ours = series.get('cellblock');
  const held = factors.flatMap(([name, share]) => {
    const values = series.get(name);
    return values === undefined || values.length === 0 ? [] : [{ name, share, values }];
  });
  if (held.length < factors.length) return notMeasured(question, 'a peer of this target was not measured');
  if (ours === undefined || ours.length === 0) {
    const found = held.map(
      ({ name, values }) => `${name}: ${number(spread(values).median)} ${question.unit}`,
    );
    return notMeasured(question, found.join('; '));
  }
  const hardest = question.better === 'higher' ? Math.max : Math.min;
  const needed = ours.map((_, round) =>
    hardest(...held.map(({ share, values }) => (values[round] as number) * share)),
  );
  return judge(
    question,
    ours,
    needed,
    held.map((peer) => versus(ours, peer, peer.name)),
  );
}

/** Ours against a plain number. */
export function judgeNumber(question: Question, ours: readonly number[], bound: number): Finding {
  return judge(
    question,
    ours,
    ours.map(() => bound),
    [`bound ${number(bound)} ${question.unit}`],
  );
}
