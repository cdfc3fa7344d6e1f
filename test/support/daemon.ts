// A real cellblockd in a directory of its own: started, killed and started again, always by its own process id.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ApiClient } from './api-client.js';
import { Running, repositoryRoot } from './programs.js';
import { answers, until } from './waiting.js';

/** Sections of the configuration file, see docs/configuration.md. */
export type Configuration = Record<string, Record<string, unknown>>;

/** For every daemon whose test gives none, as JSON: any test can be run with another engine. */
const { CELLBLOCK_TEST_CONFIGURATION: fromEnvironment } = process.env;

export interface DaemonOptions {
  /** Directory for the store and the sockets; made, and removed at the end, when not given. */
  directory?: string;
  /** Further command line words. */
  args?: string[];
  configuration?: Configuration;
  env?: Record<string, string>;
  /** Words before the program: where it runs. */
  entrance?: string[];
}

/** What a test needs of tap: a place to hang clean-up on. */
export interface Teardown {
  teardown(clean: () => unknown): void;
}

const program = path.join(repositoryRoot, 'dist/src/main/cellblockd.js');

export class Daemon {
  readonly directory: string;
  readonly store: string;
  readonly nbdPath: string;
  readonly apiPath: string;
  readonly api: ApiClient;
  #options: DaemonOptions;
  #process: Running | null = null;

  private constructor(options: DaemonOptions) {
    this.#options = options;
    this.directory = options.directory ?? mkdtempSync(path.join(os.tmpdir(), 'cellblock-test-'));
    this.store = path.join(this.directory, 'store');
    this.nbdPath = path.join(this.directory, 'nbd.sock');
    this.apiPath = path.join(this.directory, 'api.sock');
    this.api = new ApiClient(this.apiPath);
  }

  /** Starts one and ties its end to the test's. */
  static async start(t: Teardown, options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = new Daemon(options);
    t.teardown(async () => {
      await daemon.kill();
      if (options.directory === undefined) rmSync(daemon.directory, { recursive: true, force: true });
    });
    await daemon.run();
    return daemon;
  }

  /** The address for libnbd and fio. */
  uri(exportName: string): string {
    return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${this.nbdPath}`;
  }

  /** The address for QEMU's programs. */
  qemuUri(exportName: string): string {
    return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${this.nbdPath}`;
  }

  get pid(): number {
    return this.#running().pid;
  }

  get output(): string {
    return this.#process?.output ?? '';
  }

  /** Until its log holds this. It is another process: what it wrote may come after what it answered. */
  async says(text: string): Promise<void> {
    await until(`"${text}" in the log`, () => {
      if (this.hasEnded) throw new Error(`cellblockd ended without "${text}":\n${this.output}`);
      return this.output.includes(text);
    });
  }

  get hasEnded(): boolean {
    return this.#process === null || this.#process.isOver;
  }

  /** Starts the daemon and kills it some time later, wherever its start is by then. */
  async startAndKill({ afterMs }: { afterMs: number }): Promise<void> {
    this.#spawn();
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await this.kill();
  }

  /** Runs the daemon and resolves when both sockets answer; rejects with what it said if it ends before. */
  async run(): Promise<void> {
    const running = this.#spawn();
    for (const socketPath of [this.nbdPath, this.apiPath]) {
      await until(`an answer at ${path.basename(socketPath)}`, () => {
        if (running.isOver) throw new Error(`cellblockd ended at its start:\n${running.output}`);
        return answers(socketPath);
      });
    }
  }

  /** An orderly stop; gives the exit code. */
  async stop(): Promise<number | null> {
    const { code } = await this.#running().stop('SIGTERM');
    this.#process = null;
    return code;
  }

  /** kill -9; does nothing when it is not running. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL');
    this.#process = null;
  }

  async restart(how: 'stop' | 'kill'): Promise<void> {
    if (how === 'stop') await this.stop();
    else await this.kill();
    await this.run();
  }

  #spawn(): Running {
    const words = ['--store', this.store, '--nbd', `unix:${this.nbdPath}`, '--api', this.apiPath];
    words.push(...this.#configurationWords(), ...(this.#options.args ?? []));
    const { env = {}, entrance = [] } = this.#options;
    const [first, ...rest] = [...entrance, process.execPath, program, ...words];
    this.#process = new Running(first!, rest, { env });
    return this.#process;
  }

  #configurationWords(): string[] {
    const { configuration } = this.#options;
    const text = configuration ? JSON.stringify(configuration) : fromEnvironment;
    if (text === undefined) return [];
    const file = path.join(this.directory, 'cellblock.yaml');
    mkdirSync(this.directory, { recursive: true });
    writeFileSync(file, text); // JSON is YAML
    return ['--config', file];
  }

  #running(): Running {
    if (!this.#process) throw new Error('the daemon is not running');
    return this.#process;
  }
}
