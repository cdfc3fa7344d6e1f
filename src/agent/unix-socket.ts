// Puts a server on a unix socket with the right mode from its first moment on. A socket file that is already there is replaced only
// when nobody answers on it.

import { chownSync, lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { CellblockError } from '../base/errors.js';

export interface UnixSocketOptions {
  path: string;
  mode: number;
  /** Ignored where there is no such group. */
  group: string | undefined;
}

/** sockaddr_un holds this many bytes and a final NUL. */
const MAX_PATH_BYTES = 107;

/** Returns what could not be done but does no harm, as a sentence; throws CellblockError. */
export async function listenOnUnixSocket(
  server: Server,
  options: UnixSocketOptions,
): Promise<string | undefined> {
  const { path } = options;
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new CellblockError(
      'address-invalid',
      `The socket path ${path} has ${Buffer.byteLength(path)} bytes; ${MAX_PATH_BYTES} are allowed.`,
      {
        hint: 'Choose a shorter path.',
      },
    );
  }
  await removeStale(path);
  await bind(server, options);
  return options.group === undefined ? undefined : giveToGroup(path, options.group);
}

async function removeStale(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new CellblockError('address-in-use', `${path} is there and is no socket.`, {
      hint: 'Move it away or choose another path.',
    });
  }
  if (await answers(path)) {
    throw new CellblockError('address-in-use', `Another process answers on ${path}.`, {
      hint: 'Stop it or choose another path.',
    });
  }
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Refused or gone: nobody is there. Anything else (not permitted, backlog full): leave it alone.
    socket.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
}

function bind(server: Server, { path, mode }: UnixSocketOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new CellblockError('listen-failed', `Cannot listen on ${path}: ${error.code ?? error.message}.`, {
          hint: 'Check that the directory exists and that this user may write to it.',
          cause: error,
        }),
      ),
    );
    // listen() binds before it returns, so nobody sees the socket with a wider mode.
    const before = process.umask(0o777 & ~mode);
    try {
      server.listen({ path }, resolve);
    } finally {
      process.umask(before);
    }
  });
}

function giveToGroup(path: string, group: string): string | undefined {
  const id = groupId(group);
  if (id === undefined) return undefined;
  try {
    chownSync(path, -1, id);
    return undefined;
  } catch {
    return `the socket ${path} could not be given to the group ${group}`;
  }
}

function groupId(group: string): number | undefined {
  try {
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${group}:`));
    const id = Number(line?.split(':')[2]);
    return line === undefined || !Number.isInteger(id) ? undefined : id;
  } catch {
    return undefined;
  }
}
