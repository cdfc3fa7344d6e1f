// Volumes of terabytes whose maps are real records and whose data is mostly hole: one 4 KiB block written in every
// 2 MiB window. A record of a full window is of the same size.
import type { Bench } from './bench.js';
import type { Cellblock } from './cellblock.js';
import type { ClientWork } from './client.js';

export const WINDOW_BYTES = 2 << 20;

/** One block at the start of each window of a range. */
export function touchWindows(op: 'read' | 'write', range_bytes: number): ClientWork {
  return {
    op,
    pattern: 'sequential',
    stride: WINDOW_BYTES,
    range: range_bytes,
    requests: range_bytes / WINDOW_BYTES,
    depth: 64,
  };
}

/** One block in so many windows, all over a range. */
export function someWindows(options: {
  op: 'read' | 'write';
  range_bytes: number;
  windows: number;
  seed: number;
}): ClientWork {
  return {
    op: options.op,
    pattern: 'distinct',
    stride: WINDOW_BYTES,
    range: options.range_bytes,
    requests: options.windows,
    depth: options.op === 'write' ? 64 : 1,
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
    await daemon.createVolume(name, bytes);
    await this.#bench.client(daemon.target(name), { ...touchWindows('write', bytes), flush_end: 1 });
    return name;
  }
}
