// The digest is what docs/coordinator-protocol.md says, worked out here by hand; the size of windows is no part of it.

import { createHash, randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { CopyEnd, freshVolume, pullOf } from '../../support/copy-scene.js';

const MIB = 1 << 20;
const BLOCK = 4096;

function digestOf(content: Buffer, ranges: readonly [number, number][]): { sha256: string; bytes: string } {
  const hash = createHash('sha256');
  let sum = 0;
  for (const [offset, length] of ranges) {
    const head = Buffer.alloc(16);
    head.writeBigUInt64BE(BigInt(offset), 0);
    head.writeBigUInt64BE(BigInt(length), 8);
    hash.update(head).update(content.subarray(offset, offset + length));
    sum += length;
  }
  return { sha256: hash.digest('hex'), bytes: String(sum) };
}

async function begin(t: Test, windowBytes: number): Promise<CopyEnd> {
  const end = new CopyEnd({ windowBytes });
  await end.start(null);
  t.teardown(async () => {
    await end.end();
    end.remove();
  });
  return end;
}

t.test('ranges are joined, cut at multiples of 1 MiB, and come with their places', async (t) => {
  const end = await begin(t, 64 << 10);
  const size = 3 * MIB + 100;
  const content = Buffer.alloc(size);
  const write = async (offset: number, length: number) => {
    const bytes = randomBytes(length);
    bytes.copy(content, offset);
    await end.write('f', offset, bytes);
  };
  await end.operations.createFile('f', { sizeBytes: BigInt(size) });
  await write(2 * BLOCK, BLOCK);
  await write(MIB - 3 * BLOCK, 8 * BLOCK);
  await write(size - 50, 50);
  await end.operations.createSnapshots([{ volume: 'f', snapshot: 'a' }]);
  const [a] = end.snapshotsOf('f');
  const wholeOfA: [number, number][] = [
    [2 * BLOCK, BLOCK],
    [MIB - 3 * BLOCK, 3 * BLOCK],
    [MIB, 5 * BLOCK],
    [3 * MIB, 100],
  ];
  t.strictSame(await end.copies.digest('', { snapshot: a!.id, since: null }), digestOf(content, wholeOfA));

  // Data beside what has become zero, over the border of two windows and of two pieces.
  await write(MIB - 64 * 1024 - BLOCK, BLOCK);
  await end.zero('f', MIB - 3 * BLOCK, 5 * BLOCK);
  content.fill(0, MIB - 3 * BLOCK, MIB + 2 * BLOCK);
  await end.zero('f', 2 * MIB, BLOCK);
  await write(MIB + 2 * BLOCK, BLOCK);
  await end.operations.createSnapshots([{ volume: 'f', snapshot: 'b' }]);
  const b = end.snapshotsOf('f')[1]!;
  const sinceA: [number, number][] = [
    [MIB - 64 * 1024 - BLOCK, BLOCK],
    [MIB - 3 * BLOCK, 3 * BLOCK],
    [MIB, 3 * BLOCK],
  ];
  t.strictSame(
    await end.copies.digest('', { snapshot: b.id, since: a!.id }),
    digestOf(content, sinceA),
    'zeroing what was zero is no change',
  );
  t.strictSame(await end.copies.digest('', { snapshot: b.id, since: b.id }), digestOf(content, []));
  await t.rejects(end.copies.digest('', { snapshot: freshVolume(), since: null }), {
    code: 'snapshot-not-found',
  });
});

t.test('stores with windows of other sizes have the same', async (t) => {
  const one = await begin(t, 64 << 10);
  const two = await begin(t, 2 << 20);
  two.host.askDigest = (what) => one.copies.digest('', what);
  await one.operations.createVolume('v', { sizeBytes: BigInt(9 * MIB) });
  for (let turn = 0; turn < 6; turn++) {
    for (let write = 0; write < 20; write++)
      await one.write(
        'v',
        ((turn * 7919 + write * 104_729) % 2000) * BLOCK,
        randomBytes((write % 5) * BLOCK + 512),
      );
    await one.zero('v', turn * MIB, 300 * 1024);
    await one.operations.createSnapshots([{ volume: 'v', snapshot: `s${turn}` }]);
  }
  await two.copies.pull(freshVolume(), pullOf({ description: one.describe('v'), addresses: [one.listen()] }));
  t.match(await two.host.end(), { event: 'complete', through: { seq: 6 } });
  t.equal(two.copies.counts.mismatches, 0);
});
