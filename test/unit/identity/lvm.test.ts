// LVM2: ids of the physical volume, the volume group and its logical volumes, and the group's name, in label and metadata text.
// Volumes are made by LVM on loop devices, and judged by LVM: side by side with the source, and by what it writes next. Nothing is
// activated: there may be no device mapper.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { lvmCrc } from '../../../src/identity/lvm/crc.js';
import { hasRoom, writeText } from '../../../src/identity/lvm/physical-volume.js';
import { readVolumeGroup } from '../../../src/identity/lvm/volume-group.js';
import { lvm } from '../../../src/identity/lvm.js';
import type { Writing } from '../../../src/identity/steps.js';
import {
  blank,
  blkid,
  copyOf,
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

const MIB = 1 << 20;
const TARGET = {
  'pv-uuid': 'pppppp-aaaa-bbbb-cccc-dddd-eeee-ffffff',
  'vg-uuid': 'vvvvvv-aaaa-bbbb-cccc-dddd-eeee-ffffff',
  'vg-name': 'target-group.1',
  'lv/data/uuid': 'dddddd-aaaa-bbbb-cccc-dddd-eeee-ffffff',
  'lv/log/uuid': 'llllll-aaaa-bbbb-cccc-dddd-eeee-ffffff',
};
const skip = missing('lvm', 'losetup', 'blkid') || needsRoot;
const folder = t.testdir();
const environment = { LVM_SYSTEM_DIR: join(folder, 'lvm'), LVM_SUPPRESS_FD_WARNINGS: '1' };
mkdirSync(environment.LVM_SYSTEM_DIR);

/** LVM that sees these devices only, and no device mapper. */
function command(devices: string[]): (name: string, ...args: string[]) => Promise<string> {
  const filter = [...devices.map((device) => `"a|^${device}$|"`), '"r|.*|"'].join(',');
  const config = `devices{filter=[${filter}] use_devicesfile=0 scan="/dev"} backup{backup=0 archive=0}`;
  return (name, ...args) =>
    must('lvm', [name, '--driverloaded', 'n', '--config', config, ...args], { env: environment });
}

/** A group `source` on so many physical volumes, with the logical volumes `data` and `log`. */
async function made(t: Test, names: string[], pvArgs: string[] = []): Promise<string[]> {
  const files = names.map((name) => blank(join(folder, name), 16 * MIB));
  await t.test('make it with LVM', async (t) => {
    const devices: string[] = [];
    for (const file of files) devices.push(await loopDevice(t, file));
    const run = command(devices);
    await run('pvcreate', '-q', ...pvArgs, ...devices);
    await run('vgcreate', 'source', ...devices);
    for (const name of ['data', 'log'])
      await run('lvcreate', '-an', '-Zn', '-Wn', '-l', '1', '-n', name, 'source');
  });
  return files;
}

/** What LVM says of a file by itself. */
async function asLvmSees(t: Test, file: string): Promise<Record<string, string>> {
  const seen: Record<string, string> = {};
  await t.test('ask LVM', async (t) => {
    const run = command([await loopDevice(t, file)]);
    await run('vgck');
    const [pv] = rows(await run('pvs', '--noheadings', '--separator', ' ', '-o', 'pv_uuid,vg_uuid,vg_name'));
    [seen['pv-uuid'], seen['vg-uuid'], seen['vg-name']] = pv as [string, string, string];
    for (const [name, id] of rows(
      await run('lvs', '--noheadings', '--separator', ' ', '-o', 'lv_name,lv_uuid'),
    ))
      seen[`lv/${name}/uuid`] = id!;
  });
  return seen;
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(' '));
}

t.test('LVM and detect see the same', { skip }, async (t) => {
  const [file] = (await made(t, ['seen'])) as [string];
  t.strictSame(valuesOf(detectIn(file, lvm)), await asLvmSees(t, file));
  t.match(await blkid(file), { TYPE: 'LVM2_member', UUID: valuesOf(detectIn(file, lvm))['pv-uuid'] });
});

