// Puts a server on a unix socket with the right mode from its first moment on. A socket file that is already there is replaced only
// when nobody answers on it.

import { chownSync, existsSync, lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { checkSocketPath, listenError } from '../operations/listen-error.js';

export interface UnixSocketOptions {
  path: string;
  mode: number;
  /** Ignored where there is no such group. */
  group: string | undefined;
}

/** Returns what could not be done but does no harm, as a sentence; throws CellblockError. */
export async function listenOnUnixSocket(
  server: Server,
  options: UnixSocketOptions,
): Promise<string | undefined> {
  const { path } = options;
  const there = await requireFreePath(path);
  if (there === 'stale') unlinkSync(path);
  await bind(server, options);
  return options.group === undefined ? undefined : giveToGroup(path, options.group);
}

/** A socket that is listened on already. */
export function listenOnDescriptor(server: Server, descriptor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(`descriptor ${descriptor}`, error)));
    server.listen({ fd: descriptor }, resolve);
  });
}

/** Looks, and changes nothing. Throws when nobody can listen there; 'stale': a socket nobody answers on is in the way. */
export async function requireFreePath(path: string): Promise<'free' | 'stale'> {
  checkSocketPath(path);
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return 'free';
  const address = `unix:${path}`;
  if (!there.isSocket())
    throw listenError(address, Object.assign(new Error('no socket'), { code: 'EEXIST' }));
  if (await answers(path))
    throw listenError(address, Object.assign(new Error('answered'), { code: 'EADDRINUSE' }));
  return 'stale';
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
      // libuv says EACCES for a directory that is not there.
      reject(listenError(`unix:${path}`, existsSync(dirname(path)) ? error : new Error('no such directory'))),
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

/** Returns what could not be done, as a sentence. */
export function giveToGroup(path: string, group: string): string | undefined {
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
