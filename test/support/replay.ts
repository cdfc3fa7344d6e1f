// Seeds of random tests: printed always, and taken from the environment to run one case again.
//
//   CELLBLOCK_SEED=123 CELLBLOCK_PATH=0:1:0 node dist/test/model/nbd-model.test.js
import type { Parameters, RunDetails } from 'fast-check';
import { byEffort, type Effort } from './effort.js';

const given = process.env.CELLBLOCK_SEED;
export const seed: number = given ? Number(given) | 0 : (Math.random() * 2 ** 32) | 0;

function tell<T>(details: RunDetails<T>): void {
  if (!details.failed) return;
  const script = process.argv[1]?.replace(`${process.cwd()}/`, '') ?? '';
  const path = details.counterexamplePath ? ` CELLBLOCK_PATH=${details.counterexamplePath}` : '';
  const cause = details.errorInstance instanceof Error ? (details.errorInstance.stack ?? '') : '';
  throw new Error(
    [
      `failed after ${details.numRuns} runs; run it again: CELLBLOCK_SEED=${details.seed}${path} node ${script}`,
      `smallest failing input: ${JSON.stringify(details.counterexample, showBigInts)}`,
      cause,
    ].join('\n'),
  );
}

function showBigInts(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}

/** Parameters of fast-check: so many runs, and a report that says how to run a failure again. */
export function replay<T>(runs: Record<Effort, number>, more: Parameters<T> = {}): Parameters<T> {
  const path = process.env.CELLBLOCK_PATH;
  console.log(`# CELLBLOCK_SEED=${seed}`);
  return { ...more, seed, numRuns: byEffort(runs), ...(path ? { path } : {}), reporter: tell as never };
}
