// NTFS: serial in both boot sectors, label in the record of $Volume and its mirror.
// Images are made by mkntfs and judged by ntfsfix, ntfsinfo, ntfslabel and blkid.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ntfs } from '../../../src/identity/ntfs.js';
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
const BYTES = 8 * MIB;
const TARGET = '0123456789abcdef';
const RECORD = 1024;
const skip = missing('mkntfs', 'ntfsfix', 'ntfsinfo', 'ntfslabel', 'blkid');
const folder = t.testdir();

async function made(name: string, args: string[] = ['-L', 'source']): Promise<string> {
  const file = blank(join(folder, name), BYTES);
  await must('mkntfs', ['-q', '-F', ...args, file]);
  return file;
}

async function judge(file: string): Promise<string> {
  await must('ntfsfix', ['-n', file]);
  return await must('ntfsinfo', ['-m', file]);
}

function placesOf(file: string): { table: number; mirror: number } {
  const disk = new Overlay(file);
  const boot = disk.read(0n, 512);
  disk.close();
  const cluster = boot.readUInt16LE(11) * boot[13]!;
  return {
    table: Number(boot.readBigUInt64LE(0x30)) * cluster,
    mirror: Number(boot.readBigUInt64LE(0x38)) * cluster,
  };
}

t.test('serial and label as blkid and the tools of ntfs-3g read them', { skip }, async (t) => {
  const file = await made('both');
  const before = await blkid(file);
  t.strictSame(valuesOf(detectIn(file, ntfs)), { serial: before.UUID?.toLowerCase(), label: 'source' });
  for (const label of ['a longer label than before', 'Größe 😀', 'x', '', 'y'.repeat(32)]) {
    t.strictSame(restoreIn(file, ntfs, { serial: TARGET, label }), {
      written: ['serial', 'label'],
      unsupported: [],
      notes: [],
    });
    t.match(await blkid(file), { TYPE: 'ntfs', UUID: TARGET.toUpperCase() });
    t.equal((await must('ntfslabel', [file], { env: { LC_ALL: 'C.UTF-8' } })).trim(), label);
    t.match(await judge(file), 'Volume Version: 3.1');
    t.strictSame(valuesOf(detectIn(file, ntfs)), { serial: TARGET, label });
  }
});

t.test('the tools go on from there', { skip }, async (t) => {
  const file = await made('go-on', []);
  t.strictSame(valuesOf(detectIn(file, ntfs)).label, '');
  restoreIn(file, ntfs, { serial: TARGET, label: 'target' });
  await must('ntfslabel', ['-f', file, 'theirs']);
  await judge(file);
  t.strictSame(valuesOf(detectIn(file, ntfs)), { serial: TARGET, label: 'theirs' });
});

t.test(
  'only the serials and the two records change, and records and boot sectors stay alike',
  { skip },
  async (t) => {
    const file = await made('little');
    const { table, mirror } = placesOf(file);
    const disk = new Overlay(file);
    t.teardown(() => disk.close());
    disk.run(ntfs.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'target' }))));
    const records: [number, number][] = [table, mirror].map((at) => [at + 3 * RECORD, RECORD]);
    t.ok(onlyWithin(disk.changed(), [[0x48, 8], [BYTES - 512 + 0x48, 8], ...records]));
    t.ok(disk.read(0n, 512).equals(disk.read(BigInt(BYTES - 512), 512)));
    t.ok(disk.read(BigInt(table), 4 * RECORD).equals(disk.read(BigInt(mirror), 4 * RECORD)));
  },
);

t.test('large clusters and sectors', { skip }, async (t) => {
  for (const args of [
    ['-c', '65536'],
    ['-s', '4096', '-c', '4096'],
    ['-c', '512'],
  ]) {
    const file = await made(`sizes-${args.join('')}`, args);
    t.strictSame(restoreIn(file, ntfs, { serial: TARGET, label: 'target' }).written, ['serial', 'label']);
    t.match(await blkid(file), { UUID: TARGET.toUpperCase(), LABEL: 'target' });
  }
});

