// The NBD client in TLS against our own server: whom it believes, and what it says of whom it does not.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ByteStream } from '../../../src/nbd-client/byte-stream.js';
import { Handshake } from '../../../src/nbd-client/handshake.js';
import { NbdClient } from '../../../src/nbd-client/nbd-client.js';
import { TlsRefused, type TlsWish } from '../../../src/nbd-client/tls.js';
import type { TlsOptions } from '../../../src/plane/treaty.js';
import { Certificates } from '../../support/certificates.js';
import { CopyEnd, freshVolume, pullOf } from '../../support/copy-scene.js';
import { missing } from '../../support/programs.js';

const skip = missing('openssl');
const MIB = 1 << 20;

async function certificates(t: Test): Promise<Certificates> {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-certificates-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return Certificates.make(directory);
}

async function server(t: Test, made: Certificates, options: Partial<TlsOptions> = {}): Promise<CopyEnd> {
  const end = new CopyEnd();
  await end.start(null);
  end.operations.plane.setTls({
    mode: 'forced',
    certificate: made.read('server-cert.pem'),
    key: made.read('server-key.pem'),
    clientCa: made.read('ca-cert.pem'),
    clients: 'required',
    hostCa: null,
    psk: null,
    ...options,
  });
  await end.operations.createVolume('v', { sizeBytes: BigInt(4 * MIB) });
  t.teardown(async () => {
    await end.end();
    end.remove();
  });
  return end;
}

function wishOf(made: Certificates, changes: Partial<TlsWish> = {}): TlsWish {
  return {
    ca: made.read('ca-cert.pem'),
    certificate: made.read('client-cert.pem'),
    key: made.read('client-key.pem'),
    serverName: 'localhost',
    ...changes,
  };
}

t.test('reads and writes in TLS, over TCP and a unix socket', { skip }, async (t) => {
  const made = await certificates(t);
  const end = await server(t, made);
  for (const address of [end.listen(), end.operations.listen('tcp:127.0.0.1:0')]) {
    const client = await NbdClient.connect({ address, exportName: 'v', tls: wishOf(made) });
    const blocks = Array.from({ length: 16 }, (_, fill) => Buffer.alloc(MIB / 8, fill + 1));
    await Promise.all(blocks.map((block, index) => client.write(BigInt((index * MIB) / 8), block)));
    const read = await Promise.all(
      blocks.map((block, index) => client.read(BigInt((index * MIB) / 8), block.length)),
    );
    t.ok(
      read.every((bytes, index) => bytes.equals(blocks[index]!)),
      address.slice(0, 4),
    );
    await client.disconnect();
  }
  t.equal(end.operations.plane.counters().tlsBegun, 2n);
});

t.test('who is not believed is left, with one sentence', { skip }, async (t) => {
  const made = await certificates(t);
  const stranger = await certificates(t);
  const end = await server(t, made);
  const address = end.listen();
  const connect = (tls: TlsWish | null) => NbdClient.connect({ address, exportName: 'v', tls });
  await t.rejects(connect(wishOf(made, { ca: stranger.read('ca-cert.pem') })), {
    name: 'TlsRefused',
    message: /could not be begun/,
  });
  await t.rejects(connect(wishOf(made, { serverName: 'another.example' })), {
    name: 'TlsRefused',
    message: /another\.example/,
  });
  await t.rejects(connect(wishOf(made, { whyWrong: () => 'it is somebody else' })), {
    name: 'TlsRefused',
    message: /it is somebody else/,
  });
  const { certificate: _certificate, key: _key, ...nobody } = wishOf(made);
  await t.rejects(connect(nobody), /./, 'a client without a certificate');
  await t.rejects(connect(null), { name: 'OptionRefused' }, 'a client in clear');
  await (await connect(wishOf(made, { serverName: '127.0.0.1' }))).disconnect();
  await (await connect(wishOf(made, { serverName: null }))).disconnect();
});

t.test('a server without TLS is not spoken to in clear', { skip }, async (t) => {
  const made = await certificates(t);
  const end = await server(t, made, { mode: 'off' });
  await t.rejects(
    NbdClient.connect({ address: end.listen(), exportName: 'v', tls: wishOf(made) }),
    TlsRefused,
  );
});

t.test('what comes in clear behind the consent ends the connection', { skip }, async (t) => {
  const made = await certificates(t);
  const path = join(made.directory, 'between.sock');
  const net = await import('node:net');
  const between = net.createServer((socket) => {
    const greeting = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
    const consent = Buffer.from('0003e889045565a9000000050000000100000000', 'hex');
    socket.write(greeting);
    // Flags of the client, then the option.
    let heard = 0;
    socket.on('data', ({ length }) => {
      heard += length;
      if (heard === 20) socket.write(Buffer.concat([consent, Buffer.from('x')]));
    });
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => between.listen(path, resolve));
  t.teardown(() => between.close());
  const stream = await ByteStream.connect(`unix:${path}`);
  const handshake = new Handshake(stream);
  await handshake.greet();
  await t.rejects(handshake.startTls(wishOf(made)), /nobody asked for/);
  stream.destroy();
});

t.test('a copy goes in TLS, and only from the host it is meant to come from', { skip }, async (t) => {
  const made = await certificates(t);
  await made.issueHost('one', 'east');
  const hosts = { certificate: made.read('one-cert.pem'), key: made.read('one-key.pem') };
  const one = await server(t, made, hosts);
  await one.write('v', 0, Buffer.alloc(MIB, 7));
  await one.operations.createSnapshots([{ volume: 'v', snapshot: 'a' }]);
  const two = new CopyEnd();
  const credentials = {
    ca: made.read('ca-cert.pem'),
    certificate: made.read('client-cert.pem'),
    key: made.read('client-key.pem'),
  };
  await two.start(one, { credentials: () => credentials });
  t.teardown(async () => {
    await two.end();
    two.remove();
  });
  const pull = pullOf({
    description: one.describe('v'),
    addresses: [one.operations.listen('tcp:127.0.0.1:0')],
  });
  await two.copies.pull(freshVolume(), { ...pull, from: { ...pull.from, host: 'other' } });
  t.match(await two.host.end(), {
    event: 'failed',
    code: 'copy-source-refuses',
    message: /certificate is that of one in the cell east, not of other/,
  });
  const stranger = await certificates(t);
  const own = { certificate: credentials.certificate, key: credentials.key };
  Object.assign(credentials, {
    certificate: stranger.read('client-cert.pem'),
    key: stranger.read('client-key.pem'),
  });
  await two.copies.pull(freshVolume(), pull);
  t.match(await two.host.end(), { event: 'failed', code: 'copy-source-refuses' }, 'a host nobody knows');
  Object.assign(credentials, own);
  await two.copies.pull(freshVolume(), pull);
  t.match(await two.host.end(), { event: 'complete' });
  t.ok((await two.bytesOf(two.snapshotsOf('v')[0]!)).equals(await one.bytesOf(one.snapshotsOf('v')[0]!)));
});
