// Child processes of the bench: run to the end, or kept until the bench ends. What was started last is stopped first,
// also when a row fails, so no server outlives the bench.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

async function collect(stream: NodeJS.ReadableStream | null): Promise<string> {
  if (stream === null) return '';
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

/** Runs a program to its end and gives back its exit code, whatever it is. */
export async function attempt(command: string, args: readonly string[]): Promise<Finished> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'close') as Promise<[number | null, string | null]>;
  const [stdout, stderr, [code, signal]] = await Promise.all([
    collect(child.stdout),
    collect(child.stderr),
    exited,
  ]);
  return { stdout, stderr: signal === null ? stderr : `${stderr}ended by ${signal}`, code: code ?? 128 };
}

/** Runs a program to its end; anything but exit code 0 is an error that says what the program said. */
export async function run(command: string, args: readonly string[]): Promise<string> {
  const finished = await attempt(command, args);
  if (finished.code !== 0) {
    throw new Error(`${command} ${args.join(' ')}: exit code ${finished.code}: ${finished.stderr.trim()}`);
  }
  return finished.stdout;
}

/** Characters of what a server writes to stderr. */
const KEPT = 1 << 20;

export interface StartOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** A server of the bench. `stop` ends it and waits until it is gone; calling it twice is fine. */
export class Running {
  readonly #child: ChildProcess;
  #stderr = '';

  constructor(options: StartOptions) {
    this.#child = spawn(options.command, options.args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: options.env ?? process.env,
    });
    this.#child.on('error', (error) => {
      this.#stderr += String(error);
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-KEPT);
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`not started: ${this.#stderr}`);
    return this.#child.pid;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get complaint(): string {
    return this.#stderr.trim().slice(-4000);
  }

  /** The end of what it has written to stderr. */
  get said(): string {
    return this.#stderr;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.ended || this.#child.pid === undefined) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), 60_000);
    await exited;
    clearTimeout(patience);
  }
}

/** A port of loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(place: string | number): Promise<boolean> {
  const connection =
    typeof place === 'string' ? createConnection(place) : createConnection(place, '127.0.0.1');
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}

/** Waits until somebody listens on a unix socket, or a port of loopback. */
export async function listening(place: string | number, server: Running | null): Promise<void> {
  for (let tries = 0; tries < 3000; tries += 1) {
    if (await answers(place)) return;
    if (server?.ended) throw new Error(`the server of ${place} ended: ${server.complaint}`);
    await sleep(20);
  }
  throw new Error(`nobody listens on ${place}: ${server?.complaint ?? ''}`);
}
