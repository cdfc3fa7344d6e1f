import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { CellblockError } from '../../../src/base/errors.js';
import { xfs } from '../../../src/identity/xfs/xfs.js';
import { must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';
import {
  blkid,
  churn,
  copyOf,
  crash,
  detectIn,
  MemoryDisk,
  makeXfs,
  mountXfs,
  repairFinds,
  restoreIn,
  treeOf,
  withoutMounts,
  withoutTools,
} from '../../support/xfs-images.js';

/** New in each run: a kernel that replayed a foreign UUID over one that it had mounted keeps that one taken until it is started again. */
const WANTED = { uuid: randomUUID(), label: 'target' };
const WANTED_START = WANTED.uuid.slice(0, 8);
const ONE_UUID = new RegExp(`^UUID = ${WANTED.uuid}\\n$`);
const OTHER = 'a3b7c1d2-0000-4000-8000-00000000beef';
const SECTOR = 512;

function values(image: string): Record<string, string> {
  return Object.fromEntries(detectIn(image, xfs)?.fields.map(({ name, value }) => [name, value]) ?? []);
}

interface Layout {
  readonly groups: number;
  readonly groupBytes: number;
  readonly logAt: number;
  readonly logBytes: number;
}

/** Of the superblock on the disk, for comparisons. */
function layoutOf(image: Buffer): Layout {
  const blockBytes = image.readUInt32BE(4);
  const groupBlocks = image.readUInt32BE(84);
  const start = image.readBigUInt64BE(48);
  const bits = BigInt(image.readUInt8(124));
  const block = Number(start >> bits) * groupBlocks + Number(start & ((1n << bits) - 1n));
  return {
    groups: image.readUInt32BE(88),
    groupBytes: groupBlocks * blockBytes,
    logAt: block * blockBytes,
    logBytes: image.readUInt32BE(96) * blockBytes,
  };
}

/** Sectors that differ, but for those of superblocks, as places in the log in blocks; null for one outside. */
function differences(before: Buffer, after: Buffer): (number | null)[] {
  const { groupBytes, logAt, logBytes } = layoutOf(before);
  const found: (number | null)[] = [];
  for (let at = 0; at < before.length; at += SECTOR) {
    if (at % groupBytes === 0 || before.compare(after, at, at + SECTOR, at, at + SECTOR) === 0) continue;
    found.push(at >= logAt && at < logAt + logBytes ? (at - logAt) / SECTOR : null);
  }
  return found;
}

function setLabel(folder: string, label: string): Promise<string> {
  return must('xfs_io', ['-c', `label -s ${label}`, folder]);
}

/** Source and restored target, both replayed and mounted at the same time, which the kernel allows only with two UUIDs. */
async function assertSameReplay(t: Test, source: string, target: string): Promise<void> {
  const label = values(source).label;
  const [first, second] = [await mountXfs(t, source), await mountXfs(t, target)];
  t.strictSame(treeOf(second.folder), treeOf(first.folder), 'the same files');
  await first.unmount();
  await second.unmount();
  t.equal(await repairFinds(target), null, 'xfs_repair -n');
  t.strictSame(await blkid(target), WANTED, 'the identity of the target after replay');
  t.strictSame(values(target), WANTED, 'as detect reads it');
  t.equal((await blkid(source)).label, label, 'the source keeps its own');
}

t.test('an emptied log: the superblocks and one block of the log', { skip: withoutTools() }, async (t) => {
  const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source']);
  const target = copyOf(source, `${source}-target`);
  const before = await blkid(source);
  t.strictSame(values(source), before, 'as blkid reads it');
  const restored = restoreIn(target, xfs, WANTED);
  t.match(restored, { written: ['uuid', 'label'], unsupported: [], notes: [] });
  t.comment(restored.bytes);
  t.strictSame(await blkid(target), WANTED);
  t.equal(await repairFinds(target), null, 'xfs_repair -n');
  t.strictSame(values(target), WANTED);
  t.strictSame(differences(readFileSync(source), readFileSync(target)), [0], 'the unmount record alone');
  t.match(await must('xfs_db', ['-r', '-c', 'uuid', target]), ONE_UUID, 'one UUID in every group');
  const once = readFileSync(target);
  t.match(restoreIn(target, xfs, WANTED).written, ['uuid', 'label']);
  t.ok(readFileSync(target).equals(once), 'nothing to change, nothing changed');
});

t.test('the same on the kernel, over and over', { skip: withoutMounts() }, async (t) => {
  const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source', '-l', 'size=1600b']);
  const first = await mountXfs(t, source);
  churn(`${first.folder}/files`, 200);
  await first.unmount();
  const target = copyOf(source, `${source}-target`);
  restoreIn(target, xfs, { ...WANTED, uuid: OTHER });
  restoreIn(target, xfs, WANTED);
  await assertSameReplay(t, source, target);
  const { uuid } = await blkid(source);
  restoreIn(target, xfs, { uuid, label: 'source' });
  t.strictSame(await blkid(target), { uuid, label: 'source' }, 'and back to what it was');
  await (await mountXfs(t, target)).unmount();
  t.equal(await repairFinds(target), null);
});

t.test('a log that is to be replayed and has gone round', { skip: withoutMounts() }, async (t) => {
  const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source', '-l', 'size=4608b,su=256k'], 96);
  const mounted = await mountXfs(t, source, 'noatime,logbsize=256k');
  // Every flush takes 256 KiB of such a log, and 72 of them a whole one.
  for (let flush = 0; flush < 68; flush++) writeFileSync(`${mounted.folder}/${flush}`, 'x', { flush: true });
  for (let round = 0; round < 6; round++) {
    churn(`${mounted.folder}/many-${round}`, 300 + round);
    await setLabel(mounted.folder, `inlog${round}`);
  }
  await crash(mounted);
  const records = liveRecords(readFileSync(source));
  t.ok(records.at(-1)! < records[0]!, 'it lies over the end of the ring');
  const target = copyOf(source, `${source}-target`);
  t.match(detectIn(source, xfs)?.notes, [/^The log of the XFS was not emptied: [\d.]+ KiB/]);
  const restored = restoreIn(target, xfs, WANTED);
  t.match(restored, { written: ['uuid', 'label'], unsupported: [] });
  t.match(restored.notes, [/: \d+ records with [1-9] copies of superblocks/]);
  t.comment(restored.notes[0], restored.bytes);
  t.notOk(differences(readFileSync(source), readFileSync(target)).includes(null), 'nothing outside');
  await assertSameReplay(t, source, target);
});

t.test('a file system that grew a moment before', { skip: withoutMounts() }, async (t) => {
  const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source', '-d', 'agcount=2', '-l', 'su=32k']);
  const mounted = await mountXfs(t, source);
  churn(`${mounted.folder}/files`, 50);
  await must('truncate', ['-s', '160M', source]);
  await must('losetup', ['-c', (await must('findmnt', ['-no', 'SOURCE', mounted.folder])).trim()]);
  await must('xfs_growfs', [mounted.folder]);
  await crash(mounted);
  const target = copyOf(source, `${source}-target`);
  const { groups, groupBytes } = layoutOf(readFileSync(target));
  t.equal(groups, 2, 'the disk does not know of it yet');
  restoreIn(target, xfs, WANTED);
  const image = readFileSync(target);
  const uuids = [0, 1, 2, 3, 4].map((group) =>
    image.subarray(group * groupBytes + 32, group * groupBytes + 36),
  );
  t.strictSame(
    uuids.map((uuid) => uuid.toString('hex')),
    Array(5).fill(WANTED_START),
    'new groups too',
  );
  await assertSameReplay(t, source, target);
});

t.test(
  'a frozen file system: the log holds a superblock and little else',
  { skip: withoutMounts() },
  async (t) => {
    const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source', '-s', 'size=4096']);
    const mounted = await mountXfs(t, source);
    churn(`${mounted.folder}/files`, 50);
    await must('fsfreeze', ['-f', mounted.folder]);
    const frozen = copyOf(source, `${source}-frozen`);
    await must('fsfreeze', ['-u', mounted.folder]);
    await mounted.unmount();
    const target = copyOf(frozen, `${source}-target`);
    t.match(restoreIn(target, xfs, WANTED).notes, [/: [12] records with [12] copies/]);
    await assertSameReplay(t, frozen, target);
  },
);

t.test('damage in a log that is to be replayed', { skip: withoutMounts() }, async (t) => {
  const source = await makeXfs(`${t.testdir()}/source`, ['-L', 'source', '-l', 'size=1368b']);
  const mounted = await mountXfs(t, source);
  churn(`${mounted.folder}/files`, 900);
  await must('sync', ['-f', mounted.folder]);
  for (let file = 0; file < 12; file++) {
    churn(`${mounted.folder}/${file}`, 20);
    await must('xfs_io', ['-c', 'fsync', mounted.folder]);
  }
  await crash(mounted);
  const image = readFileSync(source);
  const records = liveRecords(image);

  await t.test('the last record is torn: the kernel ends the log before it', async (t) => {
    const torn = `${t.testdir()}/source`;
    writeFileSync(torn, image);
    flip(torn, records.at(-1)! + 2 * SECTOR + 100);
    const target = copyOf(torn, `${torn}-target`);
    t.match(restoreIn(target, xfs, WANTED), { written: ['uuid', 'label'], unsupported: [] });
    const last = readFileSync(target).subarray(records.at(-1)! + 304, records.at(-1)! + 308);
    t.equal(last.toString('hex'), WANTED_START, 'whose header the kernel compares all the same');
    await assertSameReplay(t, torn, target);
  });

  await t.test('an earlier record is damaged: nothing is written', async (t) => {
    const target = path.join(t.testdir(), 'target');
    writeFileSync(target, image);
    flip(target, records[1]! + 2 * SECTOR + 100);
    const before = readFileSync(target);
    const restored = restoreIn(target, xfs, WANTED);
    t.strictSame(restored.written, []);
    t.match(restored.unsupported, [
      { field: 'uuid', reason: /"[0-9a-f-]{36}".*its log has a damaged record/ },
      { field: 'label' },
    ]);
    t.ok(readFileSync(target).equals(before));
  });

  await t.test('any change of bytes in it: restored or refused, and never half', async (t) => {
    const disk = new MemoryDisk(image);
    const { logAt } = layoutOf(image);
    const places = records.slice(-6).map((at) => at - logAt);
    const flips = fc.array(
      fc.tuple(fc.constantFrom(0, ...places), fc.nat(3000), fc.integer({ min: 1, max: 255 })),
      { minLength: 1, maxLength: 4 },
    );
    fc.assert(
      fc.property(flips, (chosen) => {
        for (const [place, offset, mask] of chosen) {
          const at = logAt + place + offset;
          disk.put(at, Buffer.from([disk.image[at]! ^ mask]));
        }
        disk.run(xfs.detect(BigInt(image.length)));
        const { written, unsupported } = disk.run(
          xfs.restore(BigInt(image.length), new Map(Object.entries(WANTED))),
        );
        const untouched = disk.writes.length === 0;
        disk.reset();
        return written.length === 2 ? unsupported.length === 0 : unsupported.length === 2 && untouched;
      }),
      replay({ quick: 20, normal: 60, long: 3000 }),
    );
    t.pass('every change');
  });
});

/** Places of the headers of the newest cycle and the one before, in the order of the log. */
function liveRecords(image: Buffer): number[] {
  const { logAt, logBytes } = layoutOf(image);
  const headers: { at: number; lsn: bigint; tail: bigint }[] = [];
  for (let at = logAt; at < logAt + logBytes; at += SECTOR)
    if (image.readUInt32BE(at) === 0xfeedbabe)
      headers.push({ at, lsn: image.readBigUInt64BE(at + 16), tail: image.readBigUInt64BE(at + 24) });
  headers.sort((a, b) => (a.lsn < b.lsn ? -1 : 1));
  return headers.filter(({ lsn }) => lsn >= headers.at(-1)!.tail).map(({ at }) => at);
}

function flip(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at]! ^= 0xff;
  writeFileSync(file, bytes);
}