t.test(
  'everything restored: LVM takes it next to the source, and goes on from there',
  { skip },
  async (t) => {
    const [source] = (await made(t, ['source'])) as [string];
    const target = copyOf(source, join(folder, 'target'));
    const restored = restoreIn(target, lvm, TARGET);
    t.strictSame([restored.written, restored.unsupported], [Object.keys(TARGET), []]);
    t.strictSame(await asLvmSees(t, target), TARGET);
    t.match(await blkid(target), { UUID: TARGET['pv-uuid'] });
    await t.test('side by side', async (t) => {
      const devices = [await loopDevice(t, source), await loopDevice(t, target)];
      const run = command(devices);
      t.strictSame(
        rows(await run('vgs', '--noheadings', '-o', 'vg_name'))
          .flat()
          .sort(),
        ['source', 'target-group.1'],
      );
      t.match(await run('pvck', '--dump', 'metadata', devices[1]!), /seqno = 4\n/);
      await run('lvcreate', '-an', '-Zn', '-Wn', '-l', '1', '-n', 'more', 'target-group.1');
      await run('vgck', 'target-group.1');
    });
    t.match(valuesOf(detectIn(target, lvm)), { ...TARGET, 'lv/more/uuid': /-/ });
  },
);

t.test('only the label, the header of the area and a new text change', { skip }, async (t) => {
  const [file] = (await made(t, ['little'])) as [string];
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  disk.run(lvm.restore(disk.bytes, new Map(Object.entries(TARGET))));
  const offset = Number(new Overlay(file).read(4096n + 40n, 8).readBigUInt64LE());
  const size = Number(new Overlay(file).read(4096n + 48n, 8).readBigUInt64LE());
  const next = 4096 + Math.ceil((offset + size) / 512) * 512;
  t.ok(
    onlyWithin(disk.changed(), [
      [512, 512],
      [4096, 512],
      [next, size + 32],
    ]),
  );
  const before = disk.bytesWritten;
  disk.run(lvm.restore(disk.bytes, new Map(Object.entries(TARGET))));
  t.equal(disk.bytesWritten, before, 'what is there already is not written');
});

t.test('some fields only; those of other names are left out', { skip }, async (t) => {
  const [file] = (await made(t, ['some'])) as [string];
  const before = valuesOf(detectIn(file, lvm));
  const wanted = { 'pv-uuid': TARGET['pv-uuid'], 'lv/gone/uuid': TARGET['lv/log/uuid'] };
  t.strictSame(restoreIn(file, lvm, wanted).written, ['pv-uuid']);
  t.strictSame(await asLvmSees(t, file), { ...before, 'pv-uuid': TARGET['pv-uuid'] });
});

t.test('two metadata areas are both written', { skip }, async (t) => {
  const [file] = (await made(t, ['two-areas'], ['--pvmetadatacopies', '2'])) as [string];
  t.strictSame(restoreIn(file, lvm, TARGET).written, Object.keys(TARGET));
  t.strictSame(await asLvmSees(t, file), TARGET);
  const text = readFileSync(file).toString('latin1');
  t.equal(text.split('target-group.1 {').length - 1, 2);
});

t.test('around the end of the ring, again and again', { skip }, async (t) => {
  const [file] = (await made(t, ['ring'], ['--metadatasize', '8k', '--dataalignment', '64k'])) as [string];
  const area = new Overlay(file).read(4096n + 32n, 8).readBigUInt64LE();
  const offsets = new Set<bigint>();
  let wrapped = 0;
  for (let round = 0; round < 400; round++) {
    const name = `g${'o'.repeat(round % 97)}`;
    t.strictSame(restoreIn(file, lvm, { 'vg-name': name }).written, ['vg-name'], `round ${round}`);
    const header = new Overlay(file);
    const place = header.read(4096n + 40n, 16);
    header.close();
    offsets.add(place.readBigUInt64LE());
    if (place.readBigUInt64LE() + place.readBigUInt64LE(8) > area) wrapped++;
    if (round % 50 === 0) t.equal((await asLvmSees(t, file))['vg-name'], name);
  }
  t.ok(offsets.size > 10, `${offsets.size} places`);
  t.ok(wrapped > 0, `${wrapped} texts lie around the end`);
});

