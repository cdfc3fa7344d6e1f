// The next thing a move needs, from its journal and what both cells say. The hand-over itself is not here: once the source is sealed and the
// copy is complete the table finishes it (finish-y), and undoes it as well (reopen-x); so a crash anywhere lands on a row (I7).

import type { CellAnswer } from './answer.js';
import type { Situation } from './guards.js';
import type { HostCommand } from './host-record.js';
import { type Head, isBefore, type MoveJournal, type Place, type Route, sameHead } from './route.js';
import { owns } from './states.js';
import type { Side } from './steps.js';
import { otherSide } from './steps.js';

export type MoveEffect =
  | { kind: 'command'; place: Place; command: HostCommand }
  /** Compare-and-set, as in a resolution. */
  | { kind: 'route'; route: Route }
  /** The copy is under way, or to be begun: ask again when `to` is complete through `through`. */
  | { kind: 'await-copy'; from: Place; to: Place; through: Head }
  /** The table has to finish or to undo it: resolve `settle`. */
  | { kind: 'settle' }
  | { kind: 'await-answer'; because: string };

export interface MovePlanOptions {
  /** Whether so little is left that the source is to be sealed: the last delta is pulled while nobody is served. */
  close: (situation: Situation) => boolean;
  /** An id nobody has. */
  freshId: () => string;
}

/** A move that begins: written before anybody is asked. */
export function beginMove(route: Route, { move, to }: { move: string; to: Place }): Route {
  const journal: MoveJournal = {
    move,
    direction: 'forward',
    phase: 'PREPARED',
    from: route.active.cell,
    to: to.cell,
    fromHost: route.active.primary,
    toHost: to.primary,
    sealId: null,
    sealedHead: null,
  };
  return { ...route, alternate: to, journal };
}

/** What a copy has to be complete through now: the seal, else the later one of the last snapshot and the last one carried; null: neither is. */
export function copyTarget({
  state,
  sealedHead,
  lineageHead,
  move,
}: Pick<CellAnswer, 'state' | 'sealedHead' | 'lineageHead' | 'move'>): Head | null {
  if (state === 'SEALED') return sealedHead;
  const carried = move?.completeThrough ?? null;
  return carried && carried.seq >= (lineageHead?.seq ?? 0) ? carried : lineageHead;
}

export function planMove(situation: Situation, options: MovePlanOptions): MoveEffect {
  const { route } = situation;
  const journal = route.journal!;
  const source: Side = route.active.primary === journal.fromHost ? 'x' : 'y';
  const destination = otherSide(source);
  const from = placeOf(route, source);
  const to = placeOf(route, destination);
  const there = situation[source];
  const here = situation[destination];
  if (here.state === 'ACTIVE' && route.active.primary === journal.toHost && here.epoch === route.active.epoch)
    return { kind: 'route', route: { ...route, journal: null } };
  if (there.state === 'UNKNOWN') return { kind: 'await-answer', because: `${from.primary} is silent` };
  if (there.state === 'SEALED')
    return journal.phase === 'SEALING' ? noteSeal(situation, source) : afterSeal(situation, source);
  // As far as that nobody but the source can own it, whatever has become of the copy.
  if (journal.direction === 'rollback' && isBefore(journal, 'SEALING') && isNewest(situation, source))
    return rollBack(situation, source);
  if (here.state === 'UNKNOWN') return { kind: 'await-answer', because: `${to.primary} is silent` };
  // Both own it: the source, and the route with it, have come back from a backup of before.
  if (!owns(there.state) || owns(here.state)) return { kind: 'settle' };
  if (journal.direction === 'rollback') return rollBack(situation, source);
  if (there.state === 'ACTIVE' || there.move?.id !== journal.move)
    return commandAt(from, { do: 'outgoing', epoch: there.epoch, move: journal.move, peerCell: to.cell });
  if (here.state !== 'RECEIVING' && here.state !== 'STAGED')
    return commandAt(to, { do: 'receive', move: journal.move, peerCell: from.cell });
  if (here.move?.id !== journal.move)
    return commandAt(to, { do: 'receive', move: journal.move, peerCell: from.cell });
  if (journal.phase === 'PREPARED') return note(route, { phase: 'COPYING' });
  if (journal.phase === 'COPYING') {
    if (options.close(situation)) return note(route, { phase: 'SEALING', sealId: options.freshId() });
    return bringNearer(situation, source, options);
  }
  // It was reopened since: the seal of before is spent, and so is its id.
  if (journal.phase !== 'SEALING' || there.activatedFrom?.id === journal.sealId)
    return note(route, { phase: 'COPYING', sealId: null, sealedHead: null });
  return commandAt(from, { do: 'seal', epoch: there.epoch, id: journal.sealId! });
}

