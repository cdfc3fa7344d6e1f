// Restarts of an agent that is as fast as the machine, under a real kernel that is not: the agent runs beside the guest, from the package and with a
// store of descriptors as under systemd, and the guest's driver reaches it by TCP.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as aWhile } from 'node:timers/promises';
import { ApiClient } from '../support/api-client.js';
import type { Teardown } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { must, Running, repositoryRoot } from '../support/programs.js';
import { TestServiceManager } from '../support/service-manager.js';
import { until } from '../support/waiting.js';
import type { GuestNetwork } from './guest-network.js';
import { type Beside, type Machine, type VmCase, Writer } from './machine.js';
import { packages } from './packages.js';

const HOST = '10.77.0.1';
const PORT = 10_809;
const ROUNDS = 5;
const IO_TIMEOUT = 3;
/** From the end of one restart to the next, and from the last one to the end. */
const BETWEEN_MS = { stop: 3_000, kill: 6_000 };
/** What a restart may take of the time the guest writes; it takes a tenth of that. */
const RESTART_MS = 10_000;

type How = keyof typeof BETWEEN_MS;

const NAMES: Record<How, string> = { stop: 'orderly restarts', kill: 'kill -9' };

/** In the guest: a file system on the agent's volume, which is written until the restarts are over. */
async function underLoad(machine: Machine, how: How): Promise<void> {
  await machine.loadDriver();
  const words = [HOST, PORT, 'disk', 0, 2, IO_TIMEOUT, 120].map(String);
  const link = new Running('python3', [path.join(repositoryRoot, 'test/vm/relink.py'), ...words]);
  await until('the device', () => {
    assert.ok(!link.isOver, link.output);
    return link.output.includes('connected');
  });
  await machine.format('/dev/nbd0', 'ext4');
  const where = await machine.mount('/dev/nbd0');
  const writer = await Writer.start(where);
  const seconds = ((BETWEEN_MS[how] + RESTART_MS) * ROUNDS) / 2 / 1000;
  const verified = machine.verify(where, seconds);
  machine.say('ready');
  await verified;
  const { writes, longestMs } = await writer.stop();
  machine.say(`0 errors, ${writes} synced writes, longest stall ${longestMs} ms`);
  await machine.unmount(where);
  await machine.check('/dev/nbd0', 'ext4');
  await link.stop();
  assert.deepEqual(await machine.ioErrors(), []);
  const again = link.output.split('again').length - 1;
  assert.equal(again > 0, how === 'kill', `connected anew ${again} times: ${link.output}`);
}

/** The agent of the package, in a place of this machine that the guest reaches. */
async function serve(t: Teardown, network: GuestNetwork, directory: string): Promise<TestServiceManager> {
  const [deb] = await packages();
  const root = path.join(directory, 'root');
  await must('dpkg-deb', ['-x', deb, root]);
  const home = path.join(root, 'usr/lib/cellblock');
  const api = path.join(directory, 'api');
  const manager = new TestServiceManager(t, {
    entrance: network.entrance,
    notify: path.join(directory, 'notify'),
    sockets: [],
    words: [
      ...[path.join(home, 'bin/node'), path.join(home, 'dist/src/main/cellblockd.js')],
      ...['--store', path.join(directory, 'store'), '--api', api],
      ...['--nbd', `tcp:${HOST}:${PORT}`, '--allow-remote-without-tls', '--keep-clients'],
    ],
  });
  await manager.message('READY');
  await new ApiClient(api).createVolume('disk', 256 * MIB);
  return manager;
}

const restarts =
  (how: How): Beside =>
  async (t, { network, guest, say }) => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-vm-agent-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const manager = await serve(t, network, directory);
    await guest.isReady;
    const away: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      await aWhile(BETWEEN_MS[how]);
      const begun = performance.now();
      await manager.end(how === 'kill' ? 'SIGKILL' : 'SIGTERM');
      await manager.start();
      away.push(Math.round(performance.now() - begun));
    }
    assert.ok(!guest.isOver, 'it wrote until the last restart was over');
    say(`${ROUNDS} times ${NAMES[how]}; ready again after ${away.join(', ')} ms`);
    await guest.over;
  };

export const remoteCases: readonly VmCase[] = (['stop', 'kill'] as const).map((how) => ({
  name: `remote-${how}`,
  summary: `${NAMES[how]} of an agent beside the guest, as fast as the machine: no error`,
  run: (machine: Machine) => underLoad(machine, how),
  beside: restarts(how),
}));