t.test('version 4 carries its UUID in superblocks and log alone', { skip: withoutTools() }, async (t) => {
  for (const log of ['version=1', 'version=2,su=32k']) {
    const target = await makeXfs(`${t.testdir()}/target`, ['-m', 'crc=0', '-L', 'source', '-l', log]);
    t.match(restoreIn(target, xfs, WANTED), { written: ['uuid', 'label'], unsupported: [] });
    t.strictSame(await blkid(target), WANTED);
    t.equal(await repairFinds(target), null);
    t.match(await must('xfs_db', ['-r', '-c', 'uuid', target]), ONE_UUID);
  }
  const dirty = await makeXfs(`${t.testdir()}/target`, ['-m', 'crc=0', '-l', 'version=1']);
  const image = readFileSync(dirty);
  image[layoutOf(image).logAt + SECTOR + 9] = 0;
  writeFileSync(dirty, image);
  t.match(restoreIn(dirty, xfs, WANTED), { written: [], unsupported: [{ reason: /version 5/ }, {}] });
  t.ok(readFileSync(dirty).equals(image), 'a log to be replayed is left');
});

t.test('what is not touched is said', { skip: withoutTools() }, async (t) => {
  const folder = t.testdir();
  await must('truncate', ['-s', '64M', `${folder}/log`]);
  const target = await makeXfs(`${folder}/target`, ['-l', `logdev=${folder}/log,size=1600b`]);
  const before = readFileSync(target);
  t.match(detectIn(target, xfs)?.unsupported, [
    { field: 'uuid', reason: /log lies on another device/ },
    { field: 'label' },
  ]);
  t.match(restoreIn(target, xfs, WANTED), {
    written: [],
    unsupported: [{ field: 'uuid' }, { field: 'label' }],
  });
  t.ok(readFileSync(target).equals(before));

  const nil = { ...WANTED, uuid: '00000000-0000-0000-0000-000000000000' };
  await makeXfs(target, []);
  t.match(restoreIn(target, xfs, nil), { written: [], unsupported: [{ reason: /UUID of zeros/ }, {}] });
  flip(target, 2 * layoutOf(readFileSync(target)).groupBytes + 300);
  const notes = [/groups 2 are damaged and were left/];
  t.match(restoreIn(target, xfs, WANTED), { written: ['uuid', 'label'], notes });
});

