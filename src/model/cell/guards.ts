// The guard of each rule: whether what both cells said, the route and the journal allow it, and which rule takes its place if not.
//
// Invariants: nothing is done on one cell's word while the other could hold a higher epoch, but for `stay-alone` and `follow-alone` (I3); a
// sealed cell is reopened only if it has itself not released the volume (I4).

import type { CellAnswer } from './answer.js';
import { isOnLineage, precedes } from './answer.js';
import type { Route } from './route.js';
import { isBefore, sameHead } from './route.js';
import type { Rule } from './rules.js';
import { owns } from './states.js';
import type { Side } from './steps.js';
import { otherSide } from './steps.js';

export interface Situation {
  route: Route;
  x: CellAnswer;
  y: CellAnswer;
}

/** `else` is the rule that is looked at next. `seqs`: ids of these would settle what could not be said. */
export type Verdict =
  | { holds: true; because: string }
  | { holds: false; because: string; else: Rule; seqs?: number[] };

type Guard = (situation: Situation) => Verdict;

const holds = (because: string): Verdict => ({ holds: true, because });
const fails = (because: string, instead: Rule): Verdict & { holds: false } => ({
  holds: false,
  because,
  else: instead,
});

/** The highest epoch that anything said of the volume: the route's epoch before a guard is tried. */
export function highestEpoch({ route, x, y }: Situation): number {
  return Math.max(route.epoch, x.epoch, y.epoch);
}

/** Who would go on as the owner must have the highest epoch there is; else it is a stale owner, come back from somewhere. */
function ownerIsCurrent(side: Side, instead: Rule): Guard {
  return (situation) => {
    const highest = highestEpoch(situation);
    const { epoch } = situation[side];
    if (epoch < highest) return fails(`its epoch ${epoch} is below ${highest}: it is a stale owner`, instead);
    return lacksWhatIsKnown(situation, side) ?? holds(`its epoch ${epoch} is the highest`);
  };
}

/** An owner whose lineage is without a snapshot that was taken of the volume has come back from somewhere; undefined: it has it. */
function lacksWhatIsKnown({ route, ...answers }: Situation, side: Side): Verdict | undefined {
  const known = route.lineageHead;
  const has = precedes(known, answers[side]);
  if (has === true) return undefined;
  const { seq } = known!;
  return has === null
    ? { ...fails(`nothing is known of its snapshot ${seq}`, 'quarantine'), seqs: [seq] }
    : fails(`its lineage is without snapshot ${seq}, which was taken: a fork`, 'quarantine');
}

/** The copy on `side` goes on, the sealed other side gives the volume up. */
function copyIsComplete(side: Side): Guard {
  const reopen: Rule = side === 'y' ? 'reopen-x' : 'reopen-y';
  return ({ route, ...answers }) => {
    const through = answers[side].move?.completeThrough ?? null;
    const sealed = answers[otherSide(side)];
    if (!sameHead(through, sealed.sealedHead) || sealed.sealedHead === null)
      return fails('the copy is not complete through what its source was sealed at', reopen);
    if (sealed.released !== null)
      return holds('the copy is complete, and its source has released the volume');
    if (route.journal?.direction === 'rollback') return fails('the move is being rolled back', reopen);
    return holds('the copy is complete, and the move goes forward');
  };
}

function mayReopen(side: Side): Guard {
  return ({ route, ...answers }) => {
    const { released } = answers[side];
    const place = side === 'x' ? route.active : route.alternate;
    if (place?.mustSeal != null) return fails('an operator has given it up', 'quarantine');
    if (released !== null) return fails(`it has released the volume to epoch ${released}`, 'quarantine');
    if (side === 'x' && !isBefore(route.journal, 'ACTIVATING'))
      return fails(`the move is at ${route.journal?.phase}`, 'quarantine');
    return holds('it has not released the volume itself');
  };
}

/** Which of two that say they own it is the older one; null: neither. */
function lowerOwner({ x, y }: Situation): Side | null {
  return x.epoch === y.epoch ? null : x.epoch < y.epoch ? 'x' : 'y';
}

const fence: Guard = (situation) => {
  const side = lowerOwner(situation);
  if (side === null) return fails('both are of the same epoch: a fork', 'quarantine');
  const lower = situation[side];
  const higher = situation[otherSide(side)];
  if (!owns(lower.state) || !owns(higher.state))
    return fails('the epoch it lags behind belongs to nobody that owns the volume now', 'quarantine');
  const place = side === 'x' ? situation.route.active : situation.route.alternate;
  if (place?.mustSeal != null && place.needsRepair) return holds('an operator has given it up');
  if (lower.dirtySinceHead) return fails('it was written to after its last snapshot: a fork', 'quarantine');
  if (higher.activatedFrom === null)
    return fails('nothing is known of what the newer owner was activated from', 'quarantine');
  const before = isOnLineage(lower.lineageHead, higher, higher.activatedFrom.seq);
  if (before === null)
    return {
      ...fails('the newer lineage is not known that far', 'quarantine'),
      seqs: [lower.lineageHead!.seq],
    };
  return before
    ? holds('it took no snapshot and no write that the newer owner lacks')
    : fails('it took a snapshot that the newer owner lacks: a fork', 'quarantine');
};

