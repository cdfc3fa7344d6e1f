// Real file systems on a volume: the kernel's loop driver on a file that nbdfuse serves from the daemon. Each is made, filled,
// snapshotted and cloned while mounted, and checked by its own checker; the clone is a crash image and has to be one that
// the file system repairs by itself at mount.
import { createHash, randomBytes } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Daemon, type Teardown } from '../support/daemon.js';
import { tooLongForQuick } from '../support/effort.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, mustNow, Running, run } from '../support/programs.js';
import { until } from '../support/waiting.js';

interface FileSystem {
  name: string;
  make: string[];
  mountOptions: string;
  /** Read-only check of an unmounted device. */
  check: string[];
}

const fileSystems: FileSystem[] = [
  { name: 'ext4', make: ['mkfs.ext4', '-qF'], mountOptions: 'discard', check: ['e2fsck', '-fn'] },
  { name: 'xfs', make: ['mkfs.xfs', '-qf'], mountOptions: 'discard,nouuid', check: ['xfs_repair', '-n'] },
  { name: 'btrfs', make: ['mkfs.btrfs', '-qf'], mountOptions: 'discard=async', check: ['btrfs', 'check'] },
];

/** Why this machine cannot do it, or false. */
function unable(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for mount and losetup';
  for (const device of ['/dev/fuse', '/dev/loop-control']) {
    try {
      accessSync(device, constants.R_OK | constants.W_OK);
    } catch {
      return `no access to ${device}`;
    }
  }
  return missing('nbdfuse', 'losetup', 'mount', 'umount', 'fusermount3');
}

/** An export as a block device; undone at the end of the test. */
async function blockDevice(t: Teardown, daemon: Daemon, name: string): Promise<string> {
  const folder = path.join(daemon.directory, `fuse-${name}`);
  mkdirSync(folder);
  const fuse = new Running('nbdfuse', ['-C', '4', path.join(folder, 'disk'), daemon.uri(name)]);
  // nbdfuse with a file argument makes a file system of one file at that path's folder.
  const file = path.join(folder, 'disk');
  await until('nbdfuse', () => {
    if (fuse.isOver) throw new Error(`nbdfuse ended: ${fuse.output}`);
    return existsSync(file);
  });
  const device = (await must('losetup', ['--find', '--show', file])).trim();
  t.teardown(async () => {
    mustNow('losetup', ['-d', device]);
    await must('fusermount3', ['-u', folder]).catch(() => fuse.stop());
    await fuse.ended;
  });
  return device;
}

async function mounted<T>(fs: FileSystem, device: string, at: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(at, { recursive: true });
  await must('mount', ['-t', fs.name, '-o', fs.mountOptions, device, at]);
  try {
    return await work();
  } finally {
    await until('umount', async () => (await run('umount', [at])).code === 0);
  }
}

/** Name and hash of every file below a folder. */
function hashes(folder: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    result[path.relative(folder, file)] = createHash('sha256').update(readFileSync(file)).digest('hex');
  }
  return result;
}

function fill(folder: string, files: number): void {
  for (let i = 0; i < files; i++) {
    const below = path.join(folder, `d${i % 7}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(path.join(below, `f${i}`), randomBytes(1 + ((i * 7919) % 300_000)));
  }
}

for (const fs of fileSystems) {
  const skip = tooLongForQuick || unable() || missing(fs.make[0] as string, fs.check[0] as string);
  t.test(`${fs.name} is made, filled, snapshotted, cloned and checked`, { skip }, async (t) => {
    const daemon = await Daemon.start(t);
    const at = path.join(daemon.directory, 'mnt');
    const isClean = async (device: string): Promise<void> => {
      const [checker, ...words] = fs.check as [string, ...string[]];
      const checked = await run(checker, [...words, device]);
      t.equal(checked.code, 0, checked.story);
    };
    await daemon.api.createVolume('disk', 512 * MIB);
    const device = await blockDevice(t, daemon, 'disk');
    const [maker, ...words] = fs.make as [string, ...string[]];
    await must(maker, [...words, device]);

    const before = await mounted(fs, device, at, async () => {
      fill(at, 60);
      await must('sync', ['-f', at]);
      const content = hashes(at);
      await daemon.api.snapshot('disk@synced');
      for (let i = 0; i < 60; i += 3) rmSync(path.join(at, `d${i % 7}`, `f${i}`));
      writeFileSync(path.join(at, 'late'), randomBytes(5 * MIB));
      await must('fstrim', [at]);
      return content;
    });
    const after = await mounted(fs, device, at, async () => hashes(at));
    t.ok('late' in after);
    t.not(Object.keys(after).length, Object.keys(before).length);
    await isClean(device);

    await daemon.api.clone('disk@synced', 'twin');
    const twin = await blockDevice(t, daemon, 'twin');
    const twinContent = await mounted(fs, twin, at, async () => {
      const content = hashes(at);
      fill(path.join(at, 'new'), 20);
      return content;
    });
    t.same(twinContent, before, 'the clone holds what was there at the snapshot');
    await isClean(twin);
    t.same(
      await mounted(fs, device, at, async () => hashes(at)),
      after,
      'the volume was not touched by its clone',
    );
    t.ok((await daemon.api.check()).clean);
  });
}
