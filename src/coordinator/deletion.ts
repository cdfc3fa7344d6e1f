// The end of a volume that a user has deleted: every host of both lists leaves a tombstone, and only then the route is dropped.
//
// Invariant: a host that has not confirmed may come back with the volume; so the route stays, however long that takes.

import type { Route } from '../model/cell/route.js';
import type { Bases } from './bases.js';
import type { Copies } from './copies.js';
import type { DecisionBook } from './decisions.js';
import type { Highest } from './highest.js';
import type { Ports } from './ports.js';
import { hostsOf } from './route-book.js';
import type { SnapshotDeletions } from './snapshot-deletions.js';
import { AGAIN, type Next, REST } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type DeletionParts = Pick<Ports, 'hosts' | 'store' | 'settings' | 'log'> & {
  decisions: DecisionBook;
  highest: Highest;
  copies: Copies;
  snapshotDeletions: SnapshotDeletions;
  bases: Bases;
};

export class Deletion {
  readonly #parts: DeletionParts;
  /** Who has confirmed, of volumes whose others have not; asking again does no harm. */
  readonly #confirmed = new Map<string, Set<string>>();

  constructor(parts: DeletionParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const { volume, gen } = route;
    const confirmed = this.#confirmed.get(volume) ?? new Set<string>();
    this.#confirmed.set(volume, confirmed);
    const missing = this.#hostsOf(route).filter((host) => !confirmed.has(host));
    const whys = await Promise.all(missing.map((host) => this.#bury(host, route)));
    for (const [at, host] of missing.entries()) if (whys[at] === null) confirmed.add(host);
    const why = whys.find((one) => one !== null);
    if (why) return { do: 'retry', hosts: this.unconfirmed(route), why };
    await this.#forget(route);
    if (!(await this.#parts.store.removeRoute(volume, gen))) return AGAIN;
    this.#parts.log.info(
      { event: 'volume-deleted', volume, name: route.name },
      'every host has deleted a volume: its route is dropped',
    );
    return REST;
  }

  /** Who has not confirmed yet; of a volume whose route has been dropped: nobody. */
  unconfirmed(route: Route): string[] {
    const confirmed = this.#confirmed.get(route.volume);
    return this.#hostsOf(route).filter((host) => !confirmed?.has(host));
  }

  #hostsOf(route: Route): string[] {
    return [...new Set([...hostsOf(route), ...this.#parts.bases.hostsOf(route.volume)])];
  }

  /** Null: it has confirmed. */
  async #bury(host: string, { volume, epoch }: Route): Promise<Why | null> {
    const { hosts, settings, log } = this.#parts;
    if (!hosts.isConnected(host)) return whySilent(host);
    const outcome = await hosts.command(
      host,
      { volume, command: { do: 'delete', epoch } },
      settings.commandMs,
    );
    if (outcome.kind === 'done') return null;
    log.warn({ event: 'delete-not-confirmed', volume, host, outcome }, 'a host has not deleted a volume yet');
    return whyNotDone(host, 'delete', outcome);
  }

  /** What is kept beside the route goes before it: afterwards nobody would know of it. */
  async #forget(route: Route): Promise<void> {
    const { store, decisions, highest, copies, snapshotDeletions, bases } = this.#parts;
    const { volume } = route;
    for (const host of this.#hostsOf(route)) copies.end(volume, host);
    await store.put([
      ...highest.forget(volume, hostsOf(route)),
      ...(await decisions.forget(volume)),
      ...snapshotDeletions.forget(volume),
      ...bases.forget(volume),
      { kind: 'move', key: volume, value: null },
      { kind: 'evidence', key: volume, value: null },
    ]);
  }
}
