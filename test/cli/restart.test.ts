// A service manager restarts the agent: what it is told, and that clients in clear do not notice. The manager is a small one of the
// tests; `npm run test:vm` has systemd itself.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ApiClient } from '../support/api-client.js';
import { CMD, MIB, requestMessage } from '../support/nbd-wire.js';
import { missing, Running, repositoryRoot } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { TestServiceManager } from '../support/service-manager.js';
import { until } from '../support/waiting.js';

t.setTimeout(600_000);

const skip = missing('python3');
const agent = path.join(repositoryRoot, 'dist/src/main/cellblockd.js');

interface Site {
  manager: TestServiceManager;
  api: ApiClient;
  nbd: string;
  directory: string;
}

async function site(
  t: Test,
  {
    more = ['--keep-clients'],
    ...options
  }: { more?: string[]; variables?: Record<string, string>; keeps?: boolean } = {},
): Promise<Site> {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-restart-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const at = (name: string) => path.join(directory, name);
  const manager = new TestServiceManager(t, {
    words: [process.execPath, agent, '--store', at('store'), '--nbd', 'tcp:127.0.0.1:0', ...more],
    notify: at('notify'),
    sockets: [
      { name: 'nbd', path: at('nbd') },
      { name: 'api', path: at('api') },
    ],
    ...options,
  });
  await manager.message('READY');
  return { manager, api: new ApiClient(at('api')), nbd: `unix:${at('nbd')}`, directory };
}

t.test('what the manager is told, from the start to the stop', { skip }, async (t) => {
  const { manager, api } = await site(t, { variables: { WATCHDOG_USEC: '900000' } });
  const ready = await manager.message('READY');
  t.match(ready.lines, { READY: '1', STATUS: 'Serving 0 volumes to 0 clients' });
  await api.createVolume('disk', MIB);
  await manager.message('WATCHDOG');
  const changed = manager.events.length;
  await manager.event(
    'the status',
    ({ lines }) => lines?.STATUS === 'Serving 1 volume to 0 clients',
    changed,
  );
  await manager.message('WATCHDOG', changed);
  const reloading = manager.events.length;
  process.kill(manager.pid, 'SIGHUP');
  const reload = await manager.message('RELOADING', reloading);
  t.match(reload.lines, { RELOADING: '1', MONOTONIC_USEC: /^\d{4,}$/ });
  await manager.message('READY', reloading);
  const end = await manager.end('SIGTERM');
  t.equal(end.code, 0);
  t.equal(end.kept, 0, 'without clients nothing is left');
  t.match(
    manager.events.filter(({ lines }) => lines?.STOPPING).map(({ lines }) => lines),
    [{ STOPPING: '1', STATUS: 'Stopping' }],
  );
});

t.test('a start that fails says why', { skip }, async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-restart-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const manager = new TestServiceManager(t, {
    words: [process.execPath, agent, '--store', '/proc/nowhere', '--nbd', `unix:${directory}/nbd`],
    notify: path.join(directory, 'notify'),
    sockets: [{ name: 'api', path: path.join(directory, 'api') }],
  });
  const said = await manager.message('STATUS');
  t.match(said.lines.STATUS, /\/proc\/nowhere/);
  const end = await manager.event('the end', ({ event }) => event === 'ended');
  t.not(end.code, 0);
  t.notOk(
    manager.events.some(({ lines }) => lines?.READY),
    'never ready',
  );
});

t.test('clients over unix sockets and TCP go on through restarts', { skip }, async (t) => {
  const { manager, api, nbd } = await site(t);
  await api.createVolume('disk', 64 * MIB);
  const tcp = (await api.call<{ listeners: string[] }>('GET', '/v1/status')).listeners.find((one) =>
    one.startsWith('tcp:'),
  );
  const clients: RawNbd[] = [];
  for (const address of [nbd, tcp as string]) {
    const client = await RawNbd.negotiate(address);
    t.teardown(() => client.close());
    await client.negotiateStructured();
    await client.setContexts('disk', ['base:allocation']);
    await client.go('disk');
    clients.push(client);
  }
  for (let round = 0; round < 3; round++) {
    for (const [index, client] of clients.entries()) {
      const data = Buffer.alloc(8192, 16 * round + index + 1);
      const offset = index * MIB;
      t.match(await client.command({ type: CMD.write, offset, length: 8192 }, data), { error: 0 });
    }
    const end = await manager.end('SIGTERM');
    t.match(end, { code: 0, kept: 3 }, 'two sockets, and what is known of them');
    // Asked while there is no agent at all.
    const waiting = clients.map((client, index) =>
      client.command({ type: CMD.read, offset: index * MIB, length: 8192 }),
    );
    const start = await manager.start();
    t.same(start.passed.sort(), ['api', 'kept-client', 'kept-client', 'kept-clients', 'nbd']);
    for (const [index, answer] of (await Promise.all(waiting)).entries()) {
      t.equal(answer.error, 0);
      t.ok(answer.data?.equals(Buffer.alloc(8192, 16 * round + index + 1)), 'what was written before');
    }
  }
  for (const client of clients) {
    const status = await client.command({ type: CMD.blockStatus, offset: 0, length: MIB });
    t.equal(status.error, 0, 'the contexts count still');
    t.notOk(client.hasEnded);
    await client.leave();
  }
  t.equal((await manager.end('SIGTERM')).kept, 0, 'the manager keeps nothing of those that left');
});

