// A server started for one case, in a process group of its own so that it can be ended whatever it is doing.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../test/support/nbd-wire.js';
import { listening, run } from '../processes.js';

export const SIZE = 256 * MIB;
export const FILLED = Buffer.alloc(4 * MIB, 0x11);

export interface Started {
  isAlive(): boolean;
  /** The case is over. */
  leave(): Promise<void>;
  /** Ends it with all its processes, whatever it is doing. */
  kill(): Promise<void>;
}

export function together(all: readonly Started[]): Started {
  return {
    isAlive: () => all.every((one) => one.isAlive()),
    leave: async () => void (await Promise.all(all.map((one) => one.leave()))),
    kill: async () => void (await Promise.all(all.map((one) => one.kill()))),
  };
}

/** A sparse file whose first megabytes hold data. */
export async function image(file: string): Promise<string> {
  const handle = await open(file, 'w');
  await handle.truncate(SIZE);
  await handle.write(FILLED, 0, FILLED.length, 0);
  await handle.close();
  return file;
}

const isGone = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** A server in the foreground, in a process group of its own. */
export async function foreground(socket: string, command: readonly string[]): Promise<Started> {
  const [program, ...args] = command as [string, ...string[]];
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  await Promise.race([listening(socket, null), failed]);
  const kill = async (): Promise<void> => {
    if (isGone(child)) return;
    const exited = once(child, 'exit');
    process.kill(-(child.pid as number), 'SIGKILL');
    await exited;
  };
  return { isAlive: () => !isGone(child), leave: kill, kill };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** nbd-server, which becomes a daemon whatever it is told, with a process for each connection: found by its pid file, ended as a group. */
export async function nbdServerWith(
  directory: string,
  name: string,
  lines: readonly string[],
): Promise<Started> {
  const [config, pidFile] = [join(directory, `${name}.config`), join(directory, `${name}.pid`)];
  await writeFile(config, `${lines.join('\n')}\n`);
  await run('nbd-server', ['-C', config, '-p', pidFile]);
  await listening(join(directory, name), null);
  const pid = Number(await readFile(pidFile, 'utf8'));
  const kill = async (): Promise<void> => {
    if (!exists(pid)) return;
    process.kill(-pid, 'SIGKILL');
    while (exists(pid)) await sleep(5);
  };
  return { isAlive: () => exists(pid), leave: kill, kill };
}
