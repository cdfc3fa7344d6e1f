// A snapshot of several volumes at the real daemon, one of them a clone nobody has opened yet.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';

t.test(
  'a group snapshot with a closed clone of a volume that is still dirty: the clone reads its base',
  async (t) => {
    const daemon = await Daemon.start(t);
    const { api } = daemon;
    for (const name of ['c', 'a']) await api.createVolume(name, 64 << 20);
    const c = (await RawNbd.open(daemon.nbdPath, 'c')).client;
    const bytes = Buffer.alloc(4096, 0x77);
    await c.command({ type: CMD.write, offset: 8192, length: 4096 }, bytes);
    await c.command({ type: CMD.flush });
    await api.snapshot('c@s');
    await api.clone('c@s', 'b');
    const a = (await RawNbd.open(daemon.nbdPath, 'a')).client;
    await api.snapshot('a@g', 'b@g');
    const b = (await RawNbd.open(daemon.nbdPath, 'b')).client;
    const { data } = await b.command({ type: CMD.read, offset: 8192, length: 4096 });
    t.ok(data.equals(bytes), 'flushed data of the snapshot is read through the clone');
    // A client that trusts what it reads makes it permanent.
    const before = await b.command({ type: CMD.write, offset: 8192, length: 512 }, Buffer.alloc(512, 1));
    t.equal(before.error, 0);
    await b.command({ type: CMD.flush });
    for (const client of [a, b, c]) await client.leave();
    await daemon.restart('stop');
    const again = (await RawNbd.open(daemon.nbdPath, 'b')).client;
    const rest = await again.command({ type: CMD.read, offset: 8192 + 512, length: 3584 });
    t.ok(rest.data.equals(bytes.subarray(512)), 'the rest of the block, after a partial write and a restart');
    await again.leave();
  },
);
