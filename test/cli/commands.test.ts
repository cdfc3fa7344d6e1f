// The command line against an agent with a real control API and a make-believe store: what each verb says, in words and in JSON,
// and what every wrong input gets: one sentence, what to do, a documented exit code, nothing half done.

import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { EXIT_CODE_MEANINGS } from '../../src/agent/exit-codes.js';
import { until } from '../support/waiting.js';
import { startFakeAgent } from './fake-agent.js';
import { runCli } from './run-cli.js';

t.test('a volume through its life', async (t) => {
  const { apiPath: api } = await startFakeAgent(t);
  t.match((await runCli(['volume', 'list'], { api })).stdout, 'No volumes.');
  t.same(await runCli(['volume', 'create', 'a', '--size', '10G'], { api }), {
    code: 0,
    stdout: 'Volume a made, 10G.\n',
    stderr: '',
    bytes: Buffer.from('Volume a made, 10G.\n'),
  });
  t.equal(
    (await runCli(['snapshot', 'create', 'a@one', 'a@two'], { api })).stdout,
    'Snapshot a@one taken.\nSnapshot a@two taken.\n',
  );
  t.equal((await runCli(['clone', 'a@one', 'b'], { api })).stdout, 'Volume b continues a@one.\n');
  t.match(
    (await runCli(['volume', 'list'], { api })).stdout,
    /^NAME +SIZE .*\na +10G +2 .*\nb +10G +0 .*a@one/,
  );
  t.match((await runCli(['volume', 'show', 'a'], { api })).stdout, /Snapshots +one, two/);
  t.match((await runCli(['volume', 'resize', 'a', '--size', '20G'], { api })).stdout, 'Volume a has 20G now');
  t.equal((await runCli(['volume', 'rename', 'b', 'c'], { api })).stdout, 'Volume b is now c.\n');
  t.match((await runCli(['snapshot', 'list', 'a'], { api })).stdout, /SNAPSHOT +SIZE .*\na@one /);
  t.match(
    (await runCli(['snapshot', 'diff', 'a@one', 'a'], { api })).stdout,
    / 0 +4096 {2}data\n4611686018427387904 +4096 {2}data\n8K in 2 extents/,
  );
  t.match(
    (await runCli(['snapshot', 'delete', 'a@one', 'a@two'], { api })).stdout,
    /^Deleted a@one, a@two; its space is being freed \(task \d+\)/,
  );
  t.equal(
    (await runCli(['volume', 'delete', 'a'], { api })).stdout,
    'Volume a deleted; its space is free.\n',
  );
});

t.test('who may open a volume, and what is said of it', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const said = async (...words: string[]) => (await runCli(words, { api })).stdout;
  await said(
    'volume',
    'create',
    'a',
    '--size',
    '1G',
    '--allow',
    'uid:7',
    'tls:psk:b*',
    '--description',
    'the shop',
  );
  t.match(await said('volume', 'show', 'a'), /Open to +uid:7, tls:psk:b\*\n.*Description +the shop/);
  t.equal(
    await said('volume', 'set', 'a', '--allow', 'uid:8', 'uid:8', '--allow', 'uid:9'),
    'Volume a is open to uid:8, uid:9 now; connections that are open stay.\n',
  );
  t.same(operations.volumes.get('a')?.allow, ['uid:8', 'uid:9']);
  t.equal(
    await said('volume', 'set', 'a', '--allow-all', '--disconnect', '--description', ''),
    'Volume a is open to everybody now; its connections were closed.\nVolume a has another description now.\n',
  );
  t.same(operations.calls, ['disconnect a']);
  t.match(await said('volume', 'show', 'a'), /Open to +everybody\n.*Description +-/);
  await said('file', 'create', 'f', '--size', '5', '--allow', 'uid:1');
  t.equal(
    await said('file', 'set', 'f', '--description', 'a letter'),
    'File f has another description now.\n',
  );
  t.match(await said('file', 'show', 'f'), /Open to +uid:1\n.*Description +a letter/);
});

