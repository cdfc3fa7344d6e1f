// GPT GUIDs and names, on tables that sgdisk made and as sgdisk -v and blkid judge them: both copies, moved when the size changes.

import { deepStrictEqual, ok } from 'node:assert';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { gpt } from '../../../src/identity/gpt.js';
import { FileDisk } from '../../support/identity-disk.js';
import { slowCrc32 } from '../../support/identity-fake.js';
import { codeOf, differingSectors, MemoryDisk } from '../../support/identity-memory.js';
import { missing, must, mustNow } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const MIB = 1 << 20;
const skip = missing('sgdisk', 'blkid');
const LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4';
const ESP = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';
const GUIDS = {
  disk: '11111111-2222-4333-8444-555555555555',
  one: '01234567-89AB-4CDE-8F01-23456789ABCD',
  two: 'FEDCBA98-7654-4321-8FED-CBA987654321',
};
const WANTED = new Map([
  ['disk-guid', 'AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE'],
  [`partition/2048:${ESP}/guid`, '00000001-0002-4003-8004-000000000005'],
  [`partition/2048:${ESP}/name`, 'new name'],
  [`partition/8192:${LINUX}/guid`, '00000001-0002-4003-8004-000000000006'],
  [`partition/8192:${LINUX}/name`, 'Größe 💾'],
]);

async function partition(disk: string): Promise<void> {
  const parts = ['-n', '1:2048:8191', '-t', '1:ef00', '-c', '1:EFI', '-u', `1:${GUIDS.one}`];
  parts.push('-n', '2:8192:12287', '-t', '2:8300', '-c', '2:data', '-u', `2:${GUIDS.two}`);
  await must('sgdisk', ['-U', GUIDS.disk, ...parts, disk]);
}

/** sgdisk takes a second for each table, so there is one that is copied. */
let made: Buffer | null = null;

async function image(folder: string): Promise<string> {
  const file = path.join(folder, 'disk');
  writeFileSync(file, made ?? '');
  truncateSync(file, 16 * MIB);
  if (made === null) await partition(file);
  made ??= readFileSync(file);
  return file;
}

function run(disk: MemoryDisk | FileDisk) {
  return disk.run(gpt.detect(disk.bytes));
}

function valuesOf(disk: MemoryDisk | FileDisk): Map<string, string> {
  return new Map(run(disk)?.fields.map(({ name, value }) => [name, value]));
}

/** What sgdisk finds wrong; it says "No problems found" with code 0 only in words. */
async function verify(t: Pick<Test, 'match' | 'notMatch'>, file: string): Promise<void> {
  const said = await must('sgdisk', ['-v', file]);
  t.match(said, /No problems found/, said);
  t.notMatch(said, /Warning|Caution|[Pp]roblem:/, said);
}
async function uuidOf(file: string): Promise<string> {
  return (await must('blkid', ['-p', '-s', 'PTUUID', '-o', 'value', file])).trim().toUpperCase();
}

t.test('fields and partitions are those that sgdisk wrote', { skip }, async (t) => {
  const file = await image(t.testdir());
  const disk = new FileDisk(file, { readOnly: true });
  const found = run(disk);
  ok(found);
  t.strictSame(
    found.fields.map(({ name, group, format, value }) => [name, group, format, value]),
    [
      ['disk-guid', 'disk', 'guid', GUIDS.disk],
      ['signature', 'disk', 'hex32', ''],
      [`partition/2048:${ESP}/guid`, 'partition', 'guid', GUIDS.one],
      [`partition/2048:${ESP}/name`, 'partition', 'text', 'EFI'],
      [`partition/8192:${LINUX}/guid`, 'partition', 'guid', GUIDS.two],
      [`partition/8192:${LINUX}/name`, 'partition', 'text', 'data'],
    ],
  );
  t.strictSame(found.partitions[1], {
    at: 8192n * 512n,
    bytes: 4096n * 512n,
    number: 2,
    key: `8192:${LINUX}`,
    type: LINUX,
    role: null,
    active: false,
  });
  t.equal(found.partitions[0]?.role, 'esp');
  t.equal(found.bootable, 'partition 1 is an EFI system partition');
  t.strictSame(found.notes, []);
  t.comment(`detect read ${disk.bytesRead} bytes`);
});

