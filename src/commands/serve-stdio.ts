// cellblock serve-stdio: serves one export to whoever is at the other end of standard input and output, as inetd and
// nbd_connect_command() of libnbd want it. A socket is handed over to the agent, which serves it itself: no byte passes here. Two pipes
// are copied to and from a connection of the agent. Started with a listening socket (LISTEN_FDS, as what stands in `[ ]` of libnbd's programs
// is), it hands over every client that comes there, until the last of them has gone: libnbd does not end it when it fails.

import { fstatSync } from 'node:fs';
import { connect, createServer, Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import { takePassedSockets } from '../agent/socket-activation.js';
import { systemCode } from '../base/errors.js';
import { handoverMessage, handoverPath } from '../model/handover.js';
import { checkExportName } from '../model/names.js';
import { loadHandOver } from '../plane/addon.js';
import { CommandError, interrupted } from './command-error.js';
import type { ContextOf } from './context.js';

interface Wanted {
  /** The agent's socket for it. */
  path: string;
  name: string;
  signal: AbortSignal;
}

export function addServeStdioCommand(
  program: Command,
  contextOf: ContextOf,
  stdin: Readable & { isTTY?: boolean },
): void {
  program
    .command('serve-stdio')
    .description(
      'serve one export to an NBD client on standard input and output; nothing else is reachable there, and the empty name means it',
    )
    .argument('<name[@snap]>')
    .action(async (name: string, _options: object, command: Command) => {
      const { api, signal, streams } = contextOf(command);
      checkExportName(name);
      const listening = takePassedSockets(process.env, process.pid).nbd;
      if (listening.length === 0 && stdin.isTTY === true) throw terminal();
      const wanted = { path: handoverPath(api.socketPath), name, signal };
      signal.throwIfAborted();
      if (listening.length > 0) await Promise.all(listening.map((socket) => serveClientsOf(socket, wanted)));
      else if (isOneSocket(stdin, streams.stdout)) await handOver(wanted);
      else await copy(wanted, { stdin, stdout: streams.stdout });
    });
}

/** Standard input and output of the process, and both the same socket. */
function isOneSocket(stdin: Readable & { fd?: number }, stdout: object & { fd?: number }): boolean {
  if (stdin.fd !== 0 || stdout.fd !== 1) return false;
  const [input, output] = [fstatSync(0), fstatSync(1)];
  return input.isSocket() && output.isSocket() && input.ino === output.ino && input.dev === output.dev;
}

/** Resolves when the last client has gone. */
async function serveClientsOf(listening: number, { path, name, signal }: Wanted): Promise<void> {
  const { handOver } = loadHandOver();
  await new Promise<void>((resolve, reject) => {
    const open = new Set<Socket>();
    const server = createServer({ pauseOnConnect: true }, (client) => {
      try {
        const { fd } = (client as unknown as { _handle: { fd: number } })._handle;
        const agent = new Socket({ fd: handOver(path, name, fd), readable: true, writable: false });
        open.add(agent);
        agent
          .on('error', () => undefined)
          .once('close', () => open.delete(agent) && open.size === 0 && server.close(() => resolve()))
          .resume();
        client.destroy();
      } catch (error) {
        client.destroy();
        server.close();
        reject(unreachable(path, error));
      }
    });
    server.once('error', reject).listen({ fd: listening });
    signal.addEventListener(
      'abort',
      () => {
        for (const agent of open) agent.destroy();
        server.close(() => resolve());
      },
      { once: true },
    );
  });
}

/** Resolves when the agent has done with the client. */
async function handOver({ path, name, signal }: Wanted): Promise<void> {
  const { handOver, shutDown } = loadHandOver();
  let descriptor: number;
  try {
    descriptor = handOver(path, name, 0);
  } catch (error) {
    throw unreachable(path, error);
  }
  // Ended by hand: the agent goes on with a socket of its own as long as its other end is open.
  const end = () => shutDown(0);
  signal.addEventListener('abort', end, { once: true });
  const agent = new Socket({ fd: descriptor, readable: true, writable: false });
  await new Promise<void>((resolve) =>
    agent
      .once('close', () => resolve())
      .once('error', resolve)
      .resume(),
  );
  signal.removeEventListener('abort', end);
  if (signal.aborted) throw interrupted();
}

/**
 * An end of input is passed on, and the agent's answers still come; when it has answered everything it ends the connection. Each
 * direction waits for its reader.
 */
async function copy(
  { path, name, signal }: Wanted,
  { stdin, stdout }: { stdin: Readable; stdout: NodeJS.WritableStream },
): Promise<void> {
  const agent = connect({ path, allowHalfOpen: true });
  const end = () => agent.destroy();
  signal.addEventListener('abort', end, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      agent.once('error', (error) => reject(unreachable(path, error)));
      agent.once('connect', () => {
        agent.write(handoverMessage(name));
        stdin.once('error', reject).pipe(agent);
        agent.pipe(stdout, { end: false });
      });
      agent.once('end', resolve).once('close', () => resolve());
    });
  } catch (error) {
    // A client that is gone, or an agent that was killed: the connection is over either way.
    if (!signal.aborted && systemCode(error) !== 'ECONNRESET' && systemCode(error) !== 'EPIPE') throw error;
  } finally {
    signal.removeEventListener('abort', end);
    stdin.unpipe(agent);
    agent.destroy();
  }
  if (signal.aborted) throw interrupted();
}

function terminal(): CommandError {
  return new CommandError(
    'invalid',
    'stdio-terminal',
    'The standard input is a terminal, and no NBD client.',
    'Let a client start this command: nbdsh -c \'h.connect_command(["cellblock", "serve-stdio", "NAME"])\'.',
  );
}

function unreachable(path: string, error: unknown): unknown {
  const hint = 'Start cellblockd, or name the socket of its API with --api PATH or CELLBLOCK_API.';
  const refusal = (message: string) => new CommandError('unreachable', 'agent-unreachable', message, hint);
  switch (systemCode(error)) {
    case 'ENOENT':
      return refusal(`No agent: the socket ${path} does not exist.`);
    case 'ECONNREFUSED':
      return refusal(`No agent answers on ${path}, though the file is there.`);
    case 'EACCES':
    case 'EPERM':
      return new CommandError(
        'refused',
        'permission-denied',
        `Permission denied on ${path}.`,
        'Run as root or join the group that owns the socket (usually cellblock).',
      );
    default:
      return error;
  }
}
