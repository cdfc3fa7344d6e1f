// cellblockd started with its sockets: served as if they were its own, left behind when it ends, and refused in so many words when
// they are of no use.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ApiClient } from '../support/api-client.js';
import { launchWithSockets, type Passed } from '../support/launch-with-sockets.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, Running, repositoryRoot, run } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { answers, until } from '../support/waiting.js';

t.setTimeout(300_000);

const skip = missing('python3');
const program = (name: string) => path.join(repositoryRoot, `dist/src/main/${name}.js`);

function place(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-activated-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function start(
  t: Test,
  directory: string,
  passed: readonly Passed[],
  options: { more?: string[]; variables?: Record<string, string> } = {},
) {
  const words = [process.execPath, program('cellblockd'), '--store', path.join(directory, 'store')];
  const running = launchWithSockets(passed, [...words, ...(options.more ?? [])], options.variables);
  t.teardown(() => running.stop('SIGKILL'));
  return running;
}

t.test('both sockets are served, and stay for the next one', { skip }, async (t) => {
  const directory = place(t);
  const nbd = path.join(directory, 'n');
  const api = path.join(directory, 'a');
  const passed: Passed[] = [
    { name: 'api', kind: 'unix', place: api },
    { name: 'nbd', kind: 'unix', place: nbd },
    { name: 'nbd', kind: 'tcp', place: '0' },
  ];
  const agent = start(t, directory, passed);
  // Nobody has to wait for the start: whoever connects is taken when it is there.
  const client = new ApiClient(api);
  await until('the sockets', () => answers(api));
  await client.createVolume('disk', 64 * MIB);
  const status = await client.call<{ listeners: string[] }>('GET', '/v1/status');
  t.match(status.listeners, [`unix:${nbd}`, /^tcp:127\.0\.0\.1:[1-9]\d*$/]);
  t.equal(status.listeners.length, 2, 'in place of the default address');
  for (const address of status.listeners) {
    const opened = await RawNbd.open(address, 'disk');
    t.equal(opened.info.size, BigInt(64 * MIB), address);
    await opened.client.leave();
  }
  const stdio = await run(process.execPath, [program('cellblock'), '--api', api, 'serve-stdio', 'disk']);
  t.equal(stdio.stdout.slice(0, 8), 'NBDMAGIC', 'serve-stdio finds the agent beside the socket of its API');
  t.same(await agent.stop(), { code: 0, signal: null });
  t.ok(existsSync(nbd) && existsSync(api), 'the files are not the agent’s to remove');
  t.notOk(existsSync(`${api}.stdio`), 'its own is');
});

t.test('systemd-socket-activate', { skip: missing('systemd-socket-activate') }, async (t) => {
  const directory = place(t);
  const api = path.join(directory, 'a');
  const words = ['-l', api, '--fdname=api', process.execPath, program('cellblockd')];
  const more = ['--store', path.join(directory, 'store'), '--nbd', `unix:${path.join(directory, 'n')}`];
  const agent = new Running('systemd-socket-activate', [...words, ...more]);
  t.teardown(() => agent.stop('SIGKILL'));
  // Its file is there before it listens.
  await until('the socket', () => answers(api));
  const status = await new ApiClient(api).call<{ pid: number }>('GET', '/v1/status');
  t.equal(status.pid, agent.pid, 'it has become the agent');
  t.match(await agent.stop(), { code: 0 });
});

const WRONG: [
  what: string,
  passed: Omit<Passed, 'place'>[],
  variables: Record<string, string>,
  says: RegExp,
][] = [
  ['a file', [{ name: 'nbd', kind: 'file' }], {}, /descriptor 3 is no socket/],
  ['a connected socket', [{ name: 'nbd', kind: 'unix-connected' }], {}, /is no listening stream socket/],
  ['a socket of datagrams', [{ name: 'nbd', kind: 'unix-datagram' }], {}, /is no listening stream socket/],
  [
    'TCP for everybody',
    [{ name: 'nbd', kind: 'tcp-everywhere' }],
    {},
    /require TLS of every client, or allow it/,
  ],
  ['the API on TCP', [{ name: 'api', kind: 'tcp' }], {}, /passed as api is tcp:127\.0\.0\.1/],
  ['a file as the API', [{ name: 'api', kind: 'file' }], {}, /descriptor 3 is no socket/],
  ['another name', [{ name: 'web', kind: 'unix' }], {}, /is named "web"/],
  [
    'one that is not there',
    [{ name: 'nbd', kind: 'unix' }],
    { LISTEN_FDS: '2', LISTEN_FDNAMES: 'nbd:nbd' },
    /descriptor 4 is/,
  ],
];

t.test(
  'sockets that are of no use are refused with a sentence, and no store is left',
  { skip },
  async (t) => {
    for (const [what, passed, variables, says] of WRONG) {
      const directory = place(t);
      const placed = passed.map((one, index) => ({
        ...one,
        place: one.kind.startsWith('tcp') ? '0' : path.join(directory, String(index)),
      }));
      const api = passed.some(({ name }) => name === 'api') ? [] : ['--api', path.join(directory, 'api')];
      const agent = start(t, directory, placed, { variables, more: api });
      const { code } = await agent.ended;
      t.equal(code, 2, `${what}: ${agent.output}`);
      const said = agent.output
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('{"level":"info"'));
      t.equal(said.length, 1, `${what}: one line`);
      t.match(said[0], says, what);
      t.match(said[0], /Pass listening stream sockets named nbd or api/, `${what}: what to do`);
    }
  },
);

t.test('what is meant for another process is no socket of ours', { skip }, async (t) => {
  const directory = place(t);
  const own = path.join(directory, 'own');
  const agent = start(t, directory, [{ name: 'web', kind: 'unix', place: path.join(directory, 'x') }], {
    variables: { LISTEN_PID: '1' },
    more: ['--nbd', `unix:${own}`, '--api', path.join(directory, 'api')],
  });
  await until('its own socket', () => existsSync(own));
  await until('an answer', async () => agent.output.includes('"msg":"ready"'));
  t.match(await agent.stop(), { code: 0 });
});
