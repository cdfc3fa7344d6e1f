// Asks both cells of a route what they know of its volume, at the same time and within a bound.
//
// Invariant: who is not connected, is silent or speaks for another store has said nothing. Replicas are asked only where the primary has not
// said what counts: a slow one keeps nobody waiting.

import { answerOf, type CellAnswer, type HostAnswer, NO_RECORD } from '../model/cell/answer.js';
import type { HostCommand } from '../model/cell/host-record.js';
import type { Place, Route } from '../model/cell/route.js';
import type { Ports } from './ports.js';
import { hostError, hostSilent } from './refusals.js';

export type Asking = Pick<Ports, 'hosts' | 'settings'>;

export async function askBoth(
  ports: Asking,
  route: Route,
  seqs: number[],
): Promise<[x: CellAnswer, y: CellAnswer]> {
  const { volume, active, alternate } = route;
  return Promise.all([
    askPlace(ports, active, { volume, seqs }),
    alternate ? askPlace(ports, alternate, { volume, seqs }) : NO_RECORD,
  ]);
}

async function askPlace(
  ports: Asking,
  place: Place,
  ask: { volume: string; seqs: number[] },
): Promise<CellAnswer> {
  const primary = await askHost(ports, place.primary, ask);
  if (primary?.cell === place.cell && primary.storeId === place.storeId) return answerOf(place, [primary]);
  const replicas = await Promise.all(place.replicas.map((host) => askHost(ports, host, ask)));
  return answerOf(
    place,
    [primary, ...replicas].filter((answer): answer is HostAnswer => answer !== null),
  );
}

/** Null: it is not connected, or has not answered in time. */
export async function askHost(
  { hosts, settings }: Asking,
  host: string,
  ask: { volume: string; seqs: number[] },
): Promise<HostAnswer | null> {
  return hosts.isConnected(host) ? hosts.probe(host, ask, settings.probeMs) : null;
}

/** Throws `host-not-connected` when it is silent, and otherwise under the code of whatever the host says instead of doing it. */
export async function orderHost(
  { hosts, settings }: Asking,
  host: string,
  asked: { volume: string; command: HostCommand },
): Promise<void> {
  if (!hosts.isConnected(host)) throw hostSilent(host, settings);
  const outcome = await hosts.command(host, asked, settings.commandMs);
  if (outcome.kind === 'silent') throw hostSilent(host, settings);
  if (outcome.kind === 'failed') throw hostError(outcome.code, `${host}: ${outcome.message}`);
  if (outcome.kind === 'refused') throw hostError(outcome.refusal, `${host} refuses: ${outcome.because}`);
}