t.test('restore writes both copies, and nothing but what changes', { skip }, async (t) => {
  const file = await image(t.testdir());
  const before = readFileSync(file);
  const disk = new FileDisk(file);
  const restored = disk.run(
    gpt.restore(disk.bytes, new Map([...WANTED, ['signature', '0badcafe'], ['no', 'x']])),
  );
  t.strictSame([...restored.written].sort(), [...WANTED.keys(), 'signature'].sort());
  t.comment(`restore read ${disk.bytesRead} and wrote ${disk.bytesWritten} bytes`);
  const values = valuesOf(disk);
  for (const [name, value] of WANTED) t.equal(values.get(name), value);
  t.equal(values.get('signature'), '0badcafe');
  disk.close();
  await verify(t, file);
  t.equal(await uuidOf(file), WANTED.get('disk-guid'));
  t.match(
    await must('sgdisk', ['-i', '2', file]),
    /unique GUID: 00000001-0002-4003-8004-000000000006[\s\S]*Größe/,
  );
  const last = (16 * MIB) / 512 - 1;
  t.strictSame(differingSectors(before, readFileSync(file)), [0, 1, 2, last - 32, last]);
});

t.test('what is restored as it was leaves every byte as it was', { skip }, async (t) => {
  const file = await image(t.testdir());
  const before = readFileSync(file);
  const disk = new FileDisk(file);
  disk.run(gpt.restore(disk.bytes, valuesOf(disk)));
  t.equal(disk.bytesWritten, 0);
  t.ok(before.equals(readFileSync(file)));
  disk.close();
});

t.test('on a larger disk the backup moves to the end', { skip }, async (t) => {
  const file = await image(t.testdir());
  truncateSync(file, 40 * MIB + 512);
  t.match(await must('sgdisk', ['-v', file]), /problem/, 'it was wrong before');
  const disk = new FileDisk(file);
  t.match(run(disk)?.notes.join(), /not at sector 81920/);
  const { notes } = disk.run(gpt.restore(disk.bytes, WANTED));
  t.match(notes.join(), /moved to the end/);
  t.strictSame(run(disk)?.notes, []);
  disk.close();
  await verify(t, file);
  t.match(await must('sgdisk', ['-p', file]), /last usable sector is 81887/);
  t.equal(await uuidOf(file), WANTED.get('disk-guid'));
  const mbr = readFileSync(file).subarray(0, 512);
  t.equal(mbr.readUInt32LE(446 + 12), 81920, 'the protective MBR covers it');
});

t.test('on a smaller disk that still holds the partitions the backup moves back', { skip }, async (t) => {
  const file = await image(t.testdir());
  truncateSync(file, 8 * MIB);
  const disk = new FileDisk(file);
  t.match(run(disk)?.notes.join(), /does not lie on the disk; the primary is believed/);
  const restored = disk.run(gpt.restore(disk.bytes, WANTED));
  t.strictSame([...restored.written].sort(), [...WANTED.keys()].sort());
  disk.close();
  await verify(t, file);
});

