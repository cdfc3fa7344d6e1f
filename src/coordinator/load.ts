// How busy volumes are: what was written to each between two looks at the hosts of a cell.

import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { Term } from './term.js';

export interface Rate {
  /** By name. */
  volume: string;
  bytesPerSecond: number;
}

type LoadParts = Pick<Ports, 'hosts' | 'clock' | 'settings'> & { book: RouteBook; term: Term };

/** Of the volumes whose primary is in the cell and not on the move; the busiest first. Who does not answer counts as idle. */
export async function measureLoad(parts: LoadParts, cell: string): Promise<Rate[]> {
  const { book, term, settings, clock } = parts;
  const settled: { name: string; volume: string; host: string }[] = [];
  for await (const { name, volume, active, journal } of book.all())
    if (active.cell === cell && journal === null) settled.push({ name, volume, host: active.primary });
  const hosts = [...new Set(settled.map(({ host }) => host))];
  const before = await writtenAt(parts, hosts);
  const beganMs = clock.now().uptimeMs;
  await term.sleep(settings.loadMs);
  const after = await writtenAt(parts, hosts);
  const seconds = Math.max(1, clock.now().uptimeMs - beganMs) / 1_000;
  return settled
    .map(({ name, volume, host }): Rate => {
      const written = (after.get(`${host}/${volume}`) ?? 0n) - (before.get(`${host}/${volume}`) ?? 0n);
      // A host that was started in between counts from nothing again.
      return { volume: name, bytesPerSecond: Math.max(0, Math.round(Number(written) / seconds)) };
    })
    .sort((a, b) => b.bytesPerSecond - a.bytesPerSecond);
}

/** As many of the busiest as bring half of all that is written; none, where nothing is. */
export function busiest(rates: readonly Rate[]): Rate[] {
  const total = rates.reduce((sum, { bytesPerSecond }) => sum + bytesPerSecond, 0);
  const chosen: Rate[] = [];
  let sum = 0;
  for (const rate of rates) {
    // One that alone is more than half would only carry the load elsewhere, unless it is the only way.
    if (rate.bytesPerSecond === 0 || sum * 2 >= total) break;
    chosen.push(rate);
    sum += rate.bytesPerSecond;
  }
  return chosen;
}

async function writtenAt(
  { hosts, settings }: LoadParts,
  names: readonly string[],
): Promise<Map<string, bigint>> {
  const written = new Map<string, bigint>();
  await Promise.all(
    names.map(async (host) => {
      if (!hosts.isConnected(host)) return;
      const asked = await hosts.load(host, settings.probeMs);
      if (asked.kind !== 'done') return;
      for (const { id, writtenBytes } of asked.reply.volumes)
        written.set(`${host}/${id}`, BigInt(writtenBytes));
    }),
  );
  return written;
}