t.test('a new text never lies over the current one, wherever that is', async (t) => {
  const bytes = 3072;
  let fitting = 0;
  for (let offset = 512; offset < bytes; offset += 64)
    for (let size = 100; size <= bytes - 512; size += 300)
      for (const length of [99, 1000, 1459, 1460, 1999, 2048]) {
        const current = { offset, bytes: size, crc: 0 };
        const area = { at: 0n, bytes, header: Buffer.alloc(512), current, ignored: false, pending: false };
        const text = 'x'.repeat(length);
        if (!hasRoom(area, current, text)) continue;
        fitting++;
        const written = placesWritten(writeText(area, current, text));
        if (written.size !== length + 1) t.fail(`${written.size} bytes of ${length + 1}`);
        for (let at = 0; at < size; at++)
          if (written.has(512 + ((offset - 512 + at) % (bytes - 512))))
            return t.fail(`${offset} ${size} ${length}`);
      }
  t.ok(fitting > 500, `${fitting} fit`);
});

/** Of the ring only. */
function placesWritten(work: Writing<void>): Set<number> {
  const written = new Set<number>();
  for (let next = work.next(); !next.done; next = work.next(new Uint8Array(0)))
    if (next.value.do === 'write' && next.value.at > 0n)
      for (let at = 0; at < next.value.data.length; at++) written.add(Number(next.value.at) + at);
  return written;
}

t.test('a ring without room is reported, and nothing is written', { skip }, async (t) => {
  const [file] = (await made(t, ['no-room'])) as [string];
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  const header = disk.read(4096n, 512);
  const bytes = 2048;
  header.writeBigUInt64LE(BigInt(bytes), 32);
  header.writeBigUInt64LE(512n, 40);
  const text = disk.read(
    4096n + new Overlay(file).read(4136n, 8).readBigUInt64LE(),
    Number(header.readBigUInt64LE(48)),
  );
  disk.put(4096n + 512n, text);
  header.writeUInt32LE(lvmCrc(header.subarray(4)), 0);
  disk.put(4096n, header);
  const label = disk.read(512n, 512);
  label.writeBigUInt64LE(BigInt(bytes), 112);
  label.writeUInt32LE(lvmCrc(label.subarray(20)), 16);
  disk.put(512n, label);
  const before = disk.changed();
  t.match(disk.run(lvm.restore(disk.bytes, new Map([['vg-name', 'x']]))), {
    written: [],
    unsupported: [{ field: 'vg-name', reason: 'no room' }],
  });
  t.strictSame(disk.changed(), before);
});

t.test('a group over two disks is reported and stays', { skip }, async (t) => {
  for (const file of await made(t, ['one-of-two', 'two-of-two'])) {
    const before = readFileSync(file);
    t.equal(detectIn(file, lvm)?.unsupported.length, 5);
    const { written, unsupported } = restoreIn(file, lvm, TARGET);
    t.strictSame(written, []);
    t.match(unsupported, [{ field: 'pv-uuid', reason: 'lies on 2 physical volumes' }]);
    t.equal(unsupported.length, 5);
    t.ok(readFileSync(file).equals(before), 'untouched');
  }
});

t.test('a physical volume of no group has one field', { skip }, async (t) => {
  const file = blank(join(folder, 'orphan'), 16 * MIB);
  await t.test('make it', async (t) => {
    const device = await loopDevice(t, file);
    await command([device])('pvcreate', '-q', device);
  });
  t.strictSame(restoreIn(file, lvm, TARGET).written, ['pv-uuid']);
  t.strictSame(valuesOf(detectIn(file, lvm)), { 'pv-uuid': TARGET['pv-uuid'] });
  await t.test('LVM agrees', async (t) => {
    const device = await loopDevice(t, file);
    t.equal(
      (await command([device])('pvs', '--noheadings', '-o', 'pv_uuid', device)).trim(),
      TARGET['pv-uuid'],
    );
  });
});

