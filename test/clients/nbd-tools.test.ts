// nbdinfo and nbdcopy (libnbd) against the daemon.
import { createHash, randomBytes } from 'node:crypto';
import { openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';

const sha = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

/** A file of 64 MiB with data here and there, and holes. */
function sparseImage(file: string): void {
  writeFileSync(file, '');
  truncateSync(file, 64 * MIB);
  const descriptor = openSync(file, 'r+');
  for (const at of [0, 3 * MIB + 4096, 20 * MIB - 100, 40 * MIB, 64 * MIB - 5000]) {
    writeSync(descriptor, randomBytes(5000), 0, 5000, at);
  }
  writeSync(descriptor, randomBytes(8 * MIB), 0, 8 * MIB, 48 * MIB);
}

interface ListedExport {
  'export-name': string;
  'export-size': number;
  is_read_only: boolean;
  can_multi_conn: boolean;
  can_fast_zero: boolean;
  contexts: string[];
}

t.test('nbdinfo', { skip: missing('nbdinfo') }, async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  await client.command({ type: CMD.write, offset: 4 * MIB, length: 8192 }, Buffer.alloc(8192, 1));
  await daemon.api.snapshot('disk@one');
  await client.command({ type: CMD.write, offset: 8 * MIB, length: 4096 }, Buffer.alloc(4096, 2));
  client.close();
  const json = async (...args: string[]): Promise<{ exports: ListedExport[] }> =>
    JSON.parse(await must('nbdinfo', ['--json', ...args]));

  await t.test('tells what an export is', async (t) => {
    const [disk] = (await json(daemon.uri('disk'))).exports;
    t.match(disk, {
      'export-name': 'disk',
      'export-size': 64 * MIB,
      is_read_only: false,
      can_multi_conn: true,
      can_fast_zero: true,
    });
    const wanted = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:one'];
    for (const name of wanted) t.ok(disk?.contexts.includes(name), name);
    const [snapshot] = (await json(daemon.uri('disk@one'))).exports;
    t.match(snapshot, { 'export-size': 64 * MIB, is_read_only: true });
  });

  await t.test('lists the exports', async (t) => {
    const listed = (await json('--list', daemon.uri(''))).exports.map((one) => one['export-name']);
    t.same(listed.sort(), ['disk', 'disk@one']);
  });

  await t.test('prints the maps', async (t) => {
    type Extent = { offset: number; length: number; type: number };
    const map = async (context: string, name: string): Promise<number[][]> => {
      const text = await must('nbdinfo', ['--json', `--map=${context}`, daemon.uri(name)]);
      return (JSON.parse(text) as Extent[]).map(({ offset, length, type }) => [offset, length, type]);
    };
    t.same(await map('base:allocation', 'disk'), [
      [0, 4 * MIB, 3],
      [4 * MIB, 8192, 0],
      [4 * MIB + 8192, 4 * MIB - 8192, 3],
      [8 * MIB, 4096, 0],
      [8 * MIB + 4096, 56 * MIB - 4096, 3],
    ]);
    t.same(await map('base:allocation', 'disk@one'), [
      [0, 4 * MIB, 3],
      [4 * MIB, 8192, 0],
      [4 * MIB + 8192, 60 * MIB - 8192, 3],
    ]);
    t.same(await map('qemu:dirty-bitmap:one', 'disk'), [
      [0, 8 * MIB, 0],
      [8 * MIB, 4096, 1],
      [8 * MIB + 4096, 56 * MIB - 4096, 0],
    ]);
    t.same(
      (await map('qemu:allocation-depth', 'disk')).filter(([, , depth]) => depth !== 0),
      [
        [4 * MIB, 8192, 2],
        [8 * MIB, 4096, 1],
      ],
    );
  });

  await t.test('says why it cannot have an export', async (t) => {
    const refused = await run('nbdinfo', [daemon.uri('nothing')]);
    t.not(refused.code, 0);
    t.match(refused.stderr, /nothing/);
  });
});

t.test('nbdcopy', { skip: missing('nbdcopy') }, async (t) => {
  const daemon = await Daemon.start(t);
  const file = (name: string): string => path.join(daemon.directory, name);
  sparseImage(file('source'));

  for (const words of [
    ['--connections=1'],
    ['--connections=4'],
    ['--connections=4', '--flush', '--request-size=65536'],
  ]) {
    await t.test(`into a volume and out again, ${words.join(' ')}`, async (t) => {
      await daemon.api.createVolume('disk', 64 * MIB);
      await must('nbdcopy', [...words, file('source'), daemon.uri('disk')]);
      await must('nbdcopy', [...words, daemon.uri('disk'), file('copy')]);
      t.equal(sha(file('copy')), sha(file('source')));
      await daemon.api.deleteVolume('disk');
    });
  }

  await t.test('from a snapshot into a clone of another volume, while the source changes', async (t) => {
    await daemon.api.createVolume('a', 64 * MIB);
    await must('nbdcopy', [file('source'), daemon.uri('a')]);
    await daemon.api.snapshot('a@kept');
    await daemon.api.clone('a@kept', 'b');
    const { client } = await RawNbd.open(daemon.nbdPath, 'a');
    await client.command({ type: CMD.writeZeroes, length: 64 * MIB });
    client.close();
    await must('nbdcopy', ['--connections=4', daemon.uri('a@kept'), file('snapshot')]);
    await must('nbdcopy', ['--connections=4', daemon.uri('b'), file('clone')]);
    t.equal(sha(file('snapshot')), sha(file('source')));
    t.equal(sha(file('clone')), sha(file('source')));
    t.ok((await daemon.api.check()).clean);
  });
});
