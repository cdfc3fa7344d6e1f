// Drives one operation through the model: asks both cells, commands, performs, replaces the route, as the resolution says; again, with pauses
// that grow, until it has ended or its time is over.
//
// Invariants: the caller holds the volume, and has written down the operation before this sends anything. Nothing is decided here.

import type { Decision } from '../model/cell/decide.js';
import type { Operation } from '../model/cell/operation.js';
import {
  beginResolution,
  type CommandOutcome,
  commanded,
  type Effect,
  type End,
  effectOf,
  probed,
  type Resolution,
  routed,
} from '../model/cell/resolution.js';
import type { Place, Route } from '../model/cell/route.js';
import { askBoth } from './asking.js';
import { backoffMs } from './backoff.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { Term } from './term.js';

export interface Resolved {
  /** `retry`: its time is over. */
  end: End;
  /**
   * In order, as they were made: the last one, and of those before it what was carried out and led to another. Empty: nobody could be asked.
   */
  decisions: readonly Decision[];
  /** A host was asked to perform it and has not answered. */
  mayBeDone: boolean;
  /** Null: it is gone. */
  route: Route | null;
}

export type ResolverParts = Pick<Ports, 'hosts' | 'clock' | 'random' | 'settings'> & {
  book: RouteBook;
  term: Term;
  /**
   * Tells hosts what the route says of owners and they have not heard: a replica that was promoted says nothing that counts before. Gives the route
   * as it is then; null: it is gone.
   */
  settleOwners: (volume: string) => Promise<Route | null>;
  /** Keeps why a volume is about to be put in quarantine. */
  keepEvidence: (route: Route, decision: Decision) => Promise<void>;
};

export interface Asked {
  operation: Operation;
  /** Of the monotonic clock: no try begins after it. */
  untilMs: number;
}

export async function resolve(parts: ResolverParts, route: Route, asked: Asked): Promise<Resolved> {
  return new Resolving(parts, route.volume, asked).run(route);
}

class Resolving {
  readonly #parts: ResolverParts;
  readonly #operation: Operation;
  readonly #untilMs: number;
  readonly #volume: string;
  #wasLost = false;
  #tries = 0;
  #mayBeDone = false;
  readonly #decisions: Decision[] = [];
  /** Something of the last one was carried out. */
  #isBegun = false;

  constructor(parts: ResolverParts, volume: string, { operation, untilMs }: Asked) {
    this.#parts = parts;
    this.#volume = volume;
    this.#operation = operation;
    this.#untilMs = untilMs;
  }

