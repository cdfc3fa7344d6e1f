// Attaching: devices, file systems on them, sizes, discard, and who has them.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { must, run } from '../support/programs.js';
import type { Machine, VmCase } from './machine.js';

const MIB = 2 ** 20;

async function missingDriver(machine: Machine): Promise<void> {
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '64M');
  const refused = await machine.tell('attach', 'disk');
  assert.equal(refused.code, 7, refused.story);
  assert.match(refused.stderr, /The nbd driver of the kernel is not loaded\. Run `modprobe nbd` as root/);
  assert.deepEqual(await machine.attached(), []);
  await machine.loadDriver();
  assert.equal(await machine.attach('disk'), '/dev/nbd0', 'once it is loaded nothing has to be started anew');
}

async function fileSystems(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  for (const [index, kind] of (['ext4', 'xfs'] as const).entries()) {
    await machine.must('volume', 'create', kind, '--size', '512M');
    const device = await machine.attach(kind, '--connections', '4');
    assert.equal(device, `/dev/nbd${index}`, 'the first that is free');
    await machine.format(device, kind);
    const where = await machine.mount(device);
    await must('dd', ['if=/dev/urandom', `of=${where}/a`, 'bs=1M', 'count=48', 'status=none']);
    const sum = await machine.sha256(`${where}/a`);
    await machine.verify(where, 3);
    await machine.unmount(where);
    await must('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    await machine.mount(device);
    assert.equal(await machine.sha256(`${where}/a`), sum, 'read back from the store');
    await machine.unmount(where);
    await machine.check(device, kind);
  }
  const [first, second] = await machine.attached();
  assert.deepEqual([first?.name, second?.name], ['ext4', 'xfs']);
  assert.equal(first?.connected, 4);
  assert.match(readFileSync('/sys/block/nbd0/backend', 'utf8'), /^cellblock:[0-9a-f]{32}:container-\d+$/m);
  await machine.must('detach', 'ext4');
  await machine.must('detach', '/dev/nbd1');
  assert.equal(existsSync('/sys/block/nbd0/pid'), false, 'disconnected');
  assert.deepEqual(await machine.attached(), []);
  assert.deepEqual(await machine.ioErrors(), []);
}

async function discard(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '256M');
  const device = await machine.attach('disk');
  await machine.format(device, 'ext4');
  const where = await machine.mount(device);
  await must('dd', ['if=/dev/urandom', `of=${where}/big`, 'bs=1M', 'count=100', 'conv=fsync', 'status=none']);
  const full = await machine.allocated('disk');
  assert.ok(full >= 100 * MIB, `${full} bytes are allocated`);
  await must('rm', [`${where}/big`]);
  // ext4 discards what is free for good: when its journal has gone out.
  await must('sync', ['-f', where]);
  await must('fstrim', [where]);
  const trimmed = await machine.allocated('disk');
  assert.ok(full - trimmed > 80 * MIB, `${trimmed} bytes are left of ${full}`);
  machine.say(`allocated ${full} bytes, after fstrim ${trimmed}`);
  await machine.unmount(where);
  await must('blkdiscard', [device]);
  assert.equal(await machine.allocated('disk'), 0, 'nothing is left when all is discarded');
}

async function resize(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  for (const kind of ['ext4', 'xfs'] as const) {
    await machine.must('volume', 'create', kind, '--size', '320M');
    const device = await machine.attach(kind);
    await machine.format(device, kind);
    const where = await machine.mount(device);
    await must('dd', ['if=/dev/urandom', `of=${where}/a`, 'bs=1M', 'count=16', 'status=none']);
    const sum = await machine.sha256(`${where}/a`);
    await machine.must('volume', 'resize', kind, '--size', '640M');
    assert.equal(
      (await must('blockdev', ['--getsize64', device])).trim(),
      String(640 * MIB),
      'the kernel knows',
    );
    if (kind === 'ext4') await must('resize2fs', [device]);
    else await must('xfs_growfs', [where]);
    await must('dd', ['if=/dev/zero', `of=${where}/b`, 'bs=1M', 'count=400', 'status=none']);
    assert.equal(await machine.sha256(`${where}/a`), sum);
    const refused = await machine.tell('volume', 'resize', kind, '--size', '100M', '--force');
    assert.equal(refused.code, 5, refused.story);
    assert.match(refused.stderr, new RegExp(`${device} is mounted on ${where}`));
    await machine.unmount(where);
    await machine.check(device, kind);
    await machine.must('detach', kind);
  }
  assert.deepEqual(await machine.ioErrors(), []);
}

