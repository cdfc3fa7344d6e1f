// The one place that knows how our daemon is started and spoken to. Everything else asks for volumes and snapshots.
import { existsSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Certificates } from '../test/support/certificates.js';
import type { TcpExport } from './client.js';
import type { Export } from './fio.js';
import { type ProcessCosts, processCosts } from './machine.js';
import { listening, Running } from './processes.js';

export interface CellblockOptions {
  readonly root: string;
  readonly store: string;
  readonly sockets: string;
  /** Distinguishes daemons that run at one time. */
  readonly label: string;
  /** Serves on this port of loopback as well, in TLS and in clear; the files of the certificates are the daemon's settings. */
  readonly tcp?: { readonly port: number; readonly certificates: Certificates };
}

/** Where the built daemon is looked for. */
export function daemonProgram(root: string): string {
  return join(root, 'dist', 'src', 'main', 'cellblockd.js');
}

export function isBuilt(root: string): boolean {
  return existsSync(daemonProgram(root));
}

// Longer than a round waits for dirty windows to be old enough.
const IDLE_LOOK_MS = 1000;
const IDLE_LOOKS = 7;
const IDLE_LIMIT_MS = 300_000;

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** Of what a sync answers. */
export interface SyncAnswer {
  /** `VOLUME@SNAPSHOT` of undo points. */
  readonly safety: readonly string[];
  readonly disks: readonly {
    readonly identity: { readonly restored: readonly { field: string; kind: string }[] };
  }[];
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk as Uint8Array));
  const text = Buffer.concat(chunks).toString();
  const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  return { status: response.statusCode ?? 0, body };
}

export class Cellblock {
  readonly #options: CellblockOptions;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  #daemon: Running | null = null;

  constructor(options: CellblockOptions) {
    this.#options = options;
  }

  get #nbdSocket(): string {
    return join(this.#options.sockets, `${this.#options.label}.nbd`);
  }

  get #apiSocket(): string {
    return join(this.#options.sockets, `${this.#options.label}.api`);
  }

  get pid(): number {
    if (this.#daemon === null) throw new Error('the daemon is not running');
    return this.#daemon.pid;
  }

  get store(): string {
    return this.#options.store;
  }

  /** Starts the daemon without waiting for it; `ready` waits. */
  spawn(): void {
    if (this.#daemon !== null) throw new Error('the daemon runs already');
    const { root, store } = this.#options;
    const args = [
      daemonProgram(root),
      '--store',
      store,
      '--nbd',
      `unix:${this.#nbdSocket}`,
      '--api',
      this.#apiSocket,
      ...this.#tcpWords(),
    ];
    // The debug endpoint holds the JavaScript thread busy for B15.
    this.#daemon = new Running({
      command: process.execPath,
      args,
      env: { ...process.env, CELLBLOCK_DEBUG: '1' },
    });
  }

  #tcpWords(): string[] {
    const { tcp, sockets, label } = this.#options;
    if (tcp === undefined) return [];
    const file = join(sockets, `${label}.yaml`);
    const tls = { ...tcp.certificates.settings(), mode: 'selective', clients: 'required' };
    writeFileSync(file, JSON.stringify({ nbd: { tls } })); // JSON is YAML
    return ['--nbd', `tcp:127.0.0.1:${tcp.port}`, '--config', file];
  }

  async start(): Promise<void> {
    this.spawn();
    await this.ready();
  }

  async ready(): Promise<void> {
    await listening(this.#apiSocket, this.#daemon);
    await listening(this.#nbdSocket, this.#daemon);
    if (this.#options.tcp !== undefined) await listening(this.#options.tcp.port, this.#daemon);
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    await this.#daemon?.stop();
    this.#daemon = null;
  }

  /** A clean stop and a start: nothing is resident afterwards. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  costs(): Promise<ProcessCosts> {
    return processCosts(this.pid);
  }

  /** Rounds and compactions of what was made go on for a while: they are no part of what is measured next. */
  async untilIdle(): Promise<void> {
    const end = performance.now() + IDLE_LIMIT_MS;
    let quiet = 0;
    while (quiet < IDLE_LOOKS && performance.now() < end) {
      const { cpu_ms } = await this.costs();
      await sleep(IDLE_LOOK_MS);
      const busy = (await this.costs()).cpu_ms - cpu_ms;
      quiet = busy < IDLE_LOOK_MS / 20 ? quiet + 1 : 0;
    }
  }

  target(name: string): Export {
    return { socket: this.#nbdSocket, name };
  }

  /** On the port that it was started with. */
  tcpTarget(name: string, how: 'clear' | 'tls'): TcpExport {
    const { tcp } = this.#options;
    if (tcp === undefined) throw new Error('the daemon listens on no port');
    const clear = { port: tcp.port, name };
    return how === 'clear' ? clear : { ...clear, certificates: tcp.certificates.directory };
  }

  async createVolume(name: string, size_bytes: number): Promise<void> {
    await this.#call('POST', '/v1/volumes', { name, size: String(size_bytes) });
  }

  async deleteVolume(name: string): Promise<void> {
    await this.#call('DELETE', `/v1/volumes/${encodeURIComponent(name)}?with_snapshots=true&disconnect=true`);
  }

  /** All in one instant; each is NAME@SNAP. */
  async snapshot(...targets: string[]): Promise<void> {
    await this.#call('POST', '/v1/snapshots', { targets });
  }

  async deleteSnapshot(target: string): Promise<void> {
    await this.#call('DELETE', `/v1/snapshots/${encodeURIComponent(target)}`);
  }

  async clone(source: string, name: string): Promise<void> {
    await this.#call('POST', '/v1/clones', { source, name });
  }

  /** Brings a volume to the state of NAME@SNAP and keeps its identity; answers what is known of the sync. */
  async sync(target: string, from: string): Promise<SyncAnswer> {
    return (await this.#call('POST', '/v1/syncs', { target, from })) as unknown as SyncAnswer;
  }

  /** Holds the JavaScript thread busy; resolves when it is free again. */
  async busy(ms: number): Promise<void> {
    await this.#call('POST', '/v1/debug/busy', { ms });
  }

  async #call(method: string, path: string, body?: unknown): Promise<Answer['body']> {
    const answer = await this.#exchange(method, path, body);
    if (answer.status >= 400) {
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    if (method === 'DELETE') await this.#finished(answer);
    return answer.body;
  }

  /** A delete is durable when it is answered; the task it answers with has done all of its work when it has ended. */
  async #finished({ body }: Answer): Promise<void> {
    let task = body;
    while (task.state === 'running') {
      await sleep(2);
      task = (await this.#exchange('GET', `/v1/tasks/${String(body.id)}`)).body;
    }
    if (task.state !== 'done') throw new Error(`a task did not end well: ${JSON.stringify(task)}`);
  }

  #exchange(method: string, path: string, body?: unknown): Promise<Answer> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.#apiSocket,
          agent: this.#agent,
          method,
          path,
          headers:
            payload === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
        },
        (response) => readAnswer(response).then(resolve, reject),
      );
      sent.on('error', reject);
      sent.end(payload);
    });
  }
}
