// A real cellblock-coordinator with its state in a directory, on a loopback port: started, killed and started again on the same port, always by
// its own process id. And agents that are hosts of its cells.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Outcome, runCli } from '../cli/run-cli.js';
import { Daemon, type Teardown } from './daemon.js';
import { Running, repositoryRoot } from './programs.js';
import { until } from './waiting.js';

const program = path.join(repositoryRoot, 'dist/src/main/cellblock-coordinator.js');

const tokenOf = (host: string) => `the-token-of-host-${host}`;

export interface CoordinatorOptions {
  /** Made by the test, and removed by it. */
  directory: string;
  /** Hosts that may come, and their cells. */
  hosts: Record<string, string>;
  scheme?: 'ws' | 'wss';
  /** Instead of a file of tokens. */
  args?: string[];
}

export class CoordinatorProcess {
  readonly directory: string;
  readonly #options: CoordinatorOptions;
  #process: Running | null = null;
  #address: string | null = null;

  private constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.directory = options.directory;
  }

  static async start(t: Teardown, options: CoordinatorOptions): Promise<CoordinatorProcess> {
    const coordinator = new CoordinatorProcess(options);
    t.teardown(() => coordinator.kill());
    mkdirSync(coordinator.directory, { recursive: true });
    coordinator.admit(options.hosts);
    await coordinator.run();
    return coordinator;
  }

  get state(): string {
    return path.join(this.directory, 'state');
  }

  get tokens(): string {
    return path.join(this.directory, 'tokens');
  }

  get address(): string {
    if (this.#address === null) throw new Error('the coordinator has never listened');
    return this.#address;
  }

  get output(): string {
    return this.#process?.output ?? '';
  }

  get running(): Running {
    if (!this.#process) throw new Error('the coordinator is not running');
    return this.#process;
  }

  /** What it is started with. */
  get words(): string[] {
    const { scheme = 'ws', args } = this.#options;
    const listen = this.#address ?? `${scheme}://127.0.0.1:0`;
    return ['--listen', listen, '--state', this.state, '--name', 'c1', ...(args ?? ['--token', this.tokens])];
  }

  /** Into the file of tokens; read when it is started, or told to. */
  admit(hosts: Record<string, string>): void {
    const lines = Object.entries(hosts).map(([host, cell]) => `${host} ${cell} ${tokenOf(host)}\n`);
    writeFileSync(this.tokens, lines.join(''), { mode: 0o600 });
  }

  /** Until it listens; rejects with what it said if it ends before. */
  async run(): Promise<void> {
    const running = new Running(process.execPath, [program, ...this.words]);
    this.#process = running;
    this.#address = await until('a coordinator that listens', () => {
      if (running.isOver) throw new Error(`the coordinator ended at its start:\n${running.output}`);
      return /"event":"listening","address":"([^"]+)"/.exec(running.output)?.[1];
    });
  }

  /** kill -9; does nothing when it is not running. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL');
    this.#process = null;
  }

  /** An orderly stop; gives the exit code. */
  async stop(): Promise<number | null> {
    const { code } = await this.running.stop('SIGTERM');
    return code;
  }

  /** Until its log has so many lines of this event. */
  async logged(event: string, times = 1): Promise<void> {
    await until(`${times} ${event} in the log`, () => {
      const seen = this.output.split(`"event":"${event}"`).length - 1;
      return seen >= times;
    });
  }
}

/** An agent that is a host of a cell. */
export class CellAgent {
  readonly host: string;
  readonly daemon: Daemon;

  private constructor(host: string, daemon: Daemon) {
    this.host = host;
    this.daemon = daemon;
  }

  static async start(
    t: Teardown,
    coordinator: CoordinatorProcess,
    { host, cell, more = {} }: { host: string; cell: string; more?: Record<string, unknown> },
  ): Promise<CellAgent> {
    const directory = path.join(coordinator.directory, host);
    mkdirSync(directory, { recursive: true });
    const tokenFile = path.join(directory, 'token');
    writeFileSync(tokenFile, `${tokenOf(host)}\n`, { mode: 0o600 });
    const daemon = await Daemon.start(t, {
      directory,
      args: ['--nbd', 'tcp:127.0.0.1:0'],
      configuration: {
        coordinator: {
          addresses: [coordinator.address],
          host,
          cell,
          token_file: tokenFile,
          serve_alone_after: 'never',
          ...more,
        },
      },
    });
    const agent = new CellAgent(host, daemon);
    await agent.connected();
    return agent;
  }

  /** What the command line says, asked at this host. */
  cli(...words: string[]): Promise<Outcome> {
    return runCli(words, { api: this.daemon.apiPath });
  }

  /** What it says when it has to succeed. */
  async said(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.cli(...words);
    if (code !== 0) throw new Error(`cellblock ${words.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
    return stdout;
  }

  async json<Value>(...words: string[]): Promise<Value> {
    return JSON.parse(await this.said('--json', ...words)) as Value;
  }

  async connected(): Promise<void> {
    await until(`host ${this.host} to be connected`, async () => {
      const { code, stdout } = await this.cli('--json', 'status');
      return code === 0 && JSON.parse(stdout).coordinator?.connected === true;
    });
  }
}
