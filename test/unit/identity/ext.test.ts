// UUID and label of ext2, ext3 and ext4: read as blkid reads them, written so that e2fsck and the kernel find nothing wrong.
import { ok, strictEqual, throws } from 'node:assert';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { CellblockError } from '../../../src/base/errors.js';
import { ext } from '../../../src/identity/ext/ext.js';
import type { Found, Restored } from '../../../src/identity/kind.js';
import {
  cannotMount,
  copyImage,
  differences,
  MIB,
  makeImage,
  mounted,
  mustBeClean,
  noTools,
  probe,
  tree,
} from '../../support/ext-image.js';
import { FileDisk } from '../../support/identity-disk.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const UUID = '0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0';
const LABEL = 'Größe fünfze'; // 12 letters, 15 bytes
const WANTED = new Map([
  ['uuid', UUID],
  ['label', LABEL],
]);

function detect(image: string): Found | null {
  const disk = new FileDisk(image, { readOnly: true });
  try {
    return disk.run(ext.detect(disk.bytes));
  } finally {
    disk.close();
  }
}

function restore(
  image: string,
  wanted: ReadonlyMap<string, string>,
): Restored & { written: readonly string[] } {
  const disk = new FileDisk(image);
  try {
    return disk.run(ext.restore(disk.bytes, wanted));
  } finally {
    disk.close();
  }
}

const valuesOf = (found: Found | null): Record<string, string> =>
  Object.fromEntries((found?.fields ?? []).map(({ name, value }) => [name, value]));

interface Variant {
  readonly args: string[];
  readonly kind: string;
  /** Group descriptors change too. */
  readonly descriptors?: boolean;
  readonly bytes?: number;
}

const OLD_SUMS = '^metadata_csum,uninit_bg';
const VARIANTS: Record<string, Variant> = {
  ext2: { kind: 'ext2', args: ['-t', 'ext2'] },
  'ext2 of revision 0': { kind: 'ext2', args: ['-t', 'ext2', '-r', '0', '-b', '1024'] },
  ext3: { kind: 'ext3', args: ['-t', 'ext3'] },
  ext4: { kind: 'ext4', args: ['-t', 'ext4'] },
  'with a seed of its own': { kind: 'ext4', args: ['-t', 'ext4', '-O', 'metadata_csum_seed'] },
  'without checksums': { kind: 'ext4', args: ['-t', 'ext4', '-O', '^metadata_csum,^uninit_bg'] },
  'old checksums': {
    kind: 'ext4',
    descriptors: true,
    args: ['-t', 'ext4', '-O', `${OLD_SUMS},^64bit,^flex_bg`],
  },
  'old checksums, 64 bytes, flex_bg': {
    kind: 'ext4',
    descriptors: true,
    args: ['-t', 'ext4', '-O', `${OLD_SUMS},64bit,flex_bg`],
  },
  'old checksums, meta_bg': {
    kind: 'ext4',
    descriptors: true,
    bytes: 300 * MIB,
    args: ['-t', 'ext4', '-b', '1024', '-O', `${OLD_SUMS},meta_bg,^resize_inode,^64bit`],
  },
  'old checksums, meta_bg, 64 bytes': {
    kind: 'ext4',
    descriptors: true,
    bytes: 300 * MIB,
    args: ['-t', 'ext4', '-b', '1024', '-O', `${OLD_SUMS},meta_bg,^resize_inode,64bit`],
  },
  'old checksums, clusters': {
    kind: 'ext4',
    descriptors: true,
    args: ['-t', 'ext4', '-b', '1024', '-C', '4096', '-O', `${OLD_SUMS},bigalloc`],
  },
  clusters: { kind: 'ext4', args: ['-t', 'ext4', '-O', 'bigalloc'] },
  'blocks of 64 KiB': { kind: 'ext4', args: ['-t', 'ext4', '-b', '65536'] },
  'multi-mount protection': { kind: 'ext4', args: ['-t', 'ext4', '-O', 'mmp'] },
  'orphan file': { kind: 'ext4', args: ['-t', 'ext4', '-O', 'orphan_file'] },
  'two backups': { kind: 'ext4', args: ['-t', 'ext4', '-b', '1024', '-O', 'sparse_super2'] },
  'a backup in every group': {
    kind: 'ext4',
    args: ['-t', 'ext4', '-b', '1024', '-O', '^sparse_super,^resize_inode'],
  },
  'many features': {
    kind: 'ext4',
    args: ['-t', 'ext4', '-O', 'ea_inode,quota,project,inline_data,encrypt,verity,casefold,large_dir'],
  },
};

