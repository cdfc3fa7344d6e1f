// What people and misfortune do in one run: made from the seed before it begins, so that a failing run can be shortened by leaving some of it out.

import type { Chance } from './chance.js';
import { COORDINATORS, HOSTS } from './world.js';

export const FAULTS_END_MS = 40_000;
const FIRST_MS = 1_500;
const VOLUMES = ['a', 'b', 'c'];

export type Action = { atMs: number } & (
  | { do: 'snapshot'; volume: string; name: string }
  | { do: 'group'; volumes: string[]; name: string }
  /** A host dies around that write of its database, counted from when it is asked for. */
  | {
      do: 'crash in group';
      volumes: string[];
      name: string;
      host: string;
      how: 'process-death' | 'power-loss';
      batches: number;
      downMs: number;
    }
  /** When the source of its next move is about to be sealed. */
  | { do: 'snapshot at seal'; volume: string; name: string }
  | { do: 'local snapshot'; volume: string; name: string }
  | { do: 'move'; volume: string; cell: string }
  | { do: 'cancel'; volume: string }
  | { do: 'split'; cell: string; into: string }
  | { do: 'roll back'; cell: string }
  | { do: 'replica'; volume: string }
  | { do: 'drain'; host: string }
  | { do: 'delete'; volume: string }
  /** `batches`: it dies around that write of its database; 0: at once. */
  | {
      do: 'crash host';
      host: string;
      how: 'process-death' | 'power-loss' | 'stop';
      batches: number;
      downMs: number;
    }
  /** So long after it has begun to take its next snapshot. */
  | {
      do: 'crash at snapshot';
      host: string;
      how: 'process-death' | 'power-loss';
      afterMs: number;
      downMs: number;
    }
  | { do: 'lose primary'; volume: string; downMs: number }
  /** Nobody believes that it comes back; it does. */
  | { do: 'lose host'; host: string; forgetMs: number; downMs: number }
  | { do: 'restore host'; host: string; afterMs: number; downMs: number }
  | { do: 'crash coordinator'; coordinator: string; how: 'crash' | 'stop'; downMs: number }
  | { do: 'crash leader'; downMs: number }
  | { do: 'pause'; who: string; forMs: number }
  | { do: 'cut'; a: string; b: string; forMs: number }
  | { do: 'isolate'; who: string; forMs: number }
  | { do: 'break'; a: string; b: string; how: 'both' | 'half' }
  | { do: 'slow'; probability: number; forMs: number }
  | { do: 'store trouble'; probability: number; forMs: number }
  | { do: 'database trouble'; host: string; batches: number }
);

export interface Plan {
  volumes: { name: string; host: string }[];
  actions: Action[];
}

type Make = (chance: Draw, number: number) => Omit<Action, 'atMs'> | null;

/** Draws of one plan. */
class Draw {
  readonly #chance: Chance;
  readonly volumes: readonly string[];

  constructor(chance: Chance, volumes: readonly string[]) {
    this.#chance = chance;
    this.volumes = volumes;
  }

  of<T>(from: readonly T[]): T {
    return this.#chance.of('plan', from);
  }

