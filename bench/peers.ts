// The peers and the limit: each serves one file on a unix socket under the export name "data".
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Export } from './fio.js';
import { attempt, listening, Running, run } from './processes.js';

const EXPORT_NAME = 'data';

export interface Served {
  readonly target: Export;
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
  readonly #served = new Set<Served>();
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
    const how = [
      '--aio=io_uring',
      '--cache=writeback',
      '--discard=unmap',
      '-e',
      '8',
      '-t',
      '-x',
      EXPORT_NAME,
    ];
    return this.#serve((socket) => ['qemu-nbd', '-f', format, ...how, '-k', socket, file]);
  }

  nbdkit(file: string): Promise<Served> {
    return this.#serve((socket) => ['nbdkit', '-f', '-U', socket, 'file', file]);
  }

  /** nbd-server has no foreground mode that survives its first client, so it is found by its pid file. */
  async nbdServer(file: string): Promise<Served> {
    const directory = await mkdtemp(join(this.#options.sockets, 'n'));
    const socket = join(directory, 's');
    const pidFile = join(directory, 'pid');
    const lines = ['[generic]', `unixsock = ${socket}`, `[${EXPORT_NAME}]`, `exportname = ${file}`];
    await writeFile(
      join(directory, 'c'),
      `${[...lines, 'flush = true', 'fua = true', 'trim = true'].join('\n')}\n`,
    );
    await run('nbd-server', ['-C', join(directory, 'c'), '-p', pidFile]);
    await listening(socket, null);
    const pid = Number(await readFile(pidFile, 'utf8'));
    return this.#keep({ socket, name: EXPORT_NAME }, () => endDaemon(pid));
  }

  async stopAll(): Promise<void> {
    for (const served of [...this.#served].reverse()) await served.stop();
  }

  async #serve(command: (socket: string) => string[]): Promise<Served> {
    this.#sockets += 1;
    const socket = join(this.#options.sockets, `p${this.#sockets}`);
    await rm(socket, { force: true });
    const [program, ...args] = command(socket);
    const server = new Running({ command: program as string, args });
    const served = this.#keep({ socket, name: EXPORT_NAME }, () => server.stop());
    await listening(socket, server);
    return served;
  }

  #keep(target: Export, end: () => Promise<void>): Served {
    const served: Served = {
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

async function endDaemon(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  for (let tries = 0; tries < 500; tries += 1) {
    if ((await attempt('kill', ['-0', String(pid)])).code !== 0) return;
    await sleep(20);
  }
  process.kill(pid, 'SIGKILL');
}
