// Looks whether every address an agent is to listen on is free, before it makes or serves anything. Changes nothing.

import { createServer } from 'node:net';
import { listenError } from '../operations/listen-error.js';
import { parseTcp, type Settings } from './settings.js';
import { requireFreePath } from './unix-socket.js';

/** Throws `address-in-use`, `address-invalid`, `permission-denied`. */
export async function requireFreeAddresses({ api, nbd, metrics }: Settings): Promise<void> {
  if (api.descriptor === null) await requireFreePath(api.path);
  for (const { address } of nbd.listeners) await requireFree(address);
  if (metrics.address !== undefined) await requireFree(metrics.address);
}

async function requireFree(address: string): Promise<void> {
  if (address.startsWith('unix:')) await requireFreePath(address.slice('unix:'.length));
  else await bindAndLeave(address);
}

function bindAndLeave(address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => reject(listenError(address, error)));
    server.listen(parseTcp(address), () => server.close(() => resolve()));
  });
}
