// A qcow2 image with snapshots the way hosts take them: every snapshot freezes the file written so far and puts a new
// overlay on top of it.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Peers, Served } from './peers.js';
import { run } from './processes.js';

export interface ChainOptions {
  readonly peers: Peers;
  readonly directory: string;
  readonly name: string;
  readonly size_bytes: number;
}

export class Qcow2Chain {
  readonly #options: ChainOptions;
  #layers = 0;
  #served: Served | null = null;

  private constructor(options: ChainOptions) {
    this.#options = options;
  }

  static async create(options: ChainOptions): Promise<Qcow2Chain> {
    const chain = new Qcow2Chain(options);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', chain.file(0), String(options.size_bytes)]);
    chain.#layers = 1;
    await chain.serve();
    return chain;
  }

  file(layer: number): string {
    return join(this.#options.directory, `${this.#options.name}.${layer}.qcow2`);
  }

  /** The layer that is written to. */
  get top(): number {
    return this.#layers - 1;
  }

  get served(): Served {
    if (this.#served === null) throw new Error(`${this.#options.name} is not served`);
    return this.#served;
  }

  async serve(): Promise<void> {
    this.#served ??= await this.#options.peers.qemu(this.file(this.top), 'qcow2');
  }

  async stop(): Promise<void> {
    await this.#served?.stop();
    this.#served = null;
  }

  async snapshot(): Promise<void> {
    await this.stop();
    const overlay = this.file(this.#layers);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', this.file(this.top), overlay]);
    this.#layers += 1;
    await this.serve();
  }

  /** Throws the top layer away and puts a fresh one in its place. */
  async freshOverlay(): Promise<void> {
    await this.stop();
    await rm(this.file(this.top));
    this.#layers -= 1;
    await this.snapshot();
  }

  /** Merges a middle layer into the one below it: what deleting that snapshot costs. */
  async commit(layer: number): Promise<void> {
    await run('qemu-img', ['commit', '-q', '-f', 'qcow2', '-b', this.file(layer - 1), this.file(layer)]);
  }

  async remove(): Promise<void> {
    await this.stop();
    for (let layer = 0; layer < this.#layers; layer += 1) await rm(this.file(layer), { force: true });
  }
}
