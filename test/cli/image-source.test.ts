// What an import reads: the data of a sparse file and nothing else, in order, exactly as long as the file was when it was opened.

import { closeSync, ftruncateSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import t from 'tap';
import { BufferPool } from '../../src/commands/buffer-pool.js';
import { formatOf, HEAD_BYTES } from '../../src/commands/image-format.js';
import { type ImageSource, openSource, type SourcePiece } from '../../src/commands/image-source.js';

const MIB = 1024 * 1024;
const never = new AbortController().signal;

async function* drain(source: ImageSource, pool = new BufferPool(8)): AsyncGenerator<SourcePiece> {
  for await (const piece of source.pieces(pool)) {
    yield piece;
    if (piece.type === 'data') pool.give(piece.buffer);
  }
}

/** The pieces as `hole 5`, `data 10`. */
async function shapeOf(source: ImageSource): Promise<string[]> {
  const shape: string[] = [];
  for await (const piece of drain(source)) {
    shape.push(piece.type === 'hole' ? `hole ${piece.lengthBytes}` : `data ${piece.bytes.length}`);
  }
  await source.close();
  return shape;
}

t.test('holes and data of a sparse file, cut at whole blocks', async (t) => {
  const path = join(t.testdir(), 'sparse.img');
  const file = openSync(path, 'w');
  ftruncateSync(file, 10 * MIB + 5);
  writeSync(file, Buffer.alloc(8192, 7), 0, 8192, 3 * MIB - 4096);
  writeSync(file, Buffer.alloc(1, 7), 0, 1, 8 * MIB + 1);
  closeSync(file);
  t.strictSame(await shapeOf(await openSource(path, Readable.from([]), never)), [
    `hole ${3 * MIB - 4096}`,
    'data 4096',
    'data 4096',
    `hole ${5 * MIB - 4096}`,
    'data 4096',
    `hole ${2 * MIB - 4096 + 5}`,
  ]);
});

t.test('a file that is one hole, and one that is all data', async (t) => {
  const directory = t.testdir();
  const path = join(directory, 'hole.img');
  writeFileSync(path, '');
  truncateSync(path, 2 ** 40);
  t.strictSame(await shapeOf(await openSource(path, Readable.from([]), never)), [`hole ${2 ** 40}`]);
  writeFileSync(path, Buffer.alloc(MIB + 3, 1));
  t.strictSame(await shapeOf(await openSource(path, Readable.from([]), never)), [`data ${MIB}`, 'data 3']);
});

t.test('a pipe: full pieces, whatever it was written in', async (t) => {
  const chunks = [Buffer.alloc(5, 1), Buffer.alloc(2 * MIB, 2), Buffer.alloc(7, 3)];
  const source = await openSource('-', Readable.from(chunks), never);
  const got: Buffer[] = [];
  const lengths: number[] = [];
  for await (const piece of drain(source)) {
    if (piece.type === 'hole') continue;
    lengths.push(piece.bytes.length);
    got.push(Buffer.from(piece.bytes));
  }
  t.strictSame(lengths, [MIB, MIB, 12]);
  t.ok(Buffer.concat(got).equals(Buffer.concat(chunks)));
});

t.test('a file that is cut short while it is read', async (t) => {
  const path = join(t.testdir(), 'shrinks.img');
  writeFileSync(path, Buffer.alloc(32 * MIB, 1));
  const source = await openSource(path, Readable.from([]), never);
  await t.rejects(
    async () => {
      for await (const _piece of drain(source)) truncateSync(path, MIB);
    },
    { message: 'became shorter while it was read', path },
  );
  await source.close();
});

t.test('closing ends the wait for a pipe that says nothing', async (t) => {
  const source = await openSource('-', new PassThrough(), never);
  const ended = t.rejects(shapeOf(source));
  await source.close();
  await ended;
});

t.test('what is no raw image is known by what it begins with', async (t) => {
  const at = (offset: number, bytes: string) =>
    Buffer.concat([Buffer.alloc(offset), Buffer.from(bytes, 'latin1')]);
  const known: [Buffer, string | undefined][] = [
    [at(0, 'QFI\xfb\0\0\0\x03'), 'qcow2'],
    [at(0, 'KDMV\x01'), 'VMDK'],
    [at(0, '# Disk DescriptorFile\nversion=1'), 'VMDK'],
    [at(0, 'vhdxfile'), 'VHDX'],
    [at(0, 'conectix'), 'VHD'],
    [at(0x40, '\x7f\x10\xda\xbe'), 'VDI'],
    [at(1, 'QFI\xfb'), undefined],
    [at(0, 'QFI'), undefined],
    [at(510, '\x55\xaa'), undefined],
    [Buffer.alloc(0), undefined],
  ];
  for (const [head, format] of known) t.equal(formatOf(head)?.format, format);
  const path = join(t.testdir(), 'short');
  writeFileSync(path, 'abc');
  const source = await openSource(path, Readable.from([]), never);
  t.same(await source.head(HEAD_BYTES), Buffer.from('abc'));
  t.strictSame(await shapeOf(source), ['data 3'], 'and is read from its begin afterwards');
  t.equal(await (await openSource('-', Readable.from(['x']), never)).head(HEAD_BYTES), null);
});
