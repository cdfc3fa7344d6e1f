// One operation on its way through the resolver, as a value: what is to be done next, and what follows from its outcome. The coordinator's
// loop does what this says; so do the exhaustive exploration and the simulation.
//
// Invariants: nothing is decided on answers of before the last step that was refused or not answered; a snapshot keeps its id whatever
// happens; the route changes only by compare-and-set on the `gen` the decision was made with.

import type { CellAnswer } from './answer.js';
import { type Decision, decide } from './decide.js';
import type { Situation } from './guards.js';
import { highestEpoch } from './guards.js';
import type { HostCommand, Refusal } from './host-record.js';
import type { Operation } from './operation.js';
import type { Head, MoveJournal, MovePhase, Place, Route } from './route.js';
import type { Side, Step } from './steps.js';

/** What the loop has to do now. */
export type Effect =
  /** Ask both cells; `seqs`: and the ids of these snapshots. */
  | { kind: 'probe'; route: Route; seqs: number[] }
  | { kind: 'command'; place: Place; command: HostCommand }
  | { kind: 'perform'; place: Place; epoch: number; parent: Head | null; operation: Operation }
  /** Compare-and-set: `route.gen` is that of the record to replace, which becomes one more. */
  | { kind: 'route'; route: Route }
  | { kind: 'end'; end: End };

export type End =
  | { result: 'performed'; at: string; head: Head | null; rule: Decision['rule']; afterwards: string }
  | { result: 'failed'; at: string; code: string; message: string }
  | { result: 'retry'; because: string }
  | { result: 'creating' }
  | { result: 'quarantined'; because: string }
  | { result: 'not-found' }
  | { result: 'gone' };

export type CommandOutcome =
  | { kind: 'done'; head?: Head | null }
  | { kind: 'refused'; refusal: Refusal; because: string }
  | { kind: 'failed'; code: string; message: string }
  /** It may have been done. */
  | { kind: 'silent' };

export interface Resolution {
  readonly operation: Operation;
  readonly route: Route;
  readonly decision: Decision | null;
  readonly steps: readonly Step[];
  /** What was performed already, while what follows it is still to be done. */
  readonly performed: { at: string; head: Head | null } | null;
  readonly seqs: readonly number[];
  /** Found, and true once the route has taken it: another may have changed it since it was read. */
  readonly finding: (End & { result: 'quarantined' | 'not-found' | 'gone' }) | null;
  readonly end: End | null;
}

export function beginResolution(route: Route, operation: Operation): Resolution {
  return { operation, route, decision: null, steps: [], performed: null, seqs: [], finding: null, end: null };
}

/** Everything is asked again; what was performed stays performed. */
function again(
  resolution: Resolution,
  route: Route = resolution.route,
  seqs: readonly number[] = [],
): Resolution {
  return { ...resolution, route, decision: null, steps: [], seqs, finding: null };
}

export function effectOf(resolution: Resolution): Effect {
  const { end, decision, route, steps } = resolution;
  if (end) return { kind: 'end', end };
  if (resolution.finding)
    return { kind: 'route', route: { ...route, status: STATUS_OF[resolution.finding.result] } };
  if (!decision) return { kind: 'probe', route, seqs: [...resolution.seqs] };
  const step = steps[0];
  return step
    ? effectOfStep(resolution, decision, step)
    : { kind: 'route', route: closingRoute(resolution, decision) };
}

const STATUS_OF = { quarantined: 'quarantined', 'not-found': 'lost', gone: 'gone' } as const;

const placeOf = (route: Route, side: Side): Place => (side === 'x' ? route.active : route.alternate!);