/** The copy takes what there is; when it has that, the next hidden snapshot carries what was written meanwhile. */
function bringNearer(situation: Situation, source: Side, { freshId }: MovePlanOptions): MoveEffect {
  const there = situation[source];
  const here = situation[otherSide(source)];
  const from = placeOf(situation.route, source);
  const to = placeOf(situation.route, otherSide(source));
  const through = copyTarget(there);
  if (through !== null && here.state === 'RECEIVING') return { kind: 'await-copy', from, to, through };
  if (through !== null && !sameHead(here.move!.completeThrough, through)) return demote(to, here);
  const { id, completeThrough } = there.move!;
  return commandAt(from, {
    do: 'carry',
    epoch: there.epoch,
    move: id,
    id: freshId(),
    after: completeThrough?.id ?? null,
  });
}

function demote(to: Place, { move }: CellAnswer): MoveEffect {
  return commandAt(to, {
    do: 'demote',
    move: move?.id ?? '',
    through: move?.completeThrough?.id ?? null,
  });
}

/** The source was sealed; the copy takes what is left. */
function afterSeal(situation: Situation, source: Side): MoveEffect {
  const { sealedHead } = situation[source];
  const here = situation[otherSide(source)];
  const { journal } = situation.route;
  const from = placeOf(situation.route, source);
  const to = placeOf(situation.route, otherSide(source));
  if (here.state === 'UNKNOWN') return { kind: 'await-answer', because: `${to.primary} is silent` };
  if (journal!.direction === 'rollback') return { kind: 'settle' };
  if (here.state === 'RECEIVING' && here.move?.id === journal!.move && sealedHead)
    return { kind: 'await-copy', from, to, through: sealedHead };
  if (here.state === 'STAGED' && !sameHead(here.move?.completeThrough ?? null, sealedHead))
    return demote(to, here);
  return { kind: 'settle' };
}

function noteSeal(situation: Situation, source: Side): MoveEffect {
  return note(situation.route, { phase: 'SEALED', sealedHead: situation[source].sealedHead });
}

function isNewest(situation: Situation, source: Side): boolean {
  const { state, epoch } = situation[source];
  return owns(state) && epoch >= situation.route.epoch && !owns(situation[otherSide(source)].state);
}

/** The source still owns the volume. */
function rollBack({ route, ...answers }: Situation, source: Side): MoveEffect {
  const { state, epoch } = answers[source];
  if (state === 'OUTGOING')
    return commandAt(placeOf(route, source), {
      do: 'stay-here',
      epoch,
      move: answers[source].move?.id ?? '',
    });
  const highest = Math.max(route.epoch, epoch);
  const active = source === 'x' ? { ...route.active, epoch } : route.active;
  return { kind: 'route', route: { ...route, epoch: highest, active, journal: null } };
}

function placeOf(route: Route, side: Side): Place {
  return side === 'x' ? route.active : route.alternate!;
}

function commandAt(place: Place, command: HostCommand): MoveEffect {
  return { kind: 'command', place, command };
}

function note(route: Route, changes: Partial<MoveJournal>): MoveEffect {
  return { kind: 'route', route: { ...route, journal: { ...route.journal!, ...changes } } };
}
