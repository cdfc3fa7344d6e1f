// The programs as processes: what they say and how they end when they are started wrongly, stopped, or lose their reader.

import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadPlane } from '../../src/plane/addon.js';
import { until } from '../support/waiting.js';
import { startFakeAgent } from './fake-agent.js';
import { serveNbdkit, withoutNbdkit } from './nbdkit.js';

// A few starts of the programs, on a busy machine.
t.setTimeout(120_000);

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
        /in clear.*nbd\.tls\.mode.*--allow-remote-without-tls.*nbd\.allow_remote/,
      ],
    ];
    wrong.push(
      [['--store', store, '--default-export', 'a/b'], 2, /contains a `\/`/],
      [['--store', store, '--allow-remote'], 2, /[Uu]nknown option '--allow-remote'/],
    );
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

t.test(
  'a store that is made is for its owner alone, unlike its parents',
  { skip: withoutAddon },
  async (t) => {
    const directory = place(t);
    const store = join(directory, 'new/store');
    await startDaemon(t, ['--store', store, '--nbd', `unix:${join(directory, 'nbd')}`]);
    t.equal(statSync(store).mode & 0o777, 0o700);
    t.equal(statSync(join(directory, 'new')).mode & 0o777, 0o777 & ~process.umask());
  },
);

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

/** The command line as a process, against an agent whose exports are an nbdkit. */
async function startCellblock(t: Test, words: string[], stdio: StdioOptions = ['ignore', 'pipe', 'pipe']) {
  const agent = await startFakeAgent(t);
  agent.listeners.push(await serveNbdkit(t, ['pattern', '64M']));
  const start = (all: string[]) => {
    const child = spawn(process.execPath, [program('cellblock'), '--api', agent.apiPath, ...all], { stdio });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const ended = new Promise<{ code: number | null; signal: string | null; stderr: string }>((resolve) =>
      child.once('close', (code, signal) => resolve({ code, signal, stderr })),
    );
    t.teardown(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    return { child, ended };
  };
  return { ...agent, ...start(words) };
}

function fifo(t: Test): string {
  const path = join(place(t), 'fifo');
  spawnSync('mkfifo', [path]);
  return path;
}

/** The process has a handler for the signal. */
function catches(pid: number, signal: 'SIGHUP'): boolean {
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${caught}`) & (1n << BigInt(constants.signals[signal] - 1))) !== 0n;
}

const aWhile = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test('a fifo without another end can be left by a signal', { skip: withoutNbdkit }, async (t) => {
  for (const [verb, file] of [
    ['export', fifo(t)],
    ['import', fifo(t)],
  ] as const) {
    const { child, ended, operations } = await startCellblock(t, [
      'volume',
      verb,
      'a',
      file,
      ...(verb === 'export' ? ['--force'] : ['--size', '1M']),
    ]);
    // The last of its handlers; Node itself has some for the others.
    await until('its handlers of signals', () => catches(child.pid!, 'SIGHUP'));
    await aWhile(500);
    t.equal(child.exitCode, null, 'it waits');
    child.kill('SIGTERM');
    const outcome = await ended;
    t.equal(outcome.code, 130, verb);
    t.match(outcome.stderr, 'cellblock: Interrupted.');
    t.equal(operations.volumes.size, 0);
  }
});

t.test('a fifo carries an image', { skip: withoutNbdkit }, async (t) => {
  const path = fifo(t);
  const { ended } = await startCellblock(t, ['volume', 'export', 'a', path]);
  // Not spawnSync: the agent lives in this process.
  const reader = spawn('sh', ['-c', `wc -c < ${path}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let read = '';
  reader.stdout.setEncoding('utf8').on('data', (text: string) => {
    read += text;
  });
  await new Promise((resolve) => reader.once('close', resolve));
  t.equal(read.trim(), String(64 << 20));
  t.match(await ended, { code: 0 });
});

t.test('a second signal, of any kind, ends at once', async (t) => {
  const { child, ended, operations } = await startCellblock(t, ['volume', 'create', 'a', '--size', '1M']);
  operations.hold = new Promise(() => undefined);
  await aWhile(1500);
  child.kill('SIGINT');
  await aWhile(300);
  t.equal(child.exitCode, null, 'the first one waits for the answer');
  child.kill('SIGTERM');
  t.match(await ended, { code: null, signal: 'SIGTERM' });
});

t.test('output that nothing more goes into', { skip: withoutNbdkit }, async (t) => {
  const full = openSync('/dev/full', 'w');
  for (const words of [
    ['volume', 'export', 'a', '-'],
    ['volume', 'list'],
  ]) {
    const { ended } = await startCellblock(t, words, ['ignore', full, 'pipe']);
    const outcome = await ended;
    t.equal(outcome.code, 8, words.join(' '));
    t.match(outcome.stderr, /^cellblock: No space left for standard output\. Free some/);
  }
  closeSync(full);
});

t.test('an argument that is no UTF-8 is refused', async (t) => {
  const { apiPath, operations } = await startFakeAgent(t);
  const line = `exec ${process.execPath} ${program('cellblock')} --api ${apiPath} volume create "$(printf 'a\\377')" --size 1M`;
  const child = spawn('sh', ['-c', line], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  t.equal(await new Promise((resolve) => child.once('close', resolve)), 2);
  t.match(stderr, /^cellblock: The argument "a\ufffd" is not valid UTF-8\./);
  t.equal(operations.volumes.size, 0);
});
