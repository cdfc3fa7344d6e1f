// How volumes get routes: one that no cell knows becomes one of a cell, and one whose route was lost with the state of the coordinators gets one again.
//
// Invariants: the route is stored first, so if this is cut short the same again goes on with the id it has. A volume that was claimed before keeps its
// id, its epoch and its lineage, and its route names the host that owns it: nobody who is connected owns it too, has it under a later epoch, or has
// released it to one.

import { CellblockError } from '../base/errors.js';
import { type HostAnswer, hasNothing } from '../model/cell/answer.js';
import type { Place, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import type { Arguments } from '../protocol/verbs.js';
import { askHost } from './asking.js';
import { connected, newRoute, requireReadmitted } from './hosts-view.js';
import type { Locks } from './locks.js';
import type { Operations } from './operations.js';
import type { Ports } from './ports.js';
import { hostError, hostSilent } from './refusals.js';
import type { ClaimResult } from './results.js';
import type { RouteBook } from './route-book.js';

export type ClaimsParts = Ports & { book: RouteBook; locks: Locks; operations: Operations };

interface Found {
  host: string;
  answer: HostAnswer;
}

export class Claims {
  readonly #parts: ClaimsParts;

  constructor(parts: ClaimsParts) {
    this.#parts = parts;
  }

  /** Throws `host-not-connected`, `route-exists`, `volume-not-claimed`, `owner-unproven`, and what the host says instead of doing it. */
  async claim({ volume: name, host }: Arguments<'route-claim'>): Promise<ClaimResult> {
    const { store, freshId, locks } = this.#parts;
    const fresh = newRoute({ volume: freshId(), name }, connected(this.#parts, host));
    const existing = await store.routeNamed(name);
    if (existing && !isUnfinished(existing, fresh.active)) throw routeExists(existing);
    if (!existing && (await store.createRoute(fresh)) === 'exists') throw routeExists(fresh);
    const route = existing ?? fresh;
    return locks.run(route.volume, () => this.#claimed(route, host));
  }

  async #claimed(route: Route, host: string): Promise<ClaimResult> {
    const { hosts, settings, book, log } = this.#parts;
    const { volume, name } = route;
    const asked = await hosts.claim(host, { volume, name }, settings.commandMs);
    // It may have been claimed: the route stays, for the next try.
    if (asked.kind === 'silent') throw hostSilent(host, settings);
    if (asked.kind === 'failed') {
      await this.#takeBack(volume);
      throw hostError(asked.code, `${host}: ${asked.message}`);
    }
    const { answer, volume: known } = asked.reply;
    if (known !== volume) {
      await this.#takeBack(volume);
      return this.#parts.locks.run(known, () => this.#known({ ...route, volume: known }, { host, answer }));
    }
    const now = await book.change(volume, (before) => withAnswer(before, answer));
    log.info({ event: 'volume-claimed', volume, name, host }, 'a volume has got a route');
    const { cell, state } = answer;
    return { volume, name, host, cell, state, snapshots: now?.lineageHead?.seq ?? 0 };
  }

  async #takeBack(volume: string): Promise<void> {
    const { store } = this.#parts;
    const route = await store.route(volume);
    if (route) await store.removeRoute(volume, route.gen);
  }

  /** It was claimed before, and the coordinators do not know of that any more. */
  async #known(route: Route, found: Found): Promise<ClaimResult> {
    const { store, book, operations, log } = this.#parts;
    const { volume, name } = route;
    const { host, answer } = found;
    const existing = await book.route(volume);
    if (existing) throw routeExists(existing);
    await requireReadmitted(this.#parts, host);
    if (!mayOwn(answer)) throw notOwned(name, found);
    const because = await this.#whyNotTrue(volume, found);
    if (because !== null) throw unproven(name, { ...found, because });
    const again = withAnswer(route, answer);
    if ((await store.createRoute(again)) === 'exists') throw routeExists(again);
    // It is finished then.
    await book.change(volume, (now) => ({ ...now }));
    log.warn(
      { event: 'volume-claimed-again', volume, name, host, epoch: answer.epoch },
      'a volume of a cell has got a route again',
    );
    // A move of before is over: its source goes on. What cannot is put into quarantine.
    if (answer.state !== 'ACTIVE')
      await operations.runHeld(volume, { kind: 'settle' }, 'coordinator', 0).catch(() => undefined);
    const { cell, state, lineageHead } = (await askHost(this.#parts, host, { volume, seqs: [] })) ?? answer;
    return { volume, name, host, cell, state, snapshots: lineageHead?.seq ?? 0 };
  }

  /** Null: nobody who is connected says anything else, or nothing. */
  async #whyNotTrue(volume: string, { host, answer: { epoch } }: Found): Promise<string | null> {
    const others = this.#parts.hosts.hosts.filter((each) => each.host !== host);
    const answers = await Promise.all(
      others.map((each) => askHost(this.#parts, each.host, { volume, seqs: [] })),
    );
    for (const [index, other] of answers.entries()) {
      if (!other) return `host ${others[index]!.host} does not answer, and may own it too`;
      const { state, released, tombstone } = other;
      if (owns(state) && !other.replica) return `host ${other.host} owns it under epoch ${other.epoch}`;
      if (other.epoch > epoch) return `host ${other.host} has it under epoch ${other.epoch}`;
      if ((released ?? 0) > epoch)
        return `host ${other.host} has released it to epoch ${released}: somebody newer owns it`;
      if (tombstone?.why === 'delete') return `host ${other.host} says it was deleted`;
    }
    return null;
  }
}

/** Sealed in the middle of a move, and released to nobody, it can be reopened; faulted, an operator can adopt it. */
function mayOwn(answer: HostAnswer): boolean {
  const { state, released, replica, move } = answer;
  if (replica !== null || move?.role === 'destination') return false;
  if (owns(state)) return true;
  if (released !== null) return false;
  return state === 'SEALED' || (state === 'FAULTED' && !hasNothing(answer));
}

function withAnswer(route: Route, { epoch, lineageHead }: HostAnswer): Route {
  return {
    ...route,
    status: 'open',
    active: { ...route.active, epoch },
    epoch: Math.max(route.epoch, epoch),
    lineageHead,
  };
}

/** Nothing has been stored of it since it was made: its host may not have heard of it. */
function isUnfinished({ gen, active }: Route, { primary, storeId }: Place): boolean {
  return gen === 1 && active.primary === primary && active.storeId === storeId;
}

function routeExists({ name }: Pick<Route, 'name'>): CellblockError {
  return new CellblockError('route-exists', `A volume ${name} has a route already.`, {
    hint: 'Names are unique in the whole installation: rename the volume at its host, then claim it.',
    facts: { volume: name },
  });
}

function notOwned(name: string, { host, answer }: Found): CellblockError {
  return new CellblockError(
    'volume-not-claimed',
    `Volume ${name} belongs to a cell already, and host ${host}, where it is ${answer.state}, does not own it.`,
    {
      hint: 'Claim it at the host that owns it: `cellblock host show HOST` says what hosts have without a route.',
      facts: { volume: name, host },
    },
  );
}

function unproven(name: string, { host, answer, because }: Found & { because: string }): CellblockError {
  return new CellblockError(
    'owner-unproven',
    `Host ${host} owns volume ${name} under epoch ${answer.epoch}, but ${because}.`,
    {
      hint: 'Look at what these hosts have with `cellblock host show HOST`; nothing was changed.',
      facts: { volume: name, host },
    },
  );
}
