// cellblock-coordinator as a process: what it says and how it ends when it is started wrongly, killed, told to read its files again, and stopped.
// kill -9 leaves the page cache, so this says nothing of power loss.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import t, { type Test } from 'tap';
import { Certificates } from '../support/certificates.js';
import { CellAgent, CoordinatorProcess } from '../support/coordinator-process.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, repositoryRoot } from '../support/programs.js';
import { until } from '../support/waiting.js';

t.setTimeout(600_000);

const PROGRAM = path.join(repositoryRoot, 'dist/src/main/cellblock-coordinator.js');

function place(t: Test): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-coordinator-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function started(words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...words], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

/** The sentence it ended with; the log is JSON. */
function lastWords(stderr: string): string {
  return stderr.split('\n').find((line) => line.startsWith('cellblock-coordinator: ')) ?? stderr;
}

/** The files of --tls. */
function putInto(directory: string, certificates: Certificates, files: string): string {
  mkdirSync(directory, { recursive: true });
  copyFileSync(certificates.file('ca-cert.pem'), path.join(directory, 'ca.pem'));
  copyFileSync(certificates.file(`${files}-cert.pem`), path.join(directory, 'cert.pem'));
  copyFileSync(certificates.file(`${files}-key.pem`), path.join(directory, 'key.pem'));
  chmodSync(path.join(directory, 'key.pem'), 0o600);
  return directory;
}

t.test('started wrongly: one sentence, what to do, an exit code, and no state is made', async (t) => {
  const directory = place(t);
  const tokens = path.join(directory, 'tokens');
  writeFileSync(tokens, 'h1 east the-token-of-host-h1\n', { mode: 0o600 });
  const open = path.join(directory, 'open');
  writeFileSync(open, 'h1 east the-token-of-host-h1\n', { mode: 0o644 });
  chmodSync(open, 0o644);
  const broken = path.join(directory, 'broken');
  writeFileSync(broken, 'h1 east\n', { mode: 0o600 });
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const { port } = taken.address() as net.AddressInfo;
  const state = path.join(directory, 'state');
  const listen = ['--listen', 'ws://127.0.0.1:0'];
  const whole = [...listen, '--state', state, '--token', tokens];
  const foreign = path.join(directory, 'foreign');
  mkdirSync(foreign);
  writeFileSync(path.join(foreign, 'thesis.txt'), 'mine');
  const wrong: [what: string, words: string[], status: number, says: RegExp][] = [
    ['nothing', [], 2, /'--listen <address>' not specified\. See `cellblock-coordinator --help`\./],
    ['no state', listen, 2, /'--state <place>' not specified/],
    ['a misspelt option', [...whole, '--nmae', 'x'], 2, /[Uu]nknown option '--nmae'/],
    [
      'a wrong level',
      [...whole, '--log-level', 'loud'],
      2,
      /'loud' is invalid\. Allowed choices are error, warn/,
    ],
    ['nobody may come', [...listen, '--state', state], 2, /It is not said who may come\. Give --tls/],
    [
      'a port in use',
      ['--listen', `ws://127.0.0.1:${port}`, ...whole.slice(2)],
      5,
      /Another process listens on ws:\/\/127\.0\.0\.1:\d+\. Stop it or choose another port\./,
    ],
    [
      'an address of another machine',
      ['--listen', 'ws://10.9.8.7:0', ...whole.slice(2)],
      2,
      /reachable from other machines, in clear/,
    ],
    [
      'no file of tokens',
      [...listen, '--state', state, '--token', '/no/such'],
      2,
      /The file \/no\/such cannot be read: ENOENT/,
    ],
    [
      'tokens that everybody can read',
      [...listen, '--state', state, '--token', open],
      2,
      /Everybody on this machine may use the tokens in .*open\. Take that right away: chmod/,
    ],
    [
      'a wrong line of tokens',
      [...listen, '--state', state, '--token', broken],
      2,
      /Line 1 of .*broken is not HOST CELL TOKEN\./,
    ],
    [
      'no certificate',
      ['--listen', 'wss://127.0.0.1:0', '--state', state, '--tls', foreign],
      2,
      /lacks ca\.pem, cert\.pem, key\.pem\. Put /,
    ],
    ['a directory of something else', [...listen, '--state', foreign, '--token', tokens], 7, /foreign/],
  ];
  for (const [what, words, status, says] of wrong) {
    const outcome = started(words);
    t.match({ ...outcome, stderr: lastWords(outcome.stderr) }, { status, stdout: '', stderr: says }, what);
  }
  t.equal(existsSync(state), false, 'no state was made');
});

t.test('help and version', async (t) => {
  const help = started(['--help']);
  t.match(help, { status: 0, stderr: '' });
  for (const word of [
    '--listen',
    '--state',
    '--tls',
    '--token',
    '--announce',
    '--name',
    'SIGHUP',
    'Exit codes:',
  ])
    t.match(help.stdout, word);
  t.match(started(['--version']), { status: 0, stdout: /^\d+\.\d+\.\d+/ });
});

t.test('an etcd that is not there', async (t) => {
  const directory = place(t);
  const tokens = path.join(directory, 'tokens');
  writeFileSync(tokens, 'h1 east the-token-of-host-h1\n', { mode: 0o600 });
  const { status, stderr } = started([
    ...['--listen', 'ws://127.0.0.1:0', '--name', 'c1', '--token', tokens],
    ...['--state', 'etcd://127.0.0.1:1'],
  ]);
  t.equal(status, 9);
  t.match(
    lastWords(stderr),
    /^cellblock-coordinator: The state of the coordinator cannot be reached: 127\.0\.0\.1:1: .*ECONNREFUSED.*\. Check that .* etcd runs/,
  );
});

