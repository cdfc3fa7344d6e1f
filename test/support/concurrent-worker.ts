// Plays concurrent histories on a thread of its own: there tap does not watch every promise, and timers can be those of a TurnClock.

import { parentPort, workerData } from 'node:worker_threads';
import { playConcurrently } from './concurrent-history.js';

export interface Work {
  seeds: number[];
  lives: number;
}

/** What became of one history. */
export interface Played {
  seed: number;
  failure: string | null;
  /** All that happened, when it failed. */
  log: string[];
  /** How often syncs ended in which way. */
  endings: Map<string, number>;
}

const { seeds, lives } = workerData as Work;

async function play(seed: number): Promise<Played> {
  const log: string[] = [];
  try {
    const endings = await playConcurrently({ seed, lives, log: (line) => log.push(line) });
    return { seed, failure: null, log: [], endings };
  } catch (error) {
    return { seed, failure: error instanceof Error ? error.message : String(error), log, endings: new Map() };
  }
}

for (const seed of seeds) parentPort!.postMessage(await play(seed));
