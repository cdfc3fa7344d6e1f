// cellblock serve-stdio under those who start it: libnbd's programs over a socket that is handed to the agent, inetd-like callers with
// two pipes, and whatever ends early.
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { handoverPath } from '../../src/model/handover.js';
import { Daemon } from '../support/daemon.js';
import {
  CMD,
  HANDSHAKE,
  infoRequest,
  MIB,
  OPT,
  optionMessage,
  requestMessage,
  u32,
} from '../support/nbd-wire.js';
import { missing, must, repositoryRoot, run } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

t.setTimeout(300_000);

/** nbdsh is the system's, and needs its python. */
const SYSTEM = { PATH: '/usr/bin:/bin' };
const shell = (script: string): Promise<string> => must('nbdsh', ['-c', script], { env: SYSTEM });
const withoutShell =
  missing('nbdsh') ||
  (spawnSync('nbdsh', ['-c', 'pass'], { env: SYSTEM }).status !== 0 &&
    'the nbd module of python3 is missing');

const program = path.join(repositoryRoot, 'dist/src/main/cellblock.js');
const words = (daemon: Daemon, name: string): string[] => [
  process.execPath,
  program,
  '--api',
  daemon.apiPath,
  'serve-stdio',
  name,
];

async function withVolumes(t: Test): Promise<Daemon> {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  await daemon.api.createVolume('other', 32 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  await client.command({ type: CMD.write, offset: 4096, length: 4096 }, Buffer.alloc(4096, 0x5a));
  await client.leave();
  await daemon.api.snapshot('disk@s');
  return daemon;
}

const connections = async (daemon: Daemon): Promise<number> =>
  (await daemon.api.call<{ counts: { connections: number } }>('GET', '/v1/status')).counts.connections;

t.test('libnbd, over a socket', { skip: withoutShell }, async (t) => {
  const daemon = await withVolumes(t);

  await t.test('nbdsh: reads, writes, ends; the process ends with the client', async (t) => {
    const script = `
import os
h.connect_command(${JSON.stringify(words(daemon, 'disk'))})
assert h.get_size() == ${64 * MIB}
assert h.pread(4096, 4096) == b"\\x5a" * 4096
h.pwrite(b"\\xa5" * 512, 8192, nbd.CMD_FLAG_FUA)
h.shutdown()
print("done")
`;
    t.match(await shell(script), /done/);
    const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
    const kept = await client.command({ type: CMD.read, offset: 8192, length: 512 });
    t.ok(kept.data.equals(Buffer.alloc(512, 0xa5)));
    await client.leave();
    await until('the end of every connection', async () => (await connections(daemon)) === 0);
  });

  await t.test('nbdsh: another name is refused', async (t) => {
    const script = `
h.set_export_name("other")
h.connect_command(${JSON.stringify(words(daemon, 'disk'))})
`;
    const refused = await run('nbdsh', ['-c', script], { env: SYSTEM });
    t.not(refused.code, 0);
    t.match(refused.stderr, /'other'/);
  });

  await t.test('nbdsh: the one export by its name and without, a snapshot, and the list', async (t) => {
    const script = (name: string, asked: string) => `
h.set_opt_mode(True)
h.connect_command(${JSON.stringify(words(daemon, name))})
names = []
h.opt_list(lambda name, description: names.append(name))
h.set_export_name(${JSON.stringify(asked)})
h.opt_go()
print(names, h.get_size(), h.is_read_only())
`;
    for (const asked of ['disk', '']) {
      t.equal(await shell(script('disk', asked)), `['disk'] ${64 * MIB} False\n`, `asked for "${asked}"`);
    }
    t.equal(await shell(script('disk@s', '')), `['disk@s'] ${64 * MIB} True\n`);
  });
  t.ok((await daemon.api.check()).clean);
});

/** The command on two pipes; `said` grows by what it writes. */
function onPipes(t: Test, daemon: Daemon, name: string) {
  const [node = '', ...rest] = words(daemon, name);
  const child = spawn(node, rest, { stdio: ['pipe', 'pipe', 'pipe'] });
  const got: Buffer[] = [];
  let stderr = '';
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    child,
    ended,
    read: () => child.stdout.on('data', (bytes: Buffer) => got.push(bytes)),
    bytes: () => Buffer.concat(got),
    stderr: () => stderr,
  };
}

