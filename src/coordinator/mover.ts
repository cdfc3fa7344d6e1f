// One step of the move of a volume: what its plan says is next, carried out.
//
// Invariants: the volume is held. Everything a move needs after a crash is in the route's journal and at the hosts; what is kept here only
// tells how small the deltas are.

import type { Situation } from '../model/cell/guards.js';
import { copyTarget, type MoveEffect, planMove } from '../model/cell/move-plan.js';
import type { Head, Place, Route } from '../model/cell/route.js';
import { isBefore, sameHead } from '../model/cell/route.js';
import { askBoth, askHost } from './asking.js';
import type { Bases } from './bases.js';
import type { Copies } from './copies.js';
import { whyNoCopy } from './hosts-view.js';
import type { Operations } from './operations.js';
import { type Ports, timeOf } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { MoveRecord } from './store.js';
import { AGAIN, type Next } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type MoverParts = Ports & {
  wake: (volume: string) => void;
  book: RouteBook;
  copies: Copies;
  bases: Bases;
  operations: Operations;
};

/** The last delta of a move. */
interface Round {
  move: string;
  number: number;
  carried: string;
  begunMs: number;
  /** Null: the copy is not there yet. */
  tookMs: number | null;
  bytes: number;
}

export class Mover {
  readonly #parts: MoverParts;
  readonly #rounds = new Map<string, Round>();

  constructor(parts: MoverParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const [x, y] = await askBoth(this.#parts, route, knownSeqs(route));
    const effect = planMove(
      { route, x, y },
      { close: (situation) => this.#isClose(situation), freshId: this.#parts.freshId },
    );
    return this.#carryOut({ route, x, y }, effect);
  }

  /** Bytes and time of the last delta, for people. */
  round(volume: string): { number: number; bytes: number } | null {
    return this.#rounds.get(volume) ?? null;
  }

  async #carryOut(situation: Situation, effect: MoveEffect): Promise<Next> {
    const { book, operations, log } = this.#parts;
    const { route } = situation;
    switch (effect.kind) {
      case 'command':
        return this.#command(route, effect);
      case 'route': {
        const { stored, route: now } = await book.replace(effect.route);
        if (stored && !now.journal) await this.#ended(route, now);
        return AGAIN;
      }
      case 'await-copy':
        return this.#await(situation, effect);
      case 'settle':
        await operations.runHeld(route.volume, { kind: 'settle' }, 'coordinator');
        return AGAIN;
      case 'await-answer':
        if (await this.#isReplica(route)) return this.#command(route, receiveAt(route));
        log.debug({ event: 'move-waits', volume: route.volume, because: effect.because }, 'a move waits');
        return { do: 'retry', hosts: hostsOf(route), why: whySilent(...this.#silent(situation)) };
    }
  }

  /** What no route names, left from before, or brought for another volume: it has no say, and the move would wait for its answer for ever. */
  async #isReplica({ volume, journal, alternate }: Route): Promise<boolean> {
    if (!isBefore(journal, 'SEALING') || alternate?.primary !== journal?.toHost) return false;
    const answer = await askHost(this.#parts, alternate!.primary, { volume, seqs: [] });
    return answer?.replica != null;
  }

  #silent({ route: { active, alternate }, x, y }: Situation): string[] {
    return [
      ...(x.state === 'UNKNOWN' ? [active.primary] : []),
      ...(y.state === 'UNKNOWN' ? [alternate!.primary] : []),
    ];
  }

  async #command(route: Route, { place, command }: Extract<MoveEffect, { kind: 'command' }>): Promise<Next> {
    const { hosts, settings, clock, log } = this.#parts;
    const { volume } = route;
    const both = hostsOf(route);
    if (!hosts.isConnected(place.primary)) return { do: 'retry', hosts: both, why: whySilent(place.primary) };
    const heldBack = command.do === 'receive' ? await whyNoCopy(this.#parts, place.primary) : null;
    if (heldBack) return { do: 'retry', hosts: both, why: heldBack };
    const outcome = await hosts.command(place.primary, { volume, command }, settings.commandMs);
    if (outcome.kind !== 'done') {
      const why = whyNotDone(place.primary, command.do, outcome);
      log.warn(
        { event: 'move-command-not-done', volume, host: place.primary, command: command.do, ...why },
        'a host has not done what a move asks of it',
      );
      return { do: 'retry', hosts: both, why };
    }
    if (command.do === 'carry') {
      const before = this.#rounds.get(volume);
      this.#rounds.set(volume, {
        move: command.move,
        number: before?.move === command.move ? before.number + 1 : 1,
        carried: command.id,
        begunMs: clock.now().uptimeMs,
        tookMs: null,
        bytes: 0,
      });
    }
    return AGAIN;
  }

  async #await(
    { route: { volume, journal, active }, x, y }: Situation,
    { from, to, through }: { from: Place; to: Place; through: Head },
  ): Promise<Next> {
    const { copies, bases, settings } = this.#parts;
    const first = bases.whyNot(journal!.move);
    if (first !== null)
      return { do: 'wait', milliseconds: settings.copyPollMs, hosts: [from.primary, to.primary], why: first };
    const here = active.primary === to.primary ? x : y;
    const hosts = [from.primary, to.primary];
    const begun = await copies.want({
      volume,
      move: journal!.move,
      from,
      to: to.primary,
      after: here.move?.completeThrough ?? null,
      through,
    });
    const why = begun ? copies.why(volume, to.primary) : waitsForItsTurn(to.primary, settings.copiesAtOnce);
    return { do: 'wait', milliseconds: settings.copyPollMs, hosts, why };
  }

