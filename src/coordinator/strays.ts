// What hosts hold that no route names: left by a host that was forgotten and has come back, or by a coordinator that is older than it was.
//
// Invariants: nothing is purged that its route names, or that others need, or that says to own the volume; where there is a route only while the
// owner, asked for it, says to own it; and a former owner only when it has released the volume. What the owner is not known to have is lost only
// when that was accepted: without a route, everything.

import { CellblockError } from '../base/errors.js';
import { type HostAnswer, precedes } from '../model/cell/answer.js';
import type { Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import type { Arguments } from '../protocol/verbs.js';
import { askHost, orderHost } from './asking.js';
import type { Bases } from './bases.js';
import { connected, helloOf, hostNamed, requireReadmitted } from './hosts-view.js';
import type { Locks } from './locks.js';
import type { Ports } from './ports.js';
import { hostSilent } from './refusals.js';
import type { HostDetails, PurgeResult } from './results.js';
import { hostsOf, type RouteBook } from './route-book.js';

const ID = /^[0-9a-f]{32}$/;

export type StraysParts = Ports & { book: RouteBook; locks: Locks; bases: Bases };

export class Strays {
  readonly #parts: StraysParts;

  constructor(parts: StraysParts) {
    this.#parts = parts;
  }

  /** Of what the host has said in its hello, as it is now. */
  async at(host: string): Promise<HostDetails['strays']> {
    const { bases, book } = this.#parts;
    const known = new Set(bases.at(host).map(({ volume }) => volume));
    const said = (helloOf(this.#parts, host)?.volumes ?? []).filter(
      ({ id, state }) => state !== 'GONE' && !known.has(id),
    );
    const strays: HostDetails['strays'] = [];
    let isSilent = false;
    for (const { id, state, epoch } of said) {
      const route = await book.route(id);
      if (route && hostsOf(route).includes(host)) continue;
      // Who looks does not wait for each of them when the host hangs.
      const now: HostAnswer | null = isSilent
        ? null
        : await askHost(this.#parts, host, { volume: id, seqs: [] });
      isSilent = now === null;
      if (now?.state !== 'NONE')
        strays.push({ id, name: route?.name ?? null, state, epoch, ...stateOf(now) });
    }
    return strays;
  }

  /**
   * What the host has of the volume is deleted; of one that has no route the id is given. Throws `host-not-connected`, `host-regressed`,
   * `host-needed`, `stray-not-found`, `owned-elsewhere`, `owner-unproven`, `loss-not-accepted`.
   */
  async purge({ host, volume: given, acceptLoss }: Arguments<'host-purge'>): Promise<PurgeResult> {
    const { locks, book, settings, log } = this.#parts;
    await hostNamed(this.#parts, host);
    const volume = await this.#idOf(given);
    return locks.run(volume, async () => {
      const route = await book.route(volume);
      if (route) this.#refuseNeeded(route, host);
      connected(this.#parts, host);
      await requireReadmitted(this.#parts, host);
      const stray = await askHost(this.#parts, host, { volume, seqs: [] });
      if (!stray) throw hostSilent(host, settings);
      const name = route?.name ?? volume;
      if (stray.state === 'NONE') throw nothingThere(name, host);
      if (owns(stray.state)) throw route ? ownedThere(name, host) : unclaimed(volume, host);
      const loss = await this.#lossOf(route, stray);
      if (loss !== null && !acceptLoss)
        throw lossNotAccepted(name, { host, loss, owner: route?.active.primary });
      if (stray.state === 'SEALED' && stray.released === null)
        await orderHost(this.#parts, host, {
          volume,
          command: { do: 'fence', releasedTo: Math.max(route?.epoch ?? 0, stray.epoch + 1) },
        });
      await orderHost(this.#parts, host, { volume, command: { do: 'purge' } });
      log.warn({ event: 'stray-purged', host, volume, loss }, 'an operator has deleted what no route names');
      return { volume: name, host, loss };
    });
  }

  /** Of what has a route by its name too. */
  async #idOf(given: string): Promise<string> {
    if (ID.test(given) && (await this.#parts.store.routeNamed(given)) === null) return given;
    return (await this.#parts.book.named(given)).volume;
  }

  #refuseNeeded(route: Route, host: string): void {
    const { name, volume } = route;
    if (hostsOf(route).includes(host))
      throw new CellblockError('host-needed', `The route of volume ${name} names host ${host}.`, {
        hint: `Look at \`cellblock route show ${name}\`; a replica is removed by \`cellblock replica remove ${name} --host ${host}\`.`,
        facts: { host, volume: name },
      });
    if (this.#parts.bases.hostsOf(volume).includes(host))
      throw new CellblockError(
        'host-needed',
        `Host ${host} has a beginning of volume ${name} for volumes that continue it there.`,
        {
          hint: `Look at \`cellblock host show ${host}\`; it is removed by \`cellblock replica remove ${name} --host ${host}\`.`,
          facts: { host, volume: name },
        },
      );
  }

  /** Null: the owner has all of it. What cannot be told is a loss. */
  async #lossOf(route: Route | null, stray: HostAnswer): Promise<PurgeResult['loss']> {
    const head = stray.lineageHead;
    if (!route) return { lastSnapshot: head, ownerHasIt: false, written: stray.dirtySinceHead };
    const { volume, active } = route;
    const owner = await askHost(this.#parts, active.primary, { volume, seqs: head ? [head.seq] : [] });
    if (!owner) throw hostSilent(active.primary, this.#parts.settings);
    if (!owns(owner.state) || owner.storeId !== active.storeId) throw notOwned(route);
    const isLacking = precedes(head, owner) !== true;
    const isCopy = stray.replica !== null || stray.move?.role === 'destination';
    // Whom it was taken from without its seal (a promotion) is sealed at its last snapshot, and of a seal of long ago the owner says nothing.
    const seal = stray.sealedHead?.id === head?.id ? null : stray.sealedHead;
    const isHandedOver = seal !== null && owner.activatedFrom?.id === seal.id;
    const isWritten = stray.dirtySinceHead && !isCopy && !isHandedOver;
    if (!isLacking && !isWritten) return null;
    return { lastSnapshot: head, ownerHasIt: !isLacking, written: isWritten };
  }
}

function stateOf(now: HostAnswer | null): { state: string; epoch: number } | null {
  return now && { state: now.state, epoch: now.epoch };
}

function nothingThere(name: string, host: string): CellblockError {
  return new CellblockError('stray-not-found', `Host ${host} has nothing of volume ${name}.`, {
    hint: `See what it has without a route with \`cellblock host show ${host}\`.`,
    facts: { host, volume: name },
  });
}

function ownedThere(name: string, host: string): CellblockError {
  return new CellblockError('owned-elsewhere', `Host ${host} says that it owns volume ${name}.`, {
    hint: `Look at \`cellblock route show ${name} --explain\`, then decide with \`cellblock quarantine adopt ${name} --cell CELL\`.`,
    facts: { host, volume: name },
  });
}

function unclaimed(volume: string, host: string): CellblockError {
  return new CellblockError(
    'owned-elsewhere',
    `Host ${host} says that it owns volume ${volume}, which has no route.`,
    {
      hint: `Give it one with \`cellblock route claim NAME --host ${host}\`, NAME being what \`cellblock volume list\` calls it there; then it can be deleted as well.`,
      facts: { host, volume },
    },
  );
}

function notOwned({ name, active }: Route): CellblockError {
  return new CellblockError(
    'owner-unproven',
    `Host ${active.primary} does not say that it owns volume ${name}.`,
    {
      hint: `Look at \`cellblock route show ${name} --explain\`: what is elsewhere may be all there is.`,
      facts: { host: active.primary, volume: name },
    },
  );
}

function lossNotAccepted(
  name: string,
  { host, loss, owner }: { host: string; loss: NonNullable<PurgeResult['loss']>; owner: string | undefined },
): CellblockError {
  const { lastSnapshot, ownerHasIt, written } = loss;
  const since = lastSnapshot ? ` since snapshot ${lastSnapshot.seq}` : '';
  const lost = [
    ...(ownerHasIt || !lastSnapshot ? [] : [`snapshot ${lastSnapshot.seq}`]),
    ...(written ? [`what was written${since}`] : []),
  ];
  const message = owner
    ? `Host ${host} has of volume ${name} what host ${owner} is not known to have: ${lost.join(', and ')}.`
    : `Volume ${name} has no route: whether anybody else has what host ${host} has of it is not known.`;
  return new CellblockError('loss-not-accepted', message, {
    hint: `Accept that it is lost with \`cellblock host purge ${host} ${name} --accept-loss\`.`,
    facts: { volume: name, host },
  });
}
