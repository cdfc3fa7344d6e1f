// The agent ends and comes back under a file system that is being written: nobody sees an error, and how long they wait is told.
import assert from 'node:assert/strict';
import { setTimeout as aWhile } from 'node:timers/promises';
import { must } from '../support/programs.js';
import { until } from '../support/waiting.js';
import { type FileSystem, type Machine, type VmCase, Writer } from './machine.js';

const ROUNDS = 3;
const IO_TIMEOUT = 3;
/** Some work gets done between two restarts; what it is does not matter. */
const BETWEEN_MS = 4000;

async function underLoad(machine: Machine, kind: FileSystem, how: 'stop' | 'kill'): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '512M');
  const words = ['--connections', '2', '--io-timeout', String(IO_TIMEOUT), '--dead-timeout', '120'];
  const device = await machine.attach('disk', ...words);
  await machine.format(device, kind);
  const where = await machine.mount(device);
  const writer = await Writer.start(where);
  const verified = machine.verify(where, (ROUNDS * BETWEEN_MS) / 1000 + ROUNDS * (IO_TIMEOUT + 3));
  for (let round = 0; round < ROUNDS; round++) {
    await aWhile(BETWEEN_MS);
    await machine.daemon.restart(how);
  }
  await verified;
  const { writes, longestMs } = await writer.stop();
  const label = how === 'kill' ? 'kill -9' : 'an orderly restart';
  machine.say(
    `${kind}, ${ROUNDS} times ${label}: 0 errors, ${writes} synced writes, longest stall ${longestMs} ms`,
  );
  await until('all connections', async () => (await machine.attached())[0]?.connected === 2);
  await machine.unmount(where);
  await machine.check(device, kind);
  await machine.must('detach', 'disk');
  assert.deepEqual(await machine.ioErrors(), []);
}

/** Nothing is under way: nothing is waited for. */
async function idle(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  for (const name of ['a', 'b', 'c']) {
    await machine.must('volume', 'create', name, '--size', '64M');
    await machine.format(await machine.attach(name), 'ext4');
  }
  await machine.must('snapshot', 'create', 'c@s');
  await machine.attach('c@s');
  const where = await machine.mount('/dev/nbd1');
  for (const how of ['kill', 'stop'] as const) {
    await machine.daemon.restart(how);
    const all = await machine.attached();
    assert.deepEqual(
      all.map(({ name, device, connected }) => [name, device, connected]),
      [
        ['a', '/dev/nbd0', 2],
        ['b', '/dev/nbd1', 2],
        ['c', '/dev/nbd2', 2],
        ['c@s', '/dev/nbd3', 2],
      ],
      'every device is the same as before',
    );
    const begun = performance.now();
    await must('dd', ['if=/dev/zero', `of=${where}/${how}`, 'bs=1M', 'count=4', 'conv=fsync', 'status=none']);
    machine.say(`idle, ${how}: ${Math.round(performance.now() - begun)} ms for a write afterwards`);
  }
  await machine.unmount(where);
  await machine.check('/dev/nbd1', 'ext4');
  // While the agent is away its volume grows in the catalog only.
  await machine.must('detach', 'a');
  await machine.daemon.restart('kill');
  assert.equal((await machine.attached()).length, 3, 'what was detached stays so');
  assert.deepEqual(await machine.ioErrors(), []);
}

export const restartCases: readonly VmCase[] = [
  { name: 'restart-idle', summary: 'devices are found again, by kill and by stop', run: idle },
  ...(['ext4', 'xfs'] as const).flatMap((kind): VmCase[] => [
    {
      name: `kill-${kind}`,
      summary: `kill -9 under fio and a writer on ${kind}: no error`,
      run: (machine) => underLoad(machine, kind, 'kill'),
    },
    {
      name: `restart-${kind}`,
      summary: `orderly restarts under fio and a writer on ${kind}: no error`,
      run: (machine) => underLoad(machine, kind, 'stop'),
    },
  ]),
];
