// The same servers in TLS, in the modes they have, for the cases of STARTTLS: cellblock in two daemons that are kept, the peers started
// anew for each case.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TlsTarget } from '../../test/conformance/tls-cases.js';
import type { Certificates } from '../../test/support/certificates.js';
import { Daemon } from '../../test/support/daemon.js';
import { foreground, image, nbdServerWith, SIZE, type Started, together } from './started.js';

const OPEN = 'disk';
const SECRET = 'secret';

export interface TlsServed extends Started {
  readonly target: Pick<TlsTarget, 'forced' | 'selective' | 'open' | 'secret'>;
}

export interface TlsServer {
  /** As in servers.ts. */
  readonly name: string;
  /** `directory` is empty and short enough for a socket in it. */
  start(directory: string, certificates: Certificates): Promise<TlsServed>;
  stop?(): Promise<void>;
}

class Cellblock implements TlsServer {
  readonly name = 'cellblock';
  #kept: { forced: Daemon; selective: Daemon } | null = null;
  readonly #ends: (() => unknown)[] = [];

  async start(_directory: string, certificates: Certificates): Promise<TlsServed> {
    this.#kept ??= {
      forced: await this.#daemon(certificates, { mode: 'forced' }, [OPEN]),
      selective: await this.#daemon(certificates, { mode: 'selective', only: [SECRET] }, [OPEN, SECRET]),
    };
    const { forced, selective } = this.#kept;
    return {
      target: { forced: forced.nbdPath, selective: selective.nbdPath, open: OPEN, secret: SECRET },
      isAlive: () => !forced.hasEnded && !selective.hasEnded,
      leave: async () => {},
      kill: async () => {
        this.#kept = null;
        await Promise.all([forced.kill(), selective.kill()]);
      },
    };
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }

  async #daemon(certificates: Certificates, tls: object, volumes: readonly string[]): Promise<Daemon> {
    const context = { teardown: (end: () => unknown) => this.#ends.push(end) };
    const daemon = await Daemon.start(context, {
      configuration: { nbd: { tls: { ...certificates.settings(), ...tls } } },
    });
    for (const name of volumes) await daemon.api.createVolume(name, SIZE);
    return daemon;
  }
}

const qemuNbd: TlsServer = {
  name: 'qemu-nbd',
  async start(directory, certificates) {
    const socket = join(directory, 'f');
    const credentials = `tls-creds-x509,id=t,endpoint=server,verify-peer=off,dir=${certificates.directory}`;
    const tls = ['--object', credentials, '--tls-creds', 't'];
    const words = [
      '-e',
      '0',
      '-t',
      '-x',
      OPEN,
      '-k',
      socket,
      '-f',
      'raw',
      await image(join(directory, 'raw')),
    ];
    return {
      target: { forced: socket, selective: null, open: OPEN, secret: null },
      ...(await foreground(socket, ['qemu-nbd', ...tls, ...words])),
    };
  },
};

const nbdkit: TlsServer = {
  name: 'nbdkit',
  async start(directory, certificates) {
    const files = join(directory, 'files');
    await mkdir(files);
    await image(join(files, OPEN));
    const started = (socket: string, tls: 'on' | 'require'): Promise<Started> =>
      foreground(socket, [
        'nbdkit',
        ...['-f', '-U', socket, `--tls=${tls}`, `--tls-certificates=${certificates.directory}`],
        ...['file', `dir=${files}`],
      ]);
    const [forced, selective] = [join(directory, 'f'), join(directory, 's')];
    return {
      target: { forced, selective, open: OPEN, secret: null },
      ...together([await started(forced, 'require'), await started(selective, 'on')]),
    };
  },
};

const nbdServer: TlsServer = {
  name: 'nbd-server',
  async start(directory, certificates) {
    const started = async (name: string, general: string[], ofSecret: string[]): Promise<Started> => {
      const section = async (disk: string): Promise<string[]> => [
        `[${disk}]`,
        `exportname = ${await image(join(directory, `${name}-${disk}`))}`,
      ];
      const lines = ['[generic]', `unixsock = ${join(directory, name)}`, 'allowlist = true', ...general];
      lines.push(`certfile = ${certificates.file('server-cert.pem')}`);
      lines.push(`keyfile = ${certificates.file('server-key.pem')}`);
      lines.push(`cacertfile = ${certificates.file('ca-cert.pem')}`);
      lines.push(...(await section(OPEN)), ...(await section(SECRET)), ...ofSecret);
      return nbdServerWith(directory, name, lines);
    };
    return {
      target: { forced: join(directory, 'f'), selective: join(directory, 's'), open: OPEN, secret: SECRET },
      ...together([
        await started('f', ['force_tls = true'], []),
        await started('s', [], ['force_tls = true']),
      ]),
    };
  },
};

export const tlsServers: readonly TlsServer[] = [new Cellblock(), qemuNbd, nbdkit, nbdServer];
