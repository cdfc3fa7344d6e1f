// Random concurrent histories of the operations on a fake data plane: see test/support/concurrent-history.ts. A failure names the seed
// of its history; CELLBLOCK_SEED=that runs it again, alone; with CELLBLOCK_VERBOSE=1 all that happened in it is told.

import { Worker } from 'node:worker_threads';
import t from 'tap';
import type { Played, Work } from '../support/concurrent-worker.js';
import { byEffort } from '../support/effort.js';

/** For one history, on a machine that does much else. */
const HANG_MS = 300_000;
const MOST_FAILURES = 5;

const given = process.env.CELLBLOCK_SEED;
const first = given ? Number(given) : Math.floor(Math.random() * 2 ** 31);
const wanted = Number(process.env.CELLBLOCK_MODEL_RUNS ?? byEffort({ quick: 4, normal: 30, long: 5000 }));
const seeds = Array.from({ length: given ? 1 : wanted }, (_, index) => first + index);

t.setTimeout(24 * 3600_000);

/** Calls back with every history that was played, until it answers false. */
function play(work: Work, onPlayed: (played: Played) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('../support/concurrent-worker.js', import.meta.url), {
      workerData: work,
    });
    let next = 0;
    const guard = setTimeout(() => stop(new Error(`seed ${work.seeds[next]} hangs`)), HANG_MS);
    const stop = (error?: Error): void => {
      clearTimeout(guard);
      void worker.terminate();
      if (error) reject(error);
      else resolve();
    };
    worker.on('message', (played: Played) => {
      next++;
      guard.refresh();
      if (!onPlayed(played)) stop();
    });
    worker.on('error', (error) => stop(new Error(`seed ${work.seeds[next]}: ${error.stack}`)));
    worker.on('exit', () => stop(next < work.seeds.length ? new Error('the worker ended early') : undefined));
  });
}

t.test(`concurrent histories, seeds ${seeds[0]} to ${seeds[seeds.length - 1]}`, async (t) => {
  const failed: Played[] = [];
  const endings: Record<string, number> = {};
  await play({ seeds, lives: 6 }, (played) => {
    for (const [ending, count] of played.endings) endings[ending] = (endings[ending] ?? 0) + count;
    if (played.failure !== null) failed.push(played);
    return failed.length < MOST_FAILURES;
  });
  for (const { seed, failure, log } of failed) {
    if (process.env.CELLBLOCK_VERBOSE) for (const line of log) t.comment(line);
    t.fail(
      `run it again: CELLBLOCK_SEED=${seed} node dist/test/model/operations-concurrent.test.js\n${failure}`,
    );
  }
  t.comment(`syncs: ${JSON.stringify(endings)}`);
  t.equal(failed.length, 0, `${seeds.length} histories`);
});
