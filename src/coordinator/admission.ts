// Who may join, and what a host is told of what it is known to have had.
//
// Invariants: only the leader admits. A host that comes back with less than it had (an old backup, another disk) is REGRESSED until an operator
// readmits it: that is stored before it is told. A host that owned a volume which has another owner by now hears so before it serves.

import { awaitsPromotion, type Route } from '../model/cell/route.js';
import type { Admission } from '../protocol/coordinator-effects.js';
import type { Hello } from '../protocol/messages.js';
import type { VolumeFacts } from './facts.js';
import type { Highest } from './highest.js';
import type { Locks } from './locks.js';
import type { Ports } from './ports.js';
import { hostsOf, type RouteBook } from './route-book.js';
import type { Change, HostRecord } from './store.js';
import type { Term } from './term.js';

export type AdmissionParts = Pick<Ports, 'store' | 'leadership' | 'log' | 'settings'> & {
  term: Term;
  book: RouteBook;
  highest: Highest;
  locks: Locks;
};

export async function admitHost(parts: AdmissionParts, hello: Hello): Promise<Admission> {
  // One hello of a host after the other: what the first has stored is what the second is held against.
  return parts.locks.run(`host ${hello.host}`, () => admitNext(parts, hello));
}

async function admitNext(parts: AdmissionParts, hello: Hello): Promise<Admission> {
  const { store, term, highest, leadership, log } = parts;
  const { host, volumes } = hello;
  const known = await store.get('host', host);
  const because = isHeldBack(known, hello)
    ? 'it was, or was forgotten'
    : (whyRegressed(known, hello, highest) ??
      (await whyNotOwner(parts, hello)) ??
      (await whyNoCopyOf(parts, hello)));
  const regressed = because !== null;
  if (regressed && (!known?.regressed || known.forgotten !== undefined))
    log.error(
      { event: 'host-regressed', host, because },
      'a host is older than it was: nothing of it is served',
    );
  const changes: Change[] = [{ kind: 'host', key: host, value: recordOf(hello, known, regressed) }];
  // What a regressed host says raises nothing: it is for the operator to say what is true.
  if (!regressed) changes.push(...highest.raise(host, volumes));
  await store.put(changes);
  term.check();
  return {
    admit: true,
    regressed,
    leader: leadership.leader,
    highest: await toldHighest(parts, hello),
  };
}

export function notAdmitted({ leadership, settings }: Pick<Ports, 'leadership' | 'settings'>): Admission {
  return {
    admit: false,
    code: 'not-leader',
    message: 'Another coordinator leads, or none does yet.',
    leader: leadership.leader,
    retryAfterMs: leadership.leader ? null : settings.retryAfterMs,
  };
}

/** With a store that has nothing in it a host that was forgotten begins anew. */
function isHeldBack(known: HostRecord | null, { volumes }: Hello): boolean {
  return known?.regressed === true && (known.forgotten === undefined || volumes.length > 0);
}

function whyRegressed(known: HostRecord | null, hello: Hello, highest: Highest): string | null {
  if (!known || known.forgotten !== undefined) return null;
  if (hello.storeId !== known.storeId) return `it has store ${hello.storeId}, and had ${known.storeId}`;
  if (hello.boot < known.boot) return `it was started ${hello.boot} times, and ${known.boot} times before`;
  return highest.whyRegressed(hello.host, hello.volumes);
}

/** It says that it owns what it has given up, and was told so: only a backup does that. */
async function whyNotOwner(
  { book }: Pick<AdmissionParts, 'book'>,
  { host, volumes }: Hello,
): Promise<string | null> {
  for (const facts of volumes.filter(ownsByItself)) {
    const route = await book.route(facts.id);
    const wasTold = route?.alternate?.primary !== host || route.alternate.mustSeal === null;
    if (route && wasTold && isOwnedElsewhere(route, host, facts))
      return `it says that it owns volume ${facts.id}, which ${route.active.primary} owns`;
  }
  return null;
}

/** It says that it has a copy of what it owned under a later epoch: an operator who has readmitted it since may have lowered what was seen of it. */
async function whyNoCopyOf(
  { book }: Pick<AdmissionParts, 'book'>,
  { host, volumes }: Hello,
): Promise<string | null> {
  for (const { id, epoch } of volumes.filter(({ state }) => state === 'RECEIVING')) {
    const route = await book.route(id);
    if (route?.status !== 'open' || route.active.primary !== host) continue;
    if (epoch < route.active.epoch && !awaitsPromotion(route.active))
      return `it says that it has a copy of volume ${id} under epoch ${epoch}, which it owned under epoch ${route.active.epoch}`;
  }
  return null;
}

function recordOf(
  { host, cell, storeId, boot, nbd }: Hello,
  known: HostRecord | null,
  regressed: boolean,
): HostRecord {
  // Until it is readmitted the store and the boot of before are what it is held against.
  const before = regressed && known ? { storeId: known.storeId, boot: known.boot } : { storeId, boot };
  const returned = regressed && (known?.returned === true || known?.forgotten !== undefined);
  const draining = known?.draining ?? false;
  return { host, cell, ...before, nbd, regressed, draining, ...(returned ? { returned } : {}) };
}

/** What was seen of its volumes, and of those that have another owner by now, that owner's: more than it has, so it does not serve them. */
async function toldHighest(
  { book, highest }: Pick<AdmissionParts, 'book' | 'highest'>,
  { host, volumes }: Hello,
): Promise<{ id: string; epoch: number; seq: number }[]> {
  const marks = highest.of(host);
  return Promise.all(
    volumes.map(async (facts) => {
      const mark = marks.get(facts.id) ?? { epoch: facts.epoch, seq: facts.head?.seq ?? 0 };
      const route = ownsByItself(facts) ? await book.route(facts.id) : null;
      const newer = route && isOwnedElsewhere(route, host, facts) ? markOf(route, facts) : mark;
      return { id: facts.id, ...newer };
    }),
  );
}

const ownsByItself = ({ state }: VolumeFacts) => state === 'ACTIVE' || state === 'OUTGOING';

/** During a move both sides say what they are, and the table decides; what comes back after it has to be told. */
function isOwnedElsewhere(route: Route, host: string, { epoch }: VolumeFacts): boolean {
  if (route.active.primary === host) return false;
  if (!hostsOf(route).includes(host)) return epoch <= route.epoch;
  return epoch < route.epoch || (route.alternate?.primary === host && route.alternate.mustSeal !== null);
}

function markOf({ epoch, lineageHead }: Route, facts: VolumeFacts): { epoch: number; seq: number } {
  return { epoch: Math.max(epoch, facts.epoch + 1), seq: lineageHead?.seq ?? 0 };
}
