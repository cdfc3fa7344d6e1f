// exFAT: serial in both boot regions with their checksums, label in the root directory.
// Images are made by mkfs.exfat and judged by fsck.exfat, exfatlabel and blkid.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exfat } from '../../../src/identity/exfat.js';
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
import { missing, must } from '../../support/programs.js';

const MIB = 1 << 20;
const TARGET = '2222-BBBB';
const SECTOR = 512;
const skip = missing('mkfs.exfat', 'fsck.exfat', 'exfatlabel', 'blkid');
const folder = t.testdir();

async function made(name: string, args: string[] = ['-L', 'SOURCE']): Promise<string> {
  const file = blank(join(folder, name), 16 * MIB);
  await must('mkfs.exfat', [...args, file]);
  return file;
}

/** Where the first entry of the root directory is. */
function rootOf(disk: Overlay): bigint {
  const boot = disk.read(0n, SECTOR);
  return BigInt(SECTOR * (boot.readUInt32LE(88) + (boot.readUInt32LE(96) - 2) * (1 << boot[109]!)));
}

t.test('serial and label as blkid and exfatlabel read them', { skip }, async (t) => {
  const file = await made('both');
  const before = await blkid(file);
  t.strictSame(valuesOf(detectIn(file, exfat)), { serial: before.UUID, label: 'SOURCE' });
  const { written, unsupported, notes } = restoreIn(file, exfat, { serial: TARGET, label: 'Größe 11 😀' });
  t.strictSame([written, unsupported, notes], [['serial', 'label'], [], []]);
  t.match(await blkid(file), { TYPE: 'exfat', UUID: TARGET });
  t.equal((await must('blkid', ['-p', '-o', 'value', '-s', 'LABEL', file])).trim(), 'Größe 11 😀');
  t.match(await must('exfatlabel', ['-i', file]), /0x2222bbbb/);
  await must('fsck.exfat', ['-n', file]);
  t.strictSame(valuesOf(detectIn(file, exfat)), { serial: TARGET, label: 'Größe 11 😀' });
});

t.test('only the two boot regions and the entry of the label change', { skip }, async (t) => {
  const disk = new Overlay(await made('little'));
  t.teardown(() => disk.close());
  disk.run(exfat.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'X' }))));
  const region = (at: number): [number, number][] => [
    [at + 100, 4],
    [at + 11 * SECTOR, SECTOR],
  ];
  t.ok(onlyWithin(disk.changed(), [...region(0), ...region(12 * SECTOR), [Number(rootOf(disk)), 24]]));
  t.ok(disk.read(0n, 12 * SECTOR).equals(disk.read(BigInt(12 * SECTOR), 12 * SECTOR)), 'the backup is one');
});

t.test('a label goes and comes, also where there is no entry for it', { skip }, async (t) => {
  const file = await made('labels');
  t.strictSame(restoreIn(file, exfat, { label: '' }).written, ['label']);
  t.equal((await blkid(file)).LABEL, undefined);
  await must('fsck.exfat', ['-n', file]);
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  const root = rootOf(disk);
  disk.put(root, disk.read(root + 32n, 64));
  disk.put(root + 64n, Buffer.alloc(32));
  disk.put(root + 96n, Uint8Array.of(0x85));
  disk.run(exfat.restore(disk.bytes, new Map([['label', 'NEW']])));
  t.equal(valuesOf(disk.run(exfat.detect(disk.bytes))).label, 'NEW');
  t.equal(disk.read(root + 64n, 1)[0], 0x83);
  t.equal(disk.read(root + 96n, 1)[0], 0, 'the end mark moves on');
});

t.test('a directory without room is reported, and the serial written all the same', { skip }, async (t) => {
  const disk = new Overlay(await made('full', ['-c', '4K']));
  t.teardown(() => disk.close());
  const root = rootOf(disk);
  for (let entry = 0n; entry < 128n; entry++) disk.put(root + 32n * entry, Uint8Array.of(0x85));
  const restored = disk.run(
    exfat.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'X' }))),
  );
  t.match(restored, { written: ['serial'], unsupported: [{ field: 'label', reason: 'no room' }] });
});

t.test('a wrong checksum is damage; a wrong backup is left and told', { skip }, async (t) => {
  const disk = new Overlay(await made('damaged'));
  t.teardown(() => disk.close());
  disk.flip(BigInt(12 * SECTOR + 200), 1);
  const { written, notes } = disk.run(exfat.restore(disk.bytes, new Map([['serial', TARGET]])));
  t.strictSame(written, ['serial']);
  t.match(notes, [/backup .* was left/]);
  disk.flip(200n, 1);
  t.throws(() => disk.run(exfat.detect(disk.bytes)), { code: 'identity-damaged', message: /checksum/ });
  t.throws(() => disk.run(exfat.detect(8n * BigInt(MIB))), { code: 'identity-damaged', message: /sectors/ });
});

t.test('flags that change without a checksum do no harm', { skip }, async (t) => {
  const disk = new Overlay(await made('dirty'));
  t.teardown(() => disk.close());
  disk.put(106n, Uint8Array.of(2));
  disk.put(112n, Uint8Array.of(50));
  t.match(disk.run(exfat.detect(disk.bytes))?.notes, [/not unmounted/]);
});

t.test('malformed values are refused', { skip }, async (t) => {
  const file = await made('malformed');
  const before = readFileSync(file);
  t.throws(() => restoreIn(file, exfat, { serial: 'x' }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, exfat, { serial: TARGET, label: 'TWELVE CHARS' }), {
    code: 'identity-invalid',
  });
  t.ok(readFileSync(file).equals(before));
});

t.test('noise', { skip }, async (t) => {
  const file = await made('noise');
  t.comment(cost(file, exfat, { serial: TARGET, label: 'X' }));
  survivesNoise(t, exfat, file, { serial: TARGET, label: 'X' });
  const magics: [number, string][] = [
    [3, 'EXFAT   '],
    [510, '\x55\xaa'],
    [108, '\x09\x03\x01'],
  ];
  survivesRandomBytes(t, exfat, blank(join(folder, 'zeros'), MIB), magics);
});
