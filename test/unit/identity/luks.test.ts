// LUKS1 and LUKS2: another UUID and label; key slots stay. Volumes are made by cryptsetup, which also judges: what a restore writes is
// byte for byte what `cryptsetup luksUUID` writes.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { luks } from '../../../src/identity/luks.js';
import {
  blank,
  blkid,
  copyOf,
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
const SOURCE = '11111111-1111-4111-8111-111111111111';
const TARGET = '22222222-2222-4222-8222-222222222222';
const HEADER = 16384;
const skip = missing('cryptsetup', 'blkid');
const folder = t.testdir({ key: 'passphrase' });
const key = join(folder, 'key');
const derivation = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
type Version = 'luks1' | 'luks2';

/** Formatting takes a second; every test has its own copy. */
const originals = new Map<Version, Promise<string>>();

async function made(name: string, version: Version): Promise<string> {
  if (!originals.has(version)) originals.set(version, format(version));
  return copyOf(await originals.get(version)!, join(folder, name));
}

async function format(version: Version): Promise<string> {
  const file = blank(join(folder, version), 20 * MIB);
  const more = version === 'luks1' ? ['--iter-time', '1'] : [...derivation, '--label', 'source'];
  await must('cryptsetup', ['-q', 'luksFormat', '--type', version, '--uuid', SOURCE, ...more, file, key]);
  return file;
}

const opens = (file: string) => must('cryptsetup', ['open', '--test-passphrase', '--key-file', key, file]);

for (const version of ['luks1', 'luks2'] as const) {
  t.test(`${version}: what a restore writes is what cryptsetup writes`, { skip }, async (t) => {
    const file = await made(`ours-${version}`, version);
    const theirs = copyOf(file, join(folder, `theirs-${version}`));
    await must('cryptsetup', ['-q', 'luksUUID', '--uuid', TARGET, theirs]);
    t.strictSame(restoreIn(file, luks, { uuid: TARGET }), { written: ['uuid'], unsupported: [], notes: [] });
    t.ok(readFileSync(file).equals(readFileSync(theirs)), 'byte for byte');
    t.equal((await must('cryptsetup', ['luksUUID', file])).trim(), TARGET);
    t.match(await blkid(file), { TYPE: 'crypto_LUKS', UUID: TARGET });
    await opens(file);
    t.equal(valuesOf(detectIn(file, luks)).uuid, TARGET);
  });
}

t.test('the label of LUKS2 too, in both headers', { skip }, async (t) => {
  const file = await made('label', 'luks2');
  t.strictSame(valuesOf(detectIn(file, luks)), { uuid: SOURCE, label: 'source' });
  t.strictSame(restoreIn(file, luks, { uuid: TARGET, label: 'target' }).written, ['uuid', 'label']);
  t.match(await blkid(file), { UUID: TARGET, LABEL: 'target' });
  t.match(await must('cryptsetup', ['luksDump', file]), /Label:\s+target/);
  await opens(file);
  const second = readFileSync(file).subarray(HEADER, HEADER + 512);
  t.equal(second.toString('latin1', 24, 30), 'target');
  restoreIn(file, luks, { label: '' });
  t.strictSame(valuesOf(detectIn(file, luks)), { uuid: TARGET, label: '' });
});

t.test('LUKS1 has no label', { skip }, async (t) => {
  const file = await made('no-label', 'luks1');
  t.strictSame(valuesOf(detectIn(file, luks)), { uuid: SOURCE });
  t.strictSame(restoreIn(file, luks, { label: 'x' }), { written: [], unsupported: [], notes: [] });
});

t.test("that the key slots are the content's is said, and they stay", { skip }, async (t) => {
  for (const version of ['luks1', 'luks2'] as const) {
    const file = await made(`keys-${version}`, version);
    t.match(detectIn(file, luks), { keySlots: true, notes: [/key slots/] });
    const disk = new Overlay(file);
    disk.run(luks.restore(disk.bytes, new Map(Object.entries({ uuid: TARGET, label: 'x' }))));
    const fields = (at: number): [number, number][] => [
      [at + 16, 8 + 48],
      [at + 168, 40],
      [at + 448, 64],
    ];
    t.ok(onlyWithin(disk.changed(), [...fields(0), ...fields(HEADER)]));
    disk.close();
  }
});

t.test('one bad header of two: the other is used, and cryptsetup mends', { skip }, async (t) => {
  for (const at of [0, HEADER]) {
    const file = await made(`bad-${at}`, 'luks2');
    const bytes = readFileSync(file);
    bytes[at + 5000]! ^= 1;
    writeFileSync(file, bytes);
    const { written, notes } = restoreIn(file, luks, { uuid: TARGET });
    t.strictSame(written, ['uuid']);
    t.match(notes, [new RegExp(`checksum of the LUKS2 header at ${at} is wrong`)]);
    await opens(file);
    t.equal((await must('cryptsetup', ['luksUUID', file])).trim(), TARGET);
  }
});

t.test('damage: both headers bad, no such version, no UUID', { skip }, async (t) => {
  const disk = new Overlay(await made('damaged', 'luks2'));
  t.teardown(() => disk.close());
  disk.flip(5000n, 1);
  disk.flip(BigInt(HEADER + 5000), 1);
  t.throws(() => disk.run(luks.detect(disk.bytes)), { code: 'identity-damaged', message: /neither/i });
  disk.put(6n, Uint8Array.of(0, 3));
  t.throws(() => disk.run(luks.detect(disk.bytes)), { code: 'identity-damaged', message: /version 3/ });
  disk.put(6n, Uint8Array.of(0, 1));
  disk.put(168n, Buffer.from('nothing like a UUID\0'));
  t.throws(() => disk.run(luks.detect(disk.bytes)), { code: 'identity-damaged', message: /nothing like/ });
});

t.test('a reencryption that is under way is reported and stays', { skip }, async (t) => {
  const file = await made('reencryption', 'luks2');
  const init = ['-q', 'reencrypt', '--encrypt', '--init-only', '--key-file', key, ...derivation];
  const plain = blank(join(folder, 'plain'), 64 * MIB);
  await must('cryptsetup', [...init, '--reduce-device-size', '32M', '--uuid', SOURCE, plain, '-s', '512']);
  t.equal(detectIn(file, luks)?.unsupported.length, 0);
  const before = readFileSync(plain);
  t.match(detectIn(plain, luks)?.unsupported, [
    { field: 'uuid', reason: 'reencryption' },
    { field: 'label' },
  ]);
  t.match(restoreIn(plain, luks, { uuid: TARGET }), { written: [], unsupported: [{ field: 'uuid' }] });
  t.ok(readFileSync(plain).equals(before));
});

t.test('noise', { skip }, async (t) => {
  for (const version of ['luks1', 'luks2'] as const) {
    const file = await made(`noise-${version}`, version);
    t.comment(version, cost(file, luks, { uuid: TARGET, label: 'x' }));
    survivesNoise(t, luks, file, { uuid: TARGET, label: 'x' });
  }
  survivesRandomBytes(t, luks, blank(join(folder, 'zeros'), MIB), [[0, 'LUKS\xba\xbe\0\x02']]);
});