  /** Little enough is left: nothing was written since what the copy has, or the last delta was small, or they do not get smaller. */
  #isClose(situation: Situation): boolean {
    const { route, x, y } = situation;
    const [there, here] = route.active.primary === route.journal!.fromHost ? [x, y] : [y, x];
    const target = copyTarget(there);
    if (target === null || here.state !== 'STAGED' || !sameHead(here.move?.completeThrough ?? null, target))
      return false;
    if (!there.dirtySinceHead && sameHead(target, there.lineageHead)) return true;
    const round = this.#rounds.get(route.volume);
    if (!round || round.move !== route.journal!.move || round.carried !== target.id) return false;
    const { close } = this.#parts.settings;
    round.tookMs ??= this.#parts.clock.now().uptimeMs - round.begunMs;
    round.bytes = this.#parts.copies.state(route.volume, route.journal!.toHost)?.done ?? 0;
    return round.tookMs <= close.milliseconds || round.bytes <= close.bytes || round.number >= close.rounds;
  }

  async #ended(before: Route, now: Route): Promise<void> {
    const { store, copies, bases, clock, wake } = this.#parts;
    const { volume, journal } = before;
    this.#rounds.delete(volume);
    copies.end(volume, journal!.toHost);
    const record = await store.get('move', volume);
    if (!record || record.move !== journal!.move) return;
    await store.put([{ kind: 'move', key: volume, value: endedRecord(record, now, timeOf(clock)) }]);
    // What was brought along for it may be given back, now or after the time of grace.
    for (const base of bases.neededBy(record.move)) wake(base);
  }
}

/** How the move has ended that the route has no journal of any more. */
export function endedRecord(record: MoveRecord, { active }: Route, ended: string): MoveRecord {
  return { ...record, ended, result: active.primary === record.toHost ? 'moved' : 'rolled-back' };
}

function waitsForItsTurn(host: string, atOnce: number): Why {
  return {
    because: `Host ${host} receives ${atOnce} copies already, as many as it gets at once: this one waits for its turn.`,
    hint: 'It goes on by itself when one of the others has ended.',
  };
}

/** What is there becomes the beginning of the copy. */
function receiveAt({ alternate, journal }: Route): Extract<MoveEffect, { kind: 'command' }> {
  const { move, from } = journal!;
  return { kind: 'command', place: alternate!, command: { do: 'receive', move, peerCell: from } };
}

function hostsOf({ active, alternate }: Route): string[] {
  return [active.primary, alternate!.primary];
}

function knownSeqs({ lineageHead }: Route): number[] {
  return lineageHead ? [lineageHead.seq] : [];
}
