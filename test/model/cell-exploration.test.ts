// Every order in which things can happen to one volume, within bounds: writes, snapshots, moves, rollbacks, coordinators that crash after any
// step, requests and answers that are lost or come late, cells that do not answer. In each world: one owner at most, with every write and
// every snapshot there is (I1-I4), no operator is needed, and with the faults gone the move ends and a snapshot is taken (I7).

import t from 'tap';

import { GUARDS } from '../../src/model/cell/guards.js';
import { type Action, actions, alone, type Bounds, keyOf, newWorld, settles, violation, type World } from '../support/cell-world.js';

interface Found {
  worlds: number;
  /** What is wrong, and how it came to that. */
  wrong: string | null;
}

function explore(bounds: Bounds, limit = Number.POSITIVE_INFINITY): Found {
  const start = newWorld();
  const cameBy = new Map<string, { from: string | null; name: string }>([[keyOf(start), { from: null, name: 'start' }]]);
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
    for (let at: string | null = key; at !== null; at = cameBy.get(at)!.from) names.unshift(cameBy.get(at)!.name);
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

const configs: [string, Bounds][] = [
  ['two', { writes: 1, snapshots: 1, moves: 1, rollbacks: 0, coordinators: 2, late: 0, epoch: 3 }],
  ['one', { writes: 1, snapshots: 1, moves: 1, rollbacks: 1, coordinators: 1, late: 0, epoch: 3 }],
  ['late', { writes: 1, snapshots: 1, moves: 1, rollbacks: 0, coordinators: 1, late: 1, epoch: 3 }],
  ['there and back', { writes: 2, snapshots: 1, moves: 2, rollbacks: 0, coordinators: 1, late: 0, epoch: 3 }],
  ['two', { writes: 1, snapshots: 1, moves: 1, rollbacks: 0, coordinators: 2, late: 0, epoch: 3 }],
];
for (const [name, bounds] of configs) {
  const t0 = Date.now();
  const found = explore(bounds, 400000);
  console.log(name, found.worlds, Date.now() - t0, found.wrong?.slice(0, 3000) ?? 'fine');
}
void t; void GUARDS;
