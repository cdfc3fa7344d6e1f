// A host that never comes back: no route names it any more, and nobody waits for it.
//
// Invariants: before the first route lets go of it, it is written down that it is held back if it comes back after all, so what it has not heard of
// (a seal, a promotion) it needs not have heard of. Dropped is only what the owner, asked for it, says to own itself.

import { CellblockError } from '../base/errors.js';
import type { Place, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import type { Arguments } from '../protocol/verbs.js';
import { askHost } from './asking.js';
import type { Bases } from './bases.js';
import type { Highest } from './highest.js';
import { hostNotFound } from './hosts-view.js';
import type { Locks } from './locks.js';
import { type Ports, timeOf } from './ports.js';
import type { ForgetHostResult } from './results.js';
import { hostsOf, type RouteBook } from './route-book.js';

export type HostForgettingParts = Ports & {
  book: RouteBook;
  locks: Locks;
  highest: Highest;
  bases: Bases;
  wake: (volume: string) => void;
};

/** So many volumes are named in a sentence. */
const NAMED = 3;

export class HostForgetting {
  readonly #parts: HostForgettingParts;

  constructor(parts: HostForgettingParts) {
    this.#parts = parts;
  }

  /** Said again it goes on where it was cut short. Throws `host-not-found`, `host-connected`, `host-needed`. */
  async forget({ host }: Arguments<'host-forget'>): Promise<ForgetHostResult> {
    const { store, hosts, highest, bases, clock, log } = this.#parts;
    const record = await store.get('host', host);
    if (!record) throw hostNotFound(host);
    if (hosts.isConnected(host)) throw stillConnected(host);
    const routes: Route[] = [];
    for await (const route of this.#parts.book.all()) if (hostsOf(route).includes(host)) routes.push(route);
    const needed = await Promise.all(routes.map((route) => this.#whyNeeded(route, host)));
    refuseNeeded(host, needed);
    await store.put([
      { kind: 'host', key: host, value: { ...record, regressed: true, forgotten: timeOf(clock) } },
    ]);
    const volumes: string[] = [];
    for (const { volume, name } of routes) if (await this.#drop(volume, host)) volumes.push(name);
    const left = [...bases.at(host)].flatMap(({ volume }) => bases.forgetAt(volume, host));
    await store.put([...left, ...highest.reset(host, [])]);
    log.warn({ event: 'host-forgotten', host, volumes: volumes.length }, 'an operator has given up a host');
    return { host, volumes };
  }

  async #drop(volume: string, host: string): Promise<boolean> {
    const { book, locks, wake } = this.#parts;
    return locks.run(volume, async () => {
      const route = await book.route(volume);
      if (!route || !hostsOf(route).includes(host)) return false;
      refuseNeeded(host, [await this.#whyNeeded(route, host)]);
      await book.change(volume, (now) => (now.gen === route.gen ? without(now, host) : null));
      wake(volume);
      return true;
    });
  }

  /** Null: nothing is lost when the route names it no more. */
  async #whyNeeded(route: Route, host: string): Promise<Needed | null> {
    const { volume, name, active, alternate, journal } = route;
    if (active.primary === host)
      return {
        because: `it is the primary of volume ${name}`,
        hint: `put a replica in its place (\`cellblock cell promote ${name} --host H\`), or drop the route with \`cellblock route forget ${name}\``,
      };
    if (alternate?.primary !== host) return null;
    if (journal)
      return {
        because: `volume ${name} is on the move`,
        hint: `cancel that with \`cellblock move cancel ${name}\`, or look at \`cellblock route show ${name} --explain\``,
      };
    const answer = await askHost(this.#parts, active.primary, { volume, seqs: [] });
    if (answer && owns(answer.state)) return null;
    return {
      because: `host ${active.primary} does not say that it owns volume ${name}`,
      hint: `look at \`cellblock route show ${name} --explain\``,
    };
  }
}

interface Needed {
  because: string;
  hint: string;
}

function without({ active, alternate, ...route }: Route, host: string): Route {
  const fewer = (place: Place): Place => ({
    ...place,
    replicas: place.replicas.filter((each) => each !== host),
  });
  return {
    ...route,
    active: fewer(active),
    alternate: alternate === null || alternate.primary === host ? null : fewer(alternate),
  };
}

function refuseNeeded(host: string, all: readonly (Needed | null)[]): void {
  const needed = all.filter((each) => each !== null);
  if (needed.length === 0) return;
  const more = needed.length > NAMED ? `, and ${needed.length - NAMED} more` : '';
  const because = needed.slice(0, NAMED).map((each) => each.because);
  throw new CellblockError('host-needed', `Host ${host} cannot be forgotten: ${because.join('; ')}${more}.`, {
    hint: `First ${needed[0]!.hint}; then try again.`,
    facts: { host, volumes: needed.length },
  });
}

function stillConnected(host: string): CellblockError {
  return new CellblockError('host-connected', `Host ${host} is connected.`, {
    hint: `Move its volumes away with \`cellblock host drain ${host}\` and stop its agent; only a host that is gone is forgotten.`,
    facts: { host },
  });
}
