// cellblock doctor and cellblock support-bundle as they are called: what they print, write and give back, with an agent and without one;
// and nothing secret in a bundle, wherever it was planted.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import type { SourcesOf } from '../../src/commands/doctor/doctor-command.js';
import { type Ran, systemSources } from '../../src/commands/doctor/sources.js';
import { missing } from '../support/programs.js';
import { startFakeAgent } from './fake-agent.js';
import { runCli } from './run-cli.js';

const skip = missing('tar', 'gzip');

/** Each in a place of its own, each of a form of its own. */
const SECRETS = {
  pskFile: '5ec2e7'.repeat(10),
  keyFile: 'KEYFILEsecretKEYFILE',
  tokenFile: 'TOKENFILE-secret-TOKENFILE',
  etcdUser: 'ETCDUSERsecretETCDUSER',
  comment: 'COMMENTsecretCOMMENT',
  unknownKey: 'UNKNOWNKEYsecretUNKNOWNKEY',
  wrongValue: 'WRONGVALUEsecretWRONGVALUE',
  tokenAsPath: 'TOKENASPATHsecretTOKENASPATH',
  addressPassword: 'ADDRESSsecretADDRESS',
  statePassword: 'STATEsecretSTATE',
  variable: 'VARIABLEsecretVARIABLE',
  description: 'DESCRIPTIONsecretDESCRIPTION',
  xattr: Buffer.from('XATTRsecretXATTR').toString('base64'),
  taskError: 'TASKERRORsecretTASKERROR',
  journalToken: 'JOURNALsecretJOURNAL',
  journalKey: 'MIIJOURNALKEYsecretJOURNALKEY',
  commandLine: 'COMMANDLINEsecretCOMMANDLINE',
  kernelWords: 'KERNELWORDSsecretKERNELWORDS',
};

interface Place {
  at(path: string): string;
  sourcesOf: SourcesOf;
}