t.test('limits and the transaction log of a volume', async (t) => {
  const { apiPath: api } = await startFakeAgent(t);
  const say = async (...words: string[]): Promise<string> => (await runCli(words, { api })).stdout;
  await say('volume', 'create', 'a', '--size', '1G', '--iops', '500');
  t.match(await say('volume', 'show', 'a'), /Limits +500 requests\/s\nTransaction log +-\n/);
  t.equal(
    await say(
      'volume',
      'set',
      'a',
      '--bandwidth',
      '100M',
      '--bandwidth-burst',
      '1G',
      '--transaction-log',
      'a.log',
    ),
    'Limits of a: 100M/s (burst 1G)\nTransaction log of a: a.log\n',
    'new limits take the place of the old ones',
  );
  t.match(
    await say('volume', 'set', 'a', '--iops', '7', '--iops-burst', '70'),
    'Limits of a: 7 requests/s (burst 70)\n',
  );
  t.match(
    await say('volume', 'set', 'a', '--transaction-log', 'b.log', '--log-data'),
    /Limits of a: 7 .*\nTransaction log of a: b.log with data\n/,
    'the one leaves the other alone',
  );
  t.match(await say('volume', 'set', 'a', '--no-limits'), /^Limits of a: -\nTransaction log of a: b.log/);
  t.match(await say('volume', 'set', 'a', '--no-transaction-log'), 'Transaction log of a: -\n');
  const bad: [string[], RegExp][] = [
    [[], /There is nothing to set/],
    [['--no-limits', '--iops', '5'], /'--no-limits' goes with no other limit/],
    [['--iops', 'many'], /'--iops' takes a whole number, not "many"/],
    [['--iops', '0'], /'--iops' takes a whole number/],
    [['--bandwidth', 'fast'], /"fast" is not a size/],
    [['--iops-burst', '5'], /A burst of requests needs a limit of requests/],
    [['--log-data'], /'--log-data' goes with '--transaction-log <file>'/],
  ];
  for (const [words, sentence] of bad) {
    const { code, stderr } = await runCli(['volume', 'set', 'a', ...words], { api });
    t.equal(code, 2, words.join(' '));
    t.match(stderr, sentence);
  }
  t.match(await runCli(['volume', 'set', 'none', '--iops', '5'], { api }), { code: 3 });
});

t.test('every verb answers one JSON value with --json, before or after the verb', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const task = operations.addTask({ cancellable: true });
  const verbs = [
    ['volume', 'create', 'a', '--size', '9223372036854775807'],
    ['volume', 'list'],
    ['volume', 'show', 'a'],
    ['volume', 'set', 'a', '--allow', 'uid:1'],
    ['snapshot', 'create', 'a@s'],
    ['snapshot', 'list'],
    ['snapshot', 'diff', 'a@s', 'a'],
    ['clone', 'a@s', 'b'],
    ['volume', 'rename', 'b', 'c'],
    ['volume', 'set', 'c', '--iops', '100'],
    ['volume', 'resize', 'c', '--size', '1M', '--force'],
    ['volume', 'delete', 'c', '--dry-run'],
    ['volume', 'delete', 'c', '--wait'],
    ['snapshot', 'delete', 'a@s'],
    ['status'],
    ['store', 'status'],
    ['store', 'check'],
    ['task', 'list'],
    ['task', 'cancel', String(task.id)],
  ];
  for (const [index, words] of verbs.entries()) {
    const outcome = await runCli(index % 2 === 0 ? [...words, '--json'] : ['--json', ...words], { api });
    t.equal(outcome.code, 0, `${words.join(' ')}: ${outcome.stderr}`);
    t.doesNotThrow(() => JSON.parse(outcome.stdout), words.join(' '));
  }
  t.match(
    (await runCli(['volume', 'show', 'a', '--json'], { api })).stdout,
    '"sizeBytes": 9223372036854775807,',
  );
});

