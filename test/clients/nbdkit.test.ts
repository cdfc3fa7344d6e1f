// nbdkit's nbd plugin as a client, with filters in front of it: what arrives at the daemon is what the filters make of requests.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, must, Running } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { answers, until } from '../support/waiting.js';

const SIZE = 32 * MIB;
const skip = missing('nbdkit', 'nbdcopy', 'nbdinfo', 'qemu-io');

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Scene {
  daemon: Daemon;
  /** What the volume held before. */
  content: Buffer;
  /** An nbdkit in front of the volume; gives the address of its socket for libnbd. */
  front: (filters: string[], parameters?: string[]) => Promise<string>;
  /** The volume's bytes, read past nbdkit. */
  volume: () => Promise<Buffer>;
  file: (name: string) => string;
}

async function scene(t: Test): Promise<Scene> {
  const daemon = await Daemon.start(t);
  const file = (name: string): string => path.join(daemon.directory, name);
  const content = Buffer.concat([randomBytes(8 * MIB), Buffer.alloc(SIZE - 8 * MIB)]);
  writeFileSync(file('content'), content);
  await daemon.api.createVolume('disk', SIZE);
  await must('nbdcopy', [file('content'), daemon.uri('disk')]);
  let fronts = 0;
  return {
    daemon,
    content,
    file,
    async front(filters, parameters = []) {
      fronts += 1;
      const socket = file(`front${fronts}`);
      const words = ['-f', '-U', socket, ...filters.map((name) => `--filter=${name}`)];
      const nbdkit = new Running('nbdkit', [...words, 'nbd', `uri=${daemon.uri('disk')}`, ...parameters]);
      t.teardown(() => nbdkit.stop());
      await until('nbdkit', () => {
        if (nbdkit.isOver) throw new Error(`nbdkit ended: ${nbdkit.output}`);
        return answers(socket);
      });
      return `nbd+unix:///?socket=${socket}`;
    },
    async volume() {
      const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
      const { data } = await client.command({ type: CMD.read, length: SIZE });
      client.close();
      return data;
    },
  };
}

async function copied({ file }: Scene, uri: string): Promise<string> {
  await must('nbdcopy', [uri, file('copy')]);
  return sha(readFileSync(file('copy')));
}

const qemuIo = (uri: string, ...commands: string[]): Promise<string> =>
  must('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);

t.test('the plugin alone: size, flags, content and map come through', { skip }, async (t) => {
  const s = await scene(t);
  const uri = await s.front([]);
  const [told] = JSON.parse(await must('nbdinfo', ['--json', uri])).exports;
  t.match(told, {
    'export-size': SIZE,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_trim: true,
    can_zero: true,
    can_fast_zero: true,
    can_cache: true,
    can_multi_conn: true,
  });
  const map = JSON.parse(await must('nbdinfo', ['--json', '--map', uri])) as {
    offset: number;
    type: number;
  }[];
  t.same(
    map.map(({ offset, type }) => [offset, type]),
    [
      [0, 0],
      [8 * MIB, 3],
    ],
  );
  t.equal(await copied(s, uri), sha(s.content));
  await qemuIo(
    uri,
    'write -P 7 1000 5000',
    'write -z 64k 64k',
    'discard 128k 64k',
    'flush',
    'read -P 7 1000 5000',
  );
  const now = await s.volume();
  t.ok(now.subarray(1000, 6000).equals(Buffer.alloc(5000, 7)));
  t.ok(now.subarray(65_536, 3 * 65_536).equals(Buffer.alloc(2 * 65_536)));
  t.ok(now.subarray(3 * 65_536).equals(s.content.subarray(3 * 65_536)));
});

t.test('cow: reads come from the volume, writes never get there', { skip }, async (t) => {
  const s = await scene(t);
  const uri = await s.front(['cow', 'readahead']);
  t.equal(await copied(s, uri), sha(s.content));
  await qemuIo(uri, 'write -P 9 0 1M', 'write -z 2M 1M', 'read -P 9 0 1M', 'read -P 0 2M 1M', 'flush');
  t.ok((await s.volume()).equals(s.content));
});

t.test(
  'blocksize: what is smaller is read, changed and written back; what is larger is split',
  { skip },
  async (t) => {
    const s = await scene(t);
    const uri = await s.front(['blocksize'], ['minblock=4k', 'maxdata=64k', 'maxlen=1M']);
    await qemuIo(uri, 'write -P 3 4095 2', 'write -P 4 1M 3M', 'write -z 5000001 777', 'read -P 3 4095 2');
    const expected = Buffer.from(s.content);
    expected
      .fill(3, 4095, 4097)
      .fill(4, MIB, 4 * MIB)
      .fill(0, 5_000_001, 5_000_778);
    t.ok((await s.volume()).equals(expected));
    t.equal(await copied(s, uri), sha(expected));
  },
);

t.test('cache: what is flushed is on the volume', { skip }, async (t) => {
  const s = await scene(t);
  const uri = await s.front(['cache'], ['cache=writeback']);
  await qemuIo(uri, 'write -P 5 3M 1M', 'write -P 6 20M 4k', 'flush');
  const expected = Buffer.from(s.content);
  expected.fill(5, 3 * MIB, 4 * MIB).fill(6, 20 * MIB, 20 * MIB + 4096);
  t.ok((await s.volume()).equals(expected));
});

t.test(
  'retry: a client behind the filter does not notice that the daemon was killed',
  { skip },
  async (t) => {
    const s = await scene(t);
    const uri = await s.front(['retry'], ['retries=20', 'retry-delay=1', 'retry-exponential=no']);
    const { client } = await RawNbd.open(`unix:${uri.replace(/^.*socket=/, '')}`, '');
    await client.command({ type: CMD.write, offset: 4096, length: 4096 }, Buffer.alloc(4096, 8));
    await client.command({ type: CMD.flush });
    await s.daemon.restart('kill');
    const { error, data } = await client.command({ type: CMD.read, offset: 4096, length: 4096 });
    t.equal(error, 0);
    t.ok(data.equals(Buffer.alloc(4096, 8)));
    client.close();
  },
);
