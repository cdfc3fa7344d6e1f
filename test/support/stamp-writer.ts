// A client that writes all the time, and knows what a snapshot has to hold: each block has the number of its last write, so what was answered
// before a snapshot was asked for is in it, and nothing that was begun after its answer.

import type { NbdClient } from '../../src/nbd-client/nbd-client.js';

const BLOCK = 4096;
const PAUSE_MS = 1;

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

  /** `connect`: to whoever serves the volume; null: nobody does now. Blocks that nobody else writes. */
  constructor(connect: () => Promise<NbdClient | null>, blocks: readonly number[]) {
    this.#connect = connect;
    this.#blocks = blocks;
    this.#begun = blocks.map(() => 0);
    this.#answered = blocks.map(() => 0);
  }

  start(): void {
    this.#stopping = false;
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
    return true;
  }

  /** Whatever is done meanwhile; afterwards `check` finds what is wrong with the bytes of what it made. */
  async around<T>(work: () => Promise<T>): Promise<{ made: T; check: (bytes: Buffer) => string[] }> {
    const least = [...this.#answered];
    const made = await work();
    const most = [...this.#begun];
    return { made, check: (bytes) => this.#wrong(bytes, { least, most }) };
  }

  #wrong(bytes: Buffer, { least, most }: { least: readonly number[]; most: readonly number[] }): string[] {
    return this.#blocks.flatMap((block, index) => {
      const found = Number(bytes.readBigUInt64LE(block * BLOCK));
      const last = Number(bytes.readBigUInt64LE((block + 1) * BLOCK - 8));
      if (found === last && found >= least[index]! && found <= most[index]!) return [];
      return [`block ${block} has ${found} and ${last}, not one of ${least[index]} to ${most[index]}`];
    });
  }
}