const WRONG: [words: string[], code: number, says: RegExp][] = [
  [['volume', 'create', 'a/b', '--size', '1G'], 2, /contains a `\/`/],
  [['volume', 'create', 'a\u0007', '--size', '1G'], 2, /control character/],
  [['volume', 'create', 'x'.repeat(129), '--size', '1G'], 2, /129 bytes/],
  [['volume', 'create', '', '--size', '1G'], 2, /empty/],
  [['volume', 'create', 'a', '--size', '0'], 2, /size is 0/],
  [['volume', 'create', 'a', '--size', '-5'], 2, /negative/],
  [['volume', 'create', 'a', '--size', 'big'], 2, /not a size/],
  [['volume', 'create', 'a', '--size', '8E'], 2, /is 8 EiB or more/],
  [['volume', 'create', 'a'], 2, /--size <size>/],
  [['volume', 'create', 'there', '--size', '1G'], 4, /exists already/],
  [['volume', 'create', 'a', '--size', '1G', '--allow', 'me'], 2, /"me" names nobody.*Write `uid:NUMBER`/],
  [['volume', 'create', 'a', '--size', '1G', '--description', 'two\nlines'], 2, /control character/],
  [['volume', 'set', 'there', '--allow', 'uid:01'], 2, /not the number of a user/],
  [['volume', 'set', 'there', '--allow', 'tls:*a'], 2, /not its end/],
  [['volume', 'set', 'there', '--allow'], 2, /argument missing/],
  [['volume', 'set', 'there', '--allow', 'uid:1', '--allow-all'], 2, /are opposites/],
  [['volume', 'set', 'there'], 2, /There is nothing to set.*volume set --help/],
  [['volume', 'set', 'there', '--disconnect'], 2, /There is nothing to set/],
  [
    ['volume', 'set', 'there', '--iops', '5', '--allow', 'uid:1'],
    2,
    /are set by themselves.*a command of their own/,
  ],
  [['volume', 'set', 'there@s', '--allow-all'], 2, /is a snapshot.*goes for its snapshots too/],
  [['volume', 'set', 'nowhere', '--allow-all'], 3, /no volume "nowhere"/],
  [['serve-stdio', 'a/b'], 2, /contains a `\/`/],
  [['serve-stdio', 'a'], 12, /No agent: the socket .*\.stdio does not exist/],
  [['volume', 'show', 'nowhere'], 3, /no volume "nowhere"/],
  [['volume', 'delete', 'nowhere'], 3, /no volume/],
  [['volume', 'delete', 'there'], 5, /has 1 snapshots.*--with-snapshots/],
  [['volume', 'resize', 'there', '--size', '1K'], 7, /--force/],
  [['volume', 'rename', 'there', 'a/b'], 2, /contains a `\/`/],
  [['volume', 'repair', 'there'], 7, /has not failed/],
  [['snapshot', 'create', 'there'], 2, /not a snapshot.*VOLUME@SNAPSHOT/],
  [['snapshot', 'create', 'there@s'], 4, /exists already/],
  [['snapshot', 'create', 'there@new', 'nowhere@new'], 3, /no volume/],
  [['snapshot', 'delete', 'there@nowhere'], 3, /no snapshot/],
  [['snapshot', 'diff', 'there@s', 'a/b'], 2, /contains a `\/`/],
  [['clone', 'there', 'new'], 2, /not a snapshot/],
  [['clone', 'there@s', 'there'], 4, /exists already/],
  [['task', 'cancel', 'x'], 2, /not the number of a task/],
  [['task', 'cancel', '999'], 3, /no task 999/],
  [['volume', 'lst'], 2, /Unknown command 'lst'.*Did you mean list\?/],
  [['volum', 'list'], 2, /Did you mean volume\?/],
  [['volume', 'create', 'a', '--size', '1G', '--sise'], 2, /Unknown option '--sise'.*Did you mean --size\?/],
  [['volume', 'show'], 2, /[Mm]issing required argument/],
  [['volume', 'show', 'a', 'b'], 2, /[Tt]oo many arguments.* got 2\. See `cellblock volume show --help`\.$/],
  [['volume', 'create', 'a', 'b', '--size', '1G'], 2, /got 2\. See `cellblock volume create --help`\.$/],
  [['volume', 'create', 'a', '--sizes', '1G'], 2, /Unknown option '--sizes'.*Did you mean --size\?/],
  [['volume', 'create', 'a@s', '--size', '1G'], 2, /is a snapshot.*`cellblock snapshot create a@s`/],
  [['volume', 'delete', 'there@s'], 2, /is a snapshot.*`cellblock snapshot delete there@s`/],
  [['volume', 'show', 'there@s'], 2, /is a snapshot.*`cellblock snapshot list there`/],
  [['volume', 'rename', 'there@s', 'b'], 2, /is a snapshot/],
  [['volume', 'resize', 'there@s', '--size', '1G'], 2, /is a snapshot.*name the volume, there\./],
  [['volume', 'repair', 'there@s'], 2, /is a snapshot/],
  [['snapshot', 'list', 'there@s'], 2, /is a snapshot.*`cellblock snapshot list there`/],
  [['volume', 'resize', 'there', '--size', '9E'], 2, /The size 9E is 8 EiB or more/],
  [['volume', 'create', 'a\u007f\u009b\u202e', '--size', '1G'], 2, /a\\u\{7f\}\\u\{9b\}\\u\{202e\}/],
  [['volume', 'show', 'a\u009b2J'], 2, /a\\u\{9b\}2J/],
  [['volume'], 2, /A command is missing/],
  [['volume', 'import', 'new', '/no/such/file'], 3, /\/no\/such\/file does not exist/],
  [['volume', 'import', 'new', '/tmp'], 2, /is a directory/],
  [['volume', 'import', 'a/b', '-'], 2, /contains a `\/`/],
  [['volume', 'import', 'new', '-'], 2, /--size/],
  [['volume', 'import', 'new', '/dev/null', '--hash', 'sha0'], 2, /no hash "sha0"/],
  [['volume', 'export', 'a/b', '-'], 2, /contains a `\/`/],
];

