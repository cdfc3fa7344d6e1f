// btrfs: another fsid and label in every copy of the superblock, believed by btrfs check and by the kernel next to the source.
// Images are made by mkfs.btrfs; mounts are real ones on loop devices.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { blake2b256 } from '../../../src/identity/btrfs/blake2b.js';
import { xxhash64 } from '../../../src/identity/btrfs/xxhash64.js';
import { btrfs } from '../../../src/identity/btrfs.js';
import {
  blank,
  blkid,
  copyOf,
  cost,
  detectIn,
  loopDevice,
  mounted,
  needsRoot,
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
const OTHER = '33333333-3333-4333-8333-333333333333';
const FIRST = 64 << 10;
const SECOND = 64 * MIB;
const skip = missing('mkfs.btrfs', 'btrfs', 'blkid');
const skipMounts = skip || needsRoot || missing('losetup', 'mount');
const folder = t.testdir();

async function made(name: string, args: string[] = [], bytes = 128 * MIB): Promise<string> {
  const file = blank(join(folder, name), bytes);
  await must('mkfs.btrfs', ['-q', '-m', 'single', '-U', SOURCE, '-L', 'source', ...args, file]);
  return file;
}

const check = (file: string) => must('btrfs', ['check', '--readonly', file]);

t.test('blkid and detect see the same', { skip }, async (t) => {
  const file = await made('seen');
  const found = detectIn(file, btrfs);
  const seen = await blkid(file);
  t.strictSame(valuesOf(found), { uuid: SOURCE, label: 'source' });
  t.equal(seen.UUID, SOURCE);
  t.match(found?.unsupported, [{ field: 'device-uuid', reason: seen.UUID_SUB }]);
  t.equal(detectIn(blank(join(folder, 'blank'), MIB), btrfs), null);
  t.equal(detectIn(blank(join(folder, 'nothing'), 0), btrfs), null);
});

t.test('both copies get the wanted values, and btrfs check is content', { skip }, async (t) => {
  const file = await made('restored');
  const { written, unsupported, notes } = restoreIn(file, btrfs, { uuid: TARGET, label: 'target' });
  t.strictSame([written, unsupported], [['uuid', 'label'], []]);
  t.match(notes, [SOURCE]);
  t.strictSame(valuesOf(detectIn(file, btrfs)), { uuid: TARGET, label: 'target' });
  t.match(await blkid(file), { UUID: TARGET, LABEL: 'target' });
  await check(file);
  for (const copy of ['0', '1']) {
    const dump = await must('btrfs', ['inspect-internal', 'dump-super', '-s', copy, file]);
    t.match(dump, /csum\t.*\[match\]/);
    t.match(dump, new RegExp(`fsid\t+${TARGET}\nmetadata_uuid\t+${SOURCE}`));
    t.match(dump, new RegExp(`dev_item.fsid\t+${SOURCE} \\[match\\]`));
  }
});

t.test('only the superblocks change', { skip }, async (t) => {
  const disk = new Overlay(await made('little'));
  t.teardown(() => disk.close());
  disk.run(btrfs.restore(disk.bytes, new Map([['uuid', TARGET]])));
  const fields = [0, 0x20, 0xbc, 0x23b];
  const places = [FIRST, SECOND].flatMap((at) =>
    fields.map((field): [number, number] => [at + field, field === 0xbc ? 8 : field === 0 ? 32 : 16]),
  );
  t.ok(onlyWithin(disk.changed(), places), 'checksum, fsid, flags, metadata UUID');
  t.ok(
    disk.changed().some(([at]) => at > BigInt(SECOND)),
    'the second copy too',
  );
  const again = disk.bytesWritten;
  disk.run(btrfs.restore(disk.bytes, new Map([['uuid', TARGET]])));
  t.equal(disk.bytesWritten, again, 'what is there already is not written');
});

t.test(
  'a second restore keeps the metadata UUID; the own one back is the plain form',
  { skip },
  async (t) => {
    const file = await made('back');
    const before = readFileSync(file);
    restoreIn(file, btrfs, { uuid: TARGET });
    restoreIn(file, btrfs, { uuid: OTHER });
    t.match(
      await must('btrfs', ['inspect-internal', 'dump-super', file]),
      new RegExp(`metadata_uuid\t+${SOURCE}`),
    );
    await check(file);
    t.strictSame(restoreIn(file, btrfs, { uuid: SOURCE }).notes, []);
    t.ok(readFileSync(file).equals(before), 'byte for byte as it was made');
  },
);

t.test('every type of checksum', { skip }, async (t) => {
  for (const type of ['crc32c', 'xxhash', 'sha256', 'blake2']) {
    const file = await made(type, ['--csum', type]);
    t.strictSame(restoreIn(file, btrfs, { uuid: TARGET }).written, ['uuid'], type);
    await check(file);
    t.match(await blkid(file), { UUID: TARGET });
  }
  const unknown = await made('unknown');
  const disk = new Overlay(unknown);
  t.teardown(() => disk.close());
  disk.put(BigInt(FIRST + 0xc4), Uint8Array.of(9, 0));
  t.throws(() => disk.run(btrfs.detect(disk.bytes)), { code: 'identity-damaged', message: /type 9/ });
});

t.test('the two checksums that node does not have agree with published values', async (t) => {
  t.equal(xxhash64(Buffer.alloc(0)), 0xef46db3751d8e999n);
  t.equal(xxhash64(Buffer.from('abc')), 0x44bc2cf5ad770999n);
  t.equal(xxhash64(Buffer.from('Nobody inspects the spammish repetition')), 0xfbcea83c8a378bf1n);
  t.equal(
    blake2b256(Buffer.from('abc')).toString('hex'),
    'bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319',
  );
  t.equal(
    blake2b256(Buffer.alloc(0)).toString('hex'),
    '0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8',
  );
});

t.test('a file system of several devices, or a seed, is reported and stays', { skip }, async (t) => {
  const pair = [blank(join(folder, 'a'), 128 * MIB), blank(join(folder, 'b'), 128 * MIB)];
  await must('mkfs.btrfs', ['-q', '-U', SOURCE, ...pair]);
  const seed = await made('seed');
  await must('btrfstune', ['-S', '1', seed]);
  for (const file of [...pair, seed]) {
    const before = readFileSync(file);
    t.match(
      detectIn(file, btrfs)?.unsupported.map(({ field }) => field),
      ['device-uuid', 'uuid', 'label'],
    );
    const { written, unsupported } = restoreIn(file, btrfs, { uuid: TARGET, label: 'x' });
    t.strictSame(written, []);
    t.match(unsupported, [{ field: 'uuid', reason: SOURCE }, { field: 'label' }]);
    t.ok(readFileSync(file).equals(before), 'untouched');
  }
});

t.test('a wrong checksum is damage; a damaged second copy is left and told', { skip }, async (t) => {
  const file = await made('damaged');
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  disk.flip(BigInt(SECOND + 0x130), 1);
  const { written, notes } = disk.run(btrfs.restore(disk.bytes, new Map([['uuid', TARGET]])));
  t.strictSame(written, ['uuid']);
  t.match(notes, [/left as it is: the checksum .* 67108864 is wrong/]);
  disk.flip(BigInt(FIRST + 0x130), 1);
  t.throws(() => disk.run(btrfs.detect(disk.bytes)), { code: 'identity-damaged' });
});

t.test('malformed values are refused', { skip }, async (t) => {
  const file = await made('malformed');
  t.throws(() => restoreIn(file, btrfs, { uuid: 'x' }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, btrfs, { label: 'x'.repeat(256) }), { code: 'identity-invalid' });
});

t.test(
  'the kernel mounts source and target side by side, under their own UUIDs',
  { skip: skipMounts },
  async (t) => {
    const source = await made('side-source');
    const target = copyOf(source, join(folder, 'side-target'));
    restoreIn(target, btrfs, { uuid: TARGET, label: 'target' });
    await t.test('mounted', async (t) => {
      await sideBySide(t, source, target);
    });
    await check(target);
  },
);

t.test(
  'so it does with a copy taken while it was mounted, its log not replayed',
  { skip: skipMounts },
  async (t) => {
    const source = await made('crash-source');
    const target = join(folder, 'crash-target');
    await withLog(t, source, target);
    t.match(detectIn(target, btrfs)?.notes, [/log/]);
    restoreIn(target, btrfs, { uuid: TARGET });
    await check(target);
    const place = await sideBySide(t, source, target);
    t.equal(readFileSync(join(place, 'synced'), 'utf8'), 'all of it', 'what only the log held is there');
  },
);

/** Mounts both, and answers where the target is. */
async function sideBySide(t: Test, source: string, target: string): Promise<string> {
  const places: string[] = [];
  for (const [file, uuid] of [
    [source, SOURCE],
    [target, TARGET],
  ] as const) {
    const place = `${file}.mounted`;
    mkdirSync(place);
    const device = await loopDevice(t, file);
    await mounted(t, device, place);
    t.equal((await must('findmnt', ['-no', 'UUID', place])).trim(), uuid);
    t.equal(readFileSync(`/sys/fs/btrfs/${uuid}/temp_fsid`, 'utf8').trim(), '0', 'no makeshift UUID');
    writeFileSync(join(place, 'file'), uuid);
    places.push(place);
  }
  await must('sync', ['--file-system', ...places]);
  t.match(readFileSync(join(places[0]!, 'file'), 'utf8'), SOURCE);
  return places[1]!;
}

/** A synced file makes a log tree; the copy of the device is what a crash would leave. */
async function withLog(t: Test, source: string, copy: string): Promise<void> {
  const place = `${source}.before`;
  mkdirSync(place);
  const device = await loopDevice(t, source);
  await must('mount', ['-o', 'commit=300', device, place]);
  try {
    writeFileSync(join(place, 'synced'), 'all of it', { flush: true });
    await must('dd', [`if=${device}`, `of=${copy}`, 'bs=1M', 'conv=sparse', 'status=none']);
  } finally {
    await must('umount', [place]);
  }
}

t.test('noise', { skip }, async (t) => {
  const file = await made('noise');
  t.comment(cost(file, btrfs, { uuid: TARGET, label: 'x' }));
  survivesNoise(t, btrfs, file, { uuid: TARGET, label: 'x' });
  survivesRandomBytes(t, btrfs, blank(join(folder, 'zeros'), MIB), [[FIRST + 0x40, '_BHRfS_M']]);
});
