// Every order in which things can happen to one volume, within bounds: writes, snapshots, moves, rollbacks, coordinators that crash after any
// step, requests and answers that are lost or come late, cells that do not answer. In each world: one owner at most, with every write and
// every snapshot there is (I1-I4), no operator is needed, and with the faults gone the move ends and a snapshot is taken (I7).

import t from 'tap';

import { GUARDS, type Situation, type Verdict } from '../../src/model/cell/guards.js';
import type { Rule } from '../../src/model/cell/rules.js';
import {
  type Action,
  actions,
  alone,
  type Bounds,
  keyOf,
  newWorld,
  settles,
  violation,
  type World,
} from '../support/cell-world.js';
import { byEffort } from '../support/effort.js';

interface Found {
  worlds: number;
  /** What is wrong, and how it came to that. */
  wrong: string | null;
}

function explore(bounds: Bounds, limit = Number.POSITIVE_INFINITY, carries = 0): Found {
  const start = newWorld(carries);
  const cameBy = new Map<string, { from: string | null; name: string }>([
    [keyOf(start), { from: null, name: 'start' }],
  ]);
  const queue: World[] = [start];
  const settled = new Set<string>();
  const comesToRest = (world: World): boolean => {
    const key = keyOf(alone(world));
    if (settled.has(key)) return true;
    const rests = settles(world) !== null;
    if (rests) settled.add(key);
    return rests;
  };
  const path = (key: string): string => {
    const names: string[] = [];
    for (let at: string | null = key; at !== null; at = cameBy.get(at)!.from)
      names.unshift(cameBy.get(at)!.name);
    return names.join('\n  ');
  };
  for (let at = 0; at < queue.length && cameBy.size < limit; at++) {
    const world = queue[at]!;
    delete queue[at];
    const key = keyOf(world);
    const wrong = violation(world) ?? (comesToRest(world) ? null : 'it does not come to rest');
    if (wrong) return { worlds: cameBy.size, wrong: `${wrong}\n  ${path(key)}\n${JSON.stringify(world)}` };
    for (const { name, next } of actions(world, bounds) satisfies Action[]) {
      const nextKey = keyOf(next);
      if (cameBy.has(nextKey)) continue;
      cameBy.set(nextKey, { from: key, name });
      queue.push(next);
    }
  }
  return { worlds: cameBy.size, wrong: null };
}

const ONE: Bounds = { writes: 1, snapshots: 1, moves: 1, rollbacks: 1, coordinators: 1, late: 0, epoch: 3 };
const LATE: Bounds = { ...ONE, rollbacks: 0, late: 1 };
const BACK: Bounds = { ...ONE, writes: 2, moves: 2, rollbacks: 0 };
const TWO: Bounds = { ...ONE, rollbacks: 0, coordinators: 2 };

const ALL = Number.POSITIVE_INFINITY;
/** Seen first are the shortest histories; `npm run test:long` sees all but those of two coordinators, of which it sees a million. */
const explorations: [what: string, bounds: Bounds, limit: number, carries?: number][] = [
  ['one coordinator that crashes anywhere', ONE, byEffort({ quick: 3000, normal: ALL, long: ALL })],
  ['requests that come late', LATE, byEffort({ quick: 3000, normal: 30_000, long: ALL })],
  ['deltas that are carried', ONE, byEffort({ quick: 3000, normal: 30_000, long: ALL }), 2],
  ['deltas whose requests come late', LATE, byEffort({ quick: 3000, normal: 30_000, long: 1_000_000 }), 1],
  ['there and back', BACK, byEffort({ quick: 3000, normal: 30_000, long: ALL })],
  ['two coordinators', TWO, byEffort({ quick: 3000, normal: 50_000, long: 1_000_000 })],
];

for (const [what, bounds, limit, carries] of explorations)
  t.test(what, async (t) => {
    const found = explore(bounds, limit, carries);
    t.comment(`${found.worlds} worlds`);
    t.equal(found.wrong, null);
    t.ok(found.worlds > 1000);
  });

t.test('a guard that is broken on purpose is found', async (t) => {
  const guards = GUARDS as Record<Rule, (situation: Situation) => Verdict>;
  const whole = guards['finish-y'];
  guards['finish-y'] = () => ({ holds: true, because: 'it was broken' });
  t.teardown(() => {
    guards['finish-y'] = whole;
  });
  const { wrong } = explore(ONE, 100_000);
  t.ok(wrong);
  t.comment(wrong?.split('\n{')[0] ?? '');
});