const HELLO = Buffer.concat([
  u32(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes),
  optionMessage(OPT.go, infoRequest('')),
]);
/** The greeting, the answer to GO. */
const HELLO_BYTES = 18 + 20 + 12 + 20;
const READ_BYTES = 1 * MIB;
const reads = (count: number) =>
  Buffer.concat(
    Array.from({ length: count }, (_, i) =>
      requestMessage({ type: CMD.read, cookie: BigInt(i), offset: 0, length: READ_BYTES }),
    ),
  );
const ANSWER_BYTES = 16 + READ_BYTES;

t.test('libnbd, over a listening socket', { skip: missing('nbdinfo', 'nbdcopy') }, async (t) => {
  const daemon = await withVolumes(t);
  const bracketed = (name: string) => ['--', '[', ...words(daemon, name), ']'];
  t.equal((await must('nbdinfo', ['--size', ...bracketed('disk')])).trim(), String(64 * MIB));
  t.match(await must('nbdinfo', ['--list', ...bracketed('disk@s')]), /export="disk@s"/);
  const image = path.join(t.testdir(), 'disk.img');
  await must('nbdcopy', [...bracketed('disk'), image]);
  const bytes = readFileSync(image);
  t.equal(bytes.length, 64 * MIB);
  t.ok(bytes.subarray(4096, 8192).equals(Buffer.alloc(4096, 0x5a)), 'what was written');
  t.equal(
    bytes.findIndex((byte, at) => byte !== 0 && (at < 4096 || at >= 8192)),
    -1,
    'and nothing else',
  );
  const nobody = await run('nbdinfo', ['--size', ...bracketed('nowhere')]);
  t.not(nobody.code, 0);
  await until('every client has gone', async () => (await connections(daemon)) === 0);
});

t.test('two pipes: an end of input is passed on, and every answer still comes', async (t) => {
  const daemon = await withVolumes(t);
  const { child, ended, read, bytes } = onPipes(t, daemon, 'disk');
  read();
  child.stdin.end(Buffer.concat([HELLO, reads(20)]));
  t.equal(await ended, 0);
  t.equal(bytes().length, HELLO_BYTES + 20 * ANSWER_BYTES);
  t.equal(bytes()[HELLO_BYTES + 16 + 4096], 0x5a, 'of the disk');
  await until('the end of the connection', async () => (await connections(daemon)) === 0);
});

t.test('two pipes: a client that does not read is waited for, and gets everything later', async (t) => {
  const daemon = await withVolumes(t);
  const { child, ended, read, bytes } = onPipes(t, daemon, 'disk');
  child.stdin.write(Buffer.concat([HELLO, reads(200)]));
  await until('a connection', async () => (await connections(daemon)) === 1);
  const resident = (): number =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) * 1024;
  // It has stopped: the data goes neither forth nor back, whatever the machine does.
  let before = -1;
  await until('the copy to stand still', async () => {
    const metrics = readFileSync(`/proc/${child.pid}/io`, 'utf8');
    const now = Number(/^wchar: (\d+)/m.exec(metrics)?.[1]);
    const still = now === before && now > HELLO_BYTES;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return still;
  });
  t.ok(resident() < 150 * MIB, `holds no ${200 * MIB} bytes: ${resident()}`);
  read();
  child.stdin.end();
  t.equal(await ended, 0);
  t.equal(bytes().length, HELLO_BYTES + 200 * ANSWER_BYTES);
});

t.test('two pipes: an end by signal, by the agent, by the client', async (t) => {
  const daemon = await withVolumes(t);
  const start = async () => {
    const one = onPipes(t, daemon, 'disk');
    one.read();
    one.child.stdin.write(HELLO);
    await until('an export', () => one.bytes().length >= HELLO_BYTES);
    return one;
  };
  const interrupted = await start();
  interrupted.child.kill('SIGTERM');
  t.equal(await interrupted.ended, 130);
  await until('its connection to end', async () => (await connections(daemon)) === 0);

  const left = await start();
  left.child.stdin.write(requestMessage({ type: CMD.disc, cookie: 1n, offset: 0, length: 0 }));
  t.equal(await left.ended, 0, 'DISC ends it though its input is still open');

  const abandoned = await start();
  await daemon.stop();
  t.equal(await abandoned.ended, 0, 'the agent stops');
  t.equal(abandoned.stderr(), '');
});

