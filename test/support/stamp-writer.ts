// A client that writes all the time, and knows what a snapshot has to hold: each block has the number of its last write, so what was answered
// before a snapshot was asked for is in it, and nothing that was begun after its answer.

import type { NbdClient } from '../../src/nbd-client/nbd-client.js';

const BLOCK = 4096;
const PAUSE_MS = 1;
const SEARCH_PAUSE_MS = 20;

interface Bounds {
  least: readonly number[];
  most: readonly number[];
}

export class StampWriter {
  readonly #connect: () => Promise<NbdClient | null>;
  readonly #blocks: readonly number[];
  readonly #begun: number[];
  readonly #answered: number[];
  #running: Promise<void> = Promise.resolve();
  #stopping = false;
  #stamp = 0;
  writes = 0;
  /** Times that it lost its connection. */
  breaks = 0;
  #lastAnswerMs = 0;
  #longestSilenceMs = 0;

  /** `connect`: to whoever serves the volume; null: nobody does now. Blocks that nobody else writes. */
  constructor(connect: () => Promise<NbdClient | null>, blocks: readonly number[]) {
    this.#connect = connect;
    this.#blocks = blocks;
    this.#begun = blocks.map(() => 0);
    this.#answered = blocks.map(() => 0);
  }

  start(): void {
    this.#stopping = false;
    this.#lastAnswerMs = performance.now();
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    let client: NbdClient | null = null;
    for (let at = 0; !this.#stopping; at++) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      client ??= await this.#connect();
      if (!client) await new Promise((resolve) => setTimeout(resolve, SEARCH_PAUSE_MS));
      if (client && !(await this.#write(client, at % this.#blocks.length))) {
        client.destroy();
        client = null;
        this.breaks++;
      }
    }
    client?.destroy();
  }

  /** False: whether it was done nobody knows, and the connection is not for this volume any more. */
  async #write(client: NbdClient, index: number): Promise<boolean> {
    const stamp = ++this.#stamp;
    this.#begun[index] = stamp;
    const data = Buffer.alloc(BLOCK);
    for (let at = 0; at < BLOCK; at += 8) data.writeBigUInt64LE(BigInt(stamp), at);
    try {
      await client.write(BigInt(this.#blocks[index]! * BLOCK), data);
    } catch {
      return false;
    }
    this.#answered[index] = stamp;
    this.writes++;
    this.#look();
    return true;
  }

  /** The longest time without an answer, since it was asked last. */
  takeLongestSilenceMs(): number {
    this.#look();
    const longest = this.#longestSilenceMs;
    this.#longestSilenceMs = 0;
    return longest;
  }

  #look(): void {
    const now = performance.now();
    this.#longestSilenceMs = Math.max(this.#longestSilenceMs, now - this.#lastAnswerMs);
    this.#lastAnswerMs = now;
  }

  /** While it is stopped: what is wrong with the volume as it is. What nobody knew of is known from now on. */
  async settle(client: NbdClient): Promise<string[]> {
    const problems: string[] = [];
    for (const [index, block] of this.#blocks.entries()) {
      const bytes = await client.read(BigInt(block * BLOCK), BLOCK);
      const wrong = this.#wrongBlock(index, bytes, { least: this.#answered, most: this.#begun });
      if (wrong) problems.push(wrong);
      else this.#answered[index] = Number(bytes.readBigUInt64LE(0));
    }
    return problems;
  }

  /** Whatever is done meanwhile; afterwards `check` finds what is wrong with the bytes of what it made. */
  async around<T>(work: () => Promise<T>): Promise<{ made: T; check: (bytes: Buffer) => string[] }> {
    const least = [...this.#answered];
    const made = await work();
    const most = [...this.#begun];
    return { made, check: (bytes) => this.#wrong(bytes, { least, most }) };
  }

  #wrong(bytes: Buffer, bounds: Bounds): string[] {
    return this.#blocks.flatMap((block, index) => {
      const wrong = this.#wrongBlock(index, bytes.subarray(block * BLOCK, (block + 1) * BLOCK), bounds);
      return wrong ? [wrong] : [];
    });
  }

  #wrongBlock(index: number, bytes: Buffer, { least, most }: Bounds): string | null {
    const found = Number(bytes.readBigUInt64LE(0));
    const last = Number(bytes.readBigUInt64LE(BLOCK - 8));
    if (found === last && found >= least[index]! && found <= most[index]!) return null;
    return `block ${this.#blocks[index]} has ${found} and ${last}, not one of ${least[index]} to ${most[index]}`;
  }
}