t.test('a dry run says what would go, what stays and what it needs', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await operations.createVolume('a', { sizeBytes: 1n << 30n });
  await runCli(['snapshot', 'create', 'a@s'], { api });
  const outcome = await runCli(['volume', 'delete', 'a', '--dry-run'], { api });
  t.equal(
    outcome.stdout,
    'Would delete volume a, 1G.\nWith --with-snapshots, which it needs, these go too: a@s.\n',
  );
  t.ok(operations.volumes.has('a'));
});

t.test('wrong input', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'there', '--size', '1G'], { api });
  await runCli(['snapshot', 'create', 'there@s'], { api });
  const documented = EXIT_CODE_MEANINGS.map(([code]) => code);
  for (const [words, code, says] of WRONG) {
    const what = words.join(' ').slice(0, 60);
    const outcome = await runCli(words, { api });
    t.equal(outcome.code, code, `${what}: exit code`);
    t.ok(documented.includes(outcome.code), `${what}: documented`);
    const last = outcome.stderr.trimEnd().split('\n').pop() ?? '';
    t.match(last, says, `${what}: says what is wrong`);
    t.match(last, /^cellblock: .*[.?]$/, `${what}: a sentence`);
    t.equal(outcome.stdout, '', `${what}: nothing on stdout`);
    const json = await runCli(['--json', ...words], { api });
    t.match(
      JSON.parse(json.stderr.trimEnd().split('\n').pop() ?? ''),
      { error: { code: String, message: String, hint: String } },
      `${what}: JSON`,
    );
  }
  t.equal(operations.volumes.size, 1, 'nothing half done');
  t.equal(operations.snapshots.size, 1, 'nothing half done');
});

