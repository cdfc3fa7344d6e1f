// QEMU's programs against the daemon: qemu-img (convert, compare, map) and qemu-io.
import path from 'node:path';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';

/** Runs commands of qemu-io on an export; its output must tell of no failure. */
async function qemuIo(daemon: Daemon, name: string, ...commands: string[]): Promise<string> {
  const words = commands.flatMap((command) => ['-c', command]);
  const outcome = await run('qemu-io', ['-f', 'raw', '-t', 'writeback', ...words, daemon.uri(name)]);
  const isBad = outcome.code !== 0 || /failed|error/i.test(outcome.stdout + outcome.stderr);
  if (isBad) throw new Error(outcome.story);
  return outcome.stdout;
}

t.test('qemu-img convert and compare', { skip: missing('qemu-img', 'qemu-io') }, async (t) => {
  const daemon = await Daemon.start(t);
  const source = path.join(daemon.directory, 'source.qcow2');
  await must('qemu-img', ['create', '-q', '-f', 'qcow2', source, '64M']);
  const fill = ['write -P 1 0 1M', 'write -P 2 10M 100k', 'write -z 20M 4M', 'write -P 3 63M 1M'];
  await must('qemu-io', [...fill.flatMap((command) => ['-c', command]), source]);

  await t.test('a qcow2 image goes into a volume and comes back the same', async (t) => {
    await daemon.api.createVolume('disk', 64 * MIB);
    await must('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'raw', source, daemon.uri('disk')]);
    t.equal((await run('qemu-img', ['compare', '-F', 'raw', source, daemon.uri('disk')])).code, 0);
    const back = path.join(daemon.directory, 'back.qcow2');
    await must('qemu-img', [
      'convert',
      '-m',
      '8',
      '-W',
      '-f',
      'raw',
      '-O',
      'qcow2',
      daemon.uri('disk'),
      back,
    ]);
    t.equal((await run('qemu-img', ['compare', source, back])).code, 0);
  });

  await t.test(
    'a snapshot compares equal until the volume changes, and stays equal to the source',
    async (t) => {
      await daemon.api.snapshot('disk@s');
      const compare = async (one: string, two: string): Promise<number | null> =>
        (await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', daemon.uri(one), daemon.uri(two)])).code;
      t.equal(await compare('disk', 'disk@s'), 0);
      await qemuIo(daemon, 'disk', 'write -P 9 10M 4k');
      t.equal(await compare('disk', 'disk@s'), 1, 'they differ');
      await daemon.api.clone('disk@s', 'twin');
      t.equal(await compare('twin', 'disk@s'), 0);
      t.equal((await run('qemu-img', ['compare', '-F', 'raw', source, daemon.uri('disk@s')])).code, 0);
    },
  );

  await t.test('map tells data from holes', async (t) => {
    await daemon.api.createVolume('sparse', 64 * MIB);
    await qemuIo(daemon, 'sparse', 'write -P 1 4M 64k', 'write -P 2 9M 4k');
    type Range = { start: number; length: number; zero: boolean; data: boolean };
    const text = await must('qemu-img', ['map', '-f', 'raw', '--output=json', daemon.uri('sparse')]);
    const data = (JSON.parse(text) as Range[]).filter((range) => range.data);
    t.same(
      data.map(({ start, length }) => [start, length]),
      [
        [4 * MIB, 65536],
        [9 * MIB, 4096],
      ],
    );
  });
});

t.test('qemu-io', { skip: missing('qemu-io') }, async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', 64 * MIB);

  await t.test('patterns at any alignment read back as written', async (t) => {
    await qemuIo(
      daemon,
      'disk',
      'write -P 0x11 0 4M',
      'write -P 0x22 1 1',
      'write -P 0x33 4095 2',
      'write -P 0x44 2097151 513',
    );
    await qemuIo(
      daemon,
      'disk',
      'read -P 0x11 0 1',
      'read -P 0x22 1 1',
      'read -P 0x11 2 4093',
      'read -P 0x33 4095 2',
      'read -P 0x44 2097151 513',
      'read -P 0x11 2097664 1M',
    );
    t.pass('every pattern was there');
  });

  await t.test('a snapshot keeps the patterns that the volume loses', async (t) => {
    await daemon.api.snapshot('disk@a');
    await qemuIo(daemon, 'disk', 'write -z 512 1M', 'discard 2M 1M', 'write -P 0x77 3000001 7', 'flush');
    await qemuIo(daemon, 'disk', 'read -P 0 512 1M', 'read -P 0x77 3000001 7', 'read -P 0x11 0 1');
    const snapshot = [
      '-r',
      '-f',
      'raw',
      '-c',
      'read -P 0x11 5000 1M',
      '-c',
      'read -P 0x44 2097151 513',
      daemon.uri('disk@a'),
    ];
    const outcome = await run('qemu-io', snapshot);
    t.notMatch(outcome.stdout, /failed/, outcome.story);
    t.equal(outcome.code, 0);
  });

  await t.test('FUA, zero writes that keep their space, and many requests at once', async (t) => {
    const commands = ['write -f -P 5 8M 64k', 'write -z -f 8M 4k', 'write -zu 9M 1M'];
    for (let i = 0; i < 32; i++) commands.push(`aio_write -P ${i + 1} ${16 * MIB + i * 5000} 5000`);
    commands.push('aio_flush');
    for (let i = 0; i < 32; i++) commands.push(`read -P ${i + 1} ${16 * MIB + i * 5000} 5000`);
    await qemuIo(daemon, 'disk', ...commands);
    t.ok((await daemon.api.check()).clean);
  });
});
