// Hosts that hold a part of a volume and that its route does not name: what a coordinator does not know of whose state came from a backup. They are
// told to people; only an operator's word makes one of them a part of the route.
//
// Invariant: who is taken for the owner owns the volume under a higher epoch than anybody of the route ever had or has released it to, and has
// every snapshot that the route and its hosts know.

import { CellblockError } from '../base/errors.js';
import { type CellAnswer, type HostAnswer, precedes } from '../model/cell/answer.js';
import type { Head, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import { askHost } from './asking.js';
import type { Ports } from './ports.js';
import type { Elsewhere } from './results.js';
import { hostsOf } from './route-book.js';

type Asking = Pick<Ports, 'hosts' | 'settings'>;

/** Of the hosts that have said in their hello to know the volume. */
export async function heldElsewhere(parts: Asking, route: Route): Promise<Elsewhere[]> {
  const named = hostsOf(route);
  const hosts = parts.hosts.holdersOf(route.volume).filter((host) => !named.includes(host));
  const answers = await askAll(parts, hosts, { volume: route.volume, seqs: [] });
  return answers
    .filter(({ state }) => state !== 'NONE')
    .map(({ host, cell, state, epoch, lineageHead, replica }) => ({
      host,
      cell,
      state,
      epoch,
      seq: lineageHead?.seq ?? 0,
      isReplica: replica !== null,
    }));
}

/** Whoever owns it without its route knowing, of all hosts that are there; the highest epoch first. */
export async function ownersElsewhere(parts: Asking, route: Route): Promise<HostAnswer[]> {
  const named = hostsOf(route);
  const hosts = parts.hosts.hosts.map(({ host }) => host).filter((host) => !named.includes(host));
  const seqs = route.lineageHead ? [route.lineageHead.seq] : [];
  const answers = await askAll(parts, hosts, { volume: route.volume, seqs });
  return answers
    .filter(({ state, replica }) => owns(state) && replica === null)
    .sort((a, b) => b.epoch - a.epoch);
}

async function askAll(
  parts: Asking,
  hosts: readonly string[],
  ask: { volume: string; seqs: number[] },
): Promise<HostAnswer[]> {
  const answers = await Promise.all(hosts.map((host) => askHost(parts, host, ask)));
  return answers.filter((answer) => answer !== null);
}

/** Throws why it cannot be told that this one is the owner: `owner-unproven`. `others`: who says so besides. */
export function requireTrueOwner(
  { route, x, y }: { route: Route; x: CellAnswer; y: CellAnswer },
  owner: HostAnswer,
  others: readonly HostAnswer[],
): void {
  const because = whyNotTrue({ route, x, y }, owner, others);
  if (because !== null)
    throw new CellblockError(
      'owner-unproven',
      `Host ${owner.host} owns volume ${route.name} under epoch ${owner.epoch}, but ${because}.`,
      {
        hint: `Look at \`cellblock route show ${route.name} --explain\`; nothing was changed.`,
        facts: { volume: route.name, host: owner.host },
      },
    );
}

function whyNotTrue(
  { route, x, y }: { route: Route; x: CellAnswer; y: CellAnswer },
  owner: HostAnswer,
  others: readonly HostAnswer[],
): string | null {
  const rival = others.find(({ host, epoch }) => host !== owner.host && epoch >= owner.epoch);
  if (rival) return `host ${rival.host} owns it under epoch ${rival.epoch}`;
  const places = [
    { place: route.active, answer: x },
    ...(route.alternate ? [{ place: route.alternate, answer: y }] : []),
  ];
  if (owner.epoch <= route.epoch) return `its route has epoch ${route.epoch}`;
  for (const { place, answer } of places) {
    const { epoch, released, tombstone } = answer;
    if (epoch >= owner.epoch) return `host ${place.primary} has it under epoch ${epoch}`;
    if ((released ?? 0) > owner.epoch)
      return `host ${place.primary} has released it to epoch ${released}: somebody newer owns it`;
    if (tombstone && (tombstone.why === 'delete' || tombstone.epoch > owner.epoch))
      return `host ${place.primary} says it was ${tombstone.why === 'delete' ? 'deleted' : 'purged'} under epoch ${tombstone.epoch}`;
  }
  for (const head of [route.lineageHead, x.lineageHead, y.lineageHead])
    if (lacks(owner, head)) return `it is without snapshot ${head!.seq}, which was taken`;
  return null;
}

/** Of a snapshot that was deleted before the owner got the volume it has no id: then only its number speaks. */
function lacks(owner: HostAnswer, head: Head | null): boolean {
  const has = precedes(head, owner);
  return has === null ? head!.seq > (owner.lineageHead?.seq ?? 0) : !has;
}
