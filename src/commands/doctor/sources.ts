// Where facts come from: the agent, files of the kernel, programs of the system. The outside world of `cellblock doctor`, replaced in tests.

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { asCellblockError } from '../../base/errors.js';
import { loadHandOver } from '../../plane/addon.js';
import type { ApiClient } from '../api-client.js';

export interface Sources {
  api: ApiClient;
  signal: AbortSignal;
  /** Of this program. */
  version: string;
  roots: Roots;
  run: Run;
  /** Null: the native part can be loaded. */
  addonProblem(): string | null;
  user: { uid: number; name: string; groups: readonly number[] };
  nowMs(): number;
  /** What the command line says. */
  store: string | null;
  configuration: string | null;
}

export interface Roots {
  proc: string;
  sys: string;
  etc: string;
  run: string;
  /** Of kernels. */
  modules: string;
  /** Where the store is when nothing says otherwise. */
  store: string;
}

const ROOTS: Roots = {
  proc: '/proc',
  sys: '/sys',
  etc: '/etc',
  run: '/run',
  modules: '/lib/modules',
  store: '/var/lib/cellblock',
};

export interface Ran {
  code: number;
  stdout: string;
}

/** Null: there is no such program, or it does not come to an end. */
export type Run = (command: string, args: readonly string[]) => Promise<Ran | null>;

const PATIENCE_MS = 20_000;
/** A day of a talkative agent. */
const OUTPUT_BYTES = 256 << 20;

export const runProgram: Run = (command, args) =>
  new Promise((resolve) => {
    const options = {
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
      maxBuffer: OUTPUT_BYTES,
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
    } as const;
    execFile(command, [...args], options, (error, stdout) => {
      const code = error === null ? 0 : error.code;
      resolve(typeof code === 'number' ? { code, stdout } : null);
    });
  });

export function systemSources(options: {
  api: ApiClient;
  signal: AbortSignal;
  version: string;
  store?: string | undefined;
  configuration?: string | undefined;
}): Sources {
  const { api, signal, version, store = null, configuration = null } = options;
  return {
    api,
    signal,
    version,
    store,
    configuration,
    roots: ROOTS,
    run: runProgram,
    addonProblem,
    user: caller(),
    nowMs: Date.now,
  };
}

function caller(): Sources['user'] {
  const uid = process.getuid?.() ?? 0;
  const groups = [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])];
  try {
    return { uid, name: userInfo().username, groups };
  } catch {
    // A user that stands in no list, as in a container.
    return { uid, name: String(uid), groups };
  }
}

function addonProblem(): string | null {
  try {
    loadHandOver();
    return null;
  } catch (error) {
    return asCellblockError(error).message;
  }
}

/** Null: it is not there, or may not be read. */
export async function textOf(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}
