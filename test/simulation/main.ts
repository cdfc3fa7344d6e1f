// The simulation as a command.
//
//   npm run simulate -- [--seeds N] [--first S] [--jobs J]     N runs, from seed S on, in J processes
//   npm run simulate -- --seed S [--verbose] [--shrink]        one run; its trace; the shortest plan that still fails
//
// Prints what was come by; the exit code is 0 only if no run failed. A failing one is told with its seed.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { planOfSeed, planText, type RunResult, runSeed } from './run.js';
import { shrunk } from './shrink.js';
import { Statistics } from './statistics.js';

const TRACE_LINES = 150;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    first: { type: 'string', default: '1' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    verbose: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
    part: { type: 'string' },
  },
});

/** What a process of several tells of its runs. */
interface Told {
  failures: { seed: number; failure: string }[];
  counts: [string, number][];
  runs: number;
  simulatedMs: number;
  events: number;
  longestRestMs: number;
}

async function one(seed: number): Promise<number> {
  const result = await runSeed(seed, { verbose: values.verbose });
  for (const line of planText(planOfSeed(seed))) console.log(`plan  ${line}`);
  if (!values.verbose && result.failure)
    for (const line of result.trace.slice(-TRACE_LINES)) console.log(line);
  if (result.failure && values.shrink) await tellShrunk(seed, result.failure);
  console.log(`seed ${seed}: ${result.failure ?? 'passed'}`);
  return result.failure ? 1 : 0;
}

async function tellShrunk(seed: number, failure: string): Promise<void> {
  const { plan, result } = await shrunk(seed, failure);
  for (const line of result.trace.slice(-TRACE_LINES)) console.log(line);
  for (const line of planText(plan)) console.log(`shortest plan  ${line}`);
  console.log(`with that: ${result.failure}`);
}

async function some(first: number, seeds: number, step: number): Promise<Told> {
  const statistics = new Statistics();
  const told: Told = { failures: [], counts: [], runs: 0, simulatedMs: 0, events: 0, longestRestMs: 0 };
  for (let seed = first; seed < first + seeds; seed += step) {
    const result: RunResult = await runSeed(seed);
    told.runs++;
    told.simulatedMs += result.simulatedMs;
    told.events += result.events;
    told.longestRestMs = Math.max(told.longestRestMs, result.restMs);
    statistics.add(result.statistics.counts);
    if (result.failure === null) continue;
    told.failures.push({ seed, failure: result.failure });
    console.log(`seed ${seed}: ${result.failure}\n  again: npm run simulate -- --seed ${seed} --verbose`);
  }
  told.counts = [...statistics.counts];
  return told;
}

async function all(): Promise<number> {
  const [first, seeds, jobs] = [Number(values.first), Number(values.seeds), Number(values.jobs)];
  const began = performance.now();
  const parts =
    jobs === 1
      ? [await some(first, seeds, 1)]
      : await Promise.all(Array.from({ length: jobs }, (_, job) => part(first + job, seeds - job, jobs)));
  const statistics = new Statistics();
  for (const { counts } of parts) statistics.add(counts);
  const sum = (of: (told: Told) => number) => parts.reduce((total, told) => total + of(told), 0);
  if (!values.quiet) for (const line of statistics.lines()) console.log(line);
  const failures = parts.flatMap((told) => told.failures);
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `${sum(({ runs }) => runs)} runs, ${failures.length} failed: ${failures.map(({ seed }) => seed)}; ` +
      `${Math.round(sum(({ simulatedMs }) => simulatedMs) / 3_600_000)} simulated hours, ${sum(({ events }) => events)} events in ${seconds.toFixed(0)} s; ` +
      `at rest after ${Math.max(...parts.map(({ longestRestMs }) => longestRestMs)) / 1000} simulated s at the latest`,
  );
  return failures.length > 0 ? 1 : 0;
}

/** In a process of its own. */
function part(first: number, seeds: number, step: number): Promise<Told> {
  const child = fork(fileURLToPath(import.meta.url), ['--part', `${first},${seeds},${step}`]);
  return new Promise((resolve, reject) => {
    child.once('message', (told) => resolve(told as Told));
    child.once('exit', (code) => reject(new Error(`a part ended with ${code}`)));
  });
}

if (values.part !== undefined) {
  const [first, seeds, step] = values.part.split(',').map(Number) as [number, number, number];
  process.send!(await some(first, seeds, step));
  process.disconnect();
} else process.exitCode = values.seed === undefined ? await all() : await one(Number(values.seed));
