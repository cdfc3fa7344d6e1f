// What the walker finds on a disk: the table, what is in each partition or on the bare disk, and who has an area that two kinds claim.

import { ok } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { byClaim, inspectDisk, MAX_PARTITIONS } from '../../../src/identity/disk.js';
import { restoreDisk } from '../../../src/identity/disk-restore.js';
import type { Kind } from '../../../src/identity/kind.js';
import { readAt } from '../../../src/identity/steps.js';
import { fakeBytes, fakeKind, type MadePartition, makeGpt } from '../../support/identity-fake.js';
import { codeOf, differingSectors, MemoryDisk } from '../../support/identity-memory.js';
import { replay } from '../../support/replay.js';

const MIB = 1 << 20;
const LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4';
const GUID = '01234567-89AB-4CDE-8F01-23456789ABCD';
const UUID = '01234567-89ab-4cde-8f01-23456789abcd';
const OTHER = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';
const KINDS: readonly Kind[] = [fakeKind('swap', 0n), fakeKind('ext', 1024n), fakeKind('md', 4096n)];

function partition(index: number): MadePartition {
  return { first: 2048 + index * 64, sectors: 64, type: LINUX, guid: GUID, name: `p${index}` };
}

function gptDisk(partitions: readonly MadePartition[], bytes = 4 * MIB): Buffer {
  const disk = Buffer.alloc(bytes);
  makeGpt(disk, GUID, partitions);
  return disk;
}

function put(disk: Buffer, at: number, family: string, uuid = UUID, label = 'x'): void {
  const inside = { swap: 0, ext: 1024, md: 4096 }[family] ?? 0;
  fakeBytes(family, { uuid, label }).copy(disk, at + inside);
}

function inspect(content: Buffer, kinds = KINDS) {
  const disk = new MemoryDisk(content);
  return disk.run(inspectDisk(disk.bytes, kinds));
}

const shown = (content: Buffer): string[] =>
  inspect(content).parts.map(({ title, family, place }) => `${title} ${family} ${place}`);

t.test('a bare disk holds one thing, or nothing', async (t) => {
  const disk = Buffer.alloc(MIB);
  t.strictSame(inspect(disk), { bytes: BigInt(MIB), bootable: null, parts: [], damaged: [], notes: [] });
  put(disk, 0, 'ext');
  t.strictSame(shown(disk), ['disk ext disk']);
});

t.test('partitions are looked into, in their own bounds', async (t) => {
  const disk = gptDisk([partition(0), partition(1), { ...partition(2), sectors: 2 }]);
  put(disk, 2048 * 512, 'swap');
  put(disk, 2112 * 512, 'ext');
  put(disk, 2176 * 512, 'ext'); // its superblock would lie behind the end of this partition
  t.strictSame(shown(disk), [
    'disk gpt disk',
    `partition 1 swap 2048:${LINUX}`,
    `partition 2 ext 2112:${LINUX}`,
  ]);
  t.equal(inspect(disk).parts[2]?.at, 2112n * 512n);
});

t.test('of two kinds in an area the strongest claim is taken and the other one named', async (t) => {
  const disk = gptDisk([partition(0)]);
  put(disk, 2048 * 512, 'swap', OTHER);
  put(disk, 2048 * 512, 'ext');
  const found = inspect(disk);
  t.strictSame(
    found.parts.map(({ family }) => family),
    ['gpt', 'ext'],
  );
  t.match(
    found.notes.join(),
    `On partition 1, ext4 was taken; swap4 (uuid ${OTHER}, label x) was found as well`,
  );
  put(disk, 2048 * 512, 'md');
  t.strictSame(shown(disk)[1], `partition 1 md 2048:${LINUX}`);
  t.strictSame(
    byClaim(KINDS).map(({ name }) => name),
    ['md', 'ext', 'swap'],
  );
});

t.test('the one that is not taken is never written', async (t) => {
  const content = gptDisk([partition(0)]);
  put(content, 2048 * 512, 'swap', OTHER);
  put(content, 2048 * 512, 'ext');
  const before = Buffer.from(content);
  const disk = new MemoryDisk(content);
  const place = `2048:${LINUX}`;
  const wanted = [
    { place, family: 'ext', field: 'uuid', value: OTHER },
    { place, family: 'swap', field: 'uuid', value: UUID },
  ];
  const { parts, missing } = disk.run(restoreDisk(disk.bytes, KINDS, wanted));
  t.strictSame(
    parts.map(({ family }) => family),
    ['ext', 'gpt'],
  );
  t.strictSame(missing, [wanted[1]]);
  t.strictSame(differingSectors(before, content), [2050]);
});

t.test('a table with partitions comes before a file system of the whole disk', async (t) => {
  const disk = gptDisk([partition(0)]);
  put(disk, 0, 'md', OTHER);
  const found = inspect(disk);
  t.strictSame(
    found.parts.map(({ family }) => family),
    ['gpt'],
  );
  t.match(found.notes.join(), `On disk, gpt was taken; md4 (uuid ${OTHER}`);
});

