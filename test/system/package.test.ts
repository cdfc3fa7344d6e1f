// The Debian package: what is in it, that it is the same each time, that what it holds runs, and what installing, upgrading, removing and
// purging it do, leave and refuse. dpkg and the maintainer scripts are the real ones, on a layer above this machine; systemd is not there,
// or one that writes down what it is asked for.
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { tooLongForQuick } from '../support/effort.js';
import { find, missing, must, Running, repositoryRoot, run } from '../support/programs.js';
import { ScratchHost } from '../support/scratch-host.js';
import { until } from '../support/waiting.js';

t.setTimeout(900_000);

const lacking = tooLongForQuick || missing('dpkg-deb', 'strip', 'git', 'ldd');
const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-package-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

async function build(into: string): Promise<{ file: string } | { reason: string }> {
  const words = [path.join(repositoryRoot, 'scripts/package.js'), path.join(directory, into)];
  const outcome = await run(process.execPath, words);
  if (outcome.code === 0) return { file: outcome.stdout.trim() };
  if (/build with a Node from/.test(outcome.stderr))
    return { reason: 'this Node needs libraries that it cannot be copied without' };
  throw new Error(outcome.story);
}

const built = lacking ? { reason: lacking } : await build('first');
const skip = 'reason' in built ? built.reason : false;
const file = 'file' in built ? built.file : '';
const version = 'file' in built ? (await must('dpkg-deb', ['-f', file, 'Version'])).trim() : '';

const sha256 = (at: string): string => createHash('sha256').update(readFileSync(at)).digest('hex');

interface Entry {
  mode: string;
  owner: string;
  name: string;
}

async function contents(): Promise<Entry[]> {
  const lines = (await must('dpkg-deb', ['-c', file])).split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const [mode = '', owner = '', , , , name = ''] = line.split(/\s+/);
    return { mode, owner, name: name.replace(/^\./, '') };
  });
}

t.test('the same commit gives the same bytes', { skip }, async (t) => {
  const second = await build('second');
  t.ok('file' in second && sha256(second.file) === sha256(file));
});

t.test('what is in it', { skip }, async (t) => {
  const entries = await contents();
  const names = entries.map(({ name }) => name);
  const manual = [
    'man1/cellblock.1',
    'man1/cellblock-volume.1',
    'man5/cellblock.yaml.5',
    'man8/cellblockd.8',
  ];
  const wanted = [
    ...['cellblock', 'cellblockd', 'cellblock-coordinator'].map((name) => `/usr/bin/${name}`),
    '/usr/lib/cellblock/bin/node',
    `/usr/lib/cellblock/prebuilt/${process.platform}-${process.arch}/cellblock.node`,
    '/lib/systemd/system/cellblockd.service',
    '/lib/systemd/system/cellblock-attach@.service',
    '/usr/lib/sysusers.d/cellblock.conf',
    '/usr/lib/tmpfiles.d/cellblock.conf',
    '/usr/lib/modules-load.d/cellblock.conf',
    '/etc/cellblock/cellblock.yaml',
    '/usr/share/doc/cellblock/copyright',
    '/usr/share/doc/cellblock/changelog.gz',
    // Units name these.
    '/usr/share/doc/cellblock/systemd.md',
    '/usr/share/doc/cellblock/kernel-devices.md',
    '/usr/share/doc/cellblock/coordinator.md',
    ...manual.map((page) => `/usr/share/man/${page}.gz`),
    '/usr/share/bash-completion/completions/cellblock',
    '/usr/share/zsh/vendor-completions/_cellblock',
    '/usr/share/fish/vendor_completions.d/cellblock.fish',
  ];
  t.same(
    wanted.filter((name) => !names.includes(name)),
    [],
    'nothing is missing',
  );
  t.same(
    names.filter((name) =>
      /\/dist\/(test|bench)\/|\.d\.ts$|\/typescript\/|\/tap\/|android|darwin|win32|musl/.test(name),
    ),
    [],
    'nothing of development or of other platforms',
  );
  t.equal(
    names.filter((name) => name.endsWith('classic-level.node') || name.endsWith('armv8.node')).length,
    1,
  );
  t.same(
    entries.filter(({ owner }) => owner !== 'root/root'),
    [],
    'all of it is root’s',
  );
  t.same(
    entries.filter(({ mode }) => !/^(d|-)rw(-|x)r-(-|x)r-(-|x)$/.test(mode)),
    [],
    'readable by all, writable by root',
  );
});

