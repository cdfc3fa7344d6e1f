// Some runs of the simulation (docs/simulation.md); the same seed is the same run; and each broken rule is found out.
//
//   CELLBLOCK_SEED=123 node dist/test/simulation/simulation.test.js      from that seed on

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import t from 'tap';
import { byEffort } from '../support/effort.js';
import { repositoryRoot } from '../support/programs.js';
import { MUTATIONS } from './mutations.js';
import type { Action } from './plan.js';
import { planOfSeed, runSeed } from './run.js';

t.setTimeout(3_600_000);

const FIRST = Number(process.env.CELLBLOCK_SEED ?? 1);
const SEEDS = byEffort({ quick: 20, normal: 200, long: 2_000 });
/** Within so many seeds, from the one that is noted with it on, each broken rule has to be found out. */
const MOST_SEEDS = 300;
const LAST_LINES = 80;

t.test('moves, snapshots and crashes of whole installations', async (t) => {
  const counts = new Map<string, number>();
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const { failure, trace, statistics } = await runSeed(seed);
    for (const [what, number] of statistics.counts) counts.set(what, (counts.get(what) ?? 0) + number);
    if (failure === null) continue;
    t.fail(`seed ${seed}: ${failure}; again: npm run simulate -- --seed ${seed} --verbose`, {
      trace: trace.slice(-LAST_LINES),
    });
  }
  for (const what of ['writes acknowledged', 'snapshots read', 'groups published', 'action crash host'])
    t.ok((counts.get(what) ?? 0) > 0, `${what}: ${counts.get(what)}`);
  for (const rule of ['stay', 'stay-extend', 'finish-y'])
    t.ok((counts.get(`rule ${rule}`) ?? 0) > 0, `rule ${rule}: ${counts.get(`rule ${rule}`)}`);
});

t.test('one seed is one run', async (t) => {
  for (const seed of [FIRST, FIRST + 7]) {
    const [one, other] = [await runSeed(seed), await runSeed(seed)];
    t.strictSame(one.trace, other.trace, `the trace of seed ${seed}`);
    t.equal(one.events, other.events);
  }
});

t.test('a run does not depend on what its process has run before', async (t) => {
  // Both take local snapshots, whose ids the host makes itself.
  const [before, seed] = [6803, 6805];
  const alone = await runSeed(seed);
  await runSeed(before);
  t.strictSame((await runSeed(seed)).trace, alone.trace);
});

t.test('a primary that is replaced while its group is decided: the group ends', async (t) => {
  let lost = 0;
  // In each of them a host hears of the decision when it owns its volume no more, as the timing is now.
  for (const seed of [15, 55, 94, 95, 97, 135, 136]) {
    const { failure, trace } = await runSeed(seed, { actions: replacedInGroup(seed) });
    t.equal(failure, null, `seed ${seed}`);
    if (trace.some((line) => line.includes('group-member-lost'))) lost += 1;
  }
  t.ok(lost > 0, `it came about ${lost} times`);
});

function replacedInGroup(seed: number): Action[] {
  const names = planOfSeed(seed).volumes.map(({ name }) => name);
  const [first, second] = names as [string, string];
  return [
    { atMs: 500, do: 'replica', volume: first },
    { atMs: 5_000, do: 'snapshot', volume: first, name: 's1' },
    { atMs: 9_000, do: 'group', volumes: names, name: 'g1' },
    { atMs: 9_000 + (seed % 40) * 3, do: 'lose primary', volume: first, downMs: 6_000 + (seed % 7) * 1_000 },
    { atMs: 13_000, do: 'snapshot', volume: second, name: 's2' },
    { atMs: 15_000, do: 'crash leader', downMs: 500 },
  ];
}

t.test(
  'a broken rule is found out',
  { skip: byEffort({ quick: 1, normal: 0, long: 0 }) === 1 },
  async (t) => {
    for (const [name, { what }] of Object.entries(MUTATIONS)) {
      const program = path.join(repositoryRoot, 'dist/test/simulation/broken.js');
      const child = spawn(process.execPath, [program, name, String(MOST_SEEDS)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      const [code] = await once(child, 'close');
      t.equal(code, 0, `${name}: ${what}: ${said.trim()}`);
    }
  },
);