t.test('values that XFS cannot hold', async (t) => {
  const disk = new MemoryDisk(Buffer.alloc(4096));
  for (const wanted of [
    { label: 'thirteen byte' },
    { label: 'nul\0' },
    { label: '\ud800' },
    { uuid: 'none' },
  ])
    t.throws(() => disk.run(xfs.restore(4096n, new Map(Object.entries(wanted)))), {
      code: 'identity-invalid',
    });
  t.strictSame(disk.run(xfs.restore(4096n, new Map(Object.entries(WANTED)))).written, []);
});

function allowed(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    if (error instanceof CellblockError && error.code === 'identity-damaged') return null;
    throw error;
  }
}

t.test('bytes of every kind: an answer or damage, nothing else', { skip: withoutTools() }, async (t) => {
  const image = readFileSync(await makeXfs(`${t.testdir()}/image`, ['-m', 'crc=0', '-l', 'size=1600b'], 32));
  const disk = new MemoryDisk(image);
  const bytes = BigInt(image.length);
  const map = new Map(Object.entries(WANTED));
  const { logAt } = layoutOf(image);
  const flips = fc.array(
    fc.tuple(fc.constantFrom(0, logAt, logAt + SECTOR), fc.nat(400), fc.integer({ min: 1, max: 255 })),
    { minLength: 1, maxLength: 5 },
  );
  fc.assert(
    fc.property(flips, (chosen) => {
      for (const [place, offset, mask] of chosen)
        disk.put(place + offset, Buffer.from([image[place + offset]! ^ mask]));
      allowed(() => disk.run(xfs.detect(bytes)));
      allowed(() => disk.run(xfs.restore(bytes, map)));
      disk.reset();
    }),
    replay({ quick: 200, normal: 600, long: 20_000 }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.boolean(), (noise, magic) => {
      const disk = new MemoryDisk(Buffer.from(noise));
      if (magic && noise.length > 4) disk.put(0, Buffer.from('XFSB'));
      const found = allowed(() => disk.run(xfs.detect(BigInt(noise.length))));
      return found === null;
    }),
    replay({ quick: 100, normal: 300, long: 5000 }),
  );
  t.pass('every change');
});
