// Volumes of terabytes whose maps are real records and whose data is mostly hole: in every 2 MiB window one 4 KiB block, of which
// a few hold data and the others are zeros. (Two million blocks of data, 2 MiB apart, are ten minutes of a small disk's time,
// and nothing of what is measured here depends on them.) A record of a full window is of the same size.
import type { Bench } from './bench.js';
import type { Cellblock } from './cellblock.js';
import type { ClientWork } from './client.js';
import type { Export } from './fio.js';

export const WINDOW_BYTES = 2 << 20;

/** One window in so many holds data. */
const DATA_EVERY = 32;

/** One block at the start of each window of a range: zeros, then data in some of them. */
function everyWindow(range_bytes: number): ClientWork[] {
  const all = { pattern: 'sequential', range: range_bytes, depth: 64, flush_end: 1 } as const;
  const windows = range_bytes / WINDOW_BYTES;
  return [
    { ...all, op: 'zero', stride: WINDOW_BYTES, requests: windows },
    { ...all, op: 'write', stride: WINDOW_BYTES * DATA_EVERY, requests: windows / DATA_EVERY },
  ];
}

/** The same in so many windows, all over a range. */
export async function changeWindows(
  bench: Bench,
  target: Export,
  options: { range_bytes: number; windows: number; seed: number },
): Promise<void> {
  const { range_bytes, windows, seed } = options;
  for (const [op, requests] of [
    ['zero', windows],
    ['write', Math.ceil(windows / DATA_EVERY)],
  ] as const) {
    await bench.client(target, {
      op,
      pattern: 'distinct',
      stride: WINDOW_BYTES,
      range: range_bytes,
      requests,
      depth: 64,
      seed,
    });
  }
}

/** Reads one block in so many windows, one after the other. */
export function readWindows(options: { range_bytes: number; windows: number; seed: number }): ClientWork {
  return {
    op: 'read',
    pattern: 'distinct',
    stride: WINDOW_BYTES,
    range: options.range_bytes,
    requests: options.windows,
    depth: 1,
    seed: options.seed,
  };
}

export class HugeVolumes {
  readonly #bench: Bench;
  readonly #made = new Map<string, Promise<string>>();

  constructor(bench: Bench) {
    this.#bench = bench;
  }

  /** The name of a volume of which every window has a record; made once for each size. */
  full(daemon: Cellblock, bytes: number): Promise<string> {
    const name = `full-${bytes / 2 ** 30}g`;
    const known = this.#made.get(name) ?? this.#make(daemon, name, bytes);
    this.#made.set(name, known);
    return known;
  }

  async #make(daemon: Cellblock, name: string, bytes: number): Promise<string> {
    this.#bench.log(`writing ${bytes / WINDOW_BYTES} windows of ${name}`);
    // A clone: zeros of a volume with nothing below are holes, and no record.
    const seed = `${name}-seed`;
    await daemon.createVolume(seed, bytes);
    await this.#bench.client(daemon.target(seed), { op: 'write', range: 4096, requests: 1, flush_end: 1 });
    await daemon.snapshot(`${seed}@s`);
    await daemon.clone(`${seed}@s`, name);
    for (const work of everyWindow(bytes)) await this.#bench.client(daemon.target(name), work);
    await daemon.untilIdle();
    return name;
  }
}