function effectOfStep({ route, operation }: Resolution, decision: Decision, step: Step): Effect {
  const answer = (side: Side): CellAnswer => decision[side];
  switch (step.do) {
    case 'perform':
      return {
        kind: 'perform',
        place: placeOf(route, step.at),
        // The answer is older than an activation of this resolution.
        epoch: Math.max(answer(step.at).epoch, placeOf(route, step.at).epoch),
        parent: answer(step.at).lineageHead,
        operation,
      };
    case 'seal':
      return commandAt(route, step.at, { do: 'fence', releasedTo: step.releasedTo });
    case 'release':
      return commandAt(route, step.at, { do: 'release', releasedTo: step.epoch });
    case 'activate':
      return commandAt(route, step.at, {
        do: 'activate',
        epoch: step.epoch,
        from: completeThrough(answer(step.at)),
      });
    case 'demote':
      return commandAt(route, step.at, demotion(answer(step.at)));
    case 'extend':
      return commandAt(route, step.at, {
        do: 'receive',
        move: answer(step.at).move?.id ?? '',
        peerCell: placeOf(route, step.at === 'x' ? 'y' : 'x').cell,
      });
    case 'journal':
      return { kind: 'route', route: { ...route, journal: journalAt(route.journal!, step.phase, decision) } };
    case 'route':
      return { kind: 'route', route: pointed(route, step.active, step.epoch) };
    case 'prune-alternate':
      return { kind: 'route', route: { ...route, alternate: null } };
    case 'must-seal':
      return { kind: 'route', route: withPlace(route, step.at, { mustSeal: step.releasedTo }) };
    case 'repair-ticket':
      return { kind: 'route', route: withPlace(route, step.at, { needsRepair: true }) };
    case 'probe-again':
      return { kind: 'probe', route, seqs: [] };
  }
}

function journalAt(journal: MoveJournal, phase: MovePhase, { x, y }: Decision): MoveJournal {
  if (phase === 'COPYING') return { ...journal, phase, sealId: null, sealedHead: null };
  // The one that is sealed; one that has died since was noted before.
  const sealed = [x, y].find(({ state }) => state === 'SEALED');
  return { ...journal, phase, sealedHead: sealed?.sealedHead ?? journal.sealedHead };
}

function commandAt(route: Route, side: Side, command: HostCommand): Effect {
  return { kind: 'command', place: placeOf(route, side), command };
}

function demotion({ move }: CellAnswer): HostCommand {
  return { do: 'demote', move: move?.id ?? '', through: move?.completeThrough?.id ?? null };
}

function completeThrough({ state, sealedHead, move }: CellAnswer): Head | null {
  return state === 'SEALED' ? sealedHead : (move?.completeThrough ?? null);
}

/** The route with this side as the active one. The sides change their places, so the steps that follow are turned by `turn`. */
function pointed(route: Route, active: Side, epoch: number): Route {
  const next: Route = { ...route, epoch, status: 'open' };
  if (active === 'x') return { ...next, active: { ...route.active, epoch } };
  return { ...next, active: { ...route.alternate!, epoch }, alternate: route.active };
}

function withPlace(route: Route, side: Side, changes: Partial<Place>): Route {
  return side === 'x'
    ? { ...route, active: { ...route.active, ...changes } }
    : { ...route, alternate: { ...route.alternate!, ...changes } };
}

/** When everything is done: what both cells are known to be by its outcome. */
function closingRoute({ route, performed, operation }: Resolution, decision: Decision): Route {
  if (operation.kind === 'snapshot' && performed) {
    const active = { ...route.active, epoch: Math.max(route.active.epoch, decision.x.epoch) };
    return {
      ...route,
      active,
      epoch: highestEpoch({ route, x: decision.x, y: decision.y }),
      lineageHead: later(route.lineageHead, performed.head),
    };
  }
  return { ...route, epoch: highestEpoch({ route, x: decision.x, y: decision.y }) };
}

/** A snapshot that was taken by a try of before may not be the last one any more. Both are on the owner's lineage. */
function later(known: Head | null, performed: Head | null): Head | null {
  return known !== null && performed !== null && known.seq > performed.seq ? known : performed;
}