/** Where copies of the superblock are, from what dumpe2fs said, in bytes. */
function copiesOf(said: string): number[] {
  const bytes = Number(/^Block size:\s+(\d+)/m.exec(said)?.[1]);
  const blocks = [...said.matchAll(/Backup superblock at (\d+)/g)].map((one) => Number(one[1]));
  return [1024, ...blocks.map((block) => block * bytes)];
}

function descriptorsOf(said: string): number[] {
  const bytes = Number(/^Block size:\s+(\d+)/m.exec(said)?.[1]);
  const found: number[] = [];
  for (const [, from, to] of said.matchAll(/Primary superblock at \d+, Group descriptors at (\d+)-(\d+)/g))
    for (let block = Number(from); block <= Number(to); block++) found.push(block * bytes);
  for (const [, block] of said.matchAll(/Group descriptor at (\d+)/g)) found.push(Number(block) * bytes);
  return found;
}

t.test(
  'the wanted values are there, nothing else differs, and e2fsck agrees',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    for (const [name, { args, kind, descriptors, bytes }] of Object.entries(VARIANTS)) {
      const before = await makeImage(path.join(folder, 'before'), ['-L', 'Source', ...args], bytes);
      const image = await copyImage(before, path.join(folder, 'after'));
      const found = detect(image);
      const said = await probe(image);
      t.strictSame([found?.kind, said.TYPE, found?.unsupported, found?.notes], [kind, kind, [], []], name);
      t.strictSame(valuesOf(found), { uuid: said.UUID, label: 'Source' }, `${name}: as blkid reads them`);
      const restored = restore(image, WANTED);
      t.strictSame(restored.written, ['uuid', 'label'], name);
      t.strictSame(valuesOf(detect(image)), { uuid: UUID, label: LABEL }, `${name}: read back`);
      t.equal((await probe(image)).UUID, UUID, `${name}: blkid`);
      await mustBeClean(image);
      const layout = await must('dumpe2fs', [image]);
      const may = descriptors ? [1024, ...descriptorsOf(layout)] : copiesOf(layout);
      t.strictSame(
        differences(before, image, 1024).filter((at) => !isWithin(at, may)),
        [],
        `${name}: the rest`,
      );
      if (!descriptors)
        for (const at of copiesOf(layout))
          t.equal(await uuidAt(image, at, layout), UUID, `${name}: at ${at}`);
    }
  },
);

/** A piece of 1 KiB in a list of superblocks or in blocks of descriptors of at most 64 KiB. */
function isWithin(at: number, starts: number[]): boolean {
  return starts.some((start) => at >= start && at < start + 1024);
}

/** By dumpe2fs, which does not read a copy with a wrong checksum. */
async function uuidAt(image: string, at: number, layout: string): Promise<string | undefined> {
  const bytes = Number(/^Block size:\s+(\d+)/m.exec(layout)?.[1]);
  const block = Math.floor(at / bytes) || 1;
  const from = at === 1024 ? [] : ['-o', `superblock=${block}`, '-o', `blocksize=${bytes}`];
  return /^Filesystem UUID:\s+(\S+)/m.exec(await must('dumpe2fs', ['-h', ...from, image]))?.[1];
}

t.test('only what is wanted is written', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4', '-L', 'Source', '-U', UUID]);
  t.strictSame(restore(image, new Map([['label', '']])).written, ['label']);
  t.strictSame(valuesOf(detect(image)), { uuid: UUID, label: '' });
  t.notMatch(
    await must('dumpe2fs', ['-h', image]),
    /metadata_csum_seed/,
    'the seed is pinned for a new UUID only',
  );
  t.strictSame(restore(image, new Map([['uuid', UUID]])).notes, [], 'nor for the same one');
  t.strictSame(restore(image, new Map([['serial', '1']])).written, [], 'a field of another kind');
  t.strictSame(restore(image, new Map([['uuid', '']])).written, ['uuid']);
  t.strictSame(valuesOf(detect(image)).uuid, '', 'no UUID');
  await mustBeClean(image);
});

t.test('what must not be touched is told, and left', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const image = path.join(folder, 'image');
  const cases: [string, string[], string[]][] = [
    ['stable_inodes', ['-t', 'ext4', '-O', 'stable_inodes,encrypt'], ['label']],
    ['ea_inode', ['-t', 'ext4', '-O', 'ea_inode,^metadata_csum'], ['label']],
    ['other file systems', ['-O', 'journal_dev', '-b', '4096'], []],
  ];
  for (const [reason, args, written] of cases) {
    const before = await probe(await makeImage(image, ['-L', 'Source', ...args]));
    const restored = restore(image, WANTED);
    t.strictSame(restored.written, written, reason);
    t.match(restored.unsupported[0], { field: 'uuid', reason: new RegExp(reason) });
    t.match(detect(image)?.unsupported[0], { field: 'uuid', reason: new RegExp(reason) });
    t.equal((await probe(image)).UUID, before.UUID, `${reason}: the UUID stays`);
    t.strictSame(
      restore(image, new Map([['uuid', String(before.UUID)]])).written,
      ['uuid'],
      'it is there already',
    );
  }
});