t.test('what it says of itself', { skip }, async (t) => {
  const depends = await must('dpkg-deb', ['-f', file, 'Depends']);
  t.match(depends, /libc6 \(>= [\d.]+\), .*libstdc\+\+6 \(>= [\d.]+\), adduser \| systemd/);
  t.match(await must('dpkg-deb', ['-f', file, 'Recommends']), 'kmod, udev');
  t.equal(await must('dpkg-deb', ['-I', file, 'conffiles']), '/etc/cellblock/cellblock.yaml\n');
  const root = path.join(directory, 'unpacked');
  await must('dpkg-deb', ['-x', file, root]);
  await must('sh', ['-c', `cd '${root}' && dpkg-deb -I '${file}' md5sums | md5sum --check --quiet`]);
});

t.test('what is unpacked runs, wherever it is', { skip }, async (t) => {
  const root = path.join(directory, 'unpacked-to-run');
  await must('dpkg-deb', ['-x', file, root]);
  const home = path.join(root, 'usr/lib/cellblock');
  const node = path.join(home, 'bin/node');
  t.equal(await must(node, [path.join(home, 'dist/src/main/cellblock.js'), '--version']), `${version}\n`);
  const tokens = path.join(directory, 'tokens');
  writeFileSync(tokens, 'web-1 west the-token-of-host-web-1\n', { mode: 0o600 });
  const words = ['--listen', 'ws://127.0.0.1:0', '--state', path.join(directory, 'state'), '--token', tokens];
  const coordinator = new Running(node, [
    path.join(home, 'dist/src/main/cellblock-coordinator.js'),
    ...words,
  ]);
  t.teardown(() => coordinator.stop('SIGKILL'));
  await until('its leading', () => {
    if (coordinator.isOver) throw new Error(coordinator.output);
    return coordinator.output.includes('this coordinator leads');
  });
  t.match(await coordinator.stop(), { code: 0 }, coordinator.output);
});

t.test('the licence of every npm package that is bundled', { skip }, async (t) => {
  const root = path.join(directory, 'unpacked-to-read');
  await must('dpkg-deb', ['-x', file, root]);
  const main = path.join(root, 'usr/lib/cellblock/dist/src/main');
  const bundled = new Set<string>();
  for (const name of readdirSync(main))
    for (const [, each] of readFileSync(path.join(main, name), 'utf8').matchAll(
      /^ *\/\/ (?:\S+\/)?node_modules\/((?:@[^/]+\/)?[^/\s]+)/gm,
    ))
      bundled.add(each!);
  t.ok(bundled.has('fastify') && bundled.has('@sinclair/typebox'), 'they are found');
  const texts = readdirSync(path.join(root, 'usr/share/doc/cellblock/licences'));
  const without = [...bundled].filter(
    (each) => !texts.some((text) => text.startsWith(`${each.replace('/', '+')}-`)),
  );
  t.same(without, []);
});

const noLayer = skip || missing('dpkg') || (await ScratchHost.missing());

/** The same package with another number. */
async function versionOf(number: string): Promise<string> {
  const root = path.join(directory, `as-${number}`);
  const other = path.join(directory, `cellblock_${number}.deb`);
  await must('dpkg-deb', ['-R', file, root]);
  await must('sed', ['-i', `s/^Version: .*/Version: ${number}/`, path.join(root, 'DEBIAN/control')]);
  await must('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z1', '-b', root, other]);
  rmSync(root, { recursive: true });
  return other;
}

/** Packages are seen below /tmp of the machine, which is another one in the layer. */
async function bring(host: ScratchHost, deb: string): Promise<string> {
  const [program = '', ...words] = [...host.entrance, 'sh', '-c', 'cat >/tmp/package.deb'];
  await must(program, words, { input: readFileSync(deb) });
  return '/tmp/package.deb';
}

async function install(host: ScratchHost, deb: string): Promise<string> {
  return host.must('dpkg', '--force-depends', '-i', await bring(host, deb));
}

const state = async (host: ScratchHost): Promise<string> =>
  (await host.run('dpkg-query', '-W', '-f', '${db:Status-Status}', 'cellblock')).stdout;