t.test('an id that another logical volume keeps is not given away', { skip }, async (t) => {
  const [file] = (await made(t, ['clash'])) as [string];
  const before = valuesOf(detectIn(file, lvm));
  const taken = before['lv/log/uuid']!;
  const { written, unsupported } = restoreIn(file, lvm, {
    'lv/data/uuid': taken,
    'vg-uuid': TARGET['vg-uuid'],
  });
  t.strictSame(written, ['vg-uuid']);
  t.match(unsupported, [{ field: 'lv/data/uuid', reason: taken }]);
  t.strictSame(await asLvmSees(t, file), { ...before, 'vg-uuid': TARGET['vg-uuid'] });
  const swapped = { 'lv/data/uuid': taken, 'lv/log/uuid': before['lv/data/uuid']! };
  t.strictSame(restoreIn(file, lvm, swapped).written, ['lv/data/uuid', 'lv/log/uuid'], 'a swap is none');
  t.match(await asLvmSees(t, file), swapped);
});

t.test('damage in label, header or text', { skip }, async (t) => {
  const [file] = (await made(t, ['damaged'])) as [string];
  const offset = new Overlay(file).read(4136n, 8).readBigUInt64LE();
  for (const at of [512n + 40n, 4096n + 100n, 4096n + offset + 30n]) {
    const disk = new Overlay(file);
    disk.flip(at, 1);
    t.throws(
      () => disk.run(lvm.detect(disk.bytes)),
      { code: 'identity-damaged', message: /checksum/ },
      `${at}`,
    );
    disk.close();
  }
});

t.test('malformed values are refused', { skip }, async (t) => {
  const [file] = (await made(t, ['malformed'])) as [string];
  const bad = { 'pv-uuid': 'x', 'vg-uuid': '', 'vg-name': 'a b', 'lv/data/uuid': '!' };
  for (const [name, value] of Object.entries(bad))
    t.throws(() => restoreIn(file, lvm, { [name]: value }), { code: 'identity-invalid' }, name);
  for (const name of ['-x', '.', '..', '', 'x'.repeat(128), 'a"b'])
    t.throws(() => restoreIn(file, lvm, { 'vg-name': name }), { code: 'identity-invalid' }, name);
});

t.test('texts: comments, strings with quotes, arrays; and those that cannot be read', async (t) => {
  const id = TARGET['vg-uuid'];
  const group = readVolumeGroup(
    `# vg { id = "no" }\nvg {\nid = "${id}" # "x\nseqno = 7\ntags = ["a", "b\\"c ]"]\ndescription = "id = \\"x\\""\n` +
      `physical_volumes {\npv0 {\nid = "${id}"\n}\n}\n}\ncontents = "Text Format Volume Group"\nversion = 1\n`,
  );
  t.match(group, { name: { text: 'vg' }, id: { text: id }, sequence: { text: '7' } });
  t.strictSame([...group.physical.keys()], ['pv0']);
  const unreadable = [
    '',
    'vg',
    'vg {',
    '}',
    'vg { id = "',
    '= 3',
    `a { id = "${id}" seqno = 1 } b { }`,
    '{'.repeat(100),
  ];
  for (const text of [
    ...unreadable,
    'a { '.repeat(100),
    'x'.repeat(4 << 20),
    ' '.repeat(4 << 20),
    '"'.repeat(4 << 20),
  ])
    t.throws(() => readVolumeGroup(text), { code: 'identity-damaged' }, text.slice(0, 20));
});

t.test('noise', { skip }, async (t) => {
  const [file] = (await made(t, ['noise'])) as [string];
  t.comment(cost(file, lvm, TARGET));
  survivesNoise(t, lvm, file, TARGET);
  const magics: [number, string][] = [
    [512, 'LABELONE\x01\0\0\0\0\0\0\0'],
    [536, 'LVM2 001'],
  ];
  survivesRandomBytes(t, lvm, blank(join(folder, 'zeros'), MIB), magics);
});
