// Owners of before that have to accept a seal, and a replica that an operator has put in the place of its primary.
//
// Invariant: the route says who owns the volume before any host is told; so a crash between the two leaves nobody who owns it, never two.

import type { Place, Route } from '../model/cell/route.js';
import { askHost } from './asking.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import { AGAIN, type Next, REST } from './tender.js';

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
    if (!answer) return { do: 'retry', hosts: [primary] };
    if (!answer.replica) return null;
    const done = await this.#command(primary, volume, { do: 'promote', epoch });
    return done ? AGAIN : { do: 'retry', hosts: [primary] };
  }

  async #seal({ volume }: Route, { primary }: Place, releasedTo: number): Promise<Next> {
    const later: Next = { do: 'retry', hosts: [primary] };
    const answer = await askHost(this.#parts, primary, { volume, seqs: [] });
    if (!answer) return later;
    const owned = answer.state !== 'NONE' && answer.state !== 'RECEIVING' && answer.state !== 'STAGED';
    if (owned && answer.replica === null) {
      if (!(await this.#command(primary, volume, { do: 'fence', releasedTo }))) return later;
      // It held the volume back when it heard that others are further; sealed, it may say what it has.
      if (answer.state === 'FAULTED' && !(await this.#command(primary, volume, { do: 'readmit' })))
        return later;
    }
    await this.#parts.book.change(volume, (route) =>
      route.alternate?.primary === primary && route.alternate.mustSeal !== null
        ? { ...route, alternate: { ...route.alternate, mustSeal: null } }
        : null,
    );
    return AGAIN;
  }

  async #command(
    host: string,
    volume: string,
    command: { do: 'promote'; epoch: number } | { do: 'fence'; releasedTo: number } | { do: 'readmit' },
  ): Promise<boolean> {
    const { hosts, settings, log } = this.#parts;
    if (!hosts.isConnected(host)) return false;
    const outcome = await hosts.command(host, { volume, command }, settings.commandMs);
    if (outcome.kind === 'done') return true;
    log.warn(
      { event: 'ownership-not-taken', volume, host, command: command.do, outcome },
      'a host has not done what its ownership wants',
    );
    return false;
  }
}