t.test(
  'installed where no systemd runs: users are made, nothing is started, the agent serves',
  { skip: noLayer },
  async (t) => {
    const host = await ScratchHost.make(t);
    await install(host, file);
    t.equal(await state(host), 'installed');
    t.match(await host.must('getent', 'group', 'cellblock'), /^cellblock:/);
    t.match(
      await host.must('getent', 'passwd', 'cellblock-coordinator'),
      /\/var\/lib\/cellblock-coordinator/,
    );
    t.match(await host.must('stat', '-c', '%a', '/run/cellblock'), '755');
    const words = ['--store', '/var/lib/cellblock', '--config', '/etc/cellblock/cellblock.yaml'];
    const agent = host.start('/usr/bin/cellblockd', ...words);
    t.teardown(() => agent.stop('SIGKILL'));
    await until('an answer', async () => {
      if (agent.isOver) throw new Error(agent.output);
      return (await host.run('cellblock', 'status')).code === 0;
    });
    t.match(await host.must('cellblock', 'volume', 'create', 'web', '--size', '1G'), /Volume web made, 1G/);
    t.equal(await host.must('cellblock', 'complete-names', 'volumes'), 'web\n');
    t.match(await host.must('stat', '-c', '%G %a', '/run/cellblock/api.sock'), 'cellblock 660');
    t.match(await agent.stop(), { code: 0 }, agent.output);
    t.match(await host.must('cellblock', 'store', 'check', '--store', '/var/lib/cellblock'), /clean/i);
  },
);

const UNITS = 'cellblockd.socket cellblockd-api.socket cellblockd.service';

async function withSystemd(t: Test, deb: string): Promise<ScratchHost> {
  const host = await ScratchHost.make(t);
  await host.pretendSystemd();
  await install(host, deb);
  return host;
}

t.test('installed where systemd runs: enabled and started', { skip: noLayer }, async (t) => {
  const host = await withSystemd(t, file);
  const asked = await host.askedOfSystemd();
  t.ok(asked.includes(`start ${UNITS}`), asked.join('\n'));
  const [reload, start] = ['daemon-reload', `start ${UNITS}`].map((line) => asked.indexOf(line));
  t.ok(reload! >= 0 && reload! < start!, 'after the units are known');
  if (find('deb-systemd-helper') === null) return;
  const wants = '/etc/systemd/system';
  const links = [
    'sockets.target.wants/cellblockd.socket',
    'sockets.target.wants/cellblockd-api.socket',
    'multi-user.target.wants/cellblockd.service',
  ];
  for (const link of links) t.equal((await host.run('test', '-L', `${wants}/${link}`)).code, 0, link);
  t.equal(
    (await host.run('test', '-L', `${wants}/multi-user.target.wants/cellblock-coordinator.service`)).code,
    1,
    'not the coordinator',
  );
});

t.test(
  'upgraded: restarted and never stopped before; what an administrator has changed stays',
  { skip: noLayer },
  async (t) => {
    const host = await withSystemd(t, await versionOf('0.0.1'));
    await host.write('/etc/cellblock/cellblock.yaml', 'log:\n  level: debug\n');
    const enabled = '/etc/systemd/system/multi-user.target.wants/cellblockd.service';
    if (find('deb-systemd-helper') !== null) await host.must('rm', enabled);
    await host.askedOfSystemd();
    await install(host, file);
    const asked = await host.askedOfSystemd();
    t.ok(asked.includes('try-restart cellblockd.service'), asked.join('\n'));
    t.ok(asked.includes('try-restart cellblock-coordinator.service'), asked.join('\n'));
    t.same(
      asked.filter((line) => /\b(stop|start|restart|disable)\b/.test(line.replaceAll('try-restart', ''))),
      [],
    );
    t.equal(await host.must('dpkg-query', '-W', '-f', '${Version}', 'cellblock'), version);
    t.equal(await host.must('cat', '/etc/cellblock/cellblock.yaml'), 'log:\n  level: debug\n');
    if (find('deb-systemd-helper') !== null) {
      t.same(await host.has(enabled), [false], 'disabled stays disabled');
    }
  },
);

/** A device of the kernel, as it stands in /sys: `number` is that of whatever is mounted with it. */
async function pretendDevice(
  host: ScratchHost,
  { backend, number }: { backend: string; number: string },
): Promise<void> {
  await host.write('/sys/block/nbd3/backend', `${backend}\n`);
  await host.write('/sys/block/nbd3/dev', '43:3\n');
  await host.write('/sys/block/nbd3/nbd3p1/dev', `${number}\n`);
}

