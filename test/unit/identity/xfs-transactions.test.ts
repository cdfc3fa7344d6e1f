import fc from 'fast-check';
import t from 'tap';
import { LogRecord } from '../../../src/identity/xfs/record.js';
import { type SuperblockPatch, Transactions } from '../../../src/identity/xfs/transactions.js';
import { replay } from '../../support/replay.js';

const LOG = { at: 0n, blocks: 1 << 16, version: 2 } as const;
const BLOCK = 512;
const CYCLE = 7;
const TRANSACTION = 0x1234;
const OTHER = 0x5678;

const PATCHES: SuperblockPatch[] = [
  { at: 32, bytes: 16, change: (_, index) => 0xa0 + index },
  { at: 219, bytes: 1, change: (old) => old | 4 },
  { at: 248, bytes: 16, change: (_, index) => 0xc0 + index },
];

interface Operation {
  readonly id: number;
  readonly flags: number;
  readonly data: Buffer;
}

/** What the log holds of a buffer: its description, and the chunks of it that changed. */
function superblockItem(superblock: Buffer, chunks: readonly number[]): Buffer[] {
  const runs = runsOf(chunks);
  const format = Buffer.alloc(24);
  format.writeUInt16LE(0x123c, 0);
  format.writeUInt16LE(1 + runs.length, 2);
  format.writeUInt32LE(1, 16);
  format.writeUInt32LE(
    chunks.reduce((bits, chunk) => bits | (1 << chunk), 0),
    20,
  );
  return [format, ...runs.map(([first, end]) => superblock.subarray(first * 128, end * 128))];
}

function runsOf(chunks: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const chunk of chunks) {
    const last = runs.at(-1);
    if (last?.[1] === chunk) last[1]++;
    else runs.push([chunk, chunk + 1]);
  }
  return runs;
}

function inodeItem(): Buffer[] {
  const format = Buffer.alloc(56);
  format.writeUInt16LE(0x123b, 0);
  format.writeUInt16LE(2, 2);
  return [format, Buffer.alloc(176, 0x49)];
}

function operationsOf(id: number, items: Buffer[][]): Operation[] {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(0x5452414e, 0);
  const regions = [header, ...items.flat()].map((data) => ({ id, flags: 0, data }));
  const nothing = Buffer.alloc(0);
  return [{ id, flags: 1, data: nothing }, ...regions, { id, flags: 2, data: nothing }];
}

/** As the log splits what does not fit: after `cut` bytes, in units of four. */
function split({ id, flags, data }: Operation, cut: number): [Operation, Operation] {
  const at = 4 * (1 + (cut % (data.length / 4 - 1)));
  return [
    { id, flags: flags | 0x04, data: data.subarray(0, at) },
    { id, flags: 0x08 | 0x10, data: data.subarray(at) },
  ];
}

function recordOf(operations: readonly Operation[]): LogRecord {
  const payload = Buffer.concat(
    operations.flatMap(({ id, flags, data }) => {
      const header = Buffer.alloc(12);
      header.writeUInt32BE(id, 0);
      header.writeUInt32BE(data.length, 4);
      header[8] = 0x69;
      header[9] = flags;
      return [header, data];
    }),
  );
  const blocks = Math.ceil(payload.length / BLOCK);
  const raw = Buffer.alloc((1 + blocks) * BLOCK);
  raw.writeUInt32BE(0xfeedbabe, 0);
  raw.writeUInt32BE(CYCLE, 4);
  raw.writeUInt32BE(2, 8);
  raw.writeUInt32BE(blocks * BLOCK, 12);
  raw.writeUInt32BE(operations.length, 40);
  raw.writeUInt32BE(32768, 320);
  payload.copy(raw, BLOCK);
  for (let block = 0; block < blocks; block++) {
    raw.copy(raw, 44 + block * 4, (1 + block) * BLOCK, (1 + block) * BLOCK + 4);
    raw.writeUInt32BE(CYCLE, (1 + block) * BLOCK);
  }
  return new LogRecord(LOG, raw);
}

