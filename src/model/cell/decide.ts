// From a route and the answers of both cells to one rule and its steps. Pure: the same situation always gives the same decision (I6).

import { type CellAnswer, hasNothing } from './answer.js';
import type { Situation } from './guards.js';
import { elected, GUARDS, highestEpoch, stagedSide } from './guards.js';
import { isBefore } from './route.js';
import type { Rule } from './rules.js';
import { ruleFor } from './rules.js';
import type { Side, Step } from './steps.js';
import { otherSide } from './steps.js';

/** A rule that was looked at, and why it was taken or not. */
export interface Trial {
  rule: Rule;
  holds: boolean;
  because: string;
}

/** `retry`: ask again later, nothing has changed. `gone`: a user deleted it; the delete is to be finished everywhere. */
export type Outcome = 'perform' | 'retry' | 'creating' | 'quarantine' | 'not-found' | 'gone';

export interface Decision {
  x: CellAnswer;
  y: CellAnswer;
  /** In the order they were looked at; the last one is taken. Empty: a tombstone has decided. */
  trials: Trial[];
  rule: Rule | 'gone';
  outcome: Outcome;
  steps: Step[];
  /** What is known of the volume afterwards, in a word or two. */
  afterwards: string;
  /** Asking the cells for the ids of these snapshots could make another decision. */
  seqs: number[];
}

export function decide(situation: Situation): Decision {
  const { x, y } = situation;
  if (isDeleted(situation))
    return {
      x,
      y,
      trials: [],
      rule: 'gone',
      outcome: 'gone',
      steps: [],
      afterwards: 'deleted; the delete is finished everywhere',
      seqs: [],
    };
  const trials: Trial[] = [];
  const seqs: number[] = [];
  let rule = ruleFor(x.state, y.state);
  for (;;) {
    const verdict = GUARDS[rule](situation);
    trials.push({ rule, holds: verdict.holds, because: verdict.because });
    if (verdict.holds) break;
    seqs.push(...(verdict.seqs ?? []));
    rule = verdict.else;
  }
  return { x, y, trials, rule, seqs, ...EFFECTS[rule](situation) };
}

/** A user's delete counts unless somebody has a higher epoch than it had. */
function isDeleted({ route, x, y }: Situation): boolean {
  const stones = [x.tombstone, y.tombstone].flatMap((stone) =>
    stone?.why === 'delete' ? [stone.epoch] : [],
  );
  if (stones.length === 0) return false;
  return Math.max(...stones) >= Math.max(x.epoch, y.epoch, route.epoch);
}

interface Effect {
  outcome: Outcome;
  steps: Step[];
  afterwards: string;
}

const effect = (outcome: Outcome, afterwards: string, steps: Step[] = []): Effect => ({
  outcome,
  steps,
  afterwards,
});

const perform = (at: Side): Step => ({ do: 'perform', at });

function stay({ route, y }: Situation): Effect {
  const { alternate, journal } = route;
  // Of a place without its replicas: what those have would be nobody's. What an operator has given up is his to keep or to throw away.
  const isOwed = alternate?.mustSeal != null || alternate?.needsRepair === true;
  const isLost = y.state === 'NONE' || (y.state === 'FAULTED' && (!isOwed || hasNothing(y)));
  const prune = isLost && alternate?.replicas.length === 0 && !journal;
  const steps: Step[] = prune ? [perform('x'), { do: 'prune-alternate' }] : [perform('x')];
  return effect(
    'perform',
    y.state === 'SEALED' ? 'the sealed copy is stale since the new head' : 'as before',
    steps,
  );
}

/** A copy in the other cell goes on to the new head; it was complete before, and is not any more. */
function extend(side: Side, { move }: CellAnswer): Step[] {
  if (move === null) return [];
  return [
    { do: 'demote', at: side },
    { do: 'extend', at: side },
  ];
}

function follow(situation: Situation): Effect {
  const epoch = highestEpoch(situation);
  const seal: Step[] = situation.x.state === 'NONE' ? [] : [{ do: 'seal', at: 'x', releasedTo: epoch }];
  return effect('perform', 'repaired', [...seal, { do: 'route', active: 'y', epoch }, perform('y')]);
}