t.test('a disk that is too small keeps every byte, with the reason for each field', { skip }, async (t) => {
  const file = await image(t.testdir());
  truncateSync(file, 12288 * 512);
  const before = readFileSync(file);
  const disk = new FileDisk(file);
  const { written, unsupported } = disk.run(gpt.restore(disk.bytes, WANTED));
  disk.close();
  t.strictSame(written, []);
  t.strictSame(unsupported.map(({ field }) => field).sort(), ['backup', ...WANTED.keys()].sort());
  t.match(unsupported[0]?.reason, /stays "11111111.*too small.*sector 12287/);
  t.ok(before.equals(readFileSync(file)));
});

t.test('one bad copy is written anew from the other; two are damage', { skip }, async (t) => {
  const folder = t.testdir();
  const file = await image(folder);
  const end = 16 * MIB;
  const spots = { primary: [512 + 60, 1024 + 20], backup: [end - 512 + 60, end - 33 * 512 + 20] };
  for (const [which, places] of Object.entries(spots)) {
    for (const at of places) {
      const copy = path.join(folder, 'copy');
      copyFileSync(file, copy);
      const content = readFileSync(copy);
      content[at]! ^= 1;
      writeFileSync(copy, content);
      const disk = new FileDisk(copy);
      t.match(run(disk)?.notes[0], new RegExp(`^The ${which} copy of the GPT has a wrong checksum`));
      t.equal(valuesOf(disk).get('disk-guid'), GUIDS.disk);
      t.match(
        disk.run(gpt.restore(disk.bytes, new Map())).notes.join(),
        `The ${which} copy of the GPT was bad`,
      );
      disk.close();
      await verify(t, copy);
      t.ok(readFileSync(file).equals(readFileSync(copy)), 'it is what it was');
    }
  }
  const content = readFileSync(file);
  for (const [first] of Object.values(spots)) content[first!]! ^= 1;
  const broken = new MemoryDisk(content);
  t.equal(
    codeOf(() => run(broken)),
    'identity-damaged',
  );
  t.throws(() => run(broken), /primary has a wrong checksum.*backup has a wrong checksum/);
  t.equal(
    codeOf(() => broken.run(gpt.restore(broken.bytes, WANTED))),
    'identity-damaged',
  );
});

t.test('a copy without its signature is bad as well; none with it is no GPT', { skip }, async (t) => {
  const content = readFileSync(await image(t.testdir()));
  content.fill(0, 512, 1024);
  t.match(run(new MemoryDisk(content))?.notes[0], /primary copy of the GPT has no signature/);
  content.fill(0, content.length - 512);
  t.equal(run(new MemoryDisk(content)), null);
});

t.test('a GPT without its protective MBR is what somebody left behind', { skip }, async (t) => {
  const content = readFileSync(await image(t.testdir()));
  content[446 + 4] = 0x83;
  t.equal(run(new MemoryDisk(content)), null);
});

t.test('hybrid MBRs have a signature and keep their partitions', { skip }, async (t) => {
  const file = await image(t.testdir());
  await must('sgdisk', ['-h', '2', file]);
  truncateSync(file, 20 * MIB);
  const before = readFileSync(file);
  const disk = new FileDisk(file);
  t.match(run(disk)?.notes.join(), /hybrid/);
  disk.run(gpt.restore(disk.bytes, new Map([...WANTED, ['signature', '12345678']])));
  t.equal(valuesOf(disk).get('signature'), '12345678');
  disk.close();
  t.ok(before.subarray(446, 512).equals(readFileSync(file).subarray(446, 512)));
  const said = await must('sgdisk', ['-v', file]);
  t.match(said, /No problems found/, said);
});

t.test('more entries than usual, and larger ones', { skip }, async (t) => {
  const file = await image(t.testdir());
  await must('sgdisk', ['-S', '256', file]);
  const more = new FileDisk(file);
  more.run(gpt.restore(more.bytes, WANTED));
  t.equal(valuesOf(more).get(`partition/8192:${LINUX}/name`), 'Größe 💾');
  more.close();
  await verify(t, file);
  // The same array counted as 128 entries of 256 bytes: the second one moves to the third place.
  const content = readFileSync(file);
  for (const [header, entries] of [
    [512, 1024],
    [content.length - 512, content.length - 65 * 512],
  ] as const) {
    content.copy(content, entries + 256, entries + 128, entries + 256);
    content.fill(0, entries + 128, entries + 256);
    content.writeUInt32LE(128, header + 0x50);
    content.writeUInt32LE(256, header + 0x54);
    content.writeUInt32LE(slowCrc32(content.subarray(entries, entries + 32768)), header + 0x58);
    fixHeader(content, header);
  }
  const larger = new MemoryDisk(content);
  const again = new Map([[`partition/8192:${LINUX}/name`, 'again']]);
  t.strictSame(larger.run(gpt.restore(larger.bytes, again)).written, [...again.keys()]);
  t.equal(valuesOf(larger).get(`partition/8192:${LINUX}/name`), 'again');
  t.equal(run(larger)?.partitions.length, 2);
  t.strictSame(run(larger)?.notes, []);
});

t.test(
  'sectors of 4096 bytes',
  { skip: skip || missing('losetup') || (process.getuid?.() !== 0 && 'needs root') },
  async (t) => {
    const file = path.join(t.testdir(), 'disk');
    writeFileSync(file, '');
    truncateSync(file, 64 * MIB);
    const attach = async (): Promise<string> => {
      const device = (await must('losetup', ['-f', '--show', '-b', '4096', file])).trim();
      t.teardown(() => {
        try {
          mustNow('losetup', ['-d', device]);
        } catch {}
      });
      return device;
    };
    const device = await attach();
    await must('sgdisk', ['-U', GUIDS.disk, '-n', '1:256:1000', '-u', `1:${GUIDS.one}`, '-c', '1:x', device]);
    await must('losetup', ['-d', device]);
    truncateSync(file, 80 * MIB);
    const disk = new FileDisk(file);
    const found = run(disk);
    t.equal(found?.partitions[0]?.at, 256n * 4096n);
    t.equal(found?.fields[0]?.value, GUIDS.disk);
    const name = `partition/256:${LINUX}/guid`;
    disk.run(
      gpt.restore(
        disk.bytes,
        new Map([
          [name, GUIDS.two],
          ['disk-guid', GUIDS.one],
        ]),
      ),
    );
    t.strictSame(run(disk)?.notes, []);
    disk.close();
    const again = await attach();
    const said = await must('sgdisk', ['-v', again]);
    t.match(said, /No problems found/, said);
    t.match(await must('sgdisk', ['-i', '1', again]), GUIDS.two);
  },
);

t.test('malformed values are refused before anything is written', { skip }, async (t) => {
  const disk = new MemoryDisk(readFileSync(await image(t.testdir())));
  for (const [field, value] of [
    ['disk-guid', 'no'],
    ['signature', '1'],
    [`partition/8192:${LINUX}/guid`, ''],
    [`partition/8192:${LINUX}/name`, 'x'.repeat(37)],
    [`partition/8192:${LINUX}/name`, 'a\0b'],
  ] as const)
    t.equal(
      codeOf(() => disk.run(gpt.restore(disk.bytes, new Map([[field, value]])))),
      'identity-invalid',
    );
  t.strictSame(disk.writes, []);
});

t.test(
  'a copy whose entries lie on something else is bad, right as its checksums are',
  { skip },
  async (t) => {
    const start = readFileSync(await image(t.testdir()));
    const end = start.length;
    const moves: [number, bigint, string][] = [
      [512, 1n, 'on its header'],
      [512, 8192n, 'on a partition'],
      [end - 512, 12000n, 'on what is usable'],
      [end - 512, BigInt(end / 512 - 16), 'on its header and behind the end'],
    ];
    for (const [header, lba, where] of moves) {
      const content = Buffer.from(start);
      content.copy(content, Number(lba) * 512, 1024, 1024 + 16384);
      content.writeBigUInt64LE(lba, header + 0x48);
      content.writeUInt32LE(
        slowCrc32(content.subarray(Number(lba) * 512, Number(lba) * 512 + 16384)),
        header + 0x58,
      );
      fixHeader(content, header);
      const disk = new MemoryDisk(content);
      t.match(run(disk)?.notes[0], /copy of the GPT (has entries that|has a|has no|was)/, where);
      disk.run(gpt.restore(disk.bytes, WANTED));
      t.ok(
        disk.writes.every(({ at, bytes }) => at + bytes <= 34 * 512 || at >= end - 33 * 512),
        `nothing is written ${where}`,
      );
    }
  },
);

t.test('whatever bytes are changed: null, damage, or a table that restores', { skip }, async (t) => {
  const whole = readFileSync(await image(t.testdir()));
  // The same table on a small disk, for speed.
  const small = new MemoryDisk(Buffer.from(whole.subarray(0, 12288 * 512 + 33 * 512)));
  small.run(gpt.restore(small.bytes, new Map()));
  deepStrictEqual(run(small)?.notes, []);
  const start = small.content;
  const end = start.length;
  const spots = [
    446,
    450,
    454,
    458,
    510,
    ...range(512, 92),
    ...range(1024, 256),
    ...range(end - 512, 92),
    ...range(end - 33 * 512, 256),
  ];
  const flips = fc.array(fc.tuple(fc.constantFrom(...spots), fc.nat({ max: 255 })), { maxLength: 3 });
  const fixes = fc.boolean();
  fc.assert(
    fc.property(flips, fixes, (changes, fixed) => {
      const disk = new MemoryDisk(Buffer.from(start));
      for (const [at, value] of changes) disk.content[at] = value;
      // Wrong bytes under a right checksum are what a hostile guest would write.
      if (fixed) for (const at of [512, end - 512]) fixHeader(disk.content, at);
      const code = codeOf(() => run(disk));
      ok(code === null || code === 'identity-damaged', String(code));
      if (code !== null || run(disk) === null) return;
      const restored = disk.run(gpt.restore(disk.bytes, WANTED));
      const values = valuesOf(disk);
      for (const name of restored.written) deepStrictEqual(values.get(name), WANTED.get(name));
    }),
    replay({ quick: 100, normal: 400, long: 5000 }),
  );
  t.pass('every disk');
});

function range(from: number, length: number): number[] {
  return Array.from({ length }, (_, at) => from + at);
}

function fixHeader(content: Buffer, at: number): void {
  const header = content.subarray(at, at + 92);
  header.writeUInt32LE(0, 16);
  header.writeUInt32LE(slowCrc32(header), 16);
}
