// What a copy makes of a source that lies, hangs or is not there, and of what it is told that cannot be: a code and one sentence, and nothing listed.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Pull } from '../../../src/protocol/exchange.js';
import { CopyEnd, freshVolume, pullOf } from '../../support/copy-scene.js';
import { dataChunk, type Lies, lyingServer } from '../../support/lying-server.js';

const SIZE = 64 << 10;

const WHOLE = (_offset: bigint, length: number) => [[{ length, flags: 0 }]];
const DIGEST = { sha256: '0'.repeat(64), bytes: '0' };

async function receiver(t: Test, options: Parameters<CopyEnd['start']>[1] = {}): Promise<CopyEnd> {
  const end = new CopyEnd();
  await end.start(null, { giveUpMs: 0, ...options });
  end.host.askDigest = async () => DIGEST;
  t.teardown(async () => {
    await end.end();
    end.remove();
  });
  return end;
}

function described(changes: Partial<Pull['description']> = {}): Pull['description'] {
  const facts = {
    id: freshVolume(),
    seq: 1,
    hidden: false,
    name: 'a',
    sizeBytes: String(SIZE),
    created: '2026-01-01T00:00:00.000Z',
    expires: null,
    base: null,
  };
  return {
    name: 'v',
    kind: 'volume',
    sizeBytes: String(SIZE),
    attributes: null,
    allow: [],
    description: '',
    base: null,
    snapshots: [facts],
    more: false,
    ...changes,
  };
}

async function copyFrom(t: Test, end: CopyEnd, lies: Partial<Lies>): Promise<unknown> {
  const path = join(end.directory, `lies-${randomBytes(4).toString('hex')}.sock`);
  const address = await lyingServer(t, path, { sizeBytes: BigInt(SIZE), status: WHOLE, ...lies });
  await end.copies.pull(freshVolume(), pullOf({ description: described(), addresses: [address] }));
  const told = await end.host.end();
  t.equal(end.operations.listSnapshots().length, 0, 'nothing is listed');
  const [made] = end.operations.listVolumes();
  if (made) await end.operations.deleteVolume(made.name);
  return told;
}

t.test('a source that lies', async (t) => {
  const end = await receiver(t);
  const lies: [string, Partial<Lies>][] = [
    ['another size', { sizeBytes: BigInt(SIZE / 2) }],
    ['an export that can be written', { readOnly: false }],
    ['extents behind the end', { status: () => [[{ length: SIZE + 4096, flags: 0 }]] }],
    ['an extent of no length', { status: () => [[{ length: 0, flags: 0 }]] }],
    ['no extents', { status: () => [[]] }],
    ['another context', { status: () => [[{ length: SIZE, flags: 0 }], []].reverse() as never }],
    ['a read that leaves out a part', { read: (at, length) => [dataChunk(at, Buffer.alloc(length - 1))] }],
    ['a read of something else', { read: (at, length) => [dataChunk(at + 4096n, Buffer.alloc(length))] }],
    [
      'a read that says a part twice',
      {
        read: (at, length) => [
          dataChunk(at, Buffer.alloc(length / 2)),
          dataChunk(at, Buffer.alloc(length / 2)),
        ],
      },
    ],
    ['what is no chunk', { read: () => [{ type: 77, payload: Buffer.alloc(8) }] }],
  ];
  for (const [name, lie] of lies) {
    await t.test(name, async (t) => {
      const told = await copyFrom(t, end, lie);
      t.match(told, { event: 'failed', code: 'copy-source-wrong', message: /^The host one answers .+\.$/ });
    });
  }
  await t.test('other bytes than its digest is of', async (t) => {
    t.match(await copyFrom(t, end, {}), { event: 'failed', code: 'copy-mismatch' });
  });
});

t.test('a source that does not give it', async (t) => {
  const end = await receiver(t);
  const goError = { type: 0x80000006, sentence: 'There is no export named "v@a"' };
  t.match(await copyFrom(t, end, { goError }), {
    event: 'failed',
    code: 'copy-source-refuses',
    message: /There is no export named/,
  });
  t.match(await copyFrom(t, end, { contexts: [] }), { event: 'failed' });
});

