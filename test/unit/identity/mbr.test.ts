// MBR disk signatures and partitions, on tables that sfdisk made and as blkid and sfdisk read them.

import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { mbr } from '../../../src/identity/mbr.js';
import { FileDisk } from '../../support/identity-disk.js';
import { codeOf, differingSectors, MemoryDisk } from '../../support/identity-memory.js';
import { missing, must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const MIB = 1 << 20;
const skip = missing('sfdisk', 'blkid');

const LAYOUT = `label: dos
label-id: 0xdeadbeef
start=2048, size=8192, type=83, bootable
start=12288, size=4096, type=ef
start=20480, size=40960, type=5
start=22528, size=4096, type=83
start=32768, size=4096, type=8e
start=43008, size=4096, type=82
`;

async function image(folder: string, layout: string): Promise<string> {
  const file = path.join(folder, 'disk');
  writeFileSync(file, '');
  truncateSync(file, 64 * MIB);
  await must('sfdisk', ['-q', file], { input: layout });
  return file;
}

function detect(content: Buffer): ReturnType<typeof run> {
  return run(new MemoryDisk(content));
}

function run(disk: MemoryDisk | FileDisk) {
  return disk.run(mbr.detect(disk.bytes));
}

t.test('signature, primary and logical partitions are those of sfdisk', { skip }, async (t) => {
  const file = await image(t.testdir(), LAYOUT);
  const found = run(new FileDisk(file, { readOnly: true }));
  ok(found);
  t.strictSame(found.fields, [{ name: 'signature', group: 'disk', format: 'hex32', value: 'deadbeef' }]);
  t.equal((await must('blkid', ['-p', '-s', 'PTUUID', '-o', 'value', file])).trim(), 'deadbeef');
  const listed = JSON.parse(await must('sfdisk', ['--json', file])).partitiontable.partitions as {
    node: string;
    start: number;
    size: number;
    type: string;
  }[];
  const wanted = listed
    .filter(({ type }) => type !== '5')
    .map(({ node, start, size, type }) => ({ number: Number(node.slice(file.length)), start, size, type }));
  const read = found.partitions.map(({ number, at, bytes, type }) => ({
    number,
    start: Number(at) / 512,
    size: Number(bytes) / 512,
    type,
  }));
  t.strictSame(read, wanted);
  t.strictSame(
    found.partitions.map(({ key, role, active }) => ({ key, role, active })),
    [
      { key: '2048:83', role: null, active: true },
      { key: '12288:ef', role: 'esp', active: false },
      { key: '22528:83', role: null, active: false },
      { key: '32768:8e', role: null, active: false },
      { key: '43008:82', role: null, active: false },
    ],
  );
  t.equal(found.bootable, 'partition 1 is active');
  t.strictSame(found.notes, []);
});

t.test('restore changes the signature and nothing else', { skip }, async (t) => {
  const file = await image(t.testdir(), LAYOUT);
  const before = readFileSync(file);
  const disk = new FileDisk(file);
  const restored = disk.run(mbr.restore(disk.bytes, new Map([['signature', '00c0ffee']])));
  disk.close();
  t.strictSame(restored.written, ['signature']);
  t.equal((await must('blkid', ['-p', '-s', 'PTUUID', '-o', 'value', file])).trim(), '00c0ffee');
  const after = readFileSync(file);
  t.strictSame(differingSectors(before, after), [0]);
  before.writeUInt32LE(0x00c0ffee, 0x1b8);
  t.ok(after.equals(before));
  t.equal(disk.bytesWritten, 512);
});

t.test(
  'what is no MBR, or the MBR of something else, is nobody’s',
  { skip: skip || missing('mkfs.vfat', 'sgdisk') },
  async (t) => {
    const folder = t.testdir();
    const file = path.join(folder, 'other');
    for (const make of [
      async () => {},
      () => must('mkfs.vfat', ['-I', file]),
      () => must('mkfs.vfat', ['-F', '32', '-I', file]),
      () => must('sgdisk', ['-n', '1:0:0', file]),
    ]) {
      writeFileSync(file, '');
      truncateSync(file, 64 * MIB);
      await make();
      t.equal(run(new FileDisk(file, { readOnly: true })), null);
    }
  },
);

t.test(
  'a boot sector of FAT under a table with partitions is a table, as Linux has it',
  { skip },
  async (t) => {
    const file = await image(t.testdir(), LAYOUT);
    const content = readFileSync(file);
    const fat = Buffer.from('eb3c906d6b66732e66617400020404000200020020f8', 'hex');
    fat.copy(content, 0);
    const broken = Buffer.from(content);
    fat.copy(broken, 0);
    broken.writeUInt32LE(0xffff0000, 446 + 8); // the first partition begins behind the end
    t.ok(detect(content), 'partitions that could be');
    t.equal(detect(broken), null, 'code that looks like entries');
    t.end();
  },
);

t.test('a chain of logical partitions that loops, leaves or breaks ends in a note', { skip }, async (t) => {
  const content = readFileSync(await image(t.testdir(), LAYOUT));
  const secondLink = content.readUInt32LE(20480 * 512 + 446 + 16 + 8) + 20480;
  const cases: [string, (copy: Buffer) => void][] = [
    ['comes back', (copy) => copy.writeUInt32LE(0, secondLink * 512 + 446 + 16 + 8)],
    ['leaves the extended', (copy) => copy.writeUInt32LE(0x7fffffff, secondLink * 512 + 446 + 16 + 8)],
    ['no partition table', (copy) => copy.fill(0, secondLink * 512, secondLink * 512 + 512)],
  ];
  for (const [words, spoil] of cases) {
    const copy = Buffer.from(content);
    spoil(copy);
    const found = detect(copy);
    t.match(found?.notes[0], words);
    t.ok(found && found.partitions.length >= 3, 'what came before is there');
    t.equal(found?.fields[0]?.value, 'deadbeef');
  }
});

t.test('partitions behind the end or over the table are left out with a note', { skip }, async (t) => {
  const content = readFileSync(await image(t.testdir(), LAYOUT));
  content.writeUInt32LE(0, 446 + 8);
  const found = detect(content.subarray(0, 16000 * 512));
  t.strictSame(
    found?.partitions.map(({ number }) => number),
    [],
  );
  t.match(found?.notes.join('\n'), /Partition 1 covers the partition table itself/);
  t.match(found?.notes.join('\n'), /Partition 2 ends behind the end/);
  t.end();
});

t.test('malformed signatures are refused, and none is written as zero', async (t) => {
  const content = Buffer.alloc(MIB);
  content.writeUInt16BE(0x55aa, 510);
  content.writeUInt32LE(7, 0x1b8);
  const disk = new MemoryDisk(content);
  for (const bad of ['xyz', '123', '0x12345678'])
    t.equal(
      codeOf(() => disk.run(mbr.restore(disk.bytes, new Map([['signature', bad]])))),
      'identity-invalid',
    );
  disk.run(mbr.restore(disk.bytes, new Map([['signature', '']])));
  t.equal(run(disk)?.fields[0]?.value, '');
  t.strictSame(disk.run(mbr.restore(disk.bytes, new Map())).written, []);
});

t.test('random bytes and random changes never make it throw or read on', { skip }, async (t) => {
  const start = readFileSync(await image(t.testdir(), LAYOUT));
  const places = [...Array(512).keys(), ...Array.from({ length: 66 }, (_, at) => 20480 * 512 + 446 + at)];
  const flips = fc.array(fc.tuple(fc.constantFrom(...places), fc.nat({ max: 255 })), { maxLength: 12 });
  fc.assert(
    fc.property(flips, (changes) => {
      const disk = new MemoryDisk(start);
      const undo = changes.map(([at]) => [at, start[at]!] as const);
      for (const [at, value] of changes) start[at] = value;
      try {
        run(disk);
        ok(disk.bytesRead <= 512 * 140);
      } finally {
        for (const [at, value] of undo.reverse()) start[at] = value;
      }
    }),
    replay({ quick: 200, normal: 3000, long: 30_000 }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 510, maxLength: 510 }), (bytes) => {
      const content = Buffer.concat([bytes, Buffer.from('55aa', 'hex')], 4096);
      strictEqual(
        codeOf(() => detect(content)),
        null,
      );
      deepStrictEqual(detect(content.subarray(0, 100))?.partitions ?? [], []);
    }),
    replay({ quick: 200, normal: 2000, long: 20_000 }),
  );
  t.pass('every disk');
});