t.test('no agent: says so, with what to do', async (t) => {
  const { directory } = await startFakeAgent(t);
  const missing = await runCli(['status'], { api: join(directory, 'none.sock') });
  t.equal(missing.code, 12);
  t.match(missing.stderr, /does not exist\. Start cellblockd .*--api PATH or CELLBLOCK_API/);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  t.equal((await runCli(['status'], { api: file })).code, 12);
  const stranger = createServer((socket) => socket.end('220 smtp ready\r\n'));
  await new Promise<void>((resolve) => stranger.listen(join(directory, 'smtp'), resolve));
  t.equal((await runCli(['status'], { api: join(directory, 'smtp') })).code, 12);
  stranger.close();
});

t.test('the exit code of store check is the answer', async (t) => {
  const { apiPath: api, inspection } = await startFakeAgent(t);
  t.same((await runCli(['store', 'check'], { api })).stdout, 'The store is clean (2 records).\n');
  inspection.problems.push({ severity: 'warning', code: 'leak', message: 'A slot leaks.' });
  t.equal((await runCli(['store', 'check'], { api })).code, 0, 'warnings are no damage');
  inspection.problems.push({ severity: 'error', code: 'record-corrupt', message: 'A record is damaged.' });
  const damaged = await runCli(['store', 'check'], { api });
  t.equal(damaged.code, 10);
  t.equal(damaged.stdout, 'warning: A slot leaks. [leak]\nerror: A record is damaged. [record-corrupt]\n');
  t.match(damaged.stderr, 'The store is damaged: 1 problem.');
  const json = await runCli(['store', 'check', '--json'], { api });
  t.equal(json.code, 10);
  t.equal(JSON.parse(json.stdout).problems.length, 2);
});

t.test('a store of a newer version is not called damaged', async (t) => {
  const { apiPath: api, inspection } = await startFakeAgent(t);
  inspection.problems.push({
    severity: 'error',
    code: 'slot-file-unknown',
    message: 'A record names no file.',
  });
  inspection.problems.push({
    severity: 'error',
    code: 'journal-newer',
    message: 'The journal has format 99.',
  });
  const outcome = await runCli(['store', 'check'], { api });
  t.equal(outcome.code, 11);
  t.match(outcome.stderr, 'made by a newer version of cellblock. Check it with that version.');
});

t.test('store check works without an agent', async (t) => {
  const asked: string[] = [];
  const outcome = await runCli(['store', 'check', '--store', '/copy'], {
    api: '/nobody',
    offlineCheck: async (directory) => {
      asked.push(directory);
      return { clean: false, problems: [{ severity: 'error', code: 'x', message: 'Bad.' }], recordsSeen: 1n };
    },
  });
  t.equal(outcome.code, 10);
  t.same(asked, ['/copy']);
});

t.test('--wait follows the task to its end and fails with it', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'a', '--size', '1G'], { api });
  await runCli(['snapshot', 'create', 'a@s'], { api });
  const waiting = runCli(['snapshot', 'delete', 'a@s', '--wait'], { api });
  while (operations.watchers.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const id = [...operations.watchers.keys()][0] ?? 0;
  operations.changeTask(id, {
    state: 'failed',
    error: { code: 'no-space', message: 'The disk is full.', hint: 'Free some.' },
  });
  const outcome = await waiting;
  t.equal(outcome.stderr, 'cellblock: The disk is full. Free some.\n');
  t.not(outcome.code, 0);
});

t.test('Ctrl-C while waiting ends with 130', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'a', '--size', '1G'], { api });
  await runCli(['snapshot', 'create', 'a@s'], { api });
  const stop = new AbortController();
  const waiting = runCli(['snapshot', 'delete', 'a@s', '--wait'], { api, signal: stop.signal });
  while (operations.watchers.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  t.equal((await waiting).code, 130);
});

/** A door that stays closed until told. */
function door() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

