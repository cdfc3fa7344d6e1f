// BLOCK_STATUS over ranges of any size: what several contexts say comes out as one list that covers every byte once.

import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { ProtocolViolation } from '../../../src/nbd-client/handshake.js';
import { tile } from '../../../src/nbd-client/read-parts.js';
import { type StatusRange, statusWalk } from '../../../src/nbd-client/status-walk.js';
import { CHUNK, type Extent } from '../../../src/nbd-client/wire.js';
import { CopyEnd } from '../../support/copy-scene.js';

const CONTEXTS = ['a', 'b'];

async function all(walk: AsyncIterable<StatusRange[]>): Promise<StatusRange[]> {
  const ranges: StatusRange[] = [];
  for await (const page of walk) ranges.push(...page);
  return ranges;
}

t.test('whatever parts a server answers in', async (t) => {
  const extents = fc.array(fc.record({ lengthBytes: fc.integer({ min: 1, max: 40 }), flags: fc.nat(1) }), {
    minLength: 1,
    maxLength: 30,
  });
  const flagsOf = (list: readonly Extent[], size: number): number[] => {
    const flags = list.flatMap(({ lengthBytes, flags }) => Array.from({ length: lengthBytes }, () => flags));
    return Array.from({ length: size }, (_, at) => flags[at] ?? 0);
  };
  await fc.assert(
    fc.asyncProperty(extents, extents, fc.integer({ min: 1, max: 9 }), async (a, b, most) => {
      const sizeOf = (list: Extent[]) => list.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      const size = Math.min(sizeOf(a), sizeOf(b));
      const wanted = [flagsOf(a, size), flagsOf(b, size)];
      const source = {
        sizeBytes: BigInt(size),
        // Each context tells of another part, in extents of its own.
        blockStatus: async (offset: bigint) =>
          new Map(
            CONTEXTS.map((name, index) => {
              const list: Extent[] = [];
              for (let at = Number(offset); at < size && list.length < most + index; ) {
                let end = at + 1;
                while (end < size && wanted[index]![end] === wanted[index]![at] && end - at < 7 + index)
                  end++;
                list.push({ lengthBytes: end - at, flags: wanted[index]![at]! });
                at = end;
              }
              return [name, list];
            }),
          ),
      };
      const told = [...wanted.map(() => [] as number[])];
      let at = 0n;
      for (const { offset, length, flags } of await all(statusWalk(source, CONTEXTS, source.sizeBytes))) {
        if (offset !== at) throw new Error(`a gap at ${at}`);
        at += length;
        for (const [index, list] of told.entries())
          for (let byte = 0n; byte < length; byte++) list.push(flags[index]!);
      }
      t.strictSame(told, wanted);
    }),
    { numRuns: 100 },
  );
});

t.test('a volume of many times 4 GiB, and what has changed in it', async (t) => {
  const end = new CopyEnd();
  await end.start(null);
  t.teardown(async () => {
    await end.end();
    end.remove();
  });
  const size = 20 * 2 ** 30 + 4096;
  await end.operations.createVolume('v', { sizeBytes: BigInt(size) });
  await end.operations.createSnapshots([{ volume: 'v', snapshot: 'a' }]);
  await end.write('v', 9 * 2 ** 30, randomBytes(8192));
  await end.write('v', size - 4096, randomBytes(4096));
  await end.operations.createSnapshots([{ volume: 'v', snapshot: 'b' }]);
  const { NbdClient } = await import('../../../src/nbd-client/nbd-client.js');
  const contexts = ['base:allocation', 'qemu:dirty-bitmap:a'];
  const client = await NbdClient.connect({ address: end.listen(), exportName: 'v@b', contexts });
  const ranges = await all(statusWalk(client, contexts, client.sizeBytes));
  t.strictSame(
    ranges.filter(({ flags }) => flags[1] === 1),
    [
      { offset: BigInt(9 * 2 ** 30), length: 8192n, flags: [0, 1] },
      { offset: BigInt(size - 4096), length: 4096n, flags: [0, 1] },
    ],
  );
  const target = Buffer.alloc(16_384, 9);
  const parts = await client.readInto(BigInt(9 * 2 ** 30), target);
  t.strictSame(
    parts.map(({ kind, lengthBytes }) => ({ kind, lengthBytes })),
    [
      { kind: 'data', lengthBytes: 8192 },
      { kind: 'hole', lengthBytes: 8192 },
    ],
  );
  t.ok(target.subarray(8192).equals(Buffer.alloc(8192, 9)), 'where a hole is nothing is written');
  await client.disconnect();
});

t.test('chunks that do not say every byte once are none', async (t) => {
  const chunk = (offset: number, lengthBytes: number) => ({
    type: CHUNK.offsetData,
    offset: BigInt(offset),
    lengthBytes,
  });
  t.equal(tile([chunk(4, 4), chunk(0, 4)], 0n, 8).length, 2);
  for (const chunks of [
    [chunk(0, 4)],
    [chunk(0, 4), chunk(5, 3)],
    [chunk(0, 5), chunk(4, 4)],
    [chunk(0, 4), chunk(3, 4)],
    [chunk(0, 4), chunk(0, 4)],
    [],
  ])
    t.throws(() => tile(chunks, 0n, 8), ProtocolViolation);
});
