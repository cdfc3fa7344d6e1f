// FAT12, FAT16 and FAT32: serial and label in boot sector, its backup and the root directory.
// Images are made by mkfs.fat and judged by fsck.fat, fatlabel and blkid.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fat } from '../../../src/identity/fat.js';
import {
  blank,
  blkid,
  cost,
  detectIn,
  Overlay,
  onlyWithin,
  restoreIn,
  survivesNoise,
  survivesRandomBytes,
  valuesOf,
} from '../../support/identity-images.js';
import { missing, must, run } from '../../support/programs.js';

const MIB = 1 << 20;
const SOURCE = '1111-AAAA';
const TARGET = '2222-BBBB';
const skip = missing('mkfs.fat', 'fsck.fat', 'fatlabel', 'blkid');
const folder = t.testdir();
const sizes = { 12: 4 * MIB, 16: 32 * MIB, 32: 40 * MIB } as const;
type Bits = keyof typeof sizes;
const every: Bits[] = [12, 16, 32];

async function made(name: string, bits: Bits, args: string[] = ['-n', 'SOURCE']): Promise<string> {
  const file = blank(join(folder, name), sizes[bits]);
  await must('mkfs.fat', ['-F', `${bits}`, '-i', SOURCE.replace('-', ''), ...args, file]);
  return file;
}

async function isClean(file: string): Promise<boolean> {
  const { code, stdout } = await run('fsck.fat', ['-n', file]);
  return code === 0 && !/differ|label|Free cluster/i.test(stdout);
}

for (const bits of every) {
  t.test(`FAT${bits}: serial and label as blkid and fatlabel read them`, { skip }, async (t) => {
    const file = await made(`both-${bits}`, bits);
    t.strictSame(valuesOf(detectIn(file, fat)), { serial: SOURCE, label: 'SOURCE' });
    const { written, unsupported, notes } = restoreIn(file, fat, { serial: TARGET, label: 'TARGET LONG' });
    t.strictSame([written, unsupported, notes], [['serial', 'label'], [], []]);
    t.match(await blkid(file), { UUID: TARGET, LABEL: 'TARGET LONG', LABEL_FATBOOT: 'TARGET LONG' });
    t.equal((await must('fatlabel', [file])).trim(), 'TARGET LONG');
    t.ok(await isClean(file));
    t.strictSame(valuesOf(detectIn(file, fat)), { serial: TARGET, label: 'TARGET LONG' });
  });

  t.test(`FAT${bits}: a label comes where there was none, and goes`, { skip }, async (t) => {
    const file = await made(`none-${bits}`, bits, []);
    const before = readFileSync(file);
    t.strictSame(valuesOf(detectIn(file, fat)), { serial: SOURCE, label: '' });
    t.strictSame(restoreIn(file, fat, { label: 'NEW' }).written, ['label']);
    t.match(await blkid(file), { LABEL: 'NEW', UUID: SOURCE });
    t.ok(await isClean(file));
    t.strictSame(restoreIn(file, fat, { label: '' }).written, ['label']);
    t.equal((await blkid(file)).LABEL, undefined);
    t.ok(await isClean(file));
    const changed = new Overlay(file);
    const boot = changed.read(0n, 512);
    changed.close();
    t.ok(boot.equals(before.subarray(0, 512)), 'the boot sector is as it was made');
  });
}

t.test('only boot sector, backup and the entry of the label change', { skip }, async (t) => {
  const disk = new Overlay(await made('little', 32));
  t.teardown(() => disk.close());
  disk.run(fat.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'TARGET' }))));
  const layout = disk.read(0n, 512);
  const root = (layout.readUInt16LE(14) + 2 * layout.readUInt32LE(36)) * 512;
  const boot = (at: number): [number, number] => [at + 0x43, 15];
  t.ok(onlyWithin(disk.changed(), [boot(0), boot(6 * 512), [root, 11]]));
  t.ok(
    disk.changed().some(([at]) => at > 6n * 512n && at < 7n * 512n),
    'the backup too',
  );
});

t.test('sectors of 4096 bytes', { skip }, async (t) => {
  const file = await made('large-sectors', 16, ['-S', '4096', '-s', '1', '-n', 'SOURCE']);
  t.strictSame(restoreIn(file, fat, { serial: TARGET, label: 'X' }).written, ['serial', 'label']);
  t.match(await blkid(file), { UUID: TARGET, LABEL: 'X' });
  t.ok(await isClean(file));
});

