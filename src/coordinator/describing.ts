// What a host says there is of a volume, all of it.

import type { SnapshotFacts, VolumeDescription } from '../protocol/exchange.js';
import type { Ports } from './ports.js';
import { hostError } from './refusals.js';

/** Page by page; null: it does not answer. Throws what the host says is wrong. */
export async function describeWhole(
  { hosts, settings }: Pick<Ports, 'hosts' | 'settings'>,
  host: string,
  volume: string,
): Promise<VolumeDescription | null> {
  if (!hosts.isConnected(host)) return null;
  const snapshots: SnapshotFacts[] = [];
  for (;;) {
    const after = snapshots.at(-1)?.id ?? null;
    const asked = await hosts.describe(host, { volume, after }, settings.commandMs);
    if (asked.kind === 'silent') return null;
    if (asked.kind === 'failed') throw hostError(asked.code, `${host}: ${asked.message}`);
    const { description } = asked.reply;
    snapshots.push(...description.snapshots);
    if (!description.more || description.snapshots.length === 0) return { ...description, snapshots };
  }
}