  between(from: number, to: number): number {
    return Math.round(this.#chance.between('plan', from, to));
  }

  isSo(probability: number): boolean {
    return this.#chance.isSo('plan', probability);
  }

  get volume(): string {
    return this.of(this.volumes);
  }

  get host(): string {
    return this.of(Object.keys(HOSTS));
  }

  get cell(): string {
    return this.of(['east', 'west']);
  }

  get coordinator(): string {
    return this.of(COORDINATORS);
  }

  get pair(): { a: string; b: string } {
    const a = this.isSo(0.5) ? this.host : this.coordinator;
    const others = [...Object.keys(HOSTS), ...COORDINATORS, 'etcd'].filter((each) => each !== a);
    return { a, b: this.of(others) };
  }

  get downMs(): number {
    return this.isSo(0.2) ? this.between(5_000, 15_000) : this.between(100, 3_000);
  }

  get forMs(): number {
    return this.isSo(0.3) ? this.between(4_000, 12_000) : this.between(100, 3_500);
  }
}

const MAKES: readonly [weight: number, make: Make][] = [
  [9, (draw, number) => ({ do: 'snapshot', volume: draw.volume, name: `s${number}` })],
  [
    3,
    (draw, number) =>
      draw.volumes.length < 2 ? null : { do: 'group', volumes: [...draw.volumes], name: `g${number}` },
  ],
  [
    1.5,
    (draw, number) =>
      draw.volumes.length < 2
        ? null
        : {
            do: 'crash in group',
            volumes: [...draw.volumes],
            name: `g${number}`,
            host: draw.host,
            how: draw.of(['process-death', 'power-loss'] as const),
            batches: draw.between(1, 3),
            downMs: draw.downMs,
          },
  ],
  [2, (draw, number) => ({ do: 'snapshot at seal', volume: draw.volume, name: `s${number}` })],
  [1, (draw, number) => ({ do: 'local snapshot', volume: draw.volume, name: `l${number}` })],
  [9, (draw) => ({ do: 'move', volume: draw.volume, cell: draw.cell })],
  [2, (draw) => ({ do: 'cancel', volume: draw.volume })],
  [
    1,
    (draw) =>
      draw.isSo(0.5)
        ? { do: 'split', cell: 'east', into: 'west' }
        : { do: 'split', cell: 'west', into: 'east' },
  ],
  [1, (draw) => ({ do: 'roll back', cell: draw.cell })],
  [1.5, (draw) => ({ do: 'replica', volume: draw.volume })],
  [0.5, (draw) => ({ do: 'drain', host: draw.host })],
  [0.4, (draw) => ({ do: 'delete', volume: draw.volume })],
  [
    5,
    (draw) => ({
      do: 'crash host',
      host: draw.host,
      how: draw.of(['process-death', 'power-loss', 'stop'] as const),
      batches: draw.isSo(0.6) ? draw.between(1, 12) : 0,
      downMs: draw.downMs,
    }),
  ],
  [
    1.5,
    (draw) => ({
      do: 'crash at snapshot',
      host: draw.host,
      how: draw.of(['process-death', 'power-loss'] as const),
      afterMs: draw.between(0, 4),
      downMs: draw.downMs,
    }),
  ],
  [1, (draw) => ({ do: 'lose primary', volume: draw.volume, downMs: draw.between(4_000, 12_000) })],
  [
    0.8,
    (draw) => ({
      do: 'restore host',
      host: draw.host,
      afterMs: draw.between(2_000, 12_000),
      downMs: draw.downMs,
    }),
  ],
  [
    1,
    (draw) => ({
      do: 'crash coordinator',
      coordinator: draw.coordinator,
      how: draw.of(['crash', 'stop'] as const),
      downMs: draw.downMs,
    }),
  ],
  [2.5, (draw) => ({ do: 'crash leader', downMs: draw.downMs })],
  [1.5, (draw) => ({ do: 'pause', who: draw.isSo(0.5) ? draw.host : draw.coordinator, forMs: draw.forMs })],
  [3, (draw) => ({ do: 'cut', ...draw.pair, forMs: draw.forMs })],
  [2, (draw) => ({ do: 'isolate', who: draw.isSo(0.6) ? draw.host : draw.coordinator, forMs: draw.forMs })],
  [
    2,
    (draw) => ({ do: 'break', a: draw.host, b: draw.coordinator, how: draw.of(['both', 'half'] as const) }),
  ],
  [
    1.5,
    (draw) => ({ do: 'slow', probability: draw.of([0.02, 0.1, 0.3]), forMs: draw.between(1_000, 8_000) }),
  ],
  [
    1.5,
    (draw) => ({
      do: 'store trouble',
      probability: draw.of([0.05, 0.2, 0.5]),
      forMs: draw.between(500, 6_000),
    }),
  ],
  [1, (draw) => ({ do: 'database trouble', host: draw.host, batches: draw.between(1, 3) })],
];

const WEIGHTS = MAKES.reduce((sum, [weight]) => sum + weight, 0);

export function planOf(chance: Chance): Plan {
  const volumes = VOLUMES.slice(0, 1 + chance.below('plan', VOLUMES.length));
  const draw = new Draw(chance, volumes);
  const actions: Action[] = [];
  const count = draw.between(4, 34);
  for (let number = 1; number <= count; number++) {
    const made = makeOf(draw.between(0, 1e9) / 1e9)(draw, number);
    if (made) actions.push({ ...made, atMs: draw.between(FIRST_MS, FAULTS_END_MS - 2_000) } as Action);
  }
  const placed = volumes.map((name) => ({ name, host: draw.host }));
  actions.push(...lossOf(draw));
  actions.sort((a, b) => a.atMs - b.atMs);
  return { volumes: placed, actions };
}

/** Of few plans, and drawn last. There are replicas and moves for it: what a host has nothing of does not mind its loss. */
function lossOf(draw: Draw): Action[] {
  if (!draw.isSo(0.2)) return [];
  const atMs = draw.between(6_000, FAULTS_END_MS - 14_000);
  return [
    ...draw.volumes.map((volume): Action => ({ do: 'replica', volume, atMs: FIRST_MS })),
    { do: 'move', volume: draw.volume, cell: draw.cell, atMs: atMs - draw.between(0, 600) },
    {
      do: 'lose host',
      host: draw.host,
      forgetMs: draw.between(500, 4_000),
      downMs: draw.between(6_000, 12_000),
      atMs,
    },
  ];
}

function makeOf(at: number): Make {
  let left = at * WEIGHTS;
  for (const [weight, make] of MAKES) {
    left -= weight;
    if (left <= 0) return make;
  }
  return MAKES[0]![1];
}

export function actionText({ atMs, ...action }: Action): string {
  return `${(atMs / 1000).toFixed(3)} ${Object.values(action).join(' ')}`;
}
