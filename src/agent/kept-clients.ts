// NBD clients and devices of the kernel whose sockets outlive the agent: at an orderly stop the service manager keeps the sockets and a sealed file that says what was
// negotiated on each; the next agent goes on with them. A socket that is in no such file is closed: its client connects again.
//
// Sockets are known by the kernel's number for them (SO_COOKIE), since a manager hands them back in any order.

import { closeSync, fstatSync, readSync } from 'node:fs';
import type { Logger } from 'pino';
import { asCellblockError } from '../base/errors.js';
import type { ServiceNotifications } from '../plane/addon.js';
import type { KeptClient } from '../plane/treaty.js';
import type { ServiceManager } from './service-manager.js';

/** Names under which the manager keeps them. */
export const SOCKET_NAME = 'kept-client';
export const FILE_NAME = 'kept-clients';

const FORMAT = 2;
const MAX_FILE_BYTES = 256 << 20;

export interface PassedClients {
  /** Descriptors, as the process got them. */
  files: readonly number[];
  sockets: readonly number[];
}

interface StoredClient extends Omit<KeptClient, 'descriptor' | 'input'> {
  cookie: string;
  /** base64 */
  input: string;
}

interface Stored {
  format: number;
  storeId: string;
  clients: StoredClient[];
}

interface Surroundings {
  manager: ServiceManager;
  native: ServiceNotifications;
  passed: PassedClients;
  log: Logger;
}

export class KeptClients {
  readonly #parts: Surroundings;
  #taken: readonly KeptClient[] | null = null;

  constructor(parts: Surroundings) {
    this.#parts = parts;
  }

  /** Leaves clients with the manager; they are this process's no longer. */
  keep(clients: readonly KeptClient[], storeId: string): void {
    if (clients.length === 0) return;
    const { manager, native, log } = this.#parts;
    const stored: Stored = { format: FORMAT, storeId, clients: clients.map((one) => this.#stored(one)) };
    const descriptors = clients.map(({ descriptor }) => descriptor);
    const file = native.sealedFile(FILE_NAME, Buffer.from(JSON.stringify(stored)));
    try {
      // The file first: sockets without it would be of no use.
      const kept = manager.keep(FILE_NAME, [file]) && manager.keep(SOCKET_NAME, descriptors);
      if (kept) log.info(counts(clients), 'clients wait for the next agent');
    } finally {
      for (const one of [file, ...descriptors]) closeSync(one);
    }
  }

  #stored({ descriptor, input, ...rest }: KeptClient): StoredClient {
    const cookie = String(this.#parts.native.socketCookie(descriptor));
    return { ...rest, cookie, input: Buffer.from(input).toString('base64') };
  }

  /** What an earlier agent of this store left, whose caller closes it or goes on with it; everything else is closed. Asked again: the same. */
  take(storeId: string): readonly KeptClient[] {
    this.#taken ??= this.#take(storeId);
    return this.#taken;
  }

  #take(storeId: string): KeptClient[] {
    const { manager, native, passed, log } = this.#parts;
    if (passed.files.length + passed.sockets.length === 0) return [];
    const known = new Map(
      passed.files.flatMap((file) => this.#read(file, storeId)).map((one) => [one.cookie, one]),
    );
    // First: what the manager keeps of a socket would keep it open when it is closed here; and were this process to die, the next one would
    // go on where the file says, and not where the client is by then.
    manager.forget(FILE_NAME);
    manager.forget(SOCKET_NAME);
    const clients: KeptClient[] = [];
    for (const descriptor of passed.sockets) {
      const client = known.get(String(native.socketCookie(descriptor)));
      if (client === undefined) {
        log.warn({ descriptor }, 'a socket of which nothing was kept is closed: its client connects again');
        closeSync(descriptor);
        continue;
      }
      const { cookie: _cookie, input, ...rest } = client;
      clients.push({ ...rest, descriptor, input: Buffer.from(input, 'base64') });
    }
    log.info(counts(clients), 'clients of the agent before are taken over');
    return clients;
  }

  #read(file: number, storeId: string): StoredClient[] {
    const { log } = this.#parts;
    try {
      const stored = readStored(file);
      if (stored.format === FORMAT && stored.storeId === storeId) return stored.clients;
      log.warn('clients that another store, or another version, has left are not taken over');
    } catch (error) {
      log.warn({ reason: asCellblockError(error).message }, 'what was kept of clients cannot be read');
    } finally {
      closeSync(file);
    }
    return [];
  }
}

function counts(clients: readonly KeptClient[]): { clients: number; kernelConnections: number } {
  const kernelConnections = clients.filter(({ kernel }) => kernel).length;
  return { clients: clients.length - kernelConnections, kernelConnections };
}

function readStored(file: number): Stored {
  const { size } = fstatSync(file);
  if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes`);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const got = readSync(file, bytes, at, size - at, at);
    if (got === 0) throw new Error('it is cut off');
    at += got;
  }
  return JSON.parse(bytes.toString()) as Stored;
}
