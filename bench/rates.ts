// How often a second something is done; and what a machine gives of what every durable change of metadata costs.
import { mkdir } from 'node:fs/promises';
import { ClassicLevel } from 'classic-level';
import type { Bench } from './bench.js';

const BATCH_VALUE = Buffer.alloc(200, 1);

/** Calls `work` with 0, 1, 2, ... from so many loops for so long; how often a second it was done. */
export async function perSecond(
  runtime_ms: number,
  loops: number,
  work: (turn: number, loop: number) => Promise<void>,
): Promise<number> {
  const started = performance.now();
  let turn = 0;
  const one = async (loop: number): Promise<void> => {
    while (performance.now() - started < runtime_ms) {
      turn += 1;
      await work(turn, loop);
    }
  };
  await Promise.all(Array.from({ length: loops }, (_, loop) => one(loop)));
  return turn / ((performance.now() - started) / 1000);
}

/** Calls `work` with a function that writes one synced batch, as a store writes them. */
export async function withBatches<T>(
  bench: Bench,
  work: (batch: (turn: number) => Promise<void>) => Promise<T>,
): Promise<T> {
  const directory = bench.path('batches');
  await mkdir(directory, { recursive: true });
  const level = new ClassicLevel<string, Buffer>(directory, { valueEncoding: 'buffer' });
  await level.open();
  const batch = (turn: number): Promise<void> =>
    level.batch(
      ['a', 'b', 'c'].map((part) => ({ type: 'put' as const, key: `${part}${turn}`, value: BATCH_VALUE })),
      { sync: true },
    );
  try {
    return await work(batch);
  } finally {
    await level.close();
    await bench.remove(directory);
  }
}