const aWhile = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test('Ctrl-C while the agent works: what it did is waited for and told', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await operations.createVolume('a', { sizeBytes: 4096n });
  const { opened, open } = door();
  operations.hold = opened;
  const before = operations.arrived;
  const stop = new AbortController();
  const taking = runCli(['snapshot', 'create', 'a@s'], { api, signal: stop.signal });
  await until('the agent works on it', () => operations.arrived > before);
  stop.abort();
  open();
  t.match(await taking, {
    code: 0,
    stdout: 'Snapshot a@s taken.\n',
    stderr: 'Interrupted; waiting for the agent to say what it did. Once more ends at once.\n',
  });
});

t.test('Ctrl-C while the agent works and goes on working: it may be done, and where to look', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await operations.createVolume('a', { sizeBytes: 4096n });
  const { opened, open } = door();
  operations.hold = opened;
  const before = operations.arrived;
  const stop = new AbortController();
  const taking = runCli(['snapshot', 'create', 'a@s'], { api, signal: stop.signal, patienceMs: 1500 });
  await until('the agent works on it', () => operations.arrived > before);
  stop.abort();
  const outcome = await taking;
  open();
  t.equal(outcome.code, 130);
  t.match(outcome.stderr, /has not answered.* may be done.*See `cellblock snapshot list`\.\n$/);
  t.notMatch(outcome.stderr, 'left half done');
});

t.test('Ctrl-C while the volume of an import is being made: it is deleted again', async (t) => {
  const { apiPath: api, operations, directory } = await startFakeAgent(t);
  const image = join(directory, 'in.img');
  writeFileSync(image, 'data');
  const { opened, open } = door();
  operations.hold = opened;
  const before = operations.arrived;
  const stop = new AbortController();
  const importing = runCli(['volume', 'import', 'a', image], { api, signal: stop.signal });
  await until('the agent works on it', () => operations.arrived > before);
  stop.abort();
  open();
  const outcome = await importing;
  t.equal(outcome.code, 130);
  t.match(outcome.stderr, /volume a, made for it, is deleted again\.\ncellblock: Interrupted\. Start again/);
  t.equal(operations.volumes.size, 0);
});

t.test('--wait that is interrupted says that the task goes on', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await operations.createVolume('a', { sizeBytes: 4096n });
  await runCli(['snapshot', 'create', 'a@s'], { api });
  const stop = new AbortController();
  const waiting = runCli(['snapshot', 'delete', 'a@s', '--wait'], { api, signal: stop.signal });
  while (operations.watchers.size === 0) await aWhile(5);
  stop.abort();
  t.match((await waiting).stderr, /task \d+ \(snapshot-delete s\) goes on\. See `cellblock task list`\./);
});

t.test('an agent that dies at work: it may be done', async (t) => {
  const { directory } = await startFakeAgent(t);
  const api = join(directory, 'dies.sock');
  const dying = createServer((socket) => socket.once('data', () => socket.destroy()));
  await new Promise<void>((resolve) => dying.listen(api, resolve));
  const outcome = await runCli(['volume', 'create', 'a', '--size', '1G'], { api });
  dying.close();
  t.equal(outcome.code, 12);
  t.match(outcome.stderr, /broke off.*may be done: see `cellblock volume list`/);
});

t.test('a socket that answers nothing, or not as the agent does', async (t) => {
  const { directory } = await startFakeAgent(t);
  const open = new Set<Socket>();
  const listen = async (name: string, greeting: string) => {
    const server = createServer((socket) => {
      open.add(socket);
      socket.on('error', () => undefined).resume();
      socket.write(greeting);
    });
    t.teardown(() => {
      for (const socket of open) socket.destroy();
      server.close();
    });
    await new Promise<void>((resolve) => server.listen(join(directory, name), resolve));
    return join(directory, name);
  };
  const cases: [api: string, code: number, says: RegExp][] = [
    [await listen('silent', ''), 12, /silent takes connections but does not answer\. If it is cellblockd/],
    [
      await listen('nbd', 'NBDMAGICIHAVEOPT\0\u0003'),
      12,
      /nbd is an NBD socket, not that of the control API/,
    ],
    [await listen('ssh', 'SSH-2.0-x\r\n'), 12, /What answers on .*ssh is not cellblockd\. Name the socket/],
    ['', 2, /The path after --api is empty\. Name the socket/],
  ];
  for (const [api, code, says] of cases) {
    const outcome = await runCli(['volume', 'list'], { api, patienceMs: 100 });
    t.equal(outcome.code, code, api);
    t.match(outcome.stderr, says);
  }
});