t.test('a second one on the same state is refused, and harms nothing', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts: { h1: 'east' } });
  const agent = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  const words = ['--listen', 'ws://127.0.0.1:0', ...coordinator.words.slice(2)];
  const { status, stderr } = started(words);
  t.equal(status, 5);
  t.match(lastWords(stderr), /The state .*state is in use by another process\. Stop that coordinator first/);
  t.match(await agent.said('cell', 'create', 'west'), 'Cell west made.');
});

t.test('killed and started again: what was answered is there, and hosts come back', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts: { h1: 'east' } });
  const agent = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  await agent.daemon.api.createVolume('v', 4 * MIB);
  await agent.said('route', 'claim', 'v', '--host', 'h1');
  for (let round = 1; round <= 3; round++) {
    await agent.said('snapshot', 'create', `v@s${round}`, '--via', 'coordinator');
    await coordinator.kill();
    await coordinator.run();
    await coordinator.logged('host-joined');
    await agent.connected();
    t.match(await agent.said('route', 'list'), new RegExp(`\\nv +east +h1 +open +1 +${round} *\\n$`));
    t.match(await agent.said('route', 'show', 'v', '--explain'), `#${round} `, 'what it decided, too');
  }
  t.match(await agent.said('volume', 'show', 'v'), /Snapshots +s1, s2, s3/);
});

t.test('a clean stop: hosts are told, leadership is given back', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts: { h1: 'east' } });
  const agent = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  t.equal(await coordinator.stop(), 0);
  const { output } = coordinator;
  t.match(output, /"signal":"SIGTERM","msg":"stopping"/);
  t.match(output, /"msg":"stopped"\}\n$/);
  t.notMatch(output, /"level":"(error|fatal)"/);
  await until('the agent to have heard it', () =>
    agent.daemon.output.includes('"event":"coordinator-stops"'),
  );
});

t.test('a clean stop does not wait for a host that hangs', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts: { h1: 'east' } });
  const { daemon } = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  process.kill(daemon.pid, 'SIGSTOP');
  t.equal(await coordinator.stop(), 0);
});

t.test('SIGHUP: tokens are read again; a file that cannot serve changes nothing', async (t) => {
  const hosts = { h1: 'east' };
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts });
  const first = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  const reload = () => process.kill(coordinator.running.pid, 'SIGHUP');
  writeFileSync(coordinator.tokens, 'nonsense\n', { mode: 0o600 });
  reload();
  await coordinator.logged('credentials-kept');
  t.match(coordinator.output, /Line 1 of .* is not HOST CELL TOKEN\./);
  await first.daemon.restart('stop');
  await first.connected();
  t.pass('the tokens of before are in force');
  coordinator.admit({ ...hosts, h2: 'west' });
  reload();
  await coordinator.logged('credentials-reloaded');
  const second = await CellAgent.start(t, coordinator, { host: 'h2', cell: 'west' });
  t.match(await second.said('host', 'list'), /\nh1 +east +connected.*\nh2 +west +connected/);
});

t.test(
  'SIGHUP: certificates are read again, for connections from then on',
  { skip: missing('openssl') },
  async (t) => {
    const directory = place(t);
    const certificates = await Certificates.make(path.join(directory, 'made'));
    const files = { subject: '/CN=localhost', alternativeNames: 'DNS:localhost,IP:127.0.0.1' };
    await certificates.issue({ files: 'next', ...files });
    await certificates.issue({ files: 'expired', ...files, days: -1 });
    await certificates.issueHost('h1', 'east');
    const own = putInto(path.join(directory, 'tls'), certificates, 'expired');
    const words = ['--listen', 'wss://127.0.0.1:0', '--state', path.join(directory, 'none'), '--tls', own];
    const refused = started(words);
    t.equal(refused.status, 2);
    t.match(lastWords(refused.stderr), /cert\.pem has expired .*Put a current one there/);

    putInto(own, certificates, 'server');
    const coordinator = await CoordinatorProcess.start(t, {
      directory: path.join(directory, 'c'),
      hosts: {},
      scheme: 'wss',
      args: ['--tls', own],
    });
    const port = Number(new URL(coordinator.address).port);
    const serialOf = (host: string | null) =>
      new Promise<string>((resolve, reject) => {
        const proof =
          host === null
            ? {}
            : { cert: certificates.read(`${host}-cert.pem`), key: certificates.read(`${host}-key.pem`) };
        const socket = tls.connect(
          { host: '127.0.0.1', port, ca: certificates.read('ca-cert.pem'), ...proof },
          () => {
            resolve(socket.getPeerCertificate().serialNumber);
            socket.destroy();
          },
        );
        socket.once('error', reject);
      });
    const agent = await CellAgent.start(t, coordinator, {
      host: 'h1',
      cell: 'east',
      more: {
        token_file: undefined,
        tls: {
          ca: certificates.file('ca-cert.pem'),
          certificate: certificates.file('h1-cert.pem'),
          key: certificates.file('h1-key.pem'),
        },
      },
    });
    const before = await serialOf('h1');
    putInto(own, certificates, 'expired');
    process.kill(coordinator.running.pid, 'SIGHUP');
    await coordinator.logged('credentials-kept');
    t.equal(await serialOf('h1'), before, 'an expired one is not taken');
    putInto(own, certificates, 'next');
    process.kill(coordinator.running.pid, 'SIGHUP');
    await coordinator.logged('credentials-reloaded');
    t.not(await serialOf('h1'), before);
    t.match(await agent.said('host', 'list'), /h1 +east +connected/, 'the connection of before goes on');
    await agent.daemon.restart('stop');
    await agent.connected();
    t.pass('and new ones are made, with the certificate of the host');
  },
);