t.test('with a feature that is not known the UUID stays', { skip: noTools }, async (t) => {
  const image = path.join(t.testdir(), 'image');
  const sound = readFileSync(await makeImage(image, ['-t', 'ext4', '-O', '^metadata_csum'], 16 * MIB));
  for (const [name, at] of [
    ['compat', 0x5c],
    ['incompat', 0x60],
    ['roCompat', 0x64],
  ] as const) {
    const disk = new MemoryDisk(Buffer.from(sound));
    disk.data[1024 + at + 3]! |= 0x80;
    const restored = disk.run(ext.restore(disk.bytes, WANTED));
    t.strictSame(restored.written, ['label'], name);
    t.match(restored.unsupported, [{ field: 'uuid', reason: `${name} 0x80000000` }]);
  }
});

t.test('an external journal is told, and left', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const journal = await makeImage(path.join(folder, 'journal'), ['-O', 'journal_dev', '-b', '4096'], 8 * MIB);
  const device = (await must('losetup', ['--find', '--show', journal])).trim();
  try {
    const image = await makeImage(path.join(folder, 'image'), [
      '-t',
      'ext4',
      '-b',
      '4096',
      '-J',
      `device=${device}`,
    ]);
    const before = await probe(image);
    const restored = restore(image, WANTED);
    t.strictSame(restored.written, ['label']);
    t.match(restored.unsupported, [{ field: 'uuid', reason: /journal on another device/ }]);
    t.equal((await probe(image)).UUID, before.UUID);
  } finally {
    await must('losetup', ['-d', device]);
  }
});

t.test('wrong checksums of group descriptors are not made to look right', { skip: noTools }, async (t) => {
  const args = ['-t', 'ext4', '-b', '1024', '-O', `${OLD_SUMS},^64bit`];
  const image = await makeImage(path.join(t.testdir(), 'image'), args);
  const bytes = readFileSync(image);
  bytes[2048 + 5 * 32 + 12]! ^= 1; // free blocks of group 5
  writeFileSync(image, bytes);
  const restored = restore(image, WANTED);
  t.strictSame(restored.written, ['label']);
  t.match(restored.unsupported, [{ field: 'uuid', reason: /block group 5 is wrong/ }]);
  t.strictSame(restore(image, new Map([['uuid', UUID]])).written, []);
});

t.test('a disk of another kind is none, a damaged one is told', { skip: noTools }, async (t) => {
  const image = await makeImage(path.join(t.testdir(), 'image'), ['-t', 'ext4', '-b', '1024'], 16 * MIB);
  const sound = readFileSync(image);
  const withChange = (change: (bytes: Buffer) => void): string => {
    const bytes = Buffer.from(sound);
    change(bytes);
    writeFileSync(image, bytes);
    return image;
  };
  t.equal(detect(withChange((bytes) => bytes.writeUInt16LE(0, 1024 + 0x38))), null, 'no magic number');
  throws(() => detect(withChange((bytes) => bytes.fill(7, 1024 + 0x80, 1024 + 0x81))), {
    code: 'identity-damaged',
  });
  const noSums = (bytes: Buffer): void => {
    bytes.writeUInt32LE(0, 1024 + 0x64);
  };
  const withField = (at: number, value: number) => (bytes: Buffer) => {
    noSums(bytes);
    bytes.writeUInt32LE(value, 1024 + at);
  };
  for (const [at, value] of [
    [0x4, 16385],
    [0x18, 7],
    [0x20, 0],
    [0x28, 0],
    [0x28, 9000],
    [0x58, 100],
    [0x14, 0],
  ] as const)
    throws(() => detect(withChange(withField(at, value))), { code: 'identity-damaged' }, `${value} at ${at}`);
  strictEqual(detect(withChange(noSums))?.kind, 'ext4', 'and without these changes it is fine');
  writeFileSync(image, Buffer.alloc(1500));
  t.equal(detect(image), null, 'a short disk');
});

