// Clients that write to a volume all the time, wherever it is: each goes on at whoever serves it, as a client of people would have to. Several at
// once, each in blocks of its own, so that each knows what has to be there.

import type { NbdClient } from '../../src/nbd-client/nbd-client.js';
import { StampWriter } from '../support/stamp-writer.js';
import type { HostParty } from './parties.js';

const CLIENTS = 4;
const BLOCKS_EACH = 24;
/** Of blocks: so that no two are in one window. */
const STRIDE = 19;

export class Load {
  readonly #hosts: () => Iterable<HostParty>;
  readonly #volume: string;
  readonly #writers: StampWriter[];
  #isRunning = false;

  /** The volume has at least 8 MiB. */
  constructor(hosts: () => Iterable<HostParty>, volume: string) {
    this.#hosts = hosts;
    this.#volume = volume;
    this.#writers = Array.from({ length: CLIENTS }, (_, client) => {
      const blocks = Array.from({ length: BLOCKS_EACH }, (_, at) => (at * CLIENTS + client) * STRIDE + 1);
      return new StampWriter(() => this.open(), blocks);
    });
  }

  start(): void {
    this.#isRunning = true;
    for (const writer of this.#writers) writer.start();
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await Promise.all(this.#writers.map((writer) => writer.stop()));
  }

  get writes(): number {
    return this.#writers.reduce((sum, { writes }) => sum + writes, 0);
  }

  get breaks(): number {
    return this.#writers.reduce((sum, { breaks }) => sum + breaks, 0);
  }

  /** The longest time that one of the clients had no answer, since it was asked last. */
  takeLongestSilenceMs(): number {
    return Math.max(...this.#writers.map((writer) => writer.takeLongestSilenceMs()));
  }

  /** At whoever serves the volume; null: nobody does, or nobody has said so in time. */
  async open(): Promise<NbdClient | null> {
    const usable = [...this.#hosts()].filter((host) => host.isUsable);
    const tried = await Promise.all(usable.map((host) => host.connect(this.#volume).catch(() => null)));
    const writable = tried.filter((client) => client && !client.readOnly);
    for (const client of tried) if (client !== writable[0]) client?.destroy();
    return writable[0] ?? null;
  }

  /** Everything that was answered is there. The clients stop for it. */
  async verify(): Promise<string[]> {
    const goesOn = this.#isRunning;
    await this.stop();
    const client = await this.open();
    if (!client) return ['nobody serves the volume'];
    try {
      const found: string[] = [];
      for (const writer of this.#writers) found.push(...(await writer.settle(client)));
      return found;
    } finally {
      client.destroy();
      if (goesOn) this.start();
    }
  }

  /** Whatever is done meanwhile; `check` finds what is wrong with the bytes of a snapshot that it has made. */
  async around<T>(work: () => Promise<T>): Promise<{ made: T; check: (bytes: Buffer) => string[] }> {
    const checks: ((bytes: Buffer) => string[])[] = [];
    const nested = async (rest: StampWriter[]): Promise<T> => {
      const [writer, ...others] = rest;
      if (!writer) return work();
      const { made, check } = await writer.around(() => nested(others));
      checks.push(check);
      return made;
    };
    const made = await nested(this.#writers);
    return { made, check: (bytes) => checks.flatMap((check) => check(bytes)) };
  }
}
