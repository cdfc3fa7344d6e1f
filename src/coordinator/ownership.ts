// Owners of before that have to accept a seal, and a replica that an operator has put in the place of its primary.
//
// Invariant: the route says who owns the volume before any host is told; so a crash between the two leaves nobody who owns it, never two.

import type { HostAnswer } from '../model/cell/answer.js';
import type { Place, Route } from '../model/cell/route.js';
import { askHost } from './asking.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import { AGAIN, type Next, REST } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type OwnershipParts = Pick<Ports, 'hosts' | 'settings' | 'log'> & { book: RouteBook };

export class Ownership {
  readonly #parts: OwnershipParts;

  constructor(parts: OwnershipParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const { alternate } = route;
    if (alternate === null || alternate.mustSeal === null) return REST;
    const promoted = await this.#promote(route);
    return promoted ?? this.#seal(route, alternate, alternate.mustSeal);
  }

  /** Null: it is the owner. */
  async #promote({ volume, active }: Route): Promise<Next | null> {
    const { primary, epoch } = active;
    const answer = await askHost(this.#parts, primary, { volume, seqs: [] });
    if (!answer) return { do: 'retry', hosts: [primary], why: whySilent(primary) };
    if (!answer.replica) return null;
    const why = await this.#command(primary, volume, { do: 'promote', epoch });
    return why ? { do: 'retry', hosts: [primary], why } : AGAIN;
  }

  async #seal({ volume }: Route, { primary }: Place, releasedTo: number): Promise<Next> {
    const later = (why: Why): Next => ({ do: 'retry', hosts: [primary], why });
    const answer = await askHost(this.#parts, primary, { volume, seqs: [] });
    if (!answer) return later(whySilent(primary));
    if (answer.state !== 'NONE' && !isCopy(answer)) {
      const fenced = await this.#command(primary, volume, { do: 'fence', releasedTo });
      if (fenced) return later(fenced);
      // It held the volume back when it heard that others are further; sealed, it may say what it has.
      const readmitted =
        answer.state === 'FAULTED' ? await this.#command(primary, volume, { do: 'readmit' }) : null;
      if (readmitted) return later(readmitted);
    }
    await this.#parts.book.change(volume, (route) =>
      route.alternate?.primary === primary && route.alternate.mustSeal !== null
        ? { ...route, alternate: { ...route.alternate, mustSeal: null } }
        : null,
    );
    return AGAIN;
  }

  /** Null: it was done. */
  async #command(
    host: string,
    volume: string,
    command: { do: 'promote'; epoch: number } | { do: 'fence'; releasedTo: number } | { do: 'readmit' },
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

/** It never owned the volume, also when it is faulted: there is nothing to be sealed. */
function isCopy({ state, replica, move }: HostAnswer): boolean {
  return state === 'RECEIVING' || state === 'STAGED' || replica !== null || move?.role === 'destination';
}
