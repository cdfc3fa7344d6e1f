// What programs have of Node that depends on the machine: timers, time, chance, files of a store. While a simulation runs it is the scheduler's and
// the seed's. The programs themselves are as they are in production.
//
// Invariant: nothing that runs in a simulation waits for anything but the scheduler; else its order would be another one in every run.

import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';

import type { Scheduler } from './scheduler.js';

/** Directories of simulated stores begin so: nothing is there, and whatever is made there is gone. */
export const SIMULATED = '/simulated/';

/** Time of day at the begin of every run. */
const EPOCH_MS = Date.UTC(2030, 0, 1);

/** A turn of the event loop: whoever asks again and again lets time pass. */
const TURN_MS = 0.01;

type Restore = () => void;

function replace<T extends object, K extends keyof T>(object: T, key: K, value: unknown): Restore {
  const before = Object.getOwnPropertyDescriptor(object, key);
  Object.defineProperty(object, key, { value, configurable: true, writable: true, enumerable: true });
  return () => {
    if (before) Object.defineProperty(object, key, before);
    else delete object[key];
  };
}

/** From now on until what it returns is called. */
export function install(scheduler: Scheduler, random: () => number): () => void {
  const restores = [
    ...replaceTimers(scheduler),
    ...replaceTime(scheduler),
    replace(Math, 'random', random),
    replace(crypto, 'randomBytes', (bytes: number) =>
      Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256))),
    ),
    ...replaceFiles(),
  ];
  syncBuiltinESMExports();
  return () => {
    for (const restore of restores.reverse()) restore();
    syncBuiltinESMExports();
  };
}

class Timer {
  readonly cancel: () => void;
  constructor(cancel: () => void) {
    this.cancel = cancel;
  }
  ref = (): this => this;
  unref = (): this => this;
  hasRef = (): boolean => true;
}

function replaceTimers(scheduler: Scheduler): Restore[] {
  type Callback = (...given: unknown[]) => void;
  const clear = (timer: unknown): void => {
    if (timer instanceof Timer) timer.cancel();
  };
  return [
    replace(
      globalThis,
      'setTimeout',
      (callback: Callback, milliseconds = 0, ...given: unknown[]) =>
        new Timer(scheduler.after(milliseconds, () => callback(...given))),
    ),
    replace(
      globalThis,
      'setInterval',
      (callback: Callback, milliseconds = 0, ...given: unknown[]) =>
        new Timer(scheduler.every(Math.max(1, milliseconds), () => callback(...given))),
    ),
    replace(
      globalThis,
      'setImmediate',
      (callback: Callback, ...given: unknown[]) =>
        new Timer(scheduler.after(TURN_MS, () => callback(...given))),
    ),
    replace(globalThis, 'clearTimeout', clear),
    replace(globalThis, 'clearInterval', clear),
    replace(globalThis, 'clearImmediate', clear),
    replace(
      timers,
      'setTimeout',
      (milliseconds = 0, value?: unknown, { signal }: { signal?: AbortSignal } = {}) =>
        new Promise((resolve, reject) => {
          const cancel = scheduler.after(milliseconds, () => resolve(value));
          signal?.addEventListener('abort', () => {
            cancel();
            reject(signal.reason);
          });
        }),
    ),
    replace(timers, 'setImmediate', async (value?: unknown) => {
      await scheduler.sleep(TURN_MS);
      return value;
    }),
  ];
}

function replaceTime(scheduler: Scheduler): Restore[] {
  const Real = globalThis.Date;
  const now = (): number => EPOCH_MS + Math.floor(scheduler.nowMs);
  class SimulatedDate extends Real {
    constructor(...given: unknown[]) {
      if (given.length === 0) super(now());
      else super(...(given as [number]));
    }
    static override now = now;
  }
  return [
    replace(globalThis, 'Date', SimulatedDate),
    replace(performance, 'now', () => 1_000 + scheduler.nowMs),
  ];
}

function replaceFiles(): Restore[] {
  const nothing = async (path: unknown): Promise<never> => {
    throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
  };
  const done = async (): Promise<undefined> => undefined;
  const space = 1n << 40n;
  const simulated = {
    access: done,
    mkdir: done,
    readdir: async () => [],
    readFile: nothing,
    writeFile: done,
    stat: nothing,
    rm: done,
    unlink: done,
    open: async () => ({ close: done, write: done, datasync: done }),
    statfs: async (_path: string, options?: { bigint?: boolean }) =>
      options?.bigint ? { bavail: space, bsize: 1n } : { bavail: Number(space), bsize: 1 },
  };
  return Object.entries(simulated).map(([name, simulate]) => {
    const real = fs[name as 'stat'] as unknown as (...given: unknown[]) => unknown;
    return replace(fs, name as 'stat', (...given: unknown[]) =>
      // The directory above the stores too: whatever the real one answers comes when the machine has time for it.
      `${given[0]}/`.startsWith(SIMULATED)
        ? (simulate as (...given: unknown[]) => unknown)(...given)
        : real(...given),
    );
  });
}