t.test('values in another form are refused, and nothing is written', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const before = await makeImage(path.join(folder, 'before'), ['-t', 'ext4'], 16 * MIB);
  const image = path.join(folder, 'image');
  copyFileSync(before, image);
  for (const [name, value] of [
    ['uuid', 'no'],
    ['label', 'seventeen letters'],
    ['label', 'größe fünfzehn!'],
    ['label', 'a\0b'],
  ] as const)
    throws(() => restore(image, new Map([[name, value]])), { code: 'identity-invalid' }, value);
  t.strictSame(differences(before, image, 1024), []);
});

t.test('a label that is no UTF-8 is told, and not among the fields', { skip: noTools }, async (t) => {
  const image = await makeImage(path.join(t.testdir(), 'image'), ['-t', 'ext2'], 16 * MIB);
  const bytes = readFileSync(image);
  bytes.set([0x47, 0x72, 0xf6, 0xdf, 0x65], 1024 + 0x78); // Größe in Latin-1
  writeFileSync(image, bytes);
  const found = detect(image);
  t.strictSame(
    found?.fields.map(({ name }) => name),
    ['uuid'],
  );
  t.match(found?.unsupported, [{ field: 'label', reason: /4772f6df65/ }]);
});

function onlyTellsDamage(bytes: Buffer): void {
  const disk = new MemoryDisk(bytes);
  try {
    disk.run(ext.detect(disk.bytes));
    disk.run(ext.restore(disk.bytes, WANTED));
  } catch (error) {
    ok(error instanceof CellblockError && error.code === 'identity-damaged', String(error));
  }
}

t.test(
  'whatever bytes there are, they are answered with null, an identity or damage',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    const image = path.join(folder, 'image');
    for (const args of [
      ['-t', 'ext4'],
      ['-t', 'ext4', '-O', OLD_SUMS],
      ['-t', 'ext3'],
    ]) {
      const sound = readFileSync(await makeImage(image, ['-b', '1024', ...args], 3 * MIB));
      const flips = fc.array(fc.tuple(fc.nat({ max: 1023 }), fc.nat({ max: 255 })), {
        minLength: 1,
        maxLength: 4,
      });
      fc.assert(
        fc.property(flips, fc.boolean(), (changes, isNeedingRecovery) => {
          const bytes = Buffer.from(sound);
          for (const [at, value] of changes) bytes[1024 + at] = value;
          if (isNeedingRecovery) bytes[1024 + 0x60]! |= 4;
          onlyTellsDamage(bytes);
        }),
        replay({ quick: 20, normal: 100, long: 1000 }),
      );
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1024, maxLength: 1024 }), (superblock) => {
        const bytes = Buffer.alloc(MIB);
        bytes.set(superblock, 1024);
        bytes.writeUInt16LE(0xef53, 1024 + 0x38);
        onlyTellsDamage(bytes);
      }),
      replay({ quick: 50, normal: 300, long: 3000 }),
    );
  },
);

t.test('source and target are mounted side by side and hold the same', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const source = await makeImage(path.join(folder, 'source'), ['-t', 'ext4', '-L', 'Source']);
  await mounted(source, 'defaults', ({ folder }) => {
    for (let file = 0; file < 50; file++) writeFileSync(path.join(folder, `file-${file}`), `content ${file}`);
  });
  const target = await copyImage(source, path.join(folder, 'target'));
  restore(target, WANTED);
  await mounted(source, 'ro', async (one) => {
    await mounted(target, 'defaults', async (other) => {
      t.strictSame(tree(other.folder), tree(one.folder));
      writeFileSync(path.join(other.folder, 'more'), 'written after the restore');
      t.equal((await must('blkid', ['-p', '-s', 'UUID', '-o', 'value', other.device])).trim(), UUID);
    });
  });
  await mustBeClean(target);
  t.strictSame(valuesOf(detect(target)), { uuid: UUID, label: LABEL });
});

t.test(
  'the superblock is all that is read of a disk, and 1 KiB a copy is written',
  { skip: noTools },
  async (t) => {
    const image = await makeImage(path.join(t.testdir(), 'image'), ['-t', 'ext4', '-b', '4096'], 4096 * MIB);
    const disk = new FileDisk(image);
    disk.run(ext.detect(disk.bytes));
    t.equal(disk.bytesRead, 1024);
    disk.run(ext.restore(disk.bytes, WANTED));
    t.strictSame(
      [disk.bytesRead, disk.bytesWritten],
      [9 * 1024, 8 * 1024],
      '32 groups: copies in 1, 3, 5, 7, 9, 25 and 27',
    );
    disk.close();
    t.ok(statSync(image).blocks * 512 < 200 * MIB);
  },
);
