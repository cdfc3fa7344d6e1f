// What a daemon holds: memory, sockets, connections.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Daemon } from '../support/daemon.js';
import { until } from '../support/waiting.js';

/** Resident bytes, shared file pages not counted. */
export function anonymousBytes({ pid }: { pid: number }): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+) kB/m);
  return Number(line?.[1] ?? 0) * 1024;
}

function linkOf(pid: number, descriptor: string): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${descriptor}`);
  } catch {
    return ''; // closed meanwhile
  }
}

/** Open sockets. Files are not counted: the store opens and closes them as it likes. */
export const sockets = ({ pid }: { pid: number }): number =>
  readdirSync(`/proc/${pid}/fd`).filter((one) => linkOf(pid, one).startsWith('socket:')).length;

export async function connections({ api }: Daemon): Promise<number> {
  const text = String(await api.call('GET', '/metrics'));
  return Number(/^cellblock_connections (\d+)$/m.exec(text)?.[1]);
}

/** Resolves when nobody is connected any more but the `expected`: the kernel tells the server in its own time. */
export async function settled(daemon: Daemon, expected: number): Promise<void> {
  await until(`${expected} connections`, async () => (await connections(daemon)) === expected);
}

/** Resolves when no more sockets are open than `most`; those of the API's own connections go a moment later. */
export async function released(daemon: Daemon, most: number): Promise<void> {
  await until(`at most ${most} sockets`, () => sockets(daemon) <= most);
}