t.test('an agent that takes its time is waited for', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const { opened, open } = door();
  operations.hold = opened;
  const making = runCli(['volume', 'create', 'a', '--size', '1G'], { api, patienceMs: 1500 });
  await until('it was asked whether it is there', () => operations.statusAsked > 0);
  open();
  t.equal((await making).code, 0);
});

t.test('an import over a volume that holds something has to be forced', async (t) => {
  const { apiPath: api, operations, directory } = await startFakeAgent(t);
  const image = join(directory, 'in.img');
  writeFileSync(image, Buffer.alloc(4096));
  await operations.createVolume('data', { sizeBytes: 1n << 20n });
  operations.allocated.set('data', 8192n);
  await operations.createVolume('frozen', { sizeBytes: 1n << 20n });
  await runCli(['snapshot', 'create', 'frozen@s'], { api });
  const wrong: [words: string[], code: number, says: RegExp][] = [
    [['data', image], 4, /Volume data holds 8K of data\. Import into a new volume, or .* --force\./],
    [['frozen', image], 4, /Volume frozen has 1 snapshot\. Import into a new volume/],
    [['data', image, '--size', '2M', '--force'], 2, /is there already and has 1048576 bytes, not 2M\. Leave/],
    [['frozen@s', image], 2, /"frozen@s" is a snapshot, not a volume\. Import into a volume/],
  ];
  for (const [words, code, says] of wrong) {
    const outcome = await runCli(['volume', 'import', ...words], { api });
    t.equal(outcome.code, code, words.join(' '));
    t.match(outcome.stderr, says);
    t.equal(outcome.stdout, '');
  }
});

t.test('a dry run of an import says what would be done, and does nothing', async (t) => {
  const { apiPath: api, operations, directory } = await startFakeAgent(t);
  const image = join(directory, 'in.img');
  writeFileSync(image, Buffer.alloc(4096));
  await operations.createVolume('data', { sizeBytes: 1n << 20n });
  operations.allocated.set('data', 8192n);
  const dry = async (...words: string[]) =>
    (await runCli(['volume', 'import', ...words, '--dry-run'], { api })).stdout.replaceAll(image, 'IMAGE');
  t.equal(await dry('new', image), 'Would make volume new, 4K, and write IMAGE to it, 4K.\n');
  t.equal(
    await dry('data', image),
    'Would write IMAGE, 4K, over volume data, 1M.\nNeeds --force: the volume holds 8K of data; snapshots stay as they are.\nThe rest of the volume, 1020K, would be zeroed.\n',
  );
  t.match(
    await dry('new', '-', '--size', '1M'),
    'What is left of the volume behind the image would be zeroed',
  );
  t.strictSame([...operations.volumes.keys()], ['data']);
});

t.test('help and version are asked for and come on stdout', async (t) => {
  const help = await runCli(['--help']);
  t.equal(help.code, 0);
  for (const [code, meaning] of EXIT_CODE_MEANINGS)
    t.match(help.stdout, new RegExp(`${code}  ${meaning.slice(0, 10)}`));
  t.same(await runCli(['--version']).then(({ stdout }) => stdout), '1.2.3\n');
});

t.test('names that would disturb a terminal are shown escaped', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await operations.createVolume('a\u202eb', { sizeBytes: 4096n });
  t.match((await runCli(['volume', 'list'], { api })).stdout, 'a\\u{202e}b');
  const { stdout } = await runCli(['volume', 'list', '--json'], { api });
  t.match(stdout, '"a\\u202eb"');
  t.equal(JSON.parse(stdout)[0].name, 'a\u202eb', 'the value is the same');
});
