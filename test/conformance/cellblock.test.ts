// Every conformance case against cellblockd, over a unix socket and over loopback TCP, and what only a live daemon can show:
// a resize, a rename, an orderly stop.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import {
  CMD,
  ERRNO,
  FLAG,
  infoRequest,
  MIB,
  OPT,
  REP,
  statusFilter,
  TRANSMISSION,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { others, usual } from '../support/variants.js';
import { runAllCases } from './all-cases.js';
import type { Target } from './target.js';

/** Of every daemon the cases are run against. */
const DEFAULT_EXPORT = ['--default-export', 'disk'];
const DESCRIPTION = 'a disk for the cases';
const SIZE = 256n * BigInt(MIB);

/** A volume with a snapshot whose first megabytes hold data. */
async function prepared(daemon: Daemon, address: string, writable: string): Promise<Target> {
  const path = '/v1/volumes';
  await daemon.api.call('POST', path, { name: writable, size: String(SIZE), description: DESCRIPTION });
  await daemon.api.call('POST', path, { name: 'forbidden', size: '64M', allow: ['uid:4000000000'] });
  const { client } = await RawNbd.open(address, writable);
  await client.command({ type: CMD.write, length: 4 * MIB }, Buffer.alloc(4 * MIB, 0x11));
  client.close();
  await daemon.api.snapshot(`${writable}@before`);
  return {
    address,
    writable,
    size: SIZE,
    readOnly: `${writable}@before`,
    bitmap: 'before',
    forbidden: 'forbidden',
    defaultExport: writable,
    description: DESCRIPTION,
    promises: true,
    processId: daemon.pid,
  };
}

for (const { name, configuration, skip } of [usual, ...others]) {
  t.test(`over a unix socket: ${name}`, { skip }, async (t) => {
    const daemon = await Daemon.start(t, { configuration, args: DEFAULT_EXPORT });
    const target = await prepared(daemon, `unix:${daemon.nbdPath}`, 'disk');
    await runAllCases(t, target);
    t.ok((await daemon.api.check()).clean, 'the store is clean afterwards');
  });
}

t.test('over loopback TCP', async (t) => {
  const port = 20_000 + (process.pid % 20_000);
  const daemon = await Daemon.start(t, { args: ['--nbd', `tcp:127.0.0.1:${port}`, ...DEFAULT_EXPORT] });
  const target = await prepared(daemon, `tcp:127.0.0.1:${port}`, 'disk');
  await runAllCases(t, target);
});

t.test('one request covers a device of terabytes, whatever is in it', async (t) => {
  const daemon = await Daemon.start(t);
  const size = 8n * 2n ** 40n;
  await daemon.api.createVolume('vast', size);
  const { client, contexts } = await RawNbd.open(daemon.nbdPath, 'vast', {
    extended: true,
    contexts: ['base:allocation'],
  });
  const places = [0n, 2n ** 32n + 4096n, size / 2n, size - 4096n];
  const fill = async (value: number): Promise<void> => {
    for (const offset of places) {
      await client.command({ type: CMD.write, offset, length: 4096 }, Buffer.alloc(4096, value));
    }
  };
  const holds = async (offset: bigint, value: number): Promise<boolean> =>
    (await client.command({ type: CMD.read, offset, length: 4096 })).data.equals(Buffer.alloc(4096, value));
  for (const type of [CMD.trim, CMD.writeZeroes]) {
    await fill(7);
    t.equal((await client.command({ type, offset: 4096, length: size - 8192n })).error, 0, `command ${type}`);
    t.ok(await holds(places[0] as bigint, 7), 'what lies before');
    t.ok(await holds(places[1] as bigint, 0), 'beyond 4 GiB');
    t.ok(await holds(places[2] as bigint, 0), 'in the middle');
    t.ok(await holds(places[3] as bigint, 7), 'what lies behind');
  }
  t.equal((await client.command({ type: CMD.cache, length: size })).error, 0);
  const found: [number, number][] = [];
  let asked = 0;
  for (let at = 0n; at < size; asked++) {
    const answer = await client.command({ type: CMD.blockStatus, offset: at, length: size - at });
    for (const { length, flags } of answer.status.get(contexts.get('base:allocation') as number) ?? []) {
      if (found.at(-1)?.[1] !== flags) found.push([Number(at), flags]);
      at += BigInt(length);
    }
  }
  t.same(found, [
    [0, 0],
    [4096, 3],
    [Number(size) - 4096, 0],
  ]);
  t.ok(asked < Number(size / 2n ** 32n) / 8, `${asked} requests, far fewer than with lengths of 32 bits`);
  await client.leave();
  t.ok((await daemon.api.check()).clean);
});