/** A machine of files, with programs that say what `said` says. */
function place(t: Test, said: Record<string, Ran> = {}): Place {
  const root = mkdtempSync(join(tmpdir(), 'cellblock-bundle-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const at = (path: string) => join(root, path);
  const sourcesOf: SourcesOf = ({ api, signal }, { store, config }) => ({
    ...systemSources({ api, signal, version: '1.2.3', store, configuration: config }),
    roots: {
      proc: at('proc'),
      sys: at('sys'),
      etc: at('etc'),
      run: at('run'),
      modules: at('lib'),
      store: at('store'),
    },
    run: async (command) => said[command] ?? null,
    addonProblem: () => null,
    user: { uid: 0, name: 'root', groups: [0] },
    nowMs: () => Date.parse('2026-06-01T12:00:00.000Z'),
  });
  return { at, sourcesOf };
}

function write({ at }: Place, path: string, text: string): string {
  mkdirSync(dirname(at(path)), { recursive: true });
  writeFileSync(at(path), text);
  return at(path);
}

/** Files of the archive by name. */
function unpack({ at }: Place, file: string): Map<string, string> {
  mkdirSync(at('unpacked'), { recursive: true });
  execFileSync('tar', ['-xzf', file, '-C', at('unpacked')]);
  const [folder = ''] = readdirSync(at('unpacked'));
  const names = readdirSync(join(at('unpacked'), folder));
  return new Map(names.map((name) => [name, readFileSync(join(at('unpacked'), folder, name), 'utf8')]));
}

const log = (facts: object) => `2026-06-01T11:00:00+00:00 cellblockd[77]: ${JSON.stringify(facts)}`;

async function plant(t: Test) {
  const journal = [
    log({ level: 'info', msg: 'starting', authorization: `Bearer ${SECRETS.journalToken}` }),
    log({ level: 'info', volume: 'payroll', msg: 'attached' }),
    log({ level: 'info', volume: 'dismissed@friday', msg: 'Volume "dismissed" is deleted' }),
    '2026-06-01T11:00:01+00:00 cellblockd[77]: -----BEGIN PRIVATE KEY-----',
    `2026-06-01T11:00:01+00:00 cellblockd[77]: ${SECRETS.journalKey}`,
    '2026-06-01T11:00:01+00:00 cellblockd[77]: -----END PRIVATE KEY-----',
    `2026-06-01T11:00:02+00:00 cellblockd[77]: cellblockd: /etc/c.yaml, line 9: "log.level" is "${SECRETS.wrongValue}". Allowed: one of error.`,
    log({ level: 'warn', msg: `no peer wss://x:${SECRETS.addressPassword}@c1:7443` }),
  ].join('\n');
  const here = place(t, { journalctl: { code: 0, stdout: `${journal}\n` } });
  const files = {
    psk: write(here, 'tls/keys.psk', `alice:${SECRETS.pskFile}\n`),
    key: write(
      here,
      'tls/key.pem',
      `-----BEGIN PRIVATE KEY-----\n${SECRETS.keyFile}\n-----END PRIVATE KEY-----\n`,
    ),
    token: write(here, 'token', `${SECRETS.tokenFile}\n`),
    user: write(here, 'etcd-user', `root:${SECRETS.etcdUser}\n`),
  };
  write(
    here,
    'etc/cellblock/cellblock.yaml',
    `# ${SECRETS.comment}
nbd:
  default_export: payroll
  tls: { mode: forced, key: ${files.key}, psk: ${files.psk} }
  passphrase: ${SECRETS.unknownKey}
log: { level: ${SECRETS.wrongValue} }
coordinator:
  addresses: ["wss://ann:${SECRETS.addressPassword}@c1:7443"]
  token_file: ${SECRETS.tokenAsPath}
  tls: { key: ${files.token} }
`,
  );
  write(
    here,
    'etc/cellblock/coordinator.env',
    `LISTEN=wss://0.0.0.0:7443\nSTATE=etcd://u:${SECRETS.statePassword}@e1:2379\nMORE=--etcd-user ${files.user} --token ${files.token} --x ${SECRETS.variable}\nY=${SECRETS.variable}\n`,
  );
  write(here, `proc/cmdline`, SECRETS.kernelWords);
  write(
    here,
    `proc/${process.pid}/cmdline`,
    `node\0--nbd\0wss://u:${SECRETS.commandLine}@h\0--x=${SECRETS.commandLine}\0`,
  );
  const agent = await startFakeAgent(t);
  agent.diagnosis.program.configuration = here.at('etc/cellblock/cellblock.yaml');
  agent.diagnosis.files.push({ ...agent.diagnosis.files[1]!, key: 'nbd.tls.psk', path: files.psk });
  const { operations } = agent;
  await operations.createVolume('payroll', {
    sizeBytes: 4096n,
    description: `password: ${SECRETS.description}`,
  });
  await operations.createSnapshots([{ volume: 'payroll', snapshot: 'before-strike' }]);
  await operations.createFile('letter', {
    sizeBytes: 5n,
    attributes: { xattrs: { 'user.k': SECRETS.xattr } },
  });
  operations.addTask({
    kind: 'import',
    subject: 'payroll',
    state: 'failed',
    error: { code: 'x', message: `https://u:${SECRETS.taskError}@h failed.`, hint: '' },
  });
  return { here, agent };
}

t.test('nothing secret that was planted is in the bundle', { skip }, async (t) => {
  const { here, agent } = await plant(t);
  const file = here.at('bundle.tar.gz');
  const done = await runCli(['support-bundle', '--output', file, '--check'], {
    api: agent.apiPath,
    sourcesOf: here.sourcesOf,
  });
  t.equal(done.code, 0, done.stderr);
  const parts = unpack(here, file);
  const whole = [...parts].map(([name, text]) => `${name}\n${text}`).join('\n') + done.stdout;
  for (const [where, secret] of Object.entries(SECRETS)) t.notOk(whole.includes(secret), `that of ${where}`);
  t.equal(statSync(file).mode & 0o777, 0o600, 'for the caller alone');
  // And it is not empty: what it is for is in it.
  for (const name of [
    'doctor.txt',
    'doctor.json',
    'facts.json',
    'status.json',
    'store-status.json',
    'volumes.json',
  ])
    t.ok((parts.get(name)?.length ?? 0) > 10, name);
  t.match(parts.get('snapshots.json'), /payroll@before-strike/);
  t.match(parts.get('tasks.json'), /\[redacted\]@h failed/);
  t.match(parts.get('metrics.txt'), /cellblock_volume_size_bytes\{volume="payroll"\}/);
  t.match(parts.get('agent.log'), /"volume":"payroll","msg":"attached"/);
  t.match(parts.get('configuration.yaml'), /mode: forced/);
  t.match(parts.get('coordinator.env'), /STATE=etcd:\/\/\[redacted\]@e1:2379\nMORE=--etcd-user /);
  t.match(parts.get('command-line.txt'), /--nbd wss:\/\/\[redacted\]@h --x=\[redacted\]/);
  t.match(parts.get('check.json'), /"clean": true/);
  const { parts: listed } = JSON.parse(parts.get('manifest.json')!) as {
    parts: { name: string; sizeBytes: number | null }[];
  };
  t.same(
    listed
      .filter(({ sizeBytes }) => sizeBytes !== null)
      .map(({ name }) => name)
      .sort(),
    [...parts.keys()].filter((name) => name !== 'manifest.json').sort(),
    'what is in it is what it says',
  );
});

t.test(
  '--anonymise: no name of a volume, snapshot or file is in it, and each has one other',
  { skip },
  async (t) => {
    const { here, agent } = await plant(t);
    const file = here.at('bundle.tar.gz');
    const words = ['support-bundle', '--output', file, '--anonymise'];
    const done = await runCli(words, { api: agent.apiPath, sourcesOf: here.sourcesOf });
    t.equal(done.code, 0, done.stderr);
    const parts = unpack(here, file);
    const whole = [...parts.values()].join('\n');
    for (const name of ['payroll', 'before-strike', 'letter', 'dismissed', 'friday']) t.notMatch(whole, name);
    const [volume] = JSON.parse(parts.get('volumes.json')!) as { name: string }[];
    t.match(parts.get('snapshots.json'), `"${volume!.name}@snapshot-`);
    t.match(parts.get('metrics.txt'), `{volume="${volume!.name}"}`);
    t.match(parts.get('agent.log'), `"volume":"${volume!.name}"`);
    t.match(parts.get('configuration.yaml'), `default_export: ${volume!.name}`);
  },
);

t.test('without an agent there are fewer parts, and each that is missing says why', { skip }, async (t) => {
  const here = place(t);
  mkdirSync(here.at('store/metadata'), { recursive: true });
  const file = here.at('b.tar.gz');
  const done = await runCli(['support-bundle', '--output', file, '--check', '--json'], {
    api: here.at('none.sock'),
    sourcesOf: here.sourcesOf,
    offlineCheck: async (directory) => {
      t.equal(directory, here.at('store'));
      return { clean: false, problems: [{ severity: 'error', code: 'x', message: 'Bad.' }], recordsSeen: 1n };
    },
  });
  t.equal(done.code, 0, done.stderr);
  const said = JSON.parse(done.stdout) as { file: string; parts: { name: string; missing: string | null }[] };
  t.equal(said.file, file);
  const parts = unpack(here, file);
  t.match(parts.get('doctor.txt'), /PROBLEM {2}No agent: the socket .* does not exist/);
  t.match(parts.get('check.json'), /Bad\./);
  t.match(parts.get('kernel.txt'), /== .*\/meminfo/);
  for (const { name, missing } of said.parts)
    t.equal(missing === null, parts.has(name), `${name}: ${missing}`);
  t.equal(said.parts.find(({ name }) => name === 'volumes.json')?.missing, 'the agent is not reached');
});

t.test('a file that is there is not replaced, and nothing else is left', { skip }, async (t) => {
  const here = place(t);
  const file = write(here, 'there/b.tar.gz', 'mine');
  const done = await runCli(['support-bundle', '--output', file], {
    api: '/none',
    sourcesOf: here.sourcesOf,
  });
  t.equal(done.code, 4);
  t.match(done.stderr, /exists already/);
  t.equal(readFileSync(file, 'utf8'), 'mine');
  const nowhere = await runCli(['support-bundle', '--output', here.at('no/such/b.tar.gz')], {
    api: '/none',
    sourcesOf: here.sourcesOf,
  });
  t.equal(nowhere.code, 3, nowhere.stderr);
  t.same(readdirSync(here.at('there')), ['b.tar.gz']);
});

t.test('doctor: 0 without a problem, 13 with one, and the same as JSON', async (t) => {
  const agent = await startFakeAgent(t);
  const here = place(t);
  Object.assign(agent.diagnosis.program, { configuration: null });
  const words = { api: agent.apiPath, sourcesOf: here.sourcesOf };
  const well = await runCli(['doctor'], words);
  t.equal(well.code, 0, well.stdout + well.stderr);
  t.match(well.stdout, /^ok {7}The agent answers at /m);
  t.match(well.stdout, /\n0 problems, \d+ warnings?, \d+ ok, \d+ not checked\.\n$/);
  agent.diagnosis.journal.usedBytes = agent.diagnosis.journal.sizeBytes;
  const ill = await runCli(['doctor', '--quiet'], words);
  t.equal(ill.code, 13);
  t.match(ill.stdout, /^PROBLEM {2}100 % of the journal are used/m);
  t.notMatch(ill.stdout, /^ok /m);
  t.match(ill.stderr, /There is a problem\./);
  const json = await runCli(['--json', 'doctor'], words);
  t.equal(json.code, 13);
  t.match(JSON.parse(json.stdout), { healthy: false, counts: { problem: 1 } });
  t.match(JSON.parse(json.stderr), { error: { kind: 'unhealthy', code: 'doctor-found-problems' } });
});

t.test('doctor without an agent says why, and looks at the rest', async (t) => {
  const here = place(t);
  mkdirSync(here.at('store'));
  write(here, 'etc/cellblock/cellblock.yaml', 'log:\n  level: loud\n');
  const done = await runCli(['doctor'], { api: here.at('none.sock'), sourcesOf: here.sourcesOf });
  t.equal(done.code, 13);
  t.match(done.stdout, /PROBLEM {2}No agent: the socket .*none\.sock does not exist\./);
  t.match(done.stdout, /PROBLEM {2}The agent will not start with its configuration:[^[]*line\s+2/);
  t.match(done.stdout, /- {8}Not checked because the agent is not reached\. \[store-state\]/);
  t.ok(existsSync(here.at('store')));
});