/** Of two sealed cells the one that goes on; null when neither may. */
export function elected({ x, y }: Situation): Side | null {
  const side: Side | null = x.epoch === y.epoch ? null : x.epoch > y.epoch ? 'x' : 'y';
  if (side === null) return null;
  const winner = side === 'x' ? x : y;
  const loser = side === 'x' ? y : x;
  return winner.released === null && precedes(loser.lineageHead, winner) === true ? side : null;
}

const elect: Guard = (situation) => {
  const { x, y } = situation;
  const side = elected(situation);
  if (side !== null)
    return holds(`epoch ${situation[side].epoch} is the higher, and its head descends from the other's`);
  if (x.epoch === y.epoch) return fails('both are of the same epoch: a fork', 'quarantine');
  const [winner, loser] = x.epoch > y.epoch ? [x, y] : [y, x];
  if (winner.released !== null) return fails('the newer one has released the volume itself', 'quarantine');
  const verdict = fails('the head of the newer does not descend from the other one: a fork', 'quarantine');
  return precedes(loser.lineageHead, winner) === null
    ? { ...verdict, seqs: [loser.lineageHead!.seq] }
    : verdict;
};

/** The other cell is silent, and whatever it holds, it cannot be the owner. */
const stayAlone: Guard = ({ route, x, y }) => {
  if (x.epoch !== highestEpoch({ route, x, y }))
    return fails(`its epoch ${x.epoch} is below the route's`, 'wait');
  if (!isBefore(route.journal, 'SEALING'))
    return fails(`the move is at ${route.journal?.phase}: the silent cell may own the volume`, 'wait');
  const lacks = lacksWhatIsKnown({ route, x, y }, 'x');
  if (lacks) return lacks;
  return holds('no move is as far as sealing: the silent cell cannot own the volume');
};

const followAlone: Guard = ({ route, y }) => {
  const { journal } = route;
  if (journal?.phase !== 'ACTIVATED' || journal.toHost !== route.alternate?.primary)
    return fails('no move says that this cell was activated', 'wait');
  if (journal.sealedHead === null) return fails('no move says that the silent cell was sealed', 'wait');
  if (y.epoch < route.epoch) return fails(`its epoch ${y.epoch} is below the route's`, 'wait');
  return holds('the move has sealed the silent cell and activated this one');
};

const followDegraded: Guard = (situation) => {
  const { x, y } = situation;
  if (x.epoch === 0) return fails('nothing can be read of the epoch of the damaged copy', 'quarantine');
  if (y.epoch < x.epoch) return fails('the damaged copy is newer', 'quarantine');
  return ownerIsCurrent('y', 'fence')(situation);
};

/** Which side holds the staged copy. */
export function stagedSide({ x }: Situation): Side {
  return x.state === 'STAGED' ? 'x' : 'y';
}

const adoptStaged: Guard = (situation) => {
  const { route } = situation;
  const side = stagedSide(situation);
  const place = side === 'x' ? route.active : route.alternate;
  const { journal } = route;
  if (journal === null || journal.sealedHead === null || journal.toHost !== place?.primary)
    return fails('no move says what the other cell was sealed at', 'quarantine');
  if (!sameHead(situation[side].move?.completeThrough ?? null, journal.sealedHead))
    return fails('the copy is not complete through what the other cell was sealed at', 'quarantine');
  return holds('the move has sealed the other cell, and this copy is complete through that');
};

const always: Guard = () => holds('it needs nothing more');

export const GUARDS: Readonly<Record<Rule, Guard>> = {
  stay: ownerIsCurrent('x', 'fence'),
  'stay-extend': ownerIsCurrent('x', 'fence'),
  follow: ownerIsCurrent('y', 'fence'),
  'switch-back': ownerIsCurrent('y', 'fence'),
  'follow-degraded': followDegraded,
  'finish-y': copyIsComplete('y'),
  'finish-x': copyIsComplete('x'),
  'reopen-x': mayReopen('x'),
  'reopen-y': mayReopen('y'),
  elect,
  fence,
  'stay-alone': stayAlone,
  'follow-alone': followAlone,
  'adopt-staged': adoptStaged,
  wait: always,
  creating: always,
  quarantine: always,
  'not-found': always,
};