/** The command with one end of a socket pair as its stdin and stdout, under a launcher: Node cannot make one. */
const SOCKET_LAUNCHER = `
import os, signal, socket, subprocess, sys
ours, theirs = socket.socketpair()
child = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs)
theirs.close()
greeting = ours.recv(18, socket.MSG_WAITALL)
print(len(greeting), flush=True)
how = sys.stdin.readline().strip()
if how == 'close':
    ours.close()
else:
    child.send_signal(getattr(signal, how))
    print(len(ours.recv(1)), flush=True)
print(child.wait(), flush=True)
`;

t.test(
  'a socket: the process goes with the client, and the client with the process',
  {
    skip: missing('python3'),
  },
  async (t) => {
    const daemon = await withVolumes(t);
    for (const [how, says] of [
      ['close', '18\n0\n'],
      ['SIGTERM', '18\n0\n130\n'],
    ] as const) {
      const outcome = await run('python3', ['-c', SOCKET_LAUNCHER, ...words(daemon, 'disk')], {
        input: `${how}\n`,
      });
      t.equal(outcome.stdout, says, `${how}: ${outcome.story}`);
      await until('its connection to end', async () => (await connections(daemon)) === 0);
    }
  },
);

t.test(
  'no byte of a handed-over client passes through the process',
  {
    skip: withoutShell,
  },
  async (t) => {
    const daemon = await withVolumes(t);
    const script = `
import os, glob
h.connect_command(${JSON.stringify(words(daemon, 'disk'))})
pid = h.get_subprocess_pid() if hasattr(h, "get_subprocess_pid") else int(open("/proc/self/task/%d/children" % os.getpid()).read().split()[0])
def moved():
    return sum(int(line.split()[1]) for line in open("/proc/%d/io" % pid) if line[:5] in ("rchar", "wchar"))
before = moved()
for i in range(64):
    h.pread(1 << 20, 0)
print(moved() - before)
`;
    const moved = Number((await shell(script)).trim());
    t.ok(moved < MIB, `${moved} bytes for 64 MiB`);
  },
);

t.test('what cannot be served', async (t) => {
  const daemon = await withVolumes(t);
  const outcome = (name: string, api = daemon.apiPath) =>
    run(process.execPath, [program, '--api', api, 'serve-stdio', name]);
  t.match(await outcome('a/b'), { code: 2, stderr: /contains a `\/`/ });
  t.match(await outcome('a@b@c'), { code: 2, stderr: /is not a snapshot/ });
  t.match(await outcome('disk', `${daemon.apiPath}.not`), { code: 12, stderr: /No agent: the socket/ });
  const nothing = onPipes(t, daemon, 'nothing');
  nothing.read();
  nothing.child.stdin.write(HELLO);
  await until('an answer', () => nothing.bytes().length > 18);
  t.match(nothing.bytes().toString('latin1'), /There is no export named "nothing"/);
  nothing.child.stdin.end();
  t.equal(await nothing.ended, 0);
});

t.test('an access list counts for whoever runs the command', async (t) => {
  const daemon = await withVolumes(t);
  const uid = process.getuid?.() ?? 0;
  await daemon.api.call('PATCH', '/v1/volumes/disk', { allow: [`uid:${uid}`] });
  await daemon.api.call('PATCH', '/v1/volumes/other', { allow: [`uid:${uid + 1}`] });
  const answer = async (name: string) => {
    const { child, ended, read, bytes } = onPipes(t, daemon, name);
    read();
    child.stdin.end(HELLO);
    t.equal(await ended, 0);
    return bytes().toString('latin1');
  };
  t.equal((await answer('disk')).length, HELLO_BYTES);
  t.match(await answer('other'), `is not for uid ${uid}`);
  await daemon.says(`"peer":"stdio:uid=${uid}"`);
});

t.test('the socket for it has the mode of that of the API, and goes with the agent', async (t) => {
  const daemon = await Daemon.start(t, { configuration: { api: { mode: '0600' } } });
  const lie = (): string[] => readdirSync(daemon.directory).filter((name) => name.endsWith('.stdio'));
  t.same(lie(), [path.basename(handoverPath(daemon.apiPath))]);
  await daemon.kill();
  t.equal(lie().length, 1, 'a crash leaves it');
  await daemon.run();
  await daemon.stop();
  t.same(lie(), [], 'it was replaced, and goes at the end');
});
