// libnbd's interop programs: of its source tree (interop/), built against the libnbd of the system as its Makefile.am does for other
// servers, with cellblock in their place. Over `cellblock serve-stdio`, and over a socket cellblockd is started with. Where the source
// tree comes from: scripts/libnbd-interop.js.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ApiClient } from '../support/api-client.js';
import { Certificates } from '../support/certificates.js';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, must, repositoryRoot } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';

t.setTimeout(600_000);

const { CELLBLOCK_LIBNBD_SOURCE: source } = process.env;
const skip =
  source === undefined
    ? 'CELLBLOCK_LIBNBD_SOURCE names no source tree of libnbd (npm run libnbd-interop gets one)'
    : missing('gcc', 'pkg-config', 'openssl');

/** What the programs ask for. */
const SIZE = MIB;
const PROGRAM = (name: string): string => path.join(repositoryRoot, `dist/src/main/${name}.js`);

type Defines = Record<string, string | number>;

/** As C has it. */
const text = (value: string): string => JSON.stringify(value);
const texts = (values: readonly string[]): string => values.map(text).join(', ');

/** The server of a program, as its preprocessor wants it. */
const server = ([command = '', ...args]: readonly string[]): Defines => ({
  SERVER: text(command),
  SERVER_PARAMS: texts(args),
});

const stdio = (daemon: Daemon, name: string): string[] => [
  process.execPath,
  PROGRAM('cellblock'),
  '--api',
  daemon.apiPath,
  'serve-stdio',
  name,
];

/** A directory in which programs are built and run: they look for keys and certificates in `../tests`. */
class Workshop {
  readonly #directory: string;
  #built = 0;

  constructor(directory: string) {
    this.#directory = directory;
    for (const name of ['interop', 'tests']) mkdirSync(path.join(directory, name), { recursive: true });
    writeFileSync(path.join(directory, 'interop/config.h'), '');
  }