async function busy(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '64M');
  const device = await machine.attach('disk');
  await must('sgdisk', ['-n', '1:2048:0', device]);
  await must('blockdev', ['--rereadpt', device]);
  await machine.format(`${device}p1`, 'ext4');
  const refused = async (how: RegExp): Promise<void> => {
    const outcome = await machine.tell('detach', 'disk');
    assert.equal(outcome.code, 5, outcome.story);
    assert.match(outcome.stderr, how);
  };
  const where = await machine.mount(`${device}p1`);
  await refused(new RegExp(`"disk" is attached, and ${device}p1 is mounted on ${where}`));
  await must('sh', ['-c', `echo still > ${where}/here`]);
  assert.match((await machine.attached())[0]!.users[0]!.where, /vm-nbd0p1$/);
  await machine.unmount(where);
  await must('mkswap', [`${device}p1`]);
  await must('swapon', [`${device}p1`]);
  await refused(new RegExp(`${device}p1 is swap`));
  await must('swapoff', [`${device}p1`]);
  // Somebody in another mount namespace, whose mounts cannot be seen from here.
  await machine.format(`${device}p1`, 'ext4');
  await must('unshare', [
    '--mount',
    'sh',
    '-c',
    `mount ${device}p1 ${where} && (sleep 600 >/dev/null 2>&1 & echo $! > /run/sleeper)`,
  ]);
  await refused(/what cannot be seen from here/);
  await must('kill', [readFileSync('/run/sleeper', 'utf8').trim()]);
  machine.say('refused for a mount, for swap, and for a mount that cannot be seen');
  for (let left = 50; left > 0; left--) if ((await machine.tell('detach', 'disk')).code === 0) break;
  assert.deepEqual(await machine.attached(), []);

  await machine.attach('disk');
  await machine.mount(`${device}p1`);
  await machine.must('detach', 'disk', '--force');
  const written = await run('dd', ['if=/dev/zero', `of=${where}/x`, 'bs=4k', 'count=1', 'conv=fsync']);
  assert.notEqual(written.code, 0, 'whoever uses it gets errors');
  await machine.unmount(where);
  await machine.must('attach', 'disk');
}

async function mounting(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '64M');
  const refused = await machine.tell('attach', 'disk', '--mount', '/run/mnt');
  assert.equal(refused.code, 7, refused.story);
  assert.match(refused.stderr, /could not be mounted on "\/run\/mnt" and was detached again/);
  assert.deepEqual(await machine.attached(), []);
  const device = await machine.attach('disk', '--device', '/dev/nbd3');
  assert.equal(device, '/dev/nbd3');
  await machine.format(device, 'ext4');
  await machine.must('detach', 'disk');
  const said = await machine.must('attach', 'disk', '--mount', '/run/mnt');
  assert.match(said, /disk attached as \/dev\/nbd0 \(64M, mounted on \/run\/mnt\)/);
  await must('sh', ['-c', 'echo hello > /run/mnt/a']);
  await must('sync', ['-f', '/run/mnt']);
  await machine.must('snapshot', 'create', 'disk@s');
  await must('sh', ['-c', 'echo later > /run/mnt/a']);
  const frozen = await machine.attach('disk@s');
  assert.equal((await must('blockdev', ['--getro', frozen])).trim(), '1', 'a snapshot is read-only');
  const where = await machine.mount(frozen, '-o', 'ro,noload');
  assert.equal(readFileSync(`${where}/a`, 'utf8'), 'hello\n');
  await machine.unmount(where);
  await must('umount', ['/run/mnt']);
}

export const attachCases: readonly VmCase[] = [
  { name: 'driver-missing', summary: 'without the driver: what to do is said', run: missingDriver },
  { name: 'file-systems', summary: 'ext4 and XFS on devices with four connections each', run: fileSystems },
  { name: 'mount', summary: '--mount, --device, a snapshot beside its volume', run: mounting },
  { name: 'discard', summary: 'discard reaches the store', run: discard },
  { name: 'resize', summary: 'grown under mounted file systems, never shrunk under one', run: resize },
  { name: 'busy', summary: 'what is in use is not detached, unless forced', run: busy },
];
