// Real programs of the coordinator, and an etcd of three members for them, all on loopback.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bench } from '../bench.js';
import { freePort, Running } from '../processes.js';
import { cellOf, hostName, tokenOf } from './fleet.js';

/** Hosts that may come, for the coordinators that are started with it. */
export async function writeTokens(
  file: string,
  { hosts, cells }: { hosts: number; cells: number },
): Promise<void> {
  const lines = Array.from(
    { length: hosts },
    (_, host) => `${hostName(host)} ${cellOf(host, cells)} ${tokenOf(host)}\n`,
  );
  await writeFile(file, lines.join(''), { mode: 0o600 });
}

export class CoordinatorProgram {
  readonly name: string;
  readonly address: string;
  readonly #bench: Bench;
  readonly #words: readonly string[];
  #running: Running | null = null;

  private constructor(
    bench: Bench,
    name: string,
    { port, words }: { port: number; words: readonly string[] },
  ) {
    this.#bench = bench;
    this.name = name;
    this.address = `ws://127.0.0.1:${port}`;
    this.#words = ['--listen', this.address, '--name', name, '--log-level', 'info', ...words];
  }

  /** `state`: a directory, or etcd://HOST:PORT,... */
  static async make(
    bench: Bench,
    name: string,
    { state, tokens }: { state: string; tokens: string },
  ): Promise<CoordinatorProgram> {
    const words = ['--state', state, '--token', tokens];
    return new CoordinatorProgram(bench, name, { port: await freePort(), words });
  }

  start(): void {
    const program = join(this.#bench.options.root, 'dist', 'src', 'main', 'cellblock-coordinator.js');
    this.#running = this.#bench.keep(
      new Running({ command: process.execPath, args: [program, ...this.#words] }),
    );
  }

  get pid(): number {
    return this.#running!.pid;
  }

  get complaint(): string {
    return this.#running?.complaint ?? '';
  }

  get leads(): boolean {
    if (!this.#running || this.#running.ended) return false;
    const { said } = this.#running;
    return said.lastIndexOf('"event":"leads"') > said.lastIndexOf('"event":"leads-no-more"');
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  async stop(signal?: NodeJS.Signals): Promise<void> {
    await this.#running?.stop(signal);
  }
}

/** Its members' addresses for clients. */
export async function startEtcd(bench: Bench): Promise<string[]> {
  const members = await Promise.all(
    [1, 2, 3].map(async (number) => ({
      name: `m${number}`,
      peer: await freePort(),
      client: await freePort(),
    })),
  );
  const cluster = members.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`).join(',');
  for (const { name, peer, client } of members) {
    const urls = { peer: `http://127.0.0.1:${peer}`, client: `http://127.0.0.1:${client}` };
    const args = [
      ['--name', name, '--data-dir', bench.path(`etcd-${name}`)],
      ['--listen-peer-urls', urls.peer, '--initial-advertise-peer-urls', urls.peer],
      ['--listen-client-urls', urls.client, '--advertise-client-urls', urls.client],
      ['--initial-cluster', cluster, '--log-level', 'error'],
    ].flat();
    bench.keep(
      new Running({ command: 'etcd', args, env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } }),
    );
  }
  return members.map(({ client }) => `127.0.0.1:${client}`);
}