  get keys(): string {
    return path.join(this.#directory, 'tests');
  }

  async #build(name: string, defines: Defines): Promise<string> {
    this.#built += 1;
    const program = path.join(this.#directory, 'interop', `${name}-${this.#built}`);
    const folders = ['common/include', 'tests'].map((folder) => path.join(source as string, folder));
    const words = [path.join(this.#directory, 'interop'), ...folders].map((folder) => `-I${folder}`);
    words.push(...Object.entries(defines).map(([key, value]) => `-D${key}=${value}`));
    words.push(path.join(source as string, 'interop', `${name}.c`));
    words.push(path.join(source as string, 'tests/requires.c'), '-o', program, '-lnbd');
    await must('gcc', words);
    return program;
  }

  /** Builds and runs one; what it has against the server is the message. */
  async passes(name: string, defines: Defines, words: readonly string[] = []): Promise<void> {
    const program = await this.#build(name, defines);
    // A file, no pipe: the server of one that fails goes on, and would hold it.
    const said = openSync(`${program}.log`, 'w');
    const cwd = path.join(this.#directory, 'interop');
    const child = spawn(program, [...words], { cwd, stdio: ['ignore', said, said], timeout: 60_000 });
    const [code] = (await once(child, 'exit')) as [number | null];
    closeSync(said);
    if (code !== 0) throw new Error(`${name}: exit code ${code}\n${readFileSync(`${program}.log`, 'utf8')}`);
  }
}

/** A store nobody serves, and the words that start an agent on it with the socket it is given. */
async function prepared(t: Test, fill: (daemon: Daemon) => Promise<void>): Promise<string[]> {
  const daemon = await Daemon.start(t);
  await fill(daemon);
  await daemon.stop();
  const api = path.join(daemon.directory, 'a');
  // Its client has ended it, unless that failed.
  t.teardown(async () => {
    const left = await new ApiClient(api).call<{ pid: number }>('GET', '/v1/status').catch(() => null);
    if (left !== null) process.kill(left.pid, 'SIGKILL');
  });
  const words = [process.execPath, PROGRAM('cellblockd'), '--store', daemon.store];
  return [...words, '--api', api, '--default-export', 'disk'];
}

t.test('libnbd’s interop programs', { skip }, async (t) => {
  const workshop = new Workshop(t.testdir());
  const certificates = await Certificates.make(path.join(workshop.keys, 'pki'));
  writeFileSync(path.join(workshop.keys, 'keys.psk'), `alice:${certificates.alicesKey.toString('hex')}\n`, {
    mode: 0o600,
  });
  const plain = await Daemon.start(t);
  const secure = await Daemon.start(t, {
    configuration: { nbd: { tls: { ...certificates.settings(), mode: 'forced' } } },
  });
  for (const daemon of [plain, secure]) {
    const volume = { name: 'disk', size: String(SIZE), description: 'data' };
    await daemon.api.call('POST', '/v1/volumes', volume);
  }
  await plain.api.createVolume('other', SIZE);

  await t.test('interop: the export by its name, and the only one there is', async () => {
    for (const name of ['disk', '']) {
      await workshop.passes('interop', { ...server(stdio(plain, 'disk')), EXPORT_NAME: text(name) });
    }
  });

  for (const credentials of ['CERTS', 'PSK']) {
    await t.test(
      `interop, TLS by ${credentials}: required, allowed, and allowed where there is none`,
      async () => {
        const required = { [credentials]: 1, TLS_MODE: 'LIBNBD_TLS_REQUIRE' };
        const allowed = { [credentials]: 1, TLS_MODE: 'LIBNBD_TLS_ALLOW' };
        await workshop.passes('interop', { ...server(stdio(secure, 'disk')), ...required });
        await workshop.passes('interop', { ...server(stdio(secure, 'disk')), ...allowed });
        await workshop.passes('interop', { ...server(stdio(plain, 'disk')), ...allowed, TLS_FALLBACK: 1 });
      },
    );
  }

  await t.test('list-exports', async () => {
    const only = { EXPORTS: text('disk'), DESCRIPTIONS: text('data') };
    await workshop.passes('list-exports', { ...server(stdio(plain, 'disk')), ...only });
  });

  await t.test(
    'interop, list-exports and socket-activation, with a socket that is handed over',
    async (t) => {
      const words = await prepared(t, async (daemon) => {
        const volume = { name: 'disk', size: String(SIZE), description: 'data' };
        await daemon.api.call('POST', '/v1/volumes', volume);
        await daemon.api.call('POST', '/v1/volumes', { ...volume, name: 'other', description: 'more' });
      });
      await workshop.passes('socket-activation', server(words));
      await workshop.passes('interop', {
        ...server(words),
        SOCKET_ACTIVATION: 1,
        EXPORT_NAME: text('other'),
      });
      await workshop.passes('list-exports', {
        ...server(words),
        SOCKET_ACTIVATION: 1,
        EXPORTS: texts(['disk', 'other']),
        DESCRIPTIONS: texts(['data', 'more']),
      });
    },
  );

  await t.test('dirty-bitmap: what has changed since a snapshot, beside what is allocated', async (t) => {
    const words = await prepared(t, async (daemon) => {
      await daemon.api.createVolume('disk', SIZE);
      const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
      const length = 64 * 1024;
      await client.command({ type: CMD.write, length }, Buffer.alloc(length, 1));
      // To QEMU zeros over zeros are a change; here only what was data has changed when it is zeroed.
      await client.command({ type: CMD.write, offset: 8 * length, length }, Buffer.alloc(length, 1));
      await daemon.api.snapshot('disk@bitmap0');
      await client.command({ type: CMD.write, offset: length, length }, Buffer.alloc(length, 1));
      await client.command({ type: CMD.writeZeroes, offset: 8 * length, length });
      await client.leave();
    });
    await workshop.passes('dirty-bitmap', {}, ['qemu:dirty-bitmap:bitmap0', ...words]);
  });
});
