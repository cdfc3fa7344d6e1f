// A fixed number of buffers for what is on its way from a file to the agent. Whoever waits for one waits for a request to end, so
// the pool is the bound on memory and on requests in flight.

export const PIECE_BYTES = 1024 * 1024;

export class BufferPool {
  readonly #free: Buffer[];
  readonly #waiting: ((buffer: Buffer) => void)[] = [];

  constructor(count: number) {
    this.#free = Array.from({ length: count }, () => Buffer.allocUnsafeSlow(PIECE_BYTES));
  }

  async take(): Promise<Buffer> {
    return this.#free.pop() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(buffer: Buffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(buffer);
    else next(buffer);
  }
}
