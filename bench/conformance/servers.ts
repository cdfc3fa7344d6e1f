// Who is judged, every case on content of its own, the peers started anew for each: what one case leaves behind, or a server that
// hangs or dies, is nothing to the next. Each is set up to offer what it can.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Target } from '../../test/conformance/target.js';
import { Daemon } from '../../test/support/daemon.js';
import { CMD } from '../../test/support/nbd-wire.js';
import { RawNbd } from '../../test/support/raw-nbd.js';
import { run } from '../processes.js';
import { FILLED, foreground, image, nbdServerWith, SIZE, type Started } from './started.js';

const NAME = 'disk';
const SECOND_NAME = 'disk@before';
const DEFAULT_NAME = 'default';
const FORBIDDEN_NAME = 'forbidden';
const DESCRIPTION = 'a disk for the cases';

/** What only cellblock is set up for. */
const NOT_SET_UP = { forbidden: null, defaultExport: null, description: null } as const;

export interface Wish {
  /** A read-only export is wanted. A server of one export gives only that one. */
  readonly readOnly: boolean;
  readonly bitmap: boolean;
}

export interface Served extends Started {
  readonly target: Omit<Target, 'promises' | 'offers'>;
  /** A writable and a read-only export at one time. */
  readonly hasSecondExport: boolean;
}

/** Of a peer that serves both of its exports at one time. */
function twoExports(socket: string, { readOnly }: Wish): Pick<Served, 'target' | 'hasSecondExport'> {
  return {
    target: {
      address: `unix:${socket}`,
      writable: NAME,
      size: BigInt(SIZE),
      readOnly: readOnly ? SECOND_NAME : null,
      bitmap: null,
      ...NOT_SET_UP,
      processId: null,
    },
    hasSecondExport: true,
  };
}

export interface Server {
  readonly name: string;
  /** Of Programs that have to be installed. */
  readonly program: string;
  /** `directory` is empty and short enough for a socket in it. */
  start(directory: string, wish: Wish): Promise<Served>;
  /** Ends what is kept from one case to the next. */
  stop?(): Promise<void>;
}

/** One daemon for all cases, with a volume of its own for each: it takes longer to start than the others. */
class Cellblock implements Server {
  readonly name = 'cellblock';
  readonly program = process.execPath;
  #daemon: Daemon | null = null;
  readonly #ends: (() => unknown)[] = [];
  #volumes = 0;

  async start(): Promise<Served> {
    if (this.#daemon === null || this.#daemon.hasEnded) {
      const context = { teardown: (end: () => unknown) => this.#ends.push(end) };
      this.#daemon = await Daemon.start(context, { args: ['--default-export', DEFAULT_NAME] });
      await this.#daemon.api.createVolume(DEFAULT_NAME, SIZE);
      const others = { name: FORBIDDEN_NAME, size: String(SIZE), allow: ['uid:4000000000'] };
      await this.#daemon.api.call('POST', '/v1/volumes', others);
    }
    const daemon = this.#daemon;
    this.#volumes += 1;
    const writable = `disk${this.#volumes}`;
    const volume = { name: writable, size: String(SIZE), description: DESCRIPTION };
    await daemon.api.call('POST', '/v1/volumes', volume);
    const address = `unix:${daemon.nbdPath}`;
    const { client } = await RawNbd.open(address, writable);
    await client.command({ type: CMD.write, length: FILLED.length }, FILLED);
    client.close();
    const readOnly = `${writable}@before`;
    await daemon.api.snapshot(readOnly);
    return {
      target: {
        address,
        writable,
        size: BigInt(SIZE),
        readOnly,
        bitmap: 'before',
        forbidden: FORBIDDEN_NAME,
        defaultExport: DEFAULT_NAME,
        description: DESCRIPTION,
        processId: daemon.pid,
      },
      hasSecondExport: true,
      isAlive: () => !daemon.hasEnded,
      leave: async () => {},
      kill: () => daemon.kill(),
    };
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }
}

const qemuNbd: Server = {
  name: 'qemu-nbd',
  program: 'qemu-nbd',
  async start(directory, wish) {
    const socket = join(directory, 's');
    const raw = await image(join(directory, 'raw'));
    const common = ['--cache=writeback', '--discard=unmap', '-A', '-e', '0', '-t', '-x', NAME, '-k', socket];
    let words = ['-f', 'raw', ...(wish.readOnly ? ['-r'] : []), raw];
    if (wish.bitmap) {
      const layered = join(directory, 'qcow2');
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', layered, String(SIZE)]);
      await run('qemu-img', ['bitmap', '--add', '-g', '4096', layered, 'before']);
      words = ['-f', 'qcow2', '-B', 'before', layered];
    }
    return {
      target: {
        address: `unix:${socket}`,
        writable: NAME,
        size: BigInt(SIZE),
        readOnly: wish.readOnly ? NAME : null,
        bitmap: wish.bitmap ? 'before' : null,
        ...NOT_SET_UP,
        processId: null,
      },
      hasSecondExport: false,
      ...(await foreground(socket, ['qemu-nbd', ...common, ...words])),
    };
  },
};

const nbdkit: Server = {
  name: 'nbdkit',
  program: 'nbdkit',
  async start(directory, wish) {
    const socket = join(directory, 's');
    // With a directory its exports have names; with a single file any name is as good as another.
    const files = join(directory, 'files');
    await mkdir(files);
    for (const name of [NAME, SECOND_NAME]) await image(join(files, name));
    const words = ['-f', '-U', socket, ...(wish.readOnly ? ['-r'] : []), 'file', `dir=${files}`];
    return {
      ...twoExports(socket, wish),
      ...(await foreground(socket, ['nbdkit', ...words])),
    };
  },
};

const nbdServer: Server = {
  name: 'nbd-server',
  program: 'nbd-server',
  async start(directory, wish) {
    const socket = join(directory, 's');
    const section = async (name: string): Promise<string[]> => [
      `[${name}]`,
      `exportname = ${await image(join(directory, name))}`,
      'flush = true',
      'fua = true',
      'trim = true',
    ];
    const lines = ['[generic]', `unixsock = ${socket}`, 'allowlist = true', ...(await section(NAME))];
    lines.push(...(await section(SECOND_NAME)), 'readonly = true');
    return {
      ...twoExports(socket, wish),
      ...(await nbdServerWith(directory, 's', lines)),
    };
  },
};

export const servers: readonly Server[] = [new Cellblock(), qemuNbd, nbdkit, nbdServer];