t.test('BLOCK_STATUS about a choice of contexts, a bitmap among them', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  await daemon.api.snapshot('disk@before');
  const bitmap = 'qemu:dirty-bitmap:before';
  const { client, contexts } = await RawNbd.open(daemon.nbdPath, 'disk', {
    extended: true,
    contexts: ['base:allocation', bitmap, 'qemu:allocation-depth'],
  });
  await client.command({ type: CMD.write, offset: 4096, length: 4096 }, Buffer.alloc(4096, 7));
  const id = contexts.get(bitmap) as number;
  const payload = statusFilter(MIB, [id]);
  const cookie = client.request(
    { type: CMD.blockStatus, flags: FLAG.payloadLen, length: payload.length },
    payload,
  );
  const { status } = await client.readAnswer(cookie, null);
  t.same(
    [...status],
    [
      [
        id,
        [
          { length: 4096, flags: 0 },
          { length: 4096, flags: 1 },
          { length: MIB - 8192, flags: 0 },
        ],
      ],
    ],
  );
  client.close();
});

t.test('a client sees the new size at its next GO', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  await daemon.api.resizeVolume('disk', 128 * MIB);
  t.equal((await client.command({ type: CMD.read, length: 4096 })).error, 0, 'the open connection goes on');
  const next = await RawNbd.open(daemon.nbdPath, 'disk');
  t.equal(next.info.size, BigInt(128 * MIB));
  t.equal((await next.client.command({ type: CMD.read, offset: 100 * MIB, length: 4096 })).error, 0);
  client.close();
  next.client.close();
});

t.test('after a shrink an open connection gets ENOSPC and EINVAL beyond the new end', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  await daemon.api.resizeVolume('disk', 32 * MIB, { force: true });
  const offset = 48 * MIB;
  t.equal((await client.command({ type: CMD.read, offset, length: 4096 })).error, ERRNO.inval);
  const late = await client.command({ type: CMD.write, offset, length: 4096 }, Buffer.alloc(4096));
  t.equal(late.error, ERRNO.noSpc);
  client.close();
});

t.test('ROTATIONAL is told of every export of a store whose disks rotate, and of no other', async (t) => {
  for (const rotational of [true, false]) {
    const daemon = await Daemon.start(t, rotational ? { configuration: { store: { rotational } } } : {});
    await daemon.api.createVolume('disk', 64 * MIB);
    await daemon.api.snapshot('disk@before');
    for (const name of ['disk', 'disk@before']) {
      const { client, info } = await RawNbd.open(daemon.nbdPath, name);
      t.equal(Boolean(info.flags & TRANSMISSION.rotational), rotational, name);
      await client.leave();
    }
  }
});

t.test('a renamed volume is served under its new name only', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('old', 64 * MIB);
  await daemon.api.renameVolume('old', 'new');
  const client = await RawNbd.negotiate(daemon.nbdPath);
  t.equal(await client.optionEnd(OPT.info, infoRequest('old')), REP.errUnknown);
  t.equal((await client.go('new')).size, BigInt(64 * MIB));
  client.close();
});

t.test('an orderly stop closes idle connections, keeps what was written, and exits with 0', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk', { structured: false });
  await client.command({ type: CMD.write, length: 4096 }, Buffer.alloc(4096, 5));
  const [code, rest] = await Promise.all([daemon.stop(), client.readToEnd()]);
  t.equal(code, 0);
  t.equal(rest.length, 0);
  await daemon.run();
  const again = await RawNbd.open(daemon.nbdPath, 'disk');
  const kept = await again.client.command({ type: CMD.read, length: 4096 });
  t.ok(kept.data.equals(Buffer.alloc(4096, 5)));
  again.client.close();
});

t.test('requests on their way when the stop comes are finished or answered with ESHUTDOWN', async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk', { structured: false });
  const count = 64;
  for (let i = 0; i < count; i++) {
    client.request(
      { type: CMD.write, cookie: BigInt(i), offset: i * 65536, length: 65536 },
      Buffer.alloc(65536, i + 1),
    );
  }
  const [code, rest] = await Promise.all([daemon.stop(), client.readToEnd()]);
  t.equal(code, 0);
  t.equal(rest.length % 16, 0, 'whole answers only');
  await daemon.run();
  const after = (await RawNbd.open(daemon.nbdPath, 'disk')).client;
  for (let at = 0; at < rest.length; at += 16) {
    const error = rest.readUInt32BE(at + 4);
    const i = Number(rest.readBigUInt64BE(at + 8));
    t.ok(error === 0 || error === ERRNO.shutdown, `request ${i}: ${error}`);
    if (error !== 0) continue;
    const kept = await after.command({ type: CMD.read, offset: i * 65536, length: 65536 });
    t.ok(kept.data.equals(Buffer.alloc(65536, i + 1)), `request ${i} was answered, so it is there`);
  }
  after.close();
});
