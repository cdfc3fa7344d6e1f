// The NBD client against a stranger's server (nbdkit): what it reads, what it refuses, and many requests at once.

import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import t from 'tap';
import { ByteStream, ConnectionLost } from '../../../src/nbd-client/byte-stream.js';
import { Handshake, OptionRefused } from '../../../src/nbd-client/handshake.js';
import { NbdClient, RequestFailed } from '../../../src/nbd-client/nbd-client.js';
import { COMMAND, STATE } from '../../../src/nbd-client/wire.js';
import { serveNbdkit, withoutNbdkit } from '../../cli/nbdkit.js';

const MIB = 1024 * 1024;
const skip = withoutNbdkit;

t.test('reads back what it wrote, with many requests in flight', { skip }, async (t) => {
  const client = await NbdClient.connect({ address: await serveNbdkit(t, ['memory', '8M']), exportName: '' });
  t.equal(client.sizeBytes, BigInt(8 * MIB));
  t.equal(client.readOnly, false);
  const blocks = Array.from({ length: 64 }, () => randomBytes(64 * 1024));
  await Promise.all(blocks.map((block, index) => client.write(BigInt(index * block.length), block)));
  await client.flush();
  const read = await Promise.all(
    blocks.map((block, index) => client.read(BigInt(index * block.length), block.length)),
  );
  t.same(
    read.map((block, index) => blocks[index]?.equals(block)),
    blocks.map(() => true),
  );
  t.equal(client.inFlight, 0);
  await client.disconnect();
});

t.test('block status tells data from holes, and zeroing makes holes', { skip }, async (t) => {
  const client = await NbdClient.connect({ address: await serveNbdkit(t, ['memory', '4M']), exportName: '' });
  await client.write(BigInt(MIB), Buffer.alloc(64 * 1024, 7));
  const extents = (await client.blockStatus(0n, 4 * MIB)).get('base:allocation');
  t.same(extents?.slice(0, 2), [
    { lengthBytes: MIB, flags: STATE.hole | STATE.zero },
    { lengthBytes: 64 * 1024, flags: 0 },
  ]);
  await client.writeZeroes(BigInt(MIB), 64 * 1024);
  await client.trim(0n, MIB);
  t.ok((await client.read(0n, 2 * MIB)).equals(Buffer.alloc(2 * MIB)), 'all zero again');
  await client.disconnect();
});

t.test('without structured replies it still reads and gets errors', { skip }, async (t) => {
  const address = await serveNbdkit(t, ['memory', '1M']);
  const client = await NbdClient.connect({
    address,
    exportName: '',
    structured: false,
    opening: 'export-name',
  });
  t.equal(client.contexts.size, 0);
  await client.write(0n, Buffer.from('hello'));
  t.equal((await client.read(0n, 5)).toString(), 'hello');
  await t.rejects(client.request(99, {}), { name: 'RequestFailed' });
  await client.disconnect();
});

t.test('an error of one request leaves the others alone', { skip }, async (t) => {
  const client = await NbdClient.connect({
    address: await serveNbdkit(t, [
      '--filter=error',
      'memory',
      '1M',
      'error-pwrite=ENOSPC',
      'error-pwrite-rate=1',
    ]),
    exportName: '',
  });
  const failure = await client.write(0n, Buffer.alloc(512)).catch((error: unknown) => error);
  t.ok(failure instanceof RequestFailed && failure.code === 'ENOSPC', 'the errno is told by name');
  t.equal((await client.read(0n, 512)).length, 512);
  await t.rejects(client.request(COMMAND.read, { offset: BigInt(2 * MIB), length: 1 }), { code: 'EINVAL' });
  await client.disconnect();
});

t.test('an export that does not exist is refused with the words of the server', { skip }, async (t) => {
  const address = await serveNbdkit(t, ['file', 'dir=/usr/share/doc/nbdkit']);
  await t.rejects(NbdClient.connect({ address, exportName: 'no-such-export' }), OptionRefused);
});

t.test('exports can be listed, and the raw socket is at hand', { skip }, async (t) => {
  const address = await serveNbdkit(t, ['memory', '1M']);
  const handshake = new Handshake(await ByteStream.connect(address));
  t.ok((await handshake.greet()) & 1, 'fixed newstyle');
  t.equal((await handshake.list()).length, 1);
  await handshake.stream.send(Buffer.from('this is no option at all'));
  t.type(await handshake.stream.receiveUntilClosed(), Buffer);
});

t.test('a lost connection rejects everything in flight, and what comes after', { skip }, async (t) => {
  const address = await serveNbdkit(t, ['--filter=delay', 'memory', '1M', 'rdelay=3600']);
  const client = await NbdClient.connect({ address, exportName: '' });
  const waiting = [client.read(0n, 512), client.read(512n, 512)];
  client.destroy();
  for (const result of await Promise.allSettled(waiting)) {
    t.ok(result.status === 'rejected' && result.reason instanceof ConnectionLost);
  }
  await t.rejects(client.read(0n, 1), ConnectionLost);
});

t.test('an address that is none, and a place where nobody listens', async (t) => {
  await t.rejects(
    NbdClient.connect({ address: '/run/x.sock', exportName: '' }),
    /write unix:PATH or tcp:HOST:PORT/,
  );
  await t.rejects(NbdClient.connect({ address: 'tcp:localhost:0', exportName: '' }), TypeError);
  await t.rejects(
    NbdClient.connect({ address: `unix:${tmpdir()}/nobody.sock`, exportName: '' }),
    ConnectionLost,
  );
});
