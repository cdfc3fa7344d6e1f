// A well-behaved client among hostile ones: writes blocks, reads each back and compares, until it is told to stop.
import { CMD } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';

const BLOCK = 4096;
const BLOCKS = 256;

export class Bystander {
  /** Blocks written and read back as they were written. */
  served = 0;
  readonly #client: RawNbd;
  #wanted = true;

  private constructor(client: RawNbd) {
    this.#client = client;
  }

  static async connect(address: string, name: string): Promise<Bystander> {
    return new Bystander((await RawNbd.open(address, name, { structured: false })).client);
  }

  /** Works at least once over all its blocks, and on until stop(). Rejects at the first wrong answer. */
  async work(): Promise<void> {
    for (let n = 0; this.#wanted || n < BLOCKS; n++) {
      const offset = (n % BLOCKS) * BLOCK;
      const content = Buffer.alloc(BLOCK, (n * 31 + (n >> 8)) & 0xff);
      const written = await this.#client.command({ type: CMD.write, offset, length: BLOCK }, content);
      const read = await this.#client.command({ type: CMD.read, offset, length: BLOCK });
      if (written.error !== 0 || read.error !== 0)
        throw new Error(`block ${n}: ${written.error}, ${read.error}`);
      if (!read.data.equals(content)) throw new Error(`block ${n} is not as it was written`);
      this.served++;
    }
  }

  stop(): void {
    this.#wanted = false;
  }

  async leave(): Promise<void> {
    await this.#client.leave();
  }
}