t.test('not removed as long as a device of the agent is mounted', { skip: noLayer }, async (t) => {
  const host = await withSystemd(t, file);
  await host.askedOfSystemd();
  // The number of what is mounted on /run: as if it were the first partition of the device.
  const number = (await host.must('awk', '$5 == "/run" { print $3; exit }', '/proc/self/mountinfo')).trim();
  await pretendDevice(host, { backend: 'cellblock:0123:7', number });
  const refused = await host.run('dpkg', '-r', 'cellblock');
  t.not(refused.code, 0);
  t.match(
    refused.stderr,
    /\/dev\/nbd3 is mounted on \/run and needs the agent; it is not removed\. End that/,
  );
  t.equal(await state(host), 'installed');
  t.same(await host.askedOfSystemd(), [], 'nothing was stopped');
  t.match(await host.must('cellblock', '--version'), version);

  await pretendDevice(host, { backend: 'of-somebody-else', number });
  await host.must('dpkg', '-r', 'cellblock');
  t.equal(await state(host), 'config-files', 'a device of others is none of its business');
});

t.test('removed: stopped; configuration, store and users stay', { skip: noLayer }, async (t) => {
  const host = await withSystemd(t, file);
  await host.write('/var/lib/cellblock/data', 'of somebody');
  await pretendDevice(host, { backend: 'cellblock:0123:7', number: '43:99' });
  await host.askedOfSystemd();
  const { stderr } = await host.run('dpkg', '-r', 'cellblock');
  const asked = await host.askedOfSystemd();
  t.match(asked[0], 'stop cellblock-attach@*.service', 'devices first');
  t.match(asked[1], `stop ${UNITS} cellblock-coordinator.service`);
  t.match(stderr, /\/dev\/nbd3 stays without an agent/, 'what cannot be detached is told');
  t.same(
    await host.has('/usr/bin/cellblock', '/usr/lib/cellblock', '/lib/systemd/system/cellblockd.service'),
    [false, false, false],
  );
  t.same(await host.has('/etc/cellblock/cellblock.yaml', '/var/lib/cellblock/data'), [true, true]);
  t.match(await host.must('getent', 'group', 'cellblock'), /^cellblock:/);
});

t.test(
  'installed again after a removal: started, and an upgrade of it starts nothing',
  { skip: noLayer },
  async (t) => {
    const host = await withSystemd(t, file);
    await host.must('dpkg', '-r', 'cellblock');
    t.equal(await state(host), 'config-files');
    await host.askedOfSystemd();
    await install(host, file);
    const asked = await host.askedOfSystemd();
    t.ok(asked.includes(`start ${UNITS}`), asked.join('\n'));
    t.same(await host.has('/run/cellblock.installing'), [false]);
    await install(host, await versionOf('99.0.0'));
    t.notMatch((await host.askedOfSystemd()).join('\n'), `start ${UNITS}`, 'an upgrade starts nothing');
  },
);

t.test(
  'purged: the configuration goes, a store with data stays and that is said',
  { skip: noLayer },
  async (t) => {
    const host = await withSystemd(t, file);
    await host.write('/var/lib/cellblock/data', 'of somebody');
    await host.write('/etc/cellblock/attach/web', 'ATTACH_OPTIONS=--read-only\n');
    await host.write('/etc/cellblock/coordinator.env', 'LISTEN=ws://127.0.0.1:7443\n');
    const { code, stderr } = await host.run('dpkg', '-P', 'cellblock');
    t.equal(code, 0, stderr);
    t.match(stderr, /\/var\/lib\/cellblock is kept, it is not empty/);
    t.same(await host.has('/var/lib/cellblock/data', '/etc/cellblock', '/run/cellblock'), [
      true,
      false,
      false,
    ]);
    t.match(await host.must('getent', 'group', 'cellblock'), /^cellblock:/);
    t.equal(await state(host), '', 'dpkg knows nothing of it any more');
    const links = (await host.run('find', '/etc/systemd/system', '-name', 'cellblock*')).stdout;
    t.equal(links, '', 'no unit stays enabled');
  },
);

t.test(
  'purged: an empty store goes, and a key that an administrator put beside the configuration stays',
  { skip: noLayer },
  async (t) => {
    const host = await withSystemd(t, file);
    await host.must('mkdir', '-p', '/var/lib/cellblock');
    await host.write('/etc/cellblock/key.pem', 'secret');
    const { stderr } = await host.run('dpkg', '-P', 'cellblock');
    t.match(stderr, /\/etc\/cellblock is kept, it is not empty/);
    t.same(await host.has('/var/lib/cellblock', '/etc/cellblock/key.pem'), [false, true]);
  },
);
