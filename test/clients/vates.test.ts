// @vates/nbd-client, the client of Xen Orchestra's backups: over TCP, a block after the other, many at once, and again after the
// daemon was restarted.
import { randomBytes } from 'node:crypto';
import NbdClient from '@vates/nbd-client';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';

const SIZE = 16 * MIB;
const BLOCK = 64 * 1024;
const port = 20_000 + ((process.pid + 7919) % 20_000);

async function prepared(t: Parameters<typeof Daemon.start>[0]): Promise<{ daemon: Daemon; content: Buffer }> {
  const daemon = await Daemon.start(t, { args: ['--nbd', `tcp:127.0.0.1:${port}`] });
  await daemon.api.createVolume('disk', SIZE);
  const content = Buffer.concat([randomBytes(5 * MIB + 512), Buffer.alloc(SIZE - 5 * MIB - 512)]);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  const filled = content.subarray(0, 5 * MIB + 512);
  await client.command({ type: CMD.write, length: filled.length }, filled);
  client.close();
  await daemon.api.snapshot('disk@s');
  return { daemon, content };
}

t.test('reads a snapshot whole, many blocks at once', async (t) => {
  const { content } = await prepared(t);
  const client = new NbdClient({ address: '127.0.0.1', port, exportname: 'disk@s' });
  await client.connect();
  t.equal(client.exportSize, BigInt(SIZE));
  const blocks = await Promise.all(
    Array.from({ length: SIZE / BLOCK }, (_, i) => client.readBlock(i, BLOCK)),
  );
  t.ok(Buffer.concat(blocks).equals(content));
  await client.disconnect();
});

t.test('learns the map', { skip: missing('nbdinfo') }, async (t) => {
  await prepared(t);
  const client = new NbdClient({ address: '127.0.0.1', port, exportname: 'disk@s' });
  const map = await client.getMap();
  t.same(
    map.map(({ offset, length, type }) => [offset, length, type]),
    [
      [0, 5 * MIB + 4096, 0],
      [5 * MIB + 4096, SIZE - 5 * MIB - 4096, 3],
    ],
  );
});

t.test('an export that is not there is refused', async (t) => {
  await prepared(t);
  const client = new NbdClient(
    { address: '127.0.0.1', port, exportname: 'nothing' },
    { connectTimeout: 60_000 },
  );
  await t.rejects(client.connect());
});

t.test('reconnects when the daemon was restarted', async (t) => {
  const { daemon, content } = await prepared(t);
  const options = { waitBeforeReconnect: 10 };
  const client = new NbdClient({ address: '127.0.0.1', port, exportname: 'disk@s' }, options);
  await client.connect();
  t.ok((await client.readBlock(3, BLOCK)).equals(content.subarray(3 * BLOCK, 4 * BLOCK)));
  await daemon.restart('kill');
  t.ok((await client.readBlock(4, BLOCK)).equals(content.subarray(4 * BLOCK, 5 * BLOCK)));
  await client.disconnect();
});
