// Clock and timers of whoever drives the machines, so that a test can be the one who lets time pass.

import type { Clocks } from './clock-watch.js';

export interface Clock {
  now(): Clocks;
  /** Returns what ends it. */
  every(milliseconds: number, callback: () => void): () => void;
  after(milliseconds: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => ({ clockMs: Date.now(), uptimeMs: performance.now() }),
  every(milliseconds, callback) {
    const timer = setInterval(callback, milliseconds);
    return () => clearInterval(timer);
  },
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
};
