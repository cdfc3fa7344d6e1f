// nbdsh: libnbd's calls from Python, which reach what its programs do not: single commands with chosen flags, errors, many
// requests on the way at once, maps of several contexts.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';

const SIZE = 64 * MIB;

async function libraryMissing(): Promise<string | false> {
  const absent = missing('nbdsh', 'python3');
  if (absent) return absent;
  return (await run('nbdsh', ['-c', 'pass'])).code !== 0 && 'not installed: python3-libnbd';
}

const skip = await libraryMissing();

/** Runs a script with `h` not connected and `uri` and `snapshot` known. */
async function script(daemon: Daemon, lines: string): Promise<string> {
  const known = `uri = ${JSON.stringify(daemon.uri('disk'))}\nsnapshot = ${JSON.stringify(daemon.uri('disk@s'))}`;
  return must('nbdsh', ['-c', `${known}\n${lines}`]);
}

async function prepared(t: Parameters<typeof Daemon.start>[0]): Promise<Daemon> {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', SIZE);
  await daemon.api.snapshot('disk@s');
  return daemon;
}

t.test('every command, with every flag it may have', { skip }, async (t) => {
  const daemon = await prepared(t);
  await script(
    daemon,
    `
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.get_size() == ${SIZE}
assert h.get_protocol() == "newstyle-fixed" and h.get_structured_replies_negotiated()
assert h.can_df() and h.can_fua() and h.can_flush() and h.can_trim() and h.can_zero()
assert h.can_fast_zero() and h.can_cache() and h.can_multi_conn() and not h.is_read_only()
assert h.get_block_size(nbd.SIZE_MINIMUM) == 1 and h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * 1024 * 1024
data = bytes(range(256)) * 1024
for flags in (0, nbd.CMD_FLAG_FUA):
    h.pwrite(data, 12345, flags)
    h.flush()
    assert h.pread(len(data), 12345) == data
    assert h.pread(len(data), 12345, nbd.CMD_FLAG_DF) == data
    h.cache(len(data), 12345)
    for zero in (0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO):
        h.pwrite(data, 12345)
        h.zero(len(data), 12345, flags | zero)
        assert h.pread(len(data), 12345) == bytearray(len(data))
    h.pwrite(data, 1 << 20)
    h.trim(len(data), 1 << 20, flags)
    assert h.pread(len(data), 1 << 20) == bytearray(len(data))
h.shutdown()
`,
  );
  t.pass('all of it was so');
});

t.test('what is refused has the error of its case, and the connection goes on', { skip }, async (t) => {
  const daemon = await prepared(t);
  await script(
    daemon,
    `
import errno
h.set_strict_mode(0)
h.connect_uri(uri)
def refused(number, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errnum == number, (error.errnum, number, call, args)
        return
    raise AssertionError(("not refused", call, args))
size = h.get_size()
refused(errno.EINVAL, h.pread, 512, size)
refused(errno.ENOSPC, h.pwrite, bytes(512), size)
refused(errno.ENOSPC, h.zero, 512, size)
refused(errno.EINVAL, h.trim, 512, size)
refused(errno.EINVAL, h.cache, 512, size)
refused(errno.EINVAL, h.pread, 512, 0, 1 << 9)
assert h.pread(512, 0) == bytearray(512)
h.shutdown()
s = nbd.NBD()
s.set_strict_mode(0)
s.connect_uri(snapshot)
assert s.is_read_only()
refused(errno.EPERM, s.pwrite, bytes(512), 0)
refused(errno.EPERM, s.zero, 512, 0)
refused(errno.EPERM, s.trim, 512, 0)
s.shutdown()
`,
  );
  t.pass('all of it was so');
});

t.test('hundreds of requests on the way at once, each answered once', { skip }, async (t) => {
  const daemon = await prepared(t);
  await script(
    daemon,
    `
h.connect_uri(uri)
count = 500
done = [0] * count
def completed(i):
    def call(error):
        assert error.value == 0
        done[i] += 1
        return 1
    return call
for i in range(count):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251 + 1]) * 8192), i * 10000, completed(i))
while h.aio_in_flight() > 0:
    h.poll(-1)
assert done == [1] * count
buffers = [nbd.Buffer(8192) for _ in range(count)]
for i in range(count):
    h.aio_pread(buffers[i], i * 10000, completed(i))
while h.aio_in_flight() > 0:
    h.poll(-1)
assert done == [2] * count
for i in range(count):
    assert buffers[i].to_bytearray() == bytearray([i % 251 + 1]) * 8192, i
h.shutdown()
`,
  );
  t.pass('all of it was so');
});

t.test('maps of three contexts in one answer', { skip }, async (t) => {
  const daemon = await prepared(t);
  const told = await script(
    daemon,
    `
import json
names = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:s"]
for name in names:
    h.add_meta_context(name)
h.connect_uri(uri)
h.pwrite(bytes([7]) * 8192, 1 << 20)
maps = {}
def extent(context, offset, entries, error):
    maps[context] = entries
h.block_status(2 << 20, 0, extent)
print(json.dumps(maps))
h.shutdown()
`,
  );
  const maps = JSON.parse(told) as Record<string, number[]>;
  /** Flags of the byte at a place, of a flat list of lengths and flags. */
  const at = (name: string, place: number): number | undefined => {
    const list = maps[name] ?? [];
    for (let i = 0, end = 0; i < list.length; i += 2) {
      end += list[i] as number;
      if (place < end) return list[i + 1];
    }
    return undefined;
  };
  t.equal(Object.keys(maps).length, 3);
  t.same([at('base:allocation', 0), at('base:allocation', MIB)], [3, 0]);
  t.same([at('qemu:allocation-depth', 0), at('qemu:allocation-depth', MIB)], [0, 1]);
  t.same([at('qemu:dirty-bitmap:s', 0), at('qemu:dirty-bitmap:s', MIB)], [0, 1]);
});
