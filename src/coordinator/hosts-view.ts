// What is known of hosts: those that are connected, and those that were once.

import { CellblockError } from '../base/errors.js';
import type { Place, Route } from '../model/cell/route.js';
import type { Hello } from '../protocol/messages.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { HostRecord } from './store.js';
import type { Why } from './troubles.js';

export type HostsViewParts = Pick<Ports, 'hosts' | 'store' | 'settings'> & { book: RouteBook };

/** By name, without those that were given up. */
export async function allHosts({ store }: Pick<Ports, 'store'>): Promise<HostRecord[]> {
  const known = (await store.list('host')).filter(({ forgotten }) => forgotten === undefined);
  return known.sort((a, b) => (a.host < b.host ? -1 : 1));
}

export async function hostNamed({ store }: Pick<Ports, 'store'>, host: string): Promise<HostRecord> {
  const record = await store.get('host', host);
  if (record && record.forgotten === undefined) return record;
  throw hostNotFound(host, record ? `Host ${host} was forgotten.` : undefined);
}

export function hostNotFound(host: string, because = `No host ${host} has ever joined.`): CellblockError {
  return new CellblockError('host-not-found', because, {
    hint: 'Run `cellblock host list`.',
    facts: { host },
  });
}

/** Why the host is given nothing to copy; null: it is. What it had may be older than it was, and nothing at it is served before an operator has said so. */
export async function whyNoCopy({ store }: Pick<Ports, 'store'>, host: string): Promise<Why | null> {
  if (!(await store.get('host', host))?.regressed) return null;
  return {
    because: `Host ${host} has come back older than it was, and is held back.`,
    hint: `Look at \`cellblock host show ${host}\`, then readmit it with \`cellblock host readmit ${host}\`; it goes on by itself then.`,
  };
}

/** Nothing of a host is served that came back older than it was, whoever decides what of a volume, before an operator has said so of the host. */
export async function requireReadmitted({ store }: Pick<Ports, 'store'>, host: string): Promise<void> {
  if (!(await store.get('host', host))?.regressed) return;
  throw new CellblockError(
    'host-regressed',
    `Host ${host} has come back older than it was, and is held back.`,
    {
      hint: `Look at \`cellblock host show ${host}\`, and readmit it first: \`cellblock host readmit ${host}\`.`,
      facts: { host },
    },
  );
}

export function helloOf({ hosts }: Pick<Ports, 'hosts'>, host: string): Hello | null {
  return hosts.hosts.find((hello) => hello.host === host) ?? null;
}

/** A host that is connected. */
export function connected(parts: Pick<Ports, 'hosts' | 'settings'>, host: string): Hello {
  const hello = helloOf(parts, host);
  if (hello) return hello;
  throw new CellblockError('host-not-connected', `Host ${host} is not connected.`, {
    hint: 'Look whether its agent runs and reaches the coordinator, then try again.',
    facts: { host, retryAfterMs: parts.settings.retryAfterMs },
  });
}

/** The cells that were made, and those that hosts say they are in. */
export async function allCells({ store }: Pick<Ports, 'store'>): Promise<string[]> {
  const made = (await store.list('cell')).map(({ cell }) => cell);
  const inhabited = (await allHosts({ store })).map(({ cell }) => cell);
  return [...new Set([...made, ...inhabited])].sort();
}

export async function existingCell(parts: Pick<Ports, 'store'>, cell: string): Promise<void> {
  if ((await allCells(parts)).includes(cell)) return;
  throw new CellblockError('cell-not-found', `There is no cell ${cell}.`, {
    hint: 'Run `cellblock cell list`; a cell is made by `cellblock cell create`, or by its first host.',
    facts: { cell },
  });
}

/** How many volumes each host is the primary of. */
export async function countPrimaries(book: RouteBook): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for await (const { active, journal } of book.all()) {
    const host = journal?.direction === 'forward' ? journal.toHost : active.primary;
    counts.set(host, (counts.get(host) ?? 0) + 1);
  }
  return counts;
}

/** A place that has nothing of the volume yet. */
export function newPlace({ host, cell, storeId }: Pick<HostRecord, 'host' | 'cell' | 'storeId'>): Place {
  return { cell, epoch: 0, primary: host, storeId, replicas: [], mustSeal: null, needsRepair: false };
}

/** Of a volume that this host owns under its first epoch; nothing of it is stored yet. */
export function newRoute(
  { volume, name }: Pick<Route, 'volume' | 'name'>,
  host: Pick<HostRecord, 'host' | 'cell' | 'storeId'>,
): Route {
  return {
    volume,
    name,
    status: 'open',
    active: { ...newPlace(host), epoch: 1 },
    alternate: null,
    gen: 0,
    epoch: 1,
    lineageHead: null,
    journal: null,
  };
}

/** Where a copy of a volume may go: hosts of the cell that are connected, whole, and not to be emptied; those with the fewest volumes first. */
export async function hostsForCopy(
  parts: HostsViewParts,
  cell: string,
  counts: ReadonlyMap<string, number>,
  except: readonly string[],
): Promise<HostRecord[]> {
  const fitting = (await allHosts(parts)).filter(
    (each) =>
      each.cell === cell &&
      !each.draining &&
      !each.regressed &&
      !except.includes(each.host) &&
      parts.hosts.isConnected(each.host),
  );
  return fitting.sort((a, b) => (counts.get(a.host) ?? 0) - (counts.get(b.host) ?? 0));
}

export function noHostForCopy(cell: string, { name }: Pick<Route, 'name'>): CellblockError {
  return new CellblockError('no-host-for-copy', `No host of cell ${cell} can take volume ${name}.`, {
    hint: 'A host takes copies when it is connected, not draining and not regressed, and has no part of the volume yet.',
    facts: { cell, volume: name },
  });
}
