// fio's nbd engine with verification against the daemon, with snapshots and clones taken in the middle.
import path from 'node:path';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { byEffort } from '../support/effort.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, Running } from '../support/programs.js';

const SIZE_MIB = byEffort({ quick: 32, normal: 48, long: 1024 });

const job = (daemon: Daemon, name: string, words: string[]): string[] => [
  `--name=${name}`,
  '--ioengine=nbd',
  `--uri=${daemon.uri(name)}`,
  `--size=${SIZE_MIB}M`,
  '--verify_state_save=0',
  '--verify_fatal=1',
  '--eta=never',
  ...words,
];

const noNbdEngine = missing('fio');

t.test('random writes of mixed sizes verify', { skip: noNbdEngine }, async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', SIZE_MIB * MIB);
  const mixes = [
    ['--rw=randwrite', '--bsrange=512-128k', '--bs_unaligned', '--iodepth=16', '--verify=crc32c'],
    ['--rw=randrw', '--bs=4k', '--iodepth=32', '--verify=crc32c', '--fsync=64'],
    ['--rw=write', '--bs=1M', '--iodepth=4', '--verify=crc32c'],
    ['--rw=randtrimwrite', '--bs=4k', '--iodepth=8', '--verify=crc32c', '--verify_backlog=64'],
  ];
  for (const words of mixes) {
    await t.resolves(must('fio', job(daemon, 'disk', words), { cwd: daemon.directory }), words.join(' '));
  }
  t.ok((await daemon.api.check()).clean);
});

t.test('writes verify while snapshots are taken, cloned and deleted', { skip: noNbdEngine }, async (t) => {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('disk', SIZE_MIB * MIB);
  const words = ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--verify=crc32c', '--loops=2', '--fsync=256'];
  const log = path.join(daemon.directory, 'fio.log');
  const fio = new Running('fio', [...job(daemon, 'disk', words), `--output=${log}`], {
    cwd: daemon.directory,
  });
  let rounds = 0;
  while (!fio.isOver) {
    const name = `disk@s${rounds}`;
    await daemon.api.snapshot(name);
    await daemon.api.clone(name, `clone${rounds}`);
    if (rounds > 0) await daemon.api.deleteSnapshot(`disk@s${rounds - 1}`);
    if (rounds > 1) await daemon.api.deleteVolume(`clone${rounds - 2}`);
    rounds++;
  }
  t.equal((await fio.ended).code, 0, fio.output);
  t.ok(rounds > 0, `${rounds} snapshots meanwhile`);
  t.ok((await daemon.api.check()).clean);
});
