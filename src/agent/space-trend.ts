// How fast the file system of the store fills up: free bytes, looked at once a minute and kept for an hour.

const EVERY_MS = 60_000;
const KEPT = 61;
/** A shorter time says nothing of what will be. */
const SHORTEST_SECONDS = 300;

export interface Trend {
  /** Negative: it fills up. */
  bytesPerSecond: number;
  /** The time it was measured over. */
  seconds: number;
}

interface Sample {
  atMs: number;
  freeBytes: bigint;
}

export interface TrendSource {
  /** Null: the file system does not say. */
  freeBytes(): Promise<bigint | null>;
  monotonicMs(): number;
}

export class SpaceTrend {
  readonly #source: TrendSource;
  readonly #samples: Sample[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(source: TrendSource) {
    this.#source = source;
  }

  start(): void {
    void this.look();
    this.#timer = setInterval(() => void this.look(), EVERY_MS).unref();
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  async look(): Promise<void> {
    const freeBytes = await this.#source.freeBytes();
    if (freeBytes === null) return;
    this.#samples.push({ atMs: this.#source.monotonicMs(), freeBytes });
    if (this.#samples.length > KEPT) this.#samples.shift();
  }

  /** Null: it is not known yet. */
  get now(): Trend | null {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (!first || !last) return null;
    const seconds = (last.atMs - first.atMs) / 1000;
    if (seconds < SHORTEST_SECONDS) return null;
    return { bytesPerSecond: Number(last.freeBytes - first.freeBytes) / seconds, seconds };
  }
}
