// Files of FAT12, FAT16 and FAT32: found by long and short names, read, overwritten in place; and a boot loader's stub whose ids follow.
// Images are made by mkfs.fat, filled by mtools and judged by fsck.fat.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { inspectDisk } from '../../../src/identity/disk.js';
import { type FatFiles, openFatFiles } from '../../../src/identity/fat/files.js';
import { restoreGuest } from '../../../src/identity/guest.js';
import { KINDS } from '../../../src/identity/kinds.js';
import { blank } from '../../support/identity-images.js';
import { codeOf, differingSectors, MemoryDisk } from '../../support/identity-memory.js';
import { missing, must, run } from '../../support/programs.js';

const MIB = 1 << 20;
const ROOT = 'c6e8c3d4-0fd7-4b1c-9e06-0b6d3a1c2f11';
const OTHER = '5bd1f1a2-77aa-4cde-8b12-d2f6a9b0c3e4';
const STUB = `search.fs_uuid ${ROOT} root hd0,gpt2\nconfigfile ($root)/boot/grub/grub.cfg\n`;
const ENTRY = '0123456789abcdef0123456789abcdef-6.1.0-18-amd64.conf';
const skip = missing('mkfs.fat', 'fsck.fat', 'mcopy', 'mmd');
const folder = t.testdir();
const sizes = { 12: 2 * MIB, 16: 32 * MIB, 32: 40 * MIB } as const;
type Bits = keyof typeof sizes;
const every: Bits[] = [12, 16, 32];

/** With files of several clusters and directories of more than one. */
async function made(name: string, bits: Bits): Promise<string> {
  const file = blank(join(folder, name), sizes[bits]);
  await must('mkfs.fat', ['-F', `${bits}`, '-s', '1', file]);
  await must('mmd', ['-i', file, '::/EFI', '::/EFI/debian', '::/loader', '::/loader/entries']);
  await put(file, '::/EFI/debian/grub.cfg', STUB);
  for (let number = 0; number < 12; number++)
    await put(file, `::/loader/entries/another entry of the loader ${number}.conf`, 'title Another\n');
  await put(file, `::/loader/entries/${ENTRY}`, `${'# long\n'.repeat(500)}options root=UUID=${ROOT}\n`);
  return file;
}

async function put(image: string, path: string, text: string): Promise<void> {
  const file = join(folder, 'put');
  writeFileSync(file, text);
  await must('mcopy', ['-o', '-i', image, file, path]);
}

function opened(disk: MemoryDisk): FatFiles {
  return disk.run(openFatFiles(disk.bytes))!;
}

for (const bits of every) {
  t.test(`FAT${bits}: files are found, read and overwritten`, { skip }, async (t) => {
    const file = await made(`files-${bits}`, bits);
    const before = readFileSync(file);
    const disk = new MemoryDisk(Buffer.from(before));
    const files = opened(disk);
    t.same(disk.run(files.listDirectory('/loader/entries')).length, 13);
    t.ok(disk.run(files.listDirectory('/loader/entries')).includes(ENTRY));
    t.equal(disk.run(files.readFile('/EFI/DEBIAN/GRUB.CFG'))?.toString(), STUB);
    const long = disk.run(files.readFile(`/loader/entries/${ENTRY}`))!.toString();
    t.match(long, new RegExp(`options root=UUID=${ROOT}\n$`));
    t.equal(disk.run(files.readFile('/EFI/debian')), null, 'a directory is no file');
    t.equal(disk.run(files.readFile('/EFI/fedora/grub.cfg')), null);
    const changed = Buffer.from(long.replace(ROOT, OTHER));
    t.equal(disk.run(files.overwriteFile(`/loader/entries/${ENTRY}`, changed)), true);
    t.equal(disk.run(files.overwriteFile(`/loader/entries/${ENTRY}`, Buffer.alloc(3))), false);
    t.equal(disk.run(files.readFile(`/loader/entries/${ENTRY}`))?.toString(), changed.toString());
    t.ok(differingSectors(before, disk.content).length <= 2, 'only where the id is');
    writeFileSync(file, disk.content);
    t.equal((await run('fsck.fat', ['-n', file])).code, 0);
    t.equal(await must('mtype', ['-i', file, `::/loader/entries/${ENTRY}`]), changed.toString());
  });

  t.test(`FAT${bits}: ids in what a boot loader reads follow`, { skip }, async (t) => {
    const disk = new MemoryDisk(readFileSync(await made(`guest-${bits}`, bits)));
    const replaced = [{ source: ROOT, now: OTHER }];
    const found = disk.run(inspectDisk(disk.bytes, KINDS));
    const time = { seconds: 1_700_000_000, nanoseconds: 0 };
    const report = disk.run(restoreGuest(found, null, { replaced, time }));
    t.same(report.rewritten, ['/EFI/debian/grub.cfg', `/loader/entries/${ENTRY}`]);
    t.same(report.unsupported, []);
    const stub = disk.run(opened(disk).readFile('/EFI/debian/grub.cfg'))?.toString();
    t.equal(stub, STUB.replace(ROOT, OTHER));
  });
}

t.test('a chain that leads nowhere, or in a circle, is damage', { skip }, async (t) => {
  const content = readFileSync(await made('chains', 32));
  const table = content.readUInt16LE(14) * 512;
  const used = Array.from({ length: 60 }, (_, index) => index + 3);
  const broken = (next: (cluster: number) => number): string | null => {
    const disk = new MemoryDisk(Buffer.from(content));
    for (const cluster of used) disk.content.writeUInt32LE(next(cluster), table + 4 * cluster);
    return codeOf(() => disk.run(opened(disk).listDirectory('/loader/entries')));
  };
  t.equal(
    broken(() => 0),
    'identity-damaged',
  );
  t.equal(
    broken((cluster) => cluster),
    'identity-damaged',
  );
  t.equal(
    broken(() => 0x0ffffff0),
    'identity-damaged',
  );
});

t.test('a blank disk is no such file system', async (t) => {
  t.equal(new MemoryDisk(MIB).run(openFatFiles(BigInt(MIB))), null);
});