t.test(
  'a full root directory without a label is reported, and the serial written all the same',
  { skip },
  async (t) => {
    const file = await made('full', 16, ['-r', '16']);
    const disk = new Overlay(file);
    t.teardown(() => disk.close());
    const boot = disk.read(0n, 512);
    const root = (boot.readUInt16LE(14) + 2 * boot.readUInt16LE(22)) * 512;
    for (let entry = 0; entry < boot.readUInt16LE(17); entry++)
      disk.put(BigInt(root + 32 * entry), Buffer.from(`FILE${String(entry).padStart(4, '0')}TXT\x20`));
    const restored = disk.run(
      fat.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'X' }))),
    );
    t.match(restored, { written: ['serial'], unsupported: [{ field: 'label', reason: 'no room' }] });
    t.equal(disk.read(0x2bn, 11).toString(), 'NO NAME    ', 'nothing of the label was written');
  },
);

t.test('the end mark of the directory moves on, whatever lies behind it', { skip }, async (t) => {
  const file = await made('end-mark', 16, []);
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  const boot = disk.read(0n, 512);
  const root = BigInt((boot.readUInt16LE(14) + 2 * boot.readUInt16LE(22)) * 512);
  disk.put(root + 32n, Buffer.from('GHOST   TXT\x20'));
  disk.run(fat.restore(disk.bytes, new Map([['label', 'X']])));
  t.equal(disk.read(root, 11).toString(), 'X          ');
  t.equal(disk.read(root + 32n, 1)[0], 0, 'the ghost stays a ghost');
});

t.test('labels of any bytes go back as they came', { skip }, async (t) => {
  const file = await made('bytes', 16);
  for (const label of ['\xe5NTE', 'lower', 'a b', '\xfc\x80']) {
    restoreIn(file, fat, { label });
    t.equal(valuesOf(detectIn(file, fat)).label, label);
  }
  for (const label of ['TWELVE CHARS', '\u0141'])
    t.throws(() => restoreIn(file, fat, { label }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, fat, { serial: '12345678' }), { code: 'identity-invalid' });
});

t.test('other boot sectors are no FAT; a FAT that leads outside is damage', { skip }, async (t) => {
  const disk = new Overlay(await made('outside', 32));
  t.teardown(() => disk.close());
  t.throws(() => disk.run(fat.detect(disk.bytes - 512n * 100n)), { code: 'identity-damaged' });
  disk.put(0x52n, Buffer.from('not FAT '));
  t.equal(disk.run(fat.detect(disk.bytes - 512n * 100n)), null, 'without the name it may be anything');
  for (const name of ['NTFS    ', 'EXFAT   ']) {
    disk.put(3n, Buffer.from(name));
    t.equal(disk.run(fat.detect(disk.bytes)), null);
  }
});

t.test('a root directory whose clusters go in circles is damage', { skip }, async (t) => {
  const disk = new Overlay(await made('circle', 32));
  t.teardown(() => disk.close());
  const boot = disk.read(0n, 512);
  const table = boot.readUInt16LE(14) * 512;
  const root = (boot.readUInt16LE(14) + 2 * boot.readUInt32LE(36)) * 512;
  disk.put(BigInt(table + 8), Uint8Array.of(2, 0, 0, 0));
  for (let entry = 0; entry < boot[13]! * 16; entry++)
    disk.put(BigInt(root + 32 * entry), Buffer.from('FILE    TXT\x20'));
  t.throws(() => disk.run(fat.detect(disk.bytes)), { code: 'identity-damaged' });
  t.ok(disk.steps < 10_000, `${disk.steps} steps`);
});

t.test('noise', { skip }, async (t) => {
  for (const bits of [12, 32] as const) {
    const file = await made(`noise-${bits}`, bits);
    t.comment(cost(file, fat, { serial: TARGET, label: 'X' }));
    survivesNoise(t, fat, file, { serial: TARGET, label: 'X' });
  }
  const magics: [number, string][] = [
    [0, '\xeb\x58\x90'],
    [0x52, 'FAT32   '],
    [510, '\x55\xaa'],
  ];
  survivesRandomBytes(t, fat, blank(join(folder, 'zeros'), MIB), magics);
});
