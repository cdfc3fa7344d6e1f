// Facts as they are gathered from trees of files and answers of programs that a test lays out: what stands there is found, what does not says
// why.

import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { mountOf } from '../../../src/agent/mounts.js';
import { processFacts } from '../../../src/agent/process-facts.js';
import { SpaceTrend } from '../../../src/agent/space-trend.js';
import { withoutCredentials } from '../../../src/agent/without-credentials.js';
import { ApiClient } from '../../../src/commands/api-client.js';
import { gatherFacts } from '../../../src/commands/doctor/gather.js';
import type { Ran, Sources } from '../../../src/commands/doctor/sources.js';
import { startFakeAgent } from '../../cli/fake-agent.js';

function tree(t: Test, files: Record<string, string>): (path: string) => string {
  const root = mkdtempSync(join(tmpdir(), 'cellblock-doctor-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return (path) => join(root, path);
}

function sourcesIn(
  at: (path: string) => string,
  more: Partial<Sources> & { said?: Record<string, Ran> } = {},
): Sources {
  const { said = {}, ...rest } = more;
  return {
    api: new ApiClient(at('api.sock')),
    signal: new AbortController().signal,
    version: '1.2.3',
    roots: {
      proc: at('proc'),
      sys: at('sys'),
      etc: at('etc'),
      run: at('run'),
      modules: at('modules'),
      store: at('store'),
    },
    run: async (command) => said[command] ?? null,
    addonProblem: () => null,
    user: { uid: 1000, name: 'ann', groups: [1000, 990] },
    nowMs: () => 1_000_000,
    store: null,
    configuration: null,
    ...rest,
  };
}

const UNITS = `Id=cellblockd.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Result=success
MainPID=42
NRestarts=2
WatchdogUSec=1min 30s
FileDescriptorStoreMax=8192
ExecStart={ path=/usr/bin/cellblockd ; argv[]=/usr/bin/cellblockd --store /srv/store --config /srv/cb.yaml ; ignore_errors=no ; pid=42 }

Id=cellblockd.socket
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
Result=success
`;

t.test('what stands in files of the kernel and is said by programs', async (t) => {
  const at = tree(t, {
    'proc/sys/kernel/osrelease': '6.1.0-18-amd64\n',
    'proc/sys/kernel/io_uring_disabled': '2\n',
    'proc/meminfo': 'MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n',
    'sys/module/nbd/parameters/max_part': '16\n',
    'sys/block/nbd0/pid': '77\n',
    'sys/block/nbd0/backend': 'cellblock:ff:container-1\n',
    'sys/block/nbd1/size': '0\n',
    'sys/block/nbd2/pid': '80\n',
    'sys/block/sda/size': '1\n',
    'run/systemd/system/x': '',
    'etc/group': 'root:x:0:\ncellblock:x:990:bob,ann\n',
  });
  const said = {
    systemctl: { code: 0, stdout: UNITS },
    timedatectl: { code: 0, stdout: 'no\n' },
  };
  const facts = await gatherFacts(sourcesIn(at, { said }));
  t.same(facts.kernel, {
    release: '6.1.0-18-amd64',
    nbd: 'loaded',
    nbdMaxPart: 16,
    ioUringDisabled: 2,
    devices: [
      { device: '/dev/nbd0', pid: 77, identifier: 'cellblock:ff:container-1' },
      { device: '/dev/nbd2', pid: 80, identifier: null },
    ],
  });
  t.same(facts.memory, { totalBytes: 16_384_000_000n, availableBytes: 8_192_000_000n });
  t.same(facts.clock, { synchronised: false });
  t.same(facts.group, { name: 'cellblock', exists: true, listed: true, held: true });
  t.same(facts.systemd, {
    service: {
      loadState: 'loaded',
      activeState: 'active',
      fileState: 'enabled',
      result: 'success',
      mainPid: 42,
      restarts: 2,
      watchdogMs: 90_000,
      descriptorStoreMax: 8192,
      store: '/srv/store',
      configuration: '/srv/cb.yaml',
    },
    sockets: [
      {
        name: 'cellblockd.socket',
        loadState: 'loaded',
        activeState: 'inactive',
        fileState: 'disabled',
        result: 'success',
      },
    ],
  });
  t.match(
    facts.configuration,
    { path: '/srv/cb.yaml', problem: { message: /does not exist/ } },
    'that of the unit',
  );
  t.match(facts.store, { directory: '/srv/store', error: 'ENOENT' }, 'that of the unit');
  t.same(facts.agent, { unknown: 'the agent is not reached' });
  t.match(facts.socket.failure?.message, /does not exist/);
});

t.test('what is not there says why', async (t) => {
  const at = tree(t, { x: '' });
  const facts = await gatherFacts(sourcesIn(at));
  t.match(facts.kernel.nbd, { unknown: /no list of modules/ });
  t.match(facts.kernel.devices, { unknown: /not to be seen/ });
  for (const fact of [
    facts.memory,
    facts.clock,
    facts.group,
    facts.systemd,
    facts.store,
    facts.configuration,
  ])
    t.match(fact, { unknown: /^[a-z].*[^.]$/ });
});

t.test('the nbd driver is loadable, or there is none', async (t) => {
  const modules = (list: string) =>
    tree(t, { 'proc/sys/kernel/osrelease': '6.1\n', 'modules/6.1/modules.dep': list });
  const nbd = async (list: string) => (await gatherFacts(sourcesIn(modules(list)))).kernel.nbd;
  t.equal(await nbd('kernel/drivers/block/nbd.ko.xz: kernel/x.ko\n'), 'loadable');
  t.equal(await nbd('kernel/drivers/block/nbd.ko:\n'), 'loadable');
  t.equal(await nbd('kernel/drivers/block/xnbd.ko:\n'), 'missing');
});

t.test('what the agent tells stands before what is guessed', async (t) => {
  const agent = await startFakeAgent(t);
  const at = tree(t, { 'own.yaml': 'api:\n  group: staff\n', 'etc/group': 'staff:x:50:\n' });
  agent.diagnosis.program.configuration = at('own.yaml');
  utimesSync(at('own.yaml'), 1000, 1000);
  const facts = await gatherFacts(sourcesIn(at, { api: new ApiClient(agent.apiPath) }));
  t.match(facts.agent, {
    status: { version: '1.2.3' },
    attachments: [],
    diagnosis: { process: { pid: 77 } },
  });
  t.match(facts.store, { directory: '/var/lib/cellblock', mount: { type: 'ext4' }, freeBytes: 1n << 39n });
  t.same(facts.configuration, {
    path: at('own.yaml'),
    problem: null,
    inForce: true,
    changed: '1970-01-01T00:16:40.000Z',
  });
  t.same(
    facts.group,
    { name: 'staff', exists: true, listed: false, held: false },
    'the group of its configuration',
  );
});

t.test('a configuration that does not fit together is found, though each key is right', async (t) => {
  const at = tree(t, { 'etc/cellblock/cellblock.yaml': 'coordinator:\n  host: h1\n' });
  const { configuration } = await gatherFacts(sourcesIn(at));
  t.match(configuration, { problem: { message: /coordinator: it is not said where/ } });
});

t.test('of a process: who it is, what it may, and the lowest limit of memory above it', async (t) => {
  const at = tree(t, {
    'proc/9/status':
      'Name:\tx\nUid:\t0\t7\t0\t0\nCapEff:\t0000000000200001\nVmRSS:\t   2048 kB\nVmSwap:\t 4 kB\n',
    'proc/9/limits':
      'Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n',
    'proc/9/fd/0': '',
    'proc/9/fd/1': '',
    'proc/9/cgroup': '0::/a/b\n',
    'sys/fs/cgroup/a/memory.max': '5000\n',
    'sys/fs/cgroup/a/memory.current': '400\n',
    'sys/fs/cgroup/a/b/memory.max': 'max\n',
  });
  t.same(await processFacts(9, { proc: at('proc'), sys: at('sys') }), {
    uid: 7,
    capabilities: '0000000000200001',
    openDescriptors: 2,
    descriptorLimit: 1024,
    residentBytes: 2n << 20n,
    swappedBytes: 4096n,
    memoryLimitBytes: 5000n,
    memoryUsedBytes: 400n,
  });
  const nobody = await processFacts(10, { proc: at('proc'), sys: at('sys') });
  t.same(
    Object.values(nobody).filter((value) => value !== null),
    [],
  );
});

t.test('a store lies on the nearest mount, and of two at a place on the later one', async (t) => {
  const table = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro',
    '23 22 8:2 / /srv rw - xfs /dev/sdb1 rw',
    '24 22 8:3 / /srv/my\\040store rw,noatime - btrfs /dev/sdc1 rw,ssd',
    '25 23 8:4 / /srv rw - ext4 /dev/sdd1 rw',
    'nonsense',
  ].join('\n');
  t.match(mountOf(table, '/var/lib'), {
    point: '/',
    type: 'ext4',
    options: ['rw', 'relatime', 'errors=remount-ro'],
  });
  t.match(mountOf(table, '/srv/x'), { point: '/srv', source: '/dev/sdd1' });
  t.match(mountOf(table, '/srv/my store/s'), { type: 'btrfs' });
  t.match(mountOf(table, '/srvx'), { point: '/' });
  t.equal(mountOf('', '/'), null);
});

t.test('how fast space goes is told once it has been watched for five minutes', async (t) => {
  let atMs = 0;
  let freeBytes: bigint | null = 1_000_000n;
  const trend = new SpaceTrend({ freeBytes: async () => freeBytes, monotonicMs: () => atMs });
  t.equal(trend.now, null);
  await trend.look();
  atMs = 299_000;
  await trend.look();
  t.equal(trend.now, null);
  atMs = 400_000;
  freeBytes = 600_000n;
  await trend.look();
  t.same(trend.now, { bytesPerSecond: -1000, seconds: 400 });
  freeBytes = null;
  await trend.look();
  t.same(trend.now?.seconds, 400, 'a file system that does not answer is passed over');
  freeBytes = 600_000n;
  for (let minute = 0; minute < 61; minute++) {
    atMs += 60_000;
    await trend.look();
  }
  t.same(trend.now, { bytesPerSecond: 0, seconds: 3600 }, 'only the last hour counts');
});

t.test('addresses are shown without users, passwords and values of their queries', async (t) => {
  const shown: [string, string][] = [
    ['wss://c1:7443', 'wss://c1:7443'],
    ['wss://ann:pw@c1:7443/x', 'wss://[redacted]@c1:7443/x'],
    ['https://ann:p@ss/w?rd@c1', 'https://[redacted]@c1'],
    ['see http://u@h and ftp://v:w@i.', 'see http://[redacted]@h and ftp://[redacted]@i.'],
    ['https://h/?key=1&socket=/run/x&b=2', 'https://h/?key=[redacted]&socket=/run/x&b=[redacted]'],
    ['nbd+unix:///a@monday?socket=/run/x', 'nbd+unix:///a@monday?socket=/run/x'],
  ];
  for (const [text, expected] of shown) t.equal(withoutCredentials(text), expected);
});