  async run(begun: Route): Promise<Resolved> {
    // What was lost may have been found: it is asked again.
    this.#wasLost = begun.status === 'lost';
    const route: Route = begun.status === 'lost' ? { ...begun, status: 'open' } : begun;
    let resolution = beginResolution(route, this.#operation);
    for (;;) {
      const effect = effectOf(resolution);
      const next = effect.kind === 'end' ? resolution : await this.#carryOut(resolution, effect);
      if (next === null) return this.#ended({ result: 'not-found' }, null);
      resolution = next;
      this.#keep(effect, resolution);
      if (resolution.end && resolution.end.result !== 'retry')
        return this.#ended(resolution.end, resolution.route);
      const failed = resolution.end ? whyAgain(resolution, resolution.end) : failureIn(effect, resolution);
      if (failed === null) continue;
      if (!(await this.#pause())) return this.#ended({ result: 'retry', because: failed }, resolution.route);
      const now = await this.#parts.settleOwners(this.#volume);
      if (!now) return this.#ended({ result: 'not-found' }, null);
      resolution = { ...beginResolution(now, this.#operation), performed: resolution.performed };
    }
  }

  #ended(end: End, route: Route | null): Resolved {
    const mayBeDone = this.#mayBeDone && end.result === 'retry';
    return { end, route, decisions: this.#decisions, mayBeDone };
  }

  /** As it was made: when the route is turned its sides change their names. What is decided by the same rule again takes its place. */
  #keep(effect: Effect, { decision }: Resolution): void {
    if (effect.kind !== 'probe') {
      this.#isBegun = true;
      return;
    }
    if (!decision) return;
    if (!this.#isBegun) this.#decisions.pop();
    if (this.#decisions.at(-1)?.rule === decision.rule) this.#decisions.pop();
    this.#decisions.push(decision);
    this.#isBegun = false;
  }

  /** False: the time is over. */
  async #pause(): Promise<boolean> {
    const { clock, settings, random, term } = this.#parts;
    this.#tries += 1;
    const pauseMs = backoffMs(settings, this.#tries, random);
    if (clock.now().uptimeMs + pauseMs > this.#untilMs) return false;
    await term.sleep(pauseMs);
    return true;
  }

  /** Null: the route is gone. */
  async #carryOut(
    resolution: Resolution,
    effect: Exclude<Effect, { kind: 'end' }>,
  ): Promise<Resolution | null> {
    const { book, term } = this.#parts;
    term.check();
    switch (effect.kind) {
      case 'probe': {
        const [x, y] = await askBoth(this.#parts, effect.route, effect.seqs);
        term.check();
        return probed(resolution, x, y);
      }
      case 'route': {
        if (!this.#wasLost && isUnchanged(resolution, effect.route))
          return routed(resolution, true, effect.route);
        // Before the route says so: a crash in between must not lose it.
        if (resolution.finding?.result === 'quarantined')
          await this.#parts.keepEvidence(resolution.route, resolution.decision!);
        const { stored, route } = await book.replace(effect.route);
        return route && routed(resolution, stored, route);
      }
      case 'command':
        return commanded(resolution, await this.#command(effect.place, effect));
      case 'perform':
        return commanded(resolution, await this.#perform(effect));
    }
  }

  async #command(
    { primary }: Place,
    { command }: Extract<Effect, { kind: 'command' }>,
  ): Promise<CommandOutcome> {
    const { hosts, settings } = this.#parts;
    if (!hosts.isConnected(primary)) return { kind: 'silent' };
    return hosts.command(primary, { volume: this.#volume, command }, settings.commandMs);
  }

  async #perform({
    place: { primary },
    epoch,
    parent,
    operation,
  }: Extract<Effect, { kind: 'perform' }>): Promise<CommandOutcome> {
    const { hosts, settings } = this.#parts;
    if (operation.kind === 'locate' || operation.kind === 'settle') return { kind: 'done' };
    if (!hosts.isConnected(primary)) return { kind: 'silent' };
    const outcome = await hosts.perform(
      primary,
      { volume: this.#volume, epoch, parent, operation },
      settings.performMs,
    );
    if (outcome.kind === 'silent') this.#mayBeDone = true;
    return outcome;
  }
}

/** The table alone says only that it has to wait: for whom, if a cell is silent. */
function whyAgain({ decision, route }: Resolution, { because }: Extract<End, { result: 'retry' }>): string {
  if (!decision || decision.trials.length > 1) return because;
  const silent = [
    ...(decision.x.state === 'UNKNOWN' ? [route.active] : []),
    ...(decision.y.state === 'UNKNOWN' && route.alternate ? [route.alternate] : []),
  ].map(({ primary }) => primary);
  return silent.length === 0 ? because : `nothing is heard of ${silent.join(' and ')}`;
}

/** Everything has to be asked again because a host did not do as it was told; null: it has, or it was not told anything. */
function failureIn(effect: Effect, { decision, end }: Resolution): string | null {
  if (effect.kind !== 'command' && effect.kind !== 'perform') return null;
  if (decision !== null || end !== null) return null;
  const what = effect.kind === 'command' ? effect.command.do : effect.operation.kind;
  return `${effect.place.primary} has not done \`${what}\``;
}

/** Nothing is written to say again what the record says: where everything is as it was, nothing has been decided on either. */
function isUnchanged({ route, steps, finding }: Resolution, next: Route): boolean {
  if (steps.length > 0 || finding) return false;
  return (
    next.status === route.status &&
    next.epoch === route.epoch &&
    next.active.epoch === route.active.epoch &&
    next.lineageHead?.id === route.lineageHead?.id
  );
}
