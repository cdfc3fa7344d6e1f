// The peers and the limit: each serves one file under the export name "data", on a unix socket or, in TLS, on loopback.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TcpExport } from './client.js';
import type { Export } from './fio.js';
import { attempt, freePort, listening, Running, run } from './processes.js';

const EXPORT_NAME = 'data';
const QEMU = [
  '--aio=io_uring',
  '--cache=writeback',
  '--discard=unmap',
  '-e',
  '8',
  '-t',
  '-x',
  EXPORT_NAME,
] as const;

export interface Served<Target = Export> {
  readonly target: Target;
  stop(): Promise<void>;
}

export interface PeersOptions {
  /** Where sockets go: short, a socket path has at most 107 bytes. */
  readonly sockets: string;
  readonly limitProgram: string;
  /** Programs that could not be installed. */
  readonly missing: ReadonlySet<string>;
}

export class Peers {
  readonly #options: PeersOptions;
  readonly #served = new Set<Served<unknown>>();
  #sockets = 0;

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  has(program: 'qemu-nbd' | 'nbdkit' | 'nbd-server' | 'nbdfuse'): boolean {
    return !this.#options.missing.has(program);
  }

  limit(file: string): Promise<Served> {
    return this.#serve((socket) => [this.#options.limitProgram, file, socket]);
  }

  qemu(file: string, format: 'raw' | 'qcow2'): Promise<Served> {
    return this.#serve((socket) => ['qemu-nbd', '-f', format, ...QEMU, '-k', socket, file]);
  }

  nbdkit(file: string): Promise<Served> {
    return this.#serve((socket) => ['nbdkit', '-f', '-U', socket, 'file', file]);
  }

  nbdServer(file: string): Promise<Served> {
    const socket = this.#newSocket();
    return this.#nbdServer(file, { socket, name: EXPORT_NAME }, [`unixsock = ${socket}`]);
  }

  /** The peers again, with the same settings but on TCP and in TLS, where clients have to show a certificate. */
  async qemuTls(file: string, certificates: string): Promise<Served<TcpExport>> {
    const credentials = `tls-creds-x509,id=tls,dir=${certificates},endpoint=server,verify-peer=yes`;
    const tls = ['--object', credentials, '--tls-creds', 'tls'];
    return this.#serveTls(certificates, (port) => [
      ...['qemu-nbd', '-f', 'raw', ...QEMU, ...tls, '-b', '127.0.0.1', '-p', String(port), file],
    ]);
  }

  async nbdkitTls(file: string, certificates: string): Promise<Served<TcpExport>> {
    const tls = ['--tls=require', `--tls-certificates=${certificates}`, '--tls-verify-peer'];
    return this.#serveTls(certificates, (port) => [
      ...['nbdkit', '-f', '-i', '127.0.0.1', '-p', String(port), ...tls, 'file', file],
    ]);
  }

  async nbdServerTls(file: string, certificates: string): Promise<Served<TcpExport>> {
    const port = await freePort();
    return this.#nbdServer(file, { port, name: EXPORT_NAME, certificates }, [
      'listenaddr = 127.0.0.1',
      `port = ${port}`,
      'force_tls = true',
      `certfile = ${join(certificates, 'server-cert.pem')}`,
      `keyfile = ${join(certificates, 'server-key.pem')}`,
      `cacertfile = ${join(certificates, 'ca-cert.pem')}`,
      // It would speak 1.2 only.
      'tlsprio = NORMAL:-VERS-TLS-ALL:+VERS-TLS1.3:%SERVER_PRECEDENCE',
    ]);
  }

  async stopAll(): Promise<void> {
    for (const served of [...this.#served].reverse()) await served.stop();
  }

  #newSocket(): string {
    this.#sockets += 1;
    return join(this.#options.sockets, `p${this.#sockets}`);
  }

  async #serve(command: (socket: string) => string[]): Promise<Served> {
    const socket = this.#newSocket();
    await rm(socket, { force: true });
    return this.#run({ socket, name: EXPORT_NAME }, command(socket));
  }

  async #serveTls(certificates: string, command: (port: number) => string[]): Promise<Served<TcpExport>> {
    const port = await freePort();
    return this.#run({ port, name: EXPORT_NAME, certificates }, command(port));
  }

  async #run<Target extends Export | TcpExport>(
    target: Target,
    [program, ...args]: string[],
  ): Promise<Served<Target>> {
    const server = new Running({ command: program as string, args });
    const served = this.#keep(target, () => server.stop());
    await listening(placeOf(target), server);
    return served;
  }

  /** nbd-server has no foreground mode that survives its first client, so it is found by its pid file. */
  async #nbdServer<Target extends Export | TcpExport>(
    file: string,
    target: Target,
    generic: readonly string[],
  ): Promise<Served<Target>> {
    const directory = await mkdtemp(join(this.#options.sockets, 'n'));
    const [pidFile, settings] = [join(directory, 'pid'), join(directory, 'c')];
    const lines = ['[generic]', ...generic, `[${EXPORT_NAME}]`, `exportname = ${file}`];
    await writeFile(settings, `${[...lines, 'flush = true', 'fua = true', 'trim = true'].join('\n')}\n`);
    await run('nbd-server', ['-C', settings, '-p', pidFile]);
    await listening(placeOf(target), null);
    const pid = Number(await readFile(pidFile, 'utf8'));
    return this.#keep(target, () => endDaemon(pid));
  }

  #keep<Target>(target: Target, end: () => Promise<void>): Served<Target> {
    const served: Served<Target> = {
      target,
      stop: async () => {
        if (!this.#served.delete(served)) return;
        await end();
      },
    };
    this.#served.add(served);
    return served;
  }
}

function placeOf(target: Export | TcpExport): string | number {
  return 'socket' in target ? target.socket : target.port;
}

async function endDaemon(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  for (let tries = 0; tries < 500; tries += 1) {
    if ((await attempt('kill', ['-0', String(pid)])).code !== 0) return;
    await sleep(20);
  }
  process.kill(pid, 'SIGKILL');
}
