// QEMU with an export as its disk, driven over QMP: a machine as libvirt starts one (-blockdev nbd), and qemu-storage-daemon with an
// export of its own on top of ours. Nothing boots; the block layer does everything a guest's disk would.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';
import { Qmp } from '../support/qmp.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

const SIZE = 64 * MIB;

/** What libvirt writes for `<disk type='network'><source protocol='nbd' name='…'><host transport='unix' socket='…'/>`. */
function blockdevs(daemon: Daemon, name: string, more: Record<string, unknown> = {}): string[] {
  const server = { type: 'unix', path: daemon.nbdPath };
  const storage = {
    driver: 'nbd',
    server,
    export: name,
    'node-name': 'storage',
    'auto-read-only': true,
    discard: 'unmap',
  };
  const format = {
    driver: 'raw',
    file: 'storage',
    'node-name': 'format',
    discard: 'unmap',
    'detect-zeroes': 'unmap',
  };
  return [storage, { ...format, ...more }].flatMap((one) => ['-blockdev', JSON.stringify(one)]);
}

async function prepared(t: Test): Promise<Daemon> {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', SIZE);
  return daemon;
}

async function bytesAt(daemon: Daemon, name: string, offset: number, length: number): Promise<Buffer> {
  const { client } = await RawNbd.open(daemon.nbdPath, name);
  const { data } = await client.command({ type: CMD.read, offset, length });
  client.close();
  return data;
}

t.test('a machine of QEMU with a volume as its disk', { skip: missing('qemu-system-x86_64') }, async (t) => {
  const daemon = await prepared(t);
  const words = ['-M', 'pc', '-accel', 'tcg', '-S', '-nodefaults', '-display', 'none', '-qmp', 'stdio'];
  const disk = ['-device', 'virtio-blk-pci,drive=format,id=disk0,bootindex=1,write-cache=on,share-rw=on'];
  const qemu = await Qmp.start(t, 'qemu-system-x86_64', [...words, ...blockdevs(daemon, 'disk'), ...disk]);

  const nodes = (await qemu.call('query-named-block-nodes')) as { 'node-name': string; image: object }[];
  t.match(nodes.find((one) => one['node-name'] === 'storage')?.image, { 'virtual-size': SIZE });
  await qemu.io('format', 'write -P 0x21 1M 1M');
  await qemu.io('format', 'write -z 1536k 64k');
  await qemu.io('format', 'discard 1M 64k');
  await qemu.io('format', 'flush');
  await daemon.api.snapshot('disk@s');
  await qemu.io('format', 'write -P 0x22 1200k 4k');
  t.equal(await qemu.quit(), 0);

  t.ok((await bytesAt(daemon, 'disk', 1200 * 1024, 4096)).equals(Buffer.alloc(4096, 0x22)));
  t.ok((await bytesAt(daemon, 'disk@s', 1200 * 1024, 4096)).equals(Buffer.alloc(4096, 0x21)));
  t.ok((await bytesAt(daemon, 'disk', 1536 * 1024, 65_536)).equals(Buffer.alloc(65_536)));
  t.ok((await bytesAt(daemon, 'disk', MIB, 65_536)).equals(Buffer.alloc(65_536)));
  t.ok((await daemon.api.check()).clean);
});

t.test(
  'a job of QEMU copies a volume into another, both over NBD',
  { skip: missing('qemu-storage-daemon') },
  async (t) => {
    const daemon = await prepared(t);
    await must('qemu-io', [
      '-f',
      'raw',
      '-c',
      'write -P 5 3M 5M',
      '-c',
      'write -P 6 40M 100k',
      daemon.uri('disk'),
    ]);
    await daemon.api.createVolume('twin', SIZE);
    const server = { type: 'unix', path: daemon.nbdPath };
    const nodes = ['disk', 'twin'].map((name) =>
      JSON.stringify({ driver: 'nbd', server, export: name, 'node-name': name, discard: 'unmap' }),
    );
    const words = [
      ...nodes.flatMap((node) => ['--blockdev', node]),
      '--chardev',
      'stdio,id=c',
      '--monitor',
      'c',
    ];
    const qsd = await Qmp.start(t, 'qemu-storage-daemon', words);
    const job = { 'job-id': 'j', device: 'disk', target: 'twin', sync: 'full' };
    await qsd.call('blockdev-mirror', job);
    await qsd.event('BLOCK_JOB_READY');
    await qsd.call('block-job-complete', { device: 'j' });
    t.notOk(((await qsd.event('BLOCK_JOB_COMPLETED')).data as { error?: string }).error);
    t.equal(await qsd.quit(), 0);
    const images = [daemon.uri('disk'), daemon.uri('twin')];
    t.equal((await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', ...images])).code, 0);
  },
);

t.test(
  'an export of qemu-storage-daemon on top of an export',
  { skip: missing('qemu-storage-daemon') },
  async (t) => {
    const daemon = await prepared(t);
    const socket = path.join(daemon.directory, 'front.sock');
    const words = [...blockdevs(daemon, 'disk'), '-chardev', 'stdio,id=c', '-monitor', 'c'].map((word) =>
      word.replace(/^-(?=[a-z])/, '--'),
    );
    words.push('--nbd-server', `addr.type=unix,addr.path=${socket}`);
    words.push('--export', 'type=nbd,id=e,node-name=format,name=front,writable=on');
    const qsd = await Qmp.start(t, 'qemu-storage-daemon', words);
    const uri = `nbd+unix:///front?socket=${socket}`;
    await must('qemu-io', [
      '-f',
      'raw',
      '-c',
      'write -P 9 5000 70000',
      '-c',
      'discard 4M 4M',
      '-c',
      'flush',
      uri,
    ]);
    t.ok((await bytesAt(daemon, 'disk', 5000, 70_000)).equals(Buffer.alloc(70_000, 9)));
    t.equal((await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, daemon.uri('disk')])).code, 0);
    t.equal(await qsd.quit(), 0);
  },
);

