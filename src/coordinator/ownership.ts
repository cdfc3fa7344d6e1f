// Owners of before that have to accept a seal, and a replica that an operator has put in the place of its primary.
//
// Invariant: the route says who owns the volume before any host is told; so a crash between the two leaves nobody who owns it, never two.
// Nobody is promoted who is known to have heard of it, or who has less than he was promoted with: he comes from a backup.

import { type HostAnswer, precedes } from '../model/cell/answer.js';
import { awaitsPromotion, type Place, type Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import { askHost } from './asking.js';
import { whyOlder } from './faulted.js';
import type { Highest } from './highest.js';
import { whyNoCopy } from './hosts-view.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import { AGAIN, type Next, REST } from './tender.js';
import { type Why, whyNotDone, whyOf, whySilent } from './troubles.js';

export type OwnershipParts = Pick<Ports, 'hosts' | 'store' | 'settings' | 'log'> & {
  book: RouteBook;
  highest: Highest;
  /** Why nobody can say yet what a host has of a volume; null: it can be said. */
  whyAwaited: (volume: string, host: string) => Error | null;
};

/** A host that has not heard what the route says of it. */
interface Missing {
  host: string;
  why: Why;
}

export class Ownership {
  readonly #parts: OwnershipParts;

  constructor(parts: OwnershipParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const { alternate, volume } = route;
    if (alternate === null || alternate.mustSeal === null) return REST;
    // Neither waits for the other: one that does not answer must not keep the volume from being served, nor the other one serving it.
    const [promotion, seal] = await Promise.all([
      this.#promote(route),
      this.#seal(volume, alternate, alternate.mustSeal),
    ]);
    const missing = [promotion, seal].filter((each) => each !== null);
    if (missing[0]) return { do: 'retry', hosts: missing.map(({ host }) => host), why: missing[0].why };
    // Last: it is what says that both have to hear of it.
    await this.#parts.book.change(volume, (now) =>
      now.alternate?.primary === alternate.primary && now.alternate.mustSeal !== null
        ? { ...now, alternate: { ...now.alternate, mustSeal: null } }
        : null,
    );
    return AGAIN;
  }

  /** Whoever holds the volume and waits for its owner does what that one waits for. Gives the route as it is then; null: it is gone. */
  async settle(volume: string): Promise<Route | null> {
    let route = await this.#parts.book.route(volume);
    if (route?.status === 'open' && (await this.step(route)).do === 'again')
      route = await this.#parts.book.route(volume);
    return route;
  }

  /** Null: it is the owner. */
  async #promote(route: Route): Promise<Missing | null> {
    const { volume, active, lineageHead } = route;
    const { primary: host, epoch } = active;
    const answer = await askHost(this.#parts, host, { volume, seqs: lineageHead ? [lineageHead.seq] : [] });
    if (!answer) return { host, why: whySilent(host) };
    if (answer.replica && answer.state === 'FAULTED')
      return { host, why: (await whyNoCopy(this.#parts, host)) ?? whyOlder(route, answer) };
    if (isFromBackup(route, answer)) {
      // Held back it is before an operator; as a replica it would be waited for, for ever.
      const notHeldBack = await this.#command(host, volume, { do: 'fault' });
      return { host, why: notHeldBack ?? whyOlder(route, answer) };
    }
    const why = answer.replica && (await this.#command(host, volume, { do: 'promote', epoch }));
    if (why) return { host, why };
    if (answer.replica || owns(answer.state)) await this.#heard(answer, { id: volume, epoch });
    return null;
  }

  /** That it has heard is kept: a backup of before is not told again, and goes on under this epoch by an operator's word only. */
  async #heard(
    { host, lineageHead: head }: HostAnswer,
    { id, epoch }: { id: string; epoch: number },
  ): Promise<void> {
    const { highest, store, book } = this.#parts;
    // First: an operator who readmits the host lowers the mark, and this not.
    await book.change(id, (now) =>
      now.active.primary === host && now.active.unheardPromotion === epoch
        ? { ...now, active: { ...now.active, unheardPromotion: null } }
        : null,
    );
    const changes = highest.raise(host, [{ id, epoch, head, state: 'ACTIVE' }]);
    if (changes.length > 0) await store.put(changes);
  }

  /** Null: it owns the volume no more. */
  async #seal(volume: string, { primary: host }: Place, releasedTo: number): Promise<Missing | null> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) return { host, why: whySilent(host) };
    if (answer.state === 'NONE' || isCopy(answer)) return null;
    const fenced = await this.#command(host, volume, { do: 'fence', releasedTo });
    if (fenced) return { host, why: fenced };
    if (answer.state !== 'FAULTED') return null;
    // It held the volume back when it heard that others are further; sealed, it may say what it has.
    const awaited = this.#parts.whyAwaited(volume, host);
    const why = awaited ? whyOf(awaited) : await this.#command(host, volume, { do: 'readmit' });
    return why && { host, why };
  }

  /** Null: it was done. */
  async #command(
    host: string,
    volume: string,
    command:
      | { do: 'promote'; epoch: number }
      | { do: 'fence'; releasedTo: number }
      | { do: 'fault' }
      | { do: 'readmit' },
  ): Promise<Why | null> {
    const { hosts, settings, log } = this.#parts;
    if (!hosts.isConnected(host)) return whySilent(host);
    const outcome = await hosts.command(host, { volume, command }, settings.commandMs);
    if (outcome.kind === 'done') return null;
    log.warn(
      { event: 'ownership-not-taken', volume, host, command: command.do, outcome },
      'a host has not done what its ownership wants',
    );
    return whyNotDone(host, command.do, outcome);
  }
}

/** A replica in the place of its primary that was told already, or that lacks what it was promoted with. A higher epoch is none of a backup of its host. */
function isFromBackup({ active, lineageHead }: Route, answer: HostAnswer): boolean {
  if (answer.replica === null || answer.epoch >= active.epoch) return false;
  return !awaitsPromotion(active) || precedes(lineageHead, answer) !== true;
}

/** It never owned the volume, also when it is faulted: there is nothing to be sealed. */
function isCopy({ state, replica, move }: HostAnswer): boolean {
  return state === 'RECEIVING' || state === 'STAGED' || replica !== null || move?.role === 'destination';
}
