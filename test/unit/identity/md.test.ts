// Linux RAID: UUID and name of the array and UUID of the device, for arrays of a single member; others are reported.
// Images are built byte by byte (see raid-images.ts) and judged by mdadm --examine and blkid. No kernel assembles them here.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { md } from '../../../src/identity/md.js';
import {
  blank,
  blkid,
  cost,
  detectIn,
  loopDevice,
  needsRoot,
  Overlay,
  onlyWithin,
  restoreIn,
  survivesNoise,
  survivesRandomBytes,
  valuesOf,
} from '../../support/identity-images.js';
import { missing, must } from '../../support/programs.js';
import { type RaidImage, raidMember } from '../../support/raid-images.js';

const SOURCE = '11111111-2222-4333-8444-555555555555';
const DEVICE = '66666666-7777-4888-8999-aaaaaaaaaaaa';
const TARGET = {
  uuid: '01234567-89ab-4def-8123-456789abcdef',
  name: 'host:target',
  'device-uuid': 'fedcba98-7654-4210-bedc-ba9876543210',
};
const VERSIONS = ['0.90', '1.0', '1.1', '1.2'] as const;
const skip = missing('mdadm', 'blkid');
const folder = t.testdir();

function made(name: string, image: Partial<RaidImage> = {}): string {
  const base: RaidImage = { version: '1.2', uuid: SOURCE, name: 'host:source', deviceUuid: DEVICE };
  return raidMember(join(folder, name), { ...base, ...image });
}

const examine = (file: string): Promise<string> => must('mdadm', ['--examine', file]);
/** mdadm writes a UUID as four words. */
const asWords = (uuid: string): string => uuid.replaceAll('-', '').replace(/.{8}(?!$)/g, '$&:');

for (const version of VERSIONS) {
  t.test(`${version}: mdadm and blkid see the wanted values`, { skip }, async (t) => {
    const file = made(version, { version });
    const before = await examine(file);
    t.match(before, new RegExp(`UUID : ${asWords(SOURCE)}`));
    t.match(before, /Checksum : \S+ - correct/, 'the image itself is right');
    const source =
      version === '0.90' ? { uuid: SOURCE } : { uuid: SOURCE, name: 'host:source', 'device-uuid': DEVICE };
    t.strictSame(valuesOf(detectIn(file, md)), source);
    const names = Object.keys(source);
    t.strictSame(restoreIn(file, md, TARGET), { written: names, unsupported: [], notes: [] });
    const after = await examine(file);
    t.match(after, new RegExp(`UUID : ${asWords(TARGET.uuid)}`));
    t.match(after, /Checksum : \S+ - correct/);
    t.match(await blkid(file), { TYPE: 'linux_raid_member', UUID: TARGET.uuid });
    if (version === '0.90') return;
    t.match(after, new RegExp(`Name : ${TARGET.name}\\b`));
    t.match(after, new RegExp(`Device UUID : ${asWords(TARGET['device-uuid'])}`));
    t.match(await blkid(file), { LABEL: TARGET.name, UUID_SUB: TARGET['device-uuid'] });
    t.strictSame(valuesOf(detectIn(file, md)), TARGET);
  });
}

t.test('only the fields and the checksum change', async (t) => {
  const places: Record<string, [number, number][]> = {
    '1.2': [
      [4096 + 16, 48],
      [4096 + 168, 16],
      [4096 + 216, 4],
    ],
    '0.90': [
      [20, 4],
      [52, 12],
      [152, 4],
    ].map(([at, bytes]) => [(16 << 20) - 65536 + at!, bytes!]),
  };
  for (const version of ['0.90', '1.2'] as const) {
    const disk = new Overlay(made(`little-${version}`, { version }));
    disk.run(md.restore(disk.bytes, new Map(Object.entries(TARGET))));
    t.ok(disk.changed().length > 0);
    t.ok(onlyWithin(disk.changed(), places[version]!), version);
    disk.close();
  }
});

t.test('the bitmap names the array too', { skip: skip || needsRoot }, async (t) => {
  const file = made('bitmap', { bitmap: true });
  t.strictSame(restoreIn(file, md, TARGET).written, Object.keys(TARGET));
  t.match(
    await must('mdadm', ['--examine-bitmap', await loopDevice(t, file)]),
    new RegExp(`UUID : ${asWords(TARGET.uuid)}`),
  );
  t.match(await examine(file), /Checksum : \S+ - correct/);
});

t.test('what is not alone, not active or has more to it is reported and stays', async (t) => {
  const images: [string, Partial<RaidImage>, RegExp][] = [
    ['two', { disks: 2 }, /2 members/],
    ['two-old', { disks: 2, version: '0.90' }, /2 members/],
    ['journal', { features: 512 }, /features 0x200/],
    ['reshape', { features: 4 }, /features 0x4/],
    ['no-bitmap', { features: 1 }, /no bitmap/],
    ['spare', { role: 0xffff }, /role 65535/],
  ];
  for (const [name, image, reason] of images) {
    const file = made(name, image);
    const before = readFileSync(file);
    t.match(detectIn(file, md)?.unsupported[0], { field: 'uuid', reason });
    const { written, unsupported } = restoreIn(file, md, TARGET);
    t.strictSame(written, [], name);
    t.match(unsupported[0], { field: 'uuid', reason });
    t.match(unsupported[0]?.reason, SOURCE, 'with the value seen');
    t.equal(unsupported.length, image.version === '0.90' ? 1 : 3);
    t.ok(readFileSync(file).equals(before), 'untouched');
  }
});

t.test('two superblocks in one place are doubt', async (t) => {
  const disk = new Overlay(made('doubt'));
  t.teardown(() => disk.close());
  const other = new Overlay(made('doubt-old', { version: '0.90' }));
  const end = disk.bytes - 65536n;
  disk.put(end, other.read(end, 4096));
  other.close();
  t.match(disk.run(md.restore(disk.bytes, new Map(Object.entries(TARGET)))), {
    written: [],
    unsupported: [{ field: 'uuid', reason: /1\.2 and 0\.90/ }, {}, {}],
  });
});

t.test('a wrong checksum or place is damage; no magic is none', async (t) => {
  for (const version of VERSIONS) {
    const file = made(`damaged-${version}`, { version });
    const disk = new Overlay(file);
    const at = { '0.90': disk.bytes - 65536n, '1.0': disk.bytes - 8192n, '1.1': 0n, '1.2': 4096n }[version];
    disk.flip(at + 100n, 1);
    t.throws(
      () => disk.run(md.detect(disk.bytes)),
      { code: 'identity-damaged', message: /checksum/ },
      version,
    );
    disk.flip(at, 1);
    t.equal(disk.run(md.detect(disk.bytes)), null);
    disk.close();
  }
});

t.test('malformed values are refused', async (t) => {
  const file = made('malformed');
  t.throws(() => restoreIn(file, md, { uuid: 'x' }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, md, { 'device-uuid': 'x' }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, md, { name: 'x'.repeat(33) }), { code: 'identity-invalid' });
});

t.test('noise', async (t) => {
  const file = made('noise', { bitmap: true });
  t.comment(cost(file, md, TARGET));
  survivesNoise(t, md, file, TARGET);
  survivesRandomBytes(t, md, blank(join(folder, 'zeros'), 1 << 20), [[4096, '\xfc\x4e\x2b\xa9\x01\0\0\0']]);
});
