// A whole disk with the real kinds and the real tools: the content of one, grown to the size of the other, gets the identity of the other,
// and every owner's tool takes the result.

import path from 'node:path';
import t from 'tap';
import { btrfs } from '../../../src/identity/btrfs.js';
import { type DiskIdentity, inspectDisk } from '../../../src/identity/disk.js';
import { restoreDisk } from '../../../src/identity/disk-restore.js';
import { exfat } from '../../../src/identity/exfat.js';
import { ext } from '../../../src/identity/ext/ext.js';
import { fat } from '../../../src/identity/fat.js';
import { luks } from '../../../src/identity/luks.js';
import { planIdentity, unrestored, wantedFields } from '../../../src/identity/policy.js';
import { reportOf } from '../../../src/identity/report.js';
import { swap } from '../../../src/identity/swap.js';
import { xfs } from '../../../src/identity/xfs/xfs.js';
import { FileDisk } from '../../support/identity-disk.js';
import { blank } from '../../support/identity-images.js';
import { missing, must, run } from '../../support/programs.js';

/** The weakest claim first: the order in which they are given must not matter. */
const KINDS = [swap, fat, exfat, ext, xfs, btrfs, luks];
const MIB = 1 << 20;
const SOURCE_BYTES = 256 * MIB;
const TARGET_BYTES = 300 * MIB;
const tools = [
  'sgdisk',
  'mkfs.vfat',
  'mke2fs',
  'mkswap',
  'mkfs.btrfs',
  'blkid',
  'fsck.fat',
  'e2fsck',
  'btrfs',
  'dd',
];

interface Slice {
  /** In MiB. */
  at: number;
  length: number;
  type: string;
  make: (file: string, label: string) => Promise<unknown>;
  judge: (file: string) => Promise<unknown>;
}

const SLICES: readonly Slice[] = [
  {
    at: 1,
    length: 34,
    type: 'ef00',
    make: (file, label) => must('mkfs.vfat', ['-n', label.toUpperCase(), file]),
    judge: (file) => must('fsck.fat', ['-n', file]),
  },
  {
    at: 36,
    length: 32,
    type: '8300',
    make: (file, label) => must('mke2fs', ['-q', '-t', 'ext4', '-L', label, file]),
    judge: (file) => must('e2fsck', ['-fn', file]),
  },
  {
    at: 70,
    length: 16,
    type: '8200',
    make: (file, label) => must('mkswap', ['-L', label, file]),
    judge: async () => {},
  },
  {
    at: 90,
    length: 128,
    type: '8300',
    make: (file, label) => must('mkfs.btrfs', ['-q', '-L', label, file]),
    judge: (file) => must('btrfs', ['check', '--readonly', file]),
  },
];

async function makeDisk(folder: string, name: string, bytes: number): Promise<string> {
  const disk = blank(path.join(folder, name), bytes);
  const table = SLICES.flatMap(({ at, length, type }, index) => {
    const number = index + 1;
    return [
      '-n',
      `${number}:${at * 2048}:+${length}M`,
      '-t',
      `${number}:${type}`,
      '-c',
      `${number}:${name}-${number}`,
    ];
  });
  await must('sgdisk', [...table, disk]);
  for (const { at, length, make } of SLICES) {
    const part = blank(path.join(folder, 'part'), length * MIB);
    await make(part, name);
    await must('dd', [
      `if=${part}`,
      `of=${disk}`,
      'bs=1M',
      `seek=${at}`,
      'conv=notrunc,sparse',
      'status=none',
    ]);
  }
  return disk;
}

function read(file: string): { identity: DiskIdentity; bytesRead: number } {
  const disk = new FileDisk(file, { readOnly: true });
  const identity = disk.run(inspectDisk(disk.bytes, KINDS));
  disk.close();
  return { identity, bytesRead: disk.bytesRead };
}

/** What blkid sees of each partition, and of the table. */
async function seenByBlkid(file: string): Promise<string[]> {
  const seen = [await must('blkid', ['-p', '-o', 'export', '-s', 'PTUUID', '-s', 'PTTYPE', file])];
  for (const { at, length } of SLICES) {
    const range = ['-O', String(at * MIB), '-S', String(length * MIB)];
    seen.push(
      await must('blkid', ['-p', ...range, '-o', 'export', '-s', 'UUID', '-s', 'LABEL', '-s', 'TYPE', file]),
    );
  }
  return seen.map((text) => text.replace(/^DEVNAME=.*\n/m, ''));
}