/** An epoch that nobody has; that to which the volume was released already, if it was. */
function nextEpoch(situation: Situation, sealed: CellAnswer): number {
  return Math.max(highestEpoch(situation) + 1, sealed.released ?? 0);
}

/** The copy on `side` becomes the owner. Its source releases the volume first, if it answers: so it can never be reopened below. */
function finish(situation: Situation, side: Side): Effect {
  const source = situation[otherSide(side)];
  const epoch = nextEpoch(situation, source);
  const release: Step[] = source.state === 'SEALED' ? [{ do: 'release', at: otherSide(side), epoch }] : [];
  return effect('perform', 'hand-over completed', [
    ...(situation.route.journal ? [{ do: 'journal', phase: 'RELEASING' } as const] : []),
    ...release,
    ...(situation.route.journal ? [{ do: 'journal', phase: 'ACTIVATING' } as const] : []),
    { do: 'activate', at: side, epoch },
    // Before the route changes: a crash in between, with the source silent, is what follow-alone finds.
    ...(situation.route.journal ? [{ do: 'journal', phase: 'ACTIVATED' } as const] : []),
    { do: 'route', active: side, epoch },
    { do: 'probe-again' },
    perform(side),
  ]);
}

/** What is written after a reopening is not in the seal: a copy that is complete through it is so no more, and no seal has its id again. */
function spendSeal({ route }: Situation): Step[] {
  return isBefore(route.journal, 'SEALING') ? [] : [{ do: 'journal', phase: 'COPYING' }];
}

function reopen(situation: Situation, side: Side): Effect {
  const epoch = highestEpoch(situation) + 1;
  const other = otherSide(side);
  const { state } = situation[other];
  const copies = situation.route.journal && (state === 'RECEIVING' || state === 'STAGED');
  return effect('perform', 'rolled back', [
    ...spendSeal(situation),
    { do: 'activate', at: side, epoch },
    { do: 'route', active: side, epoch },
    perform(side),
    ...(copies ? extend(other, situation[other]) : []),
  ]);
}

const EFFECTS: Readonly<Record<Rule, (situation: Situation) => Effect>> = {
  stay,
  'stay-extend': ({ y }) =>
    effect('perform', 'the copy receives up to the new head', [perform('x'), ...extend('y', y)]),
  follow,
  'switch-back': (situation) =>
    effect('perform', 'repaired; the copy receives up to the new head', [
      { do: 'route', active: 'y', epoch: highestEpoch(situation) },
      perform('y'),
      ...extend('x', situation.x),
    ]),
  'follow-degraded': (situation) =>
    effect('perform', 'degraded', [
      { do: 'route', active: 'y', epoch: highestEpoch(situation) },
      perform('y'),
      { do: 'repair-ticket', at: 'x' },
    ]),
  'finish-y': (situation) => finish(situation, 'y'),
  'finish-x': (situation) => finish(situation, 'x'),
  'reopen-x': (situation) => reopen(situation, 'x'),
  'reopen-y': (situation) => reopen(situation, 'y'),
  elect: (situation) => {
    const side = elected(situation)!;
    const epoch = highestEpoch(situation) + 1;
    return effect('perform', 'elected', [
      ...spendSeal(situation),
      { do: 'activate', at: side, epoch },
      { do: 'route', active: side, epoch },
      perform(side),
    ]);
  },
  fence: (situation) =>
    effect('perform', 'fenced', [
      {
        do: 'seal',
        at: situation.x.epoch < situation.y.epoch ? 'x' : 'y',
        releasedTo: highestEpoch(situation),
      },
      { do: 'probe-again' },
    ]),
  'stay-alone': () => effect('perform', 'nothing is known of the other cell', [perform('x')]),
  'follow-alone': (situation) =>
    effect('perform', 'the silent cell has to accept a seal before it serves', [
      { do: 'route', active: 'y', epoch: highestEpoch(situation) },
      { do: 'must-seal', at: 'x', releasedTo: highestEpoch(situation) },
      perform('y'),
    ]),
  'adopt-staged': (situation) => finish(situation, stagedSide(situation)),
  wait: () => effect('retry', 'unchanged'),
  creating: () => effect('creating', 'unchanged'),
  quarantine: () => effect('quarantine', 'an operator has to decide'),
  'not-found': () => effect('not-found', 'the route is marked lost'),
};
