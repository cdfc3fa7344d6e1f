// The programs as processes: what they say and how they end when they are started wrongly, stopped, or lose their reader.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadPlane } from '../../src/plane/addon.js';
import { startFakeAgent } from './fake-agent.js';

const program = (name: string) => fileURLToPath(new URL(`../../src/main/${name}.js`, import.meta.url));

/** A reason to skip, or false. */
const withoutAddon = (() => {
  try {
    loadPlane();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
})();

function runDaemon(words: string[]) {
  const { status, stderr, stdout } = spawnSync(process.execPath, [program('cellblockd'), ...words], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

function place(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-process-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

t.test(
  'cellblockd started wrongly: one sentence, what to do, an exit code, and no store is made',
  async (t) => {
    const directory = place(t);
    const config = join(directory, 'c.yaml');
    writeFileSync(config, '# mine\nstore:\n  cash: 64M\n');
    const store = join(directory, 'store');
    const wrong: [words: string[], status: number, says: RegExp][] = [
      [[], 2, /--store <directory>' not specified/],
      [['--store', store, '--sturdy'], 2, /[Uu]nknown option '--sturdy'/],
      [['--store', store, 'more'], 2, /[Tt]oo many arguments/],
      [
        ['--store', store, '--config', config],
        2,
        /c\.yaml, line 3: there is no key "cash"\. Known here: .*cache/,
      ],
      [['--store', store, '--config', '/no/such.yaml'], 3, /\/no\/such\.yaml does not exist\. Check/],
      [['--store', store, '--nbd', '/run/x'], 2, /no address to listen on\. Write unix:PATH/],
      [
        ['--store', store, '--nbd', 'tcp:0.0.0.0:10809'],
        2,
        /neither login nor encryption.*nbd\.allow_remote/,
      ],
    ];
    for (const [words, status, says] of wrong) {
      const outcome = runDaemon(words);
      t.equal(outcome.status, status, words.slice(2).join(' '));
      t.match(outcome.stderr, says);
      t.equal(outcome.stderr.trimEnd().split('\n').length, 1, 'one line');
    }
    t.notOk(existsSync(store), 'no store was made');
  },
);

t.test('--help and --version of cellblockd', async (t) => {
  t.match(runDaemon(['--help']), { status: 0, stdout: /--store <directory>/ });
  t.match(runDaemon(['--version']), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

interface Daemon {
  process: ChildProcess;
  ended: Promise<number | null>;
  log: () => string;
}

/** Resolves once it has said "ready". */
async function startDaemon(t: Test, words: string[]): Promise<Daemon> {
  const child = spawn(process.execPath, [program('cellblockd'), ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('"msg":"ready"')) resolve();
    });
    void ended.then(() => reject(new Error(`cellblockd ended at its start:\n${log}`)));
  });
  return { process: child, ended, log: () => log };
}

t.test('cellblockd from start to a clean stop', { skip: withoutAddon }, async (t) => {
  const directory = place(t);
  const api = join(directory, 'deeper', 'api.sock');
  const words = [
    '--store',
    join(directory, 'store'),
    '--nbd',
    `unix:${join(directory, 'nbd.sock')}`,
    '--nbd',
    'tcp:127.0.0.1:0',
    '--api',
    api,
  ];
  const daemon = await startDaemon(t, words);
  t.equal(statSync(api).mode & 0o777, 0o660);
  const cli = (...more: string[]) =>
    spawnSync(process.execPath, [program('cellblock'), '--api', api, ...more], { encoding: 'utf8' });
  t.match(cli('volume', 'create', 'a', '--size', '1G'), { status: 0 });
  const status = JSON.parse(cli('status', '--json').stdout);
  t.equal(status.pid, daemon.process.pid);
  t.match(status.listeners, [`unix:${join(directory, 'nbd.sock')}`, /^tcp:127\.0\.0\.1:[1-9]\d*$/]);

  const second = runDaemon([
    '--store',
    join(directory, 'store'),
    '--nbd',
    'tcp:127.0.0.1:0',
    '--api',
    join(directory, 'b.sock'),
  ]);
  t.equal(second.status, 5, 'a store is opened once');
  t.match(second.stderr, new RegExp(`in use by process ${daemon.process.pid}`));

  daemon.process.kill('SIGTERM');
  t.equal(await daemon.ended, 0);
  t.match(daemon.log(), '"msg":"stopped"');
  for (const line of daemon.log().trimEnd().split('\n'))
    t.doesNotThrow(() => JSON.parse(line), 'one JSON line an event');
  t.notOk(existsSync(api), 'no socket is left');

  const again = await startDaemon(t, words);
  t.match(cli('volume', 'list').stdout, /^a +1G/m, 'what was there is there');
  again.process.kill('SIGINT');
  t.equal(await again.ended, 0);
});

t.test(
  'npm start: says how to use it, Ctrl-C stops it, and the next start goes on',
  { skip: withoutAddon },
  async (t) => {
    const directory = place(t);
    const once = async () => {
      const child = spawn(process.execPath, [program('start')], {
        cwd: directory,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      t.teardown(async () => {
        child.kill('SIGKILL');
        await ended;
      });
      let said = '';
      await new Promise<void>((resolve, reject) => {
        child.stdout.setEncoding('utf8').on('data', (text: string) => {
          said += text;
          if (said.includes('npx cellblock volume list')) resolve();
        });
        void ended.then(() => reject(new Error(`ended at its start:\n${said}`)));
      });
      const cli = (...words: string[]) =>
        spawnSync(process.execPath, [program('cellblock'), ...words], { cwd: directory, encoding: 'utf8' });
      const volumes = cli('volume', 'list').stdout;
      t.match(cli('snapshot', 'create', `demo@s${child.pid}`), { status: 0 });
      child.kill('SIGINT');
      t.equal(await ended, 0);
      return { said, volumes };
    };
    const first = await once();
    for (const line of ["nbdinfo 'nbd+unix:///demo?socket=", 'qemu-system-x86_64 -drive', 'nbd-client -unix'])
      t.ok(first.said.includes(line), line);
    t.match(first.said, 'Stopped.');
    t.match(first.volumes, /^demo +10G +0 /m);
    t.match((await once()).volumes, /^demo +10G +1 /m, 'the same volume, with what was done to it');
  },
);

t.test('a reader that goes away ends the command line quietly', async (t) => {
  const { apiPath, operations } = await startFakeAgent(t);
  for (let index = 0; index < 3000; index++)
    await operations.createVolume(`volume-${index}`, { sizeBytes: 4096n });
  const child = spawn(process.execPath, [program('cellblock'), '--api', apiPath, 'volume', 'list'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  t.equal(await new Promise((resolve) => child.once('exit', resolve)), 141);
  t.equal(stderr, '');
});