/** The data of one transaction's operations, in a row. */
function dataIn(records: readonly LogRecord[], wanted: number): Buffer {
  const parts: Buffer[] = [];
  for (const record of records) {
    const payload = record.payload();
    for (let left = record.header.operations, at = 0; left > 0; left--) {
      const bytes = payload.readUInt32BE(at + 4);
      if (payload.readUInt32BE(at) === wanted) parts.push(payload.subarray(at + 12, at + 12 + bytes));
      at += 12 + bytes;
    }
  }
  return Buffer.concat(parts);
}

function patched(superblock: Buffer): Buffer {
  const copy = Buffer.from(superblock);
  for (const { at, bytes, change } of PATCHES)
    for (let index = 0; index < bytes; index++) copy[at + index] = change(copy[at + index]!, index);
  return copy;
}

const superblocks = fc.uint8Array({ minLength: 512, maxLength: 512 }).map((bytes) => Buffer.from(bytes));

t.test('a superblock in the log is changed wherever its parts lie, and nothing else', async (t) => {
  const cases = fc.record({
    superblock: superblocks,
    chunks: fc.constantFrom<number[]>([0, 1, 2], [0], [1, 2], [0, 2], [2], [0, 1]),
    before: fc.nat(6),
    cuts: fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 4 }),
    borders: fc.array(fc.nat(), { maxLength: 4 }),
    between: fc.boolean(),
  });
  fc.assert(
    fc.property(cases, ({ superblock, chunks, before, cuts, borders, between }) => {
      const inodes = Array.from({ length: before }, inodeItem);
      const items = (content: Buffer) => [...inodes, superblockItem(content, chunks), inodeItem()];
      const operations = operationsOf(TRANSACTION, items(superblock));
      for (const [which, cut] of cuts) {
        const index = which % operations.length;
        if (operations[index]!.flags === 0 && operations[index]!.data.length > 4)
          operations.splice(index, 1, ...split(operations[index]!, cut));
      }
      const foreign = operationsOf(OTHER, [inodeItem()]);
      if (between) operations.splice(2, 0, ...foreign);
      const ends = [...borders.map((border) => border % operations.length), operations.length].sort(
        (a, b) => a - b,
      );
      const records = ends
        .map((end, index) => operations.slice(index === 0 ? 0 : ends[index - 1], end))
        .filter((part) => part.length > 0)
        .map(recordOf);
      const transactions = new Transactions(PATCHES, (block) => block === 0n);
      for (const record of records) transactions.take(record);
      const expected = Buffer.concat(
        operationsOf(TRANSACTION, items(patched(superblock))).map(({ data }) => data),
      );
      const cycles = records.every(({ raw }) => raw.readUInt32BE(BLOCK) === CYCLE);
      const counted = !chunks.includes(0) || transactions.groups === superblock.readUInt32BE(88);
      return cycles && counted && transactions.copies === 1 && dataIn(records, TRANSACTION).equals(expected);
    }),
    replay({ quick: 300, normal: 1500, long: 50_000 }),
  );
  t.pass('every split');
});

t.test('what replay would not follow is refused', async (t) => {
  const take = (...operations: Operation[]) =>
    new Transactions(PATCHES, () => true).take(recordOf(operations));
  const [start, header] = operationsOf(TRANSACTION, []) as [Operation, Operation];
  const item = (type: number, regions: number): Operation => {
    const data = Buffer.alloc(24);
    data.writeUInt16LE(type, 0);
    data.writeUInt16LE(regions, 2);
    return { id: TRANSACTION, flags: 0, data };
  };
  t.throws(
    () => take(start, header, item(0x1250, 1)),
    /item of kind 0x1250 with 1 regions, which is not known/,
  );
  t.throws(() => take(start, header, item(0x123b, 0)), /with 0 regions/);
  t.throws(() => take(start, item(0x123b, 1)), /without its header/);
  t.throws(() => take(start, start), /flags 0x1/);
  t.doesNotThrow(() => take(header, item(0x1250, 1)), 'a transaction that began before the live part');
});