t.test(
  'requests cut off by a restart at any byte are answered once, by one or the other',
  { skip },
  async (t) => {
    const { manager, api, nbd } = await site(t);
    await api.createVolume('disk', 4 * MIB);
    const bytes = Buffer.concat([
      requestMessage({ type: CMD.write, cookie: 1n, offset: 0, length: 4096 }),
      Buffer.alloc(4096, 7),
      requestMessage({ type: CMD.read, cookie: 2n, offset: 0, length: 4096 }),
    ]);
    for (const cut of [1, 27, 28 + 4096 + 5]) {
      const client = (await RawNbd.open(nbd, 'disk', { structured: false })).client;
      await client.sendAll(bytes.subarray(0, cut));
      t.equal((await manager.end('SIGTERM')).code, 0);
      await manager.start();
      await client.sendAll(bytes.subarray(cut));
      t.same(await client.readSimple(), { cookie: 1n, error: 0 }, `cut at ${cut}`);
      t.same(await client.readSimple(), { cookie: 2n, error: 0 });
      t.ok((await client.read(4096)).equals(Buffer.alloc(4096, 7)));
      await client.leave();
    }
  },
);

t.test(
  'killed: clients are told by the end of their connections, and nothing was kept',
  { skip },
  async (t) => {
    const { manager, api, nbd } = await site(t);
    await api.createVolume('disk', MIB);
    const { client } = await RawNbd.open(nbd, 'disk');
    t.match(await manager.end('SIGKILL'), { code: -9, kept: 0 });
    await client.readToEnd();
    t.ok(client.hasEnded);
    client.close();
    await manager.start();
    const again = await RawNbd.open(nbd, 'disk');
    // It was taken over once already: the manager must not have kept it.
    t.match(await manager.end('SIGTERM'), { kept: 2 });
    await manager.start();
    t.match(await manager.end('SIGKILL'), { kept: 0 });
    await again.client.readToEnd();
    again.client.close();
  },
);

t.test('without --keep-clients, and without a store, connections end', { skip }, async (t) => {
  for (const options of [{ more: [] }, { keeps: false }]) {
    const { manager, api, nbd } = await site(t, options);
    await api.createVolume('disk', MIB);
    const { client } = await RawNbd.open(nbd, 'disk');
    t.match(await manager.end('SIGTERM'), { code: 0, kept: 0 });
    await client.readToEnd();
    client.close();
  }
});

t.test(
  'fio verifies what it writes, through restart after restart',
  { skip: skip || missing('fio') },
  async (t) => {
    const { manager, api, nbd, directory } = await site(t);
    await api.createVolume('disk', 32 * MIB);
    const fio = new Running(
      'fio',
      [
        '--name=disk',
        '--ioengine=nbd',
        `--uri=nbd+unix:///disk?socket=${nbd.slice('unix:'.length)}`,
        '--rw=randwrite',
        '--bs=4k',
        '--size=32M',
        '--iodepth=8',
        '--rate_iops=800', // so that it lasts for ten seconds and more
        '--verify=crc32c',
        '--verify_state_save=0',
        '--verify_fatal=1',
        '--eta=never',
      ],
      { cwd: directory },
    );
    t.teardown(() => fio.stop('SIGKILL'));
    let restarts = 0;
    while (!fio.isOver) {
      await until('fio to be connected', async () => {
        const { counts } = await api.call<{ counts: { connections: number } }>('GET', '/v1/status');
        return counts.connections > 0 || fio.isOver;
      });
      await manager.end('SIGTERM');
      await manager.start();
      restarts++;
    }
    t.equal((await fio.ended).code, 0, fio.output);
    t.notMatch(fio.output, /err= *[1-9]/);
    t.ok(restarts > 1, `${restarts} restarts`);
  },
);