t.test(
  'a label without room, or a log to replay: reported; the serial is written all the same',
  { skip },
  async (t) => {
    const file = await made('refused');
    const label = 'z'.repeat(128);
    const { table } = placesOf(file);
    const disk = new Overlay(file);
    t.teardown(() => disk.close());
    const filled = disk.run(ntfs.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label }))));
    t.strictSame(filled.written, ['serial', 'label']);
    const log = 4096n * runOf(disk.read(BigInt(table + 2 * RECORD), RECORD));
    t.equal(disk.read(log, 4).toString('hex'), 'ffffffff', 'the log as mkntfs makes it');
    for (const [flags, clients, written] of [
      [0, 0, ['serial']],
      [2, 0, ['serial', 'label']],
      [0, 0xffff, ['serial', 'label']],
    ] as const) {
      const page = Buffer.alloc(4096);
      page.write('RSTR');
      page.writeUInt16LE(0x30, 24);
      page.writeUInt16LE(clients, 0x30 + 12);
      page.writeUInt16LE(flags, 0x30 + 14);
      disk.put(log, page);
      const restored = disk.run(
        ntfs.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: `${flags}${clients}` }))),
      );
      t.strictSame(restored.written, written, `${flags} ${clients}`);
      if (written.length === 1) t.match(restored.unsupported, [{ field: 'label', reason: /log.*zzz/ }]);
    }
    disk.put(BigInt(table + 3 * RECORD), Buffer.from('BAAD'));
    t.match(disk.run(ntfs.detect(disk.bytes)), {
      fields: [{ name: 'serial' }],
      unsupported: [{ field: 'label' }],
    });
  },
);

/** The first cluster of the data of a record as mkntfs makes it. */
function runOf(record: Buffer): bigint {
  let at = record.readUInt16LE(0x14);
  while (record.readUInt32LE(at) !== 0x80) at += record.readUInt32LE(at + 4);
  const list = record.subarray(at + record.readUInt16LE(at + 32));
  return BigInt(list.readUIntLE(1 + (list[0]! & 15), list[0]! >> 4));
}

t.test('mirrors that differ are reported', { skip }, async (t) => {
  const file = await made('mirror');
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  disk.flip(BigInt(placesOf(file).mirror + 3 * RECORD + 0x50), 1);
  const restored = disk.run(
    ntfs.restore(disk.bytes, new Map(Object.entries({ serial: TARGET, label: 'x' }))),
  );
  t.match(restored, { written: ['serial'], unsupported: [{ field: 'label', reason: /mirror differ/ }] });
});

t.test('damage: a volume larger than the disk; other values that lead outside', { skip }, async (t) => {
  const file = await made('damaged');
  const disk = new Overlay(file);
  t.teardown(() => disk.close());
  t.throws(() => disk.run(ntfs.detect(4n * BigInt(MIB))), { code: 'identity-damaged', message: /sectors/ });
  disk.put(0x30n, Uint8Array.of(0xff, 0xff, 0xff));
  t.throws(() => disk.run(ntfs.detect(disk.bytes)), {
    code: 'identity-damaged',
    message: /master file table/,
  });
});

t.test('malformed values are refused', { skip }, async (t) => {
  const file = await made('malformed');
  const before = readFileSync(file);
  t.throws(() => restoreIn(file, ntfs, { serial: '12' }), { code: 'identity-invalid' });
  t.throws(() => restoreIn(file, ntfs, { serial: TARGET, label: 'x'.repeat(129) }), {
    code: 'identity-invalid',
  });
  t.ok(readFileSync(file).equals(before));
});

t.test('noise', { skip }, async (t) => {
  const file = await made('noise');
  t.comment(cost(file, ntfs, { serial: TARGET, label: 'x' }));
  survivesNoise(t, ntfs, file, { serial: TARGET, label: 'x' });
  const magics: [number, string][] = [
    [3, 'NTFS    \0\x02\x08'],
    [510, '\x55\xaa'],
  ];
  survivesRandomBytes(t, ntfs, blank(join(folder, 'zeros'), MIB), magics);
});