t.test('a table without partitions gives way to a file system, and is never written', async (t) => {
  const disk = Buffer.alloc(MIB);
  disk.writeUInt16BE(0x55aa, 510);
  disk.writeUInt32LE(0x1234, 0x1b8);
  t.strictSame(shown(disk), ['disk mbr disk']);
  put(disk, 0, 'ext');
  t.strictSame(shown(disk), ['disk ext disk']);
  t.match(inspect(disk).notes.join(), /ext4 was taken; mbr/);
  const memory = new MemoryDisk(disk);
  memory.run(
    restoreDisk(memory.bytes, KINDS, [
      { place: 'disk', family: 'mbr', field: 'signature', value: '00000001' },
    ]),
  );
  t.equal(disk.readUInt32LE(0x1b8), 0x1234);
});

t.test('damage is said and does not hide the rest', async (t) => {
  const disk = gptDisk([partition(0), partition(1)]);
  put(disk, 2048 * 512, 'ext');
  put(disk, 2112 * 512, 'ext');
  disk[2048 * 512 + 1024 + 20]! ^= 1;
  const found = inspect(disk);
  t.strictSame(
    found.parts.map(({ title }) => title),
    ['disk', 'partition 2'],
  );
  t.strictSame(found.damaged, [
    {
      place: `2048:${LINUX}`,
      title: 'partition 1',
      family: 'ext',
      reason: 'The sum of the fake ext is wrong.',
    },
  ]);
  put(disk, 2048 * 512, 'swap');
  const over = inspect(disk);
  t.strictSame(over.damaged, [], 'what was left behind is no damage');
  t.match(over.notes.join(), /On partition 1, swap4 was taken. The sum of the fake ext/);
});

t.test('a GPT of which both copies are bad is damage', async (t) => {
  const disk = gptDisk([partition(0)]);
  disk[512 + 60]! ^= 1;
  disk[disk.length - 512 + 60]! ^= 1;
  put(disk, 0, 'md');
  const { parts, damaged } = inspect(disk);
  t.strictSame(parts, []);
  t.match(damaged[0]?.reason, /both copies/i);
  const memory = new MemoryDisk(disk);
  t.strictSame(memory.run(restoreDisk(memory.bytes, KINDS, [])).parts, []);
});

t.test('overlapping partitions and too many of them are left out with a note', async (t) => {
  const disk = gptDisk([partition(0), { ...partition(0), first: 2050 }, partition(1)]);
  t.match(inspect(disk).notes.join(), /Partition 2 overlaps partition 1/);
  const logical = mbrWithLogical(300);
  const looked: bigint[] = [];
  const counting: Kind = {
    ...fakeKind('ext', 0n),
    *detect(bytes) {
      looked.push(bytes);
      yield* readAt(0n, 1);
      return null;
    },
  };
  const { parts } = inspect(logical, [counting]);
  t.match(parts[0]?.found.notes.join(), /more than 128 links/);
  t.ok(looked.length <= MAX_PARTITIONS + 1);
  t.equal(looked.length, 128 + 1);
});

/** One extended partition with so many logical ones of one sector. */
function mbrWithLogical(count: number): Buffer {
  const disk = Buffer.alloc(MIB);
  const entry = (at: number, slot: number, type: number, start: number, sectors: number): void => {
    disk[at * 512 + 446 + slot * 16 + 4] = type;
    disk.writeUInt32LE(start, at * 512 + 446 + slot * 16 + 8);
    disk.writeUInt32LE(sectors, at * 512 + 446 + slot * 16 + 12);
    disk.writeUInt16BE(0x55aa, at * 512 + 510);
  };
  entry(0, 0, 5, 2, 2000);
  for (let index = 0; index < count; index++) {
    entry(2 + index * 2, 0, 0x83, 1, 1);
    if (index + 1 < count) entry(2 + index * 2, 1, 5, (index + 1) * 2, 2);
  }
  return disk;
}

t.test('random bytes in the places that matter never make it throw', async (t) => {
  const start = gptDisk([partition(0), partition(1)]);
  put(start, 2048 * 512, 'swap');
  put(start, 2112 * 512, 'ext');
  const spots = [446, 450, 454, 458, 510, 520, 524, 560, 572, 592, 596, 600, 1024, 1040, 1056, 1064, 1080];
  const flips = fc.array(fc.tuple(fc.constantFrom(...spots), fc.nat({ max: 255 })), { maxLength: 6 });
  fc.assert(
    fc.property(flips, (changes) => {
      const disk = new MemoryDisk(Buffer.from(start));
      for (const [at, value] of changes) disk.content[at] = value;
      ok(codeOf(() => disk.run(inspectDisk(disk.bytes, KINDS))) === null);
      ok(codeOf(() => disk.run(restoreDisk(disk.bytes, KINDS, []))) === null);
    }),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
  t.pass('every disk');
});