t.test(
  'qemu-img reads the dirty bitmap of a snapshot, and an incremental copy by it is whole',
  { skip: missing('qemu-img', 'qemu-io') },
  async (t) => {
    const daemon = await prepared(t);
    const io = (...commands: string[]): Promise<string> =>
      must('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), daemon.uri('disk')]);
    await io('write -P 1 0 8M');
    await daemon.api.snapshot('disk@full');
    const copy = path.join(daemon.directory, 'copy');
    await must('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', daemon.uri('disk@full'), copy]);
    await io('write -P 2 1M 64k', 'write -P 3 20M 4k', 'write -z 2M 128k');

    const map = {
      driver: 'nbd',
      export: 'disk',
      'x-dirty-bitmap': 'qemu:dirty-bitmap:full',
      server: { type: 'unix', path: daemon.nbdPath },
    };
    const text = await must('qemu-img', [
      'map',
      '--output=json',
      '--image-opts',
      `driver=raw,${dotted(map, 'file.')}`,
    ]);
    // With x-dirty-bitmap the block layer tells dirty as "no data".
    const dirty = (JSON.parse(text) as { start: number; length: number; data: boolean }[])
      .filter(({ data }) => !data)
      .map(({ start, length }) => [start, length]);
    t.same(dirty, [
      [MIB, 65_536],
      [2 * MIB, 131_072],
      [20 * MIB, 4096],
    ]);
    for (const [start, length] of dirty as [number, number][]) {
      writeFileSync(`${copy}.part`, await bytesAt(daemon, 'disk', start, length));
      const where = [`if=${copy}.part`, `of=${copy}`, 'bs=4096', 'conv=notrunc', `seek=${start / 4096}`];
      await must('dd', [...where, 'status=none']);
    }
    t.equal((await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, daemon.uri('disk')])).code, 0);
  },
);

/** A tree of options as QEMU's command line takes it. */
function dotted(tree: Record<string, unknown>, prefix: string): string {
  return Object.entries(tree)
    .map(([key, value]) =>
      typeof value === 'object'
        ? dotted(value as Record<string, unknown>, `${prefix}${key}.`)
        : `${prefix}${key}=${value}`,
    )
    .join(',');
}

t.test('QEMU goes on when the daemon comes back', { skip: missing('qemu-storage-daemon') }, async (t) => {
  const daemon = await prepared(t);
  const server = { type: 'unix', path: daemon.nbdPath };
  const node = { driver: 'nbd', server, export: 'disk', 'node-name': 'd', 'reconnect-delay': 600 };
  const socket = path.join(daemon.directory, 'front.sock');
  const words = ['--blockdev', JSON.stringify(node), '--chardev', 'stdio,id=c', '--monitor', 'c'];
  words.push('--nbd-server', `addr.type=unix,addr.path=${socket}`);
  words.push('--export', 'type=nbd,id=e,node-name=d,name=front,writable=on');
  await Qmp.start(t, 'qemu-storage-daemon', words);
  const { client } = await RawNbd.open(`unix:${socket}`, 'front');
  t.equal((await client.command({ type: CMD.write, length: 4096 }, Buffer.alloc(4096, 7))).error, 0);
  t.equal((await client.command({ type: CMD.flush })).error, 0);
  await daemon.kill();
  const cookie = client.request({ type: CMD.read, length: 4096 });
  await daemon.run();
  const { error, data } = await client.readAnswer(cookie, { offset: 0n, length: 4096 });
  t.equal(error, 0);
  t.ok(data.equals(Buffer.alloc(4096, 7)));
  await until(
    'a write',
    async () => (await client.command({ type: CMD.write, length: 512 }, Buffer.alloc(512))).error === 0,
  );
  client.close();
});