t.test('a source’s disk with the identity of the target', { skip: missing(...tools) }, async (t) => {
  const folder = t.testdir();
  const target = await makeDisk(folder, 'target', TARGET_BYTES);
  const source = await makeDisk(folder, 'source', SOURCE_BYTES);
  const before = read(target);
  t.strictSame(
    before.identity.parts.map(({ title, found: { kind } }) => `${title} ${kind}`),
    ['disk gpt', 'partition 1 vfat', 'partition 2 ext4', 'partition 3 swap', 'partition 4 btrfs'],
  );
  t.strictSame(before.identity.damaged, []);
  t.strictSame(before.identity.notes, []);
  t.comment(`inspectDisk read ${before.bytesRead} bytes of a disk of ${TARGET_BYTES}`);

  // What a rebase does: the source's content, zeros behind it, the target's size.
  const wanted = await seenByBlkid(target);
  await must('truncate', ['-s', String(TARGET_BYTES), source]);
  const content = read(source).identity;
  const plan = planIdentity({
    target: before.identity,
    content,
    bootDiskInSync: false,
    firmwareOutside: true,
    rules: [],
    random: (bytes) => Buffer.alloc(bytes),
  });
  t.ok(
    plan.fields.every(({ state }) => state === 'overwritten' || state === 'same' || state === 'unsupported'),
  );
  const disk = new FileDisk(source);
  const restored = disk.run(restoreDisk(disk.bytes, KINDS, wantedFields(plan)));
  t.comment(`restoreDisk read ${disk.bytesRead} and wrote ${disk.bytesWritten} bytes`);
  disk.close();
  const after = read(source).identity;
  t.strictSame(unrestored(plan, after, restored), []);
  t.strictSame(restored.missing, []);
  t.strictSame(await seenByBlkid(source), wanted);

  const said = await must('sgdisk', ['-v', source]);
  t.match(said, /No problems found/, said);
  for (const { at, length, judge } of SLICES) {
    const part = path.join(folder, 'judged');
    await must('dd', [`if=${source}`, `of=${part}`, 'bs=1M', `skip=${at}`, `count=${length}`, 'status=none']);
    await judge(part);
  }
  const report = reportOf({ target: before.identity, content, boot: content.bootable, plan, restored });
  t.strictSame(JSON.parse(JSON.stringify(report)), report);
  t.comment(
    `report: ${report.restored.length} restored, unsupported ${report.unsupported.map(({ field }) => field).join()}`,
  );
});

t.test(
  'what was formatted over is the newer one, as mount has it',
  { skip: missing(...tools) },
  async (t) => {
    const makers = SLICES.map(({ make }) => make);
    const names = ['vfat', 'ext4', 'swap', 'btrfs'];
    for (const [first, old] of makers.entries()) {
      for (const [second, over] of makers.entries()) {
        if (first === second) continue;
        const file = blank(path.join(t.testdir(), 'over'), 128 * MIB);
        await old(file, 'old');
        const forced = await run(...force(names[second]!, file));
        if (forced.code !== 0) await over(file, 'new');
        const { parts, damaged } = read(file).identity;
        const blkid = await run('blkid', ['-p', '-o', 'value', '-s', 'TYPE', file]);
        const what = `${names[second]} over ${names[first]}, where blkid says ${blkid.stdout.trim() || 'ambivalent'}`;
        t.strictSame([parts.map(({ found }) => found.kind), damaged], [[names[second]], []], what);
      }
    }
  },
);

function force(kind: string, file: string): [string, string[]] {
  if (kind === 'vfat') return ['mkfs.vfat', ['-n', 'NEW', file]];
  if (kind === 'ext4') return ['mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'new', file]];
  if (kind === 'swap') return ['mkswap', ['-f', '-L', 'new', file]];
  return ['mkfs.btrfs', ['-q', '-f', '-L', 'new', file]];
}
