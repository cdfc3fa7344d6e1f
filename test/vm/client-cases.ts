// nbd-client as the one who attaches, beside us: over unix and TCP, with four connections, and where it makes new ones itself.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { must, Running } from '../support/programs.js';
import { until } from '../support/waiting.js';
import type { Machine, VmCase } from './machine.js';

async function nbdClient(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start(['--nbd', 'tcp:127.0.0.1:10809']);
  await machine.must('volume', 'create', 'disk', '--size', '256M');
  const ways: [string, string[]][] = [
    ['unix', ['-unix', machine.daemon.nbdPath]],
    ['tcp', ['127.0.0.1', '10809']],
  ];
  for (const [way, where] of ways) {
    await must('nbd-client', [...where, '/dev/nbd0', '-N', 'disk', '-b', '4096', '-C', '4']);
    await until('its size', async () => (await sizeOf(0)) === 256 * 2 ** 20);
    const { connections } = JSON.parse(await machine.must('volume', 'show', 'disk', '--json')) as {
      connections: number;
    };
    assert.equal(connections, 4, way);
    await machine.format('/dev/nbd0', 'ext4');
    const mounted = await machine.mount('/dev/nbd0');
    await machine.verify(mounted, 3);
    await machine.unmount(mounted);
    await machine.check('/dev/nbd0', 'ext4');
    assert.equal(await machine.attach('disk'), '/dev/nbd1', 'ours is beside it');
    await machine.must('detach', 'disk');
    await must('nbd-client', ['-d', '/dev/nbd0']);
    await until('its end', async () => (await sizeOf(0)) === 0);
  }
  assert.deepEqual(await machine.ioErrors(), []);
}

async function sizeOf(index: number): Promise<number> {
  return Number(readFileSync(`/sys/block/nbd${index}/size`, 'utf8')) * 512;
}

/** It holds requests over the restart of a server by itself, when there were any. */
async function persistent(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  await machine.must('volume', 'create', 'disk', '--size', '64M');
  const words = [
    '-unix',
    machine.daemon.nbdPath,
    '/dev/nbd0',
    '-N',
    'disk',
    '-nonetlink',
    '-persist',
    '-nofork',
  ];
  const client = new Running('nbd-client', words);
  await until('its size', async () => (await sizeOf(0)) === 64 * 2 ** 20);
  await must('dd', ['if=/dev/zero', 'of=/dev/nbd0', 'bs=1M', 'count=4', 'oflag=direct', 'status=none']);
  await machine.daemon.restart('stop');
  const again = await until('what became of it', async () => {
    if (client.isOver) return 'it has ended';
    const { connections } = JSON.parse(await machine.must('volume', 'show', 'disk', '--json')) as {
      connections: number;
    };
    return connections > 0 && 'it is connected again';
  });
  machine.say(`nbd-client -persist, after an orderly restart: ${again}`);
  if (!client.isOver) {
    await must('dd', ['if=/dev/zero', 'of=/dev/nbd0', 'bs=1M', 'count=4', 'oflag=direct', 'status=none']);
    await must('nbd-client', ['-d', '/dev/nbd0']);
    await client.ended;
  }
}

export const clientCases: readonly VmCase[] = [
  { name: 'nbd-client', summary: 'unix and TCP, four connections, beside ours', run: nbdClient },
  { name: 'nbd-client-persist', summary: '-persist over a restart', run: persistent },
];