t.test('a source that hangs is left when nothing comes for long, and tried again', async (t) => {
  const end = await receiver(t, { silenceMs: 60, giveUpMs: 150 });
  for (const [name, lie] of [
    ['BLOCK_STATUS', { status: () => null }],
    ['READ', { read: () => null }],
  ] as [string, Partial<Lies>][]) {
    let connections = 0;
    const told = await copyFrom(t, end, { ...lie, onConnection: () => connections++ });
    t.match(told, { event: 'failed', code: 'copy-source-unreachable', message: /silent/ }, name);
    t.ok(connections > 1, `${connections} tries`);
  }
});

t.test('the addresses of a host are tried one after the other', async (t) => {
  const end = await receiver(t, { giveUpMs: 5000 });
  const path = join(end.directory, 'lies.sock');
  const address = await lyingServer(t, path, { sizeBytes: BigInt(SIZE), status: WHOLE });
  const addresses = [`unix:${end.directory}/nobody.sock`, address];
  await end.copies.pull(freshVolume(), pullOf({ description: described(), addresses }));
  t.match(await end.host.end(), { code: 'copy-mismatch' }, 'it came as far as the digest');
});

t.test('what cannot be copied is refused at once', async (t) => {
  const end = await receiver(t);
  const pull = (description: Pull['description'], wishes: Partial<Pull> = {}) =>
    end.copies.pull(freshVolume(), {
      ...pullOf({ description, addresses: [`unix:${end.directory}/nobody.sock`] }),
      ...wishes,
    });
  await end.operations.createVolume('taken', { sizeBytes: 4096n });
  await t.rejects(pull(described({ name: 'taken' })), { code: 'volume-exists' });
  await t.rejects(pull(described({ name: 'a/b' })), { code: 'name-bad-character' });
  await t.rejects(pull(described({ kind: 'file' })), { code: 'copy-invalid' });
  await pull(described({ snapshots: [] }), { through: { id: freshVolume(), seq: 1 } });
  t.match(await end.host.end(), { event: 'failed', code: 'copy-invalid', message: /was not described/ });
  t.strictSame(
    end.operations.listVolumes().map(({ name }) => name),
    ['taken'],
    'nothing was made',
  );
});

t.test('a snapshot that is here as one of another volume, and one whose name is taken', async (t) => {
  const end = await receiver(t);
  await end.operations.createVolume('w', { sizeBytes: BigInt(SIZE) });
  await end.operations.createSnapshots([{ volume: 'w', snapshot: 'a' }]);
  const [a] = end.snapshotsOf('w');
  const description = described();
  description.snapshots[0]!.id = a!.id;
  const addresses = [`unix:${end.directory}/nobody.sock`];
  await end.copies.pull(freshVolume(), pullOf({ description, addresses }));
  t.match(await end.host.end(), { code: 'copy-invalid', message: /is here already/ });
  const volume = freshVolume();
  end.host.has(volume, 'w');
  await end.copies.pull(volume, pullOf({ description: described(), addresses }));
  t.match(await end.host.end(), { code: 'snapshot-exists' });
});

t.test('a store without room says so before anything is sent', async (t) => {
  const end = await receiver(t);
  const { space } = end.operations.parts;
  space.look = async () => ({ freeBytes: 1000n, reserveBytes: 900n, belowReserve: false });
  t.match(await copyFrom(t, end, {}), { event: 'failed', code: 'no-space', message: /needs 65536 bytes/ });
  t.equal(end.copies.counts.receivedBytes, 0n);
});

t.test('a disk that is full in the middle', async (t) => {
  const end = await receiver(t);
  const { client } = end.operations.parts;
  const { planeError } = await import('../../../src/operations/plane-client.js');
  const write = client.write;
  client.write = () => Promise.reject(planeError('writing to a volume', 28));
  t.match(await copyFrom(t, end, {}), { event: 'failed', code: 'no-space' });
  client.write = write;
});
