// Random histories: what can happen to a store, as plain values. Places and victims are chosen by numbers modulo what exists at
// that moment, so every part of a history can be left out when fast-check looks for the smallest one that fails.
import fc from 'fast-check';

const BLOCK = 4096;
const WINDOW = 2 * 1024 * 1024;

/** Somewhere on a volume; `anchor` and `shift` together hit the edges of blocks and windows more often than chance would. */
export interface Place {
  anchor: number;
  shift: number;
  length: number;
}

export type Step =
  | { kind: 'write'; volume: number; place: Place; fill: number; fua: boolean }
  | { kind: 'zero'; volume: number; place: Place; noHole: boolean; fast: boolean }
  | { kind: 'trim'; volume: number; place: Place }
  | { kind: 'read'; volume: number; place: Place }
  | { kind: 'flush'; volume: number }
  | { kind: 'create'; sizeBlocks: number }
  | { kind: 'snapshot'; volumes: number[] }
  | { kind: 'clone'; volume: number; snapshot: number }
  | { kind: 'delete-volume'; volume: number }
  | { kind: 'delete-snapshot'; volume: number; snapshot: number }
  | { kind: 'resize'; volume: number; sizeBlocks: number }
  | { kind: 'stamp'; volume: number; uuid: number }
  | {
      kind: 'sync';
      volume: number;
      /** Whose snapshot; null: an undo. */
      source: number | null;
      snapshot: number;
      clients: 'leave' | 'stay' | 'are sent away';
      grow: boolean;
      safety: boolean;
    }
  | { kind: 'restart'; how: 'stop' | 'kill' }
  | { kind: 'verify' };

const victim = fc.nat(50);
const anchor = fc.oneof(
  fc.nat(2000).map((block) => block * BLOCK),
  fc.nat(4).map((window) => window * WINDOW),
);
const shift = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: -BLOCK, max: BLOCK }));
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 * BLOCK }),
  fc.integer({ min: 1, max: 64 }).map((blocks) => blocks * BLOCK),
  fc.integer({ min: 1, max: 5 * BLOCK }).map((more) => WINDOW - 2 * BLOCK + more),
);
const long = fc.oneof(length, fc.integer({ min: WINDOW, max: 4 * WINDOW }));
const place = (lengths: fc.Arbitrary<number>): fc.Arbitrary<Place> =>
  fc.record({ anchor, shift, length: lengths });
const sizeBlocks = fc.oneof(fc.integer({ min: 1, max: 2048 }), fc.constantFrom(512, 1024, 2048));

const steps: { weight: number; arbitrary: fc.Arbitrary<Step> }[] = [
  {
    weight: 30,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      volume: victim,
      place: place(length),
      fill: fc.integer({ min: 1, max: 255 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('zero' as const),
      volume: victim,
      place: place(long),
      noHole: fc.boolean(),
      fast: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('trim' as const), volume: victim, place: place(long) }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constant('read' as const), volume: victim, place: place(long) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('flush' as const), volume: victim }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('create' as const), sizeBlocks }) },
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constant('snapshot' as const),
      volumes: fc.array(victim, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('clone' as const), volume: victim, snapshot: victim }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete-volume' as const), volume: victim }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('delete-snapshot' as const), volume: victim, snapshot: victim }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('resize' as const), volume: victim, sizeBlocks }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('stamp' as const),
      volume: victim,
      uuid: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('sync' as const),
      volume: victim,
      source: fc.option(victim, { nil: null, freq: 5 }),
      snapshot: victim,
      clients: fc.constantFrom('leave' as const, 'stay' as const, 'are sent away' as const),
      grow: fc.boolean(),
      safety: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('restart' as const),
      how: fc.constantFrom('stop' as const, 'kill' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('verify' as const) }) },
];

export const histories: fc.Arbitrary<Step[]> = fc.array(fc.oneof(...steps), {
  minLength: 1,
  maxLength: 80,
  size: 'max',
});

/** Where a place lies on a volume of `size` bytes. */
export function clip(
  { anchor: at, shift: by, length: long }: Place,
  size: number,
): { offset: number; length: number } {
  const offset = Math.max(0, ((at % size) + by + size) % size);
  return { offset, length: Math.min(long, size - offset) };
}
