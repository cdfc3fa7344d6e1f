// Hooks of a sync: commands of the caller, run by the shell as the caller, with a time limit; never by the agent.
// Invariant: when this resolves or throws, the hook and what it started in its process group have ended.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { CommandError } from './command-error.js';

/** Between asking and ending. */
const GRACE_MS = 2000;

export interface HookLimit {
  timeoutMs: number;
  signal: AbortSignal;
  /** Given to the command as CELLBLOCK_TARGET: one hook serves many targets. */
  target: string;
}

/** Its output is the caller's. Throws `hook-failed` or `hook-timed-out`. */
export async function runHook(
  name: 'pre' | 'post',
  command: string,
  { timeoutMs, signal, target }: HookLimit,
): Promise<void> {
  const env = { ...process.env, CELLBLOCK_TARGET: target };
  const child = spawn('/bin/sh', ['-c', command], { detached: true, env, stdio: ['ignore', 2, 2] });
  const exit = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  let late = false;
  const stop = (): void => end(child.pid, exit);
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, timeoutMs);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [code, killed] = await exit;
    if (late)
      throw hookError(name, 'hook-timed-out', `did not end within ${timeoutMs / 1000} s and was ended`);
    if (code !== 0)
      throw hookError(
        name,
        'hook-failed',
        killed ? `was ended by ${killed}` : `ended with exit code ${code}`,
      );
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function end(pid: number | undefined, exit: Promise<unknown>): void {
  if (pid === undefined) return;
  signalGroup(pid, 'SIGTERM');
  const timer = setTimeout(() => signalGroup(pid, 'SIGKILL'), GRACE_MS);
  void exit.then(() => {
    clearTimeout(timer);
    // What it started may take no notice of the first signal.
    signalGroup(pid, 'SIGKILL');
  });
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended by itself.
  }
}

function hookError(name: string, code: string, what: string): CommandError {
  const todo =
    name === 'pre'
      ? 'Nothing was changed; mend the command, or leave it out.'
      : 'The sync itself was done; run what the command was to do by hand.';
  return new CommandError('refused', code, `The --${name} command ${what}.`, todo);
}
