// Opens an export of the agent: asks it where it listens and takes the first address that lets us in.

import type { Status } from '../agent/api-schema.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context } from './context.js';

export async function connectExport({ api, signal }: Context, exportName: string): Promise<NbdClient> {
  const { listeners } = await api.call<Status>({ method: 'GET', path: apiPath(['status']), signal });
  const failures: string[] = [];
  for (const address of [...listeners].sort(unixFirst)) {
    try {
      const client = await NbdClient.connect({ address, exportName });
      signal.addEventListener('abort', () => client.destroy(), { once: true });
      return client;
    } catch (error) {
      // A refusal of the export itself would be the same elsewhere.
      if (error instanceof Error && error.name === 'OptionRefused') throw error;
      failures.push((error as Error).message);
    }
  }
  signal.throwIfAborted();
  throw new CommandError(
    'unreachable',
    'nbd-unreachable',
    failures.length === 0 ? 'The agent serves no NBD address.' : `No way in: ${failures.join('; ')}.`,
    'Start cellblockd with --nbd unix:PATH, and check the mode of that socket.',
  );
}

function unixFirst(a: string, b: string): number {
  return Number(b.startsWith('unix:')) - Number(a.startsWith('unix:'));
}