/** Both cells have answered, or their time is over. */
export function probed(resolution: Resolution, x: CellAnswer, y: CellAnswer): Resolution {
  const situation: Situation = { route: resolution.route, x, y };
  const decision = decide(situation);
  if (decision.rule === 'quarantine' && decision.seqs.some((seq) => !resolution.seqs.includes(seq)))
    return again(resolution, resolution.route, decision.seqs);
  const now: Resolution = { ...resolution, decision, steps: decision.steps };
  const because = decision.trials.at(-2)?.because ?? decision.trials.at(-1)?.because ?? '';
  switch (decision.outcome) {
    case 'perform':
      return skipPerformed(now);
    case 'retry':
      return { ...now, end: { result: 'retry', because } };
    case 'creating':
      return { ...now, end: { result: 'creating' } };
    case 'quarantine':
      return { ...now, finding: { result: 'quarantined', because } };
    case 'not-found':
      return { ...now, finding: { result: 'not-found' } };
    case 'gone':
      return { ...now, finding: { result: 'gone' } };
  }
}

/** A snapshot that is in the lineage of the owner already, from a try that was not answered, is not taken again. */
function skipPerformed(resolution: Resolution): Resolution {
  const { operation, decision, steps } = resolution;
  const step = steps[0];
  if (step?.do !== 'perform' || !decision) return resolution;
  if (operation.kind === 'settle' || operation.kind === 'locate')
    return performedAt(resolution, decision[step.at].lineageHead);
  if (operation.kind !== 'snapshot') return resolution;
  const { lineage } = decision[step.at];
  const found = Object.entries(lineage).find(([, id]) => id === operation.id);
  return found ? performedAt(resolution, { id: operation.id, seq: Number(found[0]) }) : resolution;
}

function performedAt(resolution: Resolution, head: Head | null): Resolution {
  const step = resolution.steps[0] as Extract<Step, { do: 'perform' }>;
  const at = placeOf(resolution.route, step.at).cell;
  return { ...resolution, performed: { at, head }, steps: resolution.steps.slice(1) };
}

/** The step that was sent to a host has ended, one way or another. */
export function commanded(resolution: Resolution, outcome: CommandOutcome): Resolution {
  const step = resolution.steps[0]!;
  if (outcome.kind === 'silent' || outcome.kind === 'refused') return again(resolution);
  if (outcome.kind === 'failed')
    return {
      ...resolution,
      end: {
        result: 'failed',
        at: 'at' in step ? placeOf(resolution.route, step.at).cell : '',
        code: outcome.code,
        message: outcome.message,
      },
    };
  if (step.do === 'perform') return performedAt(resolution, outcome.head ?? null);
  return skipPerformed({ ...resolution, steps: resolution.steps.slice(1) });
}

/** The route was replaced (`now` is the record as stored), or somebody else had changed it (`now` is theirs). */
export function routed(resolution: Resolution, stored: boolean, now: Route): Resolution {
  if (!stored) return again(resolution, now);
  if (resolution.finding) return { ...resolution, route: now, end: resolution.finding };
  const step = resolution.steps[0];
  if (!step) return { ...resolution, route: now, end: endOf(resolution) };
  const turned = step.do === 'route' && step.active === 'y';
  const rest = resolution.steps.slice(1);
  const next: Resolution = turned
    ? { ...resolution, route: now, decision: swapped(resolution.decision!), steps: rest.map(turn) }
    : { ...resolution, route: now, steps: rest };
  return next.steps[0]?.do === 'probe-again' ? again(next, now) : skipPerformed(next);
}

function swapped(decision: Decision): Decision {
  return { ...decision, x: decision.y, y: decision.x };
}

function turn(step: Step): Step {
  return 'at' in step ? { ...step, at: step.at === 'x' ? 'y' : 'x' } : step;
}

function endOf({ performed, decision }: Resolution): End {
  return {
    result: 'performed',
    at: performed?.at ?? '',
    head: performed?.head ?? null,
    rule: decision!.rule,
    afterwards: decision!.afterwards,
  };
}
