// The package on a machine with systemd: from the first install to a mounted file system, restarts by systemd of every kind under load,
// an upgrade, and a reboot with an entry in fstab. Commands are those a user types.
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as aWhile } from 'node:timers/promises';
import { must, Running, run } from '../support/programs.js';
import { until } from '../support/waiting.js';
import { type Machine, type VmCase, Writer } from './machine.js';

const JOB = '/run/job';
const SITE = '/srv/web';
/** Some work gets done between two restarts; what it is does not matter. */
const BETWEEN_MS = 4000;

const words = (line: string): string[] => line.split(' ');
const shell = (line: string): Promise<string> => must(words(line)[0]!, words(line).slice(1));

/** The older and the newer package. */
function packages(): [string, string] {
  const [first, second] = readdirSync(JOB)
    .filter((name) => name.endsWith('.deb'))
    .sort()
    .map((name) => path.join(JOB, name));
  return [first!, second!];
}

/** Types a command and shows it with what it says. */
async function type(machine: Machine, line: string): Promise<string> {
  machine.say(`# ${line}`);
  const said = await shell(line);
  for (const each of said.trimEnd().split('\n')) if (each !== '') machine.say(each);
  return said;
}

async function property(unit: string, name: string): Promise<string> {
  return (await must('systemctl', ['show', '-P', name, unit])).trim();
}

async function install(machine: Machine): Promise<void> {
  const [older] = packages();
  await type(machine, `dpkg -i ${older}`);
  assert.match(await shell('findmnt -n -o PROPAGATION /'), /shared/);
  const state = await property('cellblockd', 'ActiveState');
  if (state !== 'active')
    machine.say((await run('systemctl', ['status', '--no-pager', 'cellblockd'])).stdout);
  assert.equal(state, 'active');
}

/** Five commands on a bare machine: what docs/install.md shows. */
async function firstInstall(machine: Machine): Promise<void> {
  await install(machine);
  await type(machine, 'cellblock volume create web --size 512M');
  await type(machine, 'cellblock attach web');
  await type(machine, 'mkfs.ext4 -qF /dev/nbd0');
  mkdirSync(SITE, { recursive: true });
  await type(machine, `mount /dev/nbd0 ${SITE}`);
  await type(machine, `df -h ${SITE}`);
  const named = '/dev/cellblock/web';
  await until('the name of the device', () => existsSync(named));
  assert.equal(realpathSync(named), '/dev/nbd0');
  // It is told every ten seconds.
  await until('a status', async () =>
    /^Serving 1 volume to \d+ clients?$/.test(await property('cellblockd', 'StatusText')),
  );
  assert.equal(await property('cellblockd', 'WatchdogUSec'), '30s');
  // Removing it now would take the disk away from under the file system.
  const refused = await run('dpkg', ['-r', 'cellblock']);
  assert.notEqual(refused.code, 0, 'it is not removed from under a mounted file system');
  assert.equal(await property('cellblockd', 'ActiveState'), 'active', 'and goes on');
  await shell('cellblock volume rename web www');
  await until('the new name', () => existsSync('/dev/cellblock/www') && !existsSync(named));
  await shell('cellblock volume rename www web');
  await shell(`umount ${SITE}`);
  await shell('cellblock detach web');
  await until('the end of the name', () => !existsSync(named));
  await type(machine, 'dpkg -r cellblock');
  assert.ok(existsSync('/var/lib/cellblock'), 'the store stays');
  assert.ok(existsSync('/etc/cellblock/cellblock.yaml'), 'so does what was configured');
  const [, newer] = packages();
  await shell(`dpkg -i ${newer}`);
  assert.match(await shell('cellblock volume list'), /^web /m, 'installed again, the volume is there');
  await type(machine, 'dpkg -P cellblock');
  assert.ok(!existsSync('/etc/cellblock'), 'purged: the configuration goes');
  assert.ok(existsSync('/var/lib/cellblock'), 'volumes are never thrown away');
}

interface Kind {
  name: string;
  how: () => Promise<unknown>;
  /** Clients and devices keep their connections. */
  keeps: boolean;
}

/** Clients of every kind, while systemd ends and starts the agent in every way it has. */
async function restarts(machine: Machine): Promise<void> {
  await install(machine);
  await shell('cellblock volume create web --size 512M');
  await shell('cellblock volume create vm --size 64M');
  await shell('cellblock attach web');
  await machine.format('/dev/nbd0', 'ext4');
  await shell('cellblock detach web');
  mkdirSync(SITE, { recursive: true });
  const [, newer] = packages();
  // An agent starts slowly in this guest; requests that wait in their connections shall not time out meanwhile.
  await underLoad(machine, 60, [
    { name: 'systemctl restart', how: () => shell('systemctl restart cellblockd'), keeps: true },
    { name: 'upgrade (dpkg -i)', how: () => shell(`dpkg -i ${newer}`), keeps: true },
  ]);
  assert.doesNotMatch(await must('dmesg', []), /block nbd0: (Receive|Send) control failed|Dead connection/);
  await underLoad(machine, 3, [
    {
      name: 'restart longer than the I/O timeout',
      how: () => shell('systemctl restart cellblockd'),
      keeps: true,
    },
  ]);
  await underLoad(machine, 10, [
    { name: 'kill -9', how: () => shell('systemctl kill -s KILL cellblockd'), keeps: false },
    // systemd's watchdog has to find it.
    { name: 'hangs', how: () => shell('systemctl kill -s STOP cellblockd'), keeps: false },
  ]);
  assert.match(await shell('cellblock store check'), /clean|no problem|in order/i);
}

async function underLoad(machine: Machine, ioTimeout: number, kinds: readonly Kind[]): Promise<void> {
  await shell(`cellblock attach web --io-timeout ${ioTimeout}`);
  await shell(`mount /dev/nbd0 ${SITE}`);
  for (const kind of kinds) await once(machine, kind);
  assert.deepEqual(await machine.ioErrors(), []);
  await shell(`umount ${SITE}`);
  await machine.check('/dev/nbd0', 'ext4');
  await shell('cellblock detach web');
}

async function once(machine: Machine, { name, how, keeps }: Kind): Promise<void> {
  const writer = await Writer.start(SITE);
  const client = new Running('fio', [
    ...words('--name=client --ioengine=nbd --rw=randwrite --bs=4k --size=32M --iodepth=4 --rate_iops=200'),
    ...words('--verify=crc32c --verify_state_save=0 --verify_fatal=1 --time_based --runtime=600 --eta=never'),
    '--uri=nbd+unix:///vm?socket=/run/cellblock/nbd.sock',
  ]);
  await aWhile(BETWEEN_MS);
  const before = await property('cellblockd', 'MainPID');
  await how();
  await until(
    `another agent after: ${name}`,
    async () => {
      const now = await property('cellblockd', 'MainPID');
      return now !== '0' && now !== before && (await property('cellblockd', 'ActiveState')) === 'active';
    },
    { everyMs: 200, hangMs: 180_000 },
  );
  const [left, back] = await Promise.all(
    ['ActiveExitTimestampMonotonic', 'ActiveEnterTimestampMonotonic'].map((one) =>
      property('cellblockd', one),
    ),
  );
  const awayMs = Math.round((Number(back) - Number(left)) / 1000);
  await aWhile(BETWEEN_MS);
  assert.equal(
    client.isOver,
    !keeps,
    `${name}: the NBD client ${keeps ? 'goes on' : 'is told'}: ${client.output}`,
  );
  await client.stop('SIGKILL');
  const { writes, longestMs } = await writer.stop();
  const stayed = keeps ? 'stayed connected' : 'had to connect again';
  machine.say(
    `${name}: 0 errors, ${writes} synced writes, longest stall ${longestMs} ms, the agent was away for ${awayMs} ms; ` +
      `a client over the unix socket ${stayed}`,
  );
}

/** nbd-client, by the line that docs/kernel-devices.md has for it. */
async function nbdtab(machine: Machine): Promise<void> {
  await shell('cellblock volume create tab --size 64M');
  appendFileSync('/etc/nbdtab', 'nbd5 /run/cellblock/nbd.sock tab unix,conns=2,timeout=10\n');
  await shell('nbd-client nbd5');
  await until('its size', () => readFileSync('/sys/block/nbd5/size', 'utf8').trim() === '131072');
  const shown = JSON.parse(await shell('cellblock volume show tab --json')) as { connections: number };
  assert.equal(shown.connections, 2);
  await machine.format('/dev/nbd5', 'ext4');
  await machine.check('/dev/nbd5', 'ext4');
  await shell('nbd-client -d /dev/nbd5');
}

/** A volume in fstab is there after a reboot, and was unmounted before the agent went. */
async function reboot(machine: Machine, boot: number): Promise<void> {
  if (boot === 1) {
    await install(machine);
    await shell('cellblock volume create web --size 256M');
    await shell('systemctl enable --now cellblock-attach@web.service');
    await machine.format('/dev/nbd0', 'ext4');
    mkdirSync(SITE, { recursive: true });
    const options = 'defaults,_netdev,nofail,x-systemd.requires=cellblock-attach@web.service';
    appendFileSync('/etc/fstab', `/dev/cellblock/web ${SITE} ext4 ${options} 0 2\n`);
    await shell('systemctl daemon-reload');
    await shell(`mount ${SITE}`);
    writeFileSync(path.join(SITE, 'kept'), 'as it was');
    await nbdtab(machine);
    return;
  }
  await until('the mount', async () => (await run('mountpoint', ['-q', SITE])).code === 0);
  assert.equal(readFileSync(path.join(SITE, 'kept'), 'utf8'), 'as it was');
  assert.equal(await property('cellblock-attach@web', 'ActiveState'), 'active');
  const log = await must('dmesg', []);
  assert.doesNotMatch(log, /EXT4-fs \(nbd0\): recovery/, 'it had been unmounted in order');
  assert.deepEqual(await machine.ioErrors(), []);
  machine.say(`after the reboot: ${(await must('findmnt', ['-n', SITE])).trim()}`);
  await shell(`umount ${SITE}`);
  await machine.check('/dev/nbd0', 'ext4');
  await shell('systemctl stop cellblock-attach@web.service');
  assert.match(await shell('cellblock attach list'), /^Nothing is attached/);
}

export const systemdCases: readonly VmCase[] = [
  {
    name: 'install',
    summary: 'the package: first install to a mounted file system, remove, purge',
    systemd: true,
    run: firstInstall,
  },
  {
    name: 'systemd-restarts',
    summary: 'restart, upgrade, kill -9 and a hang under systemd: no error',
    systemd: true,
    run: restarts,
  },
  { name: 'fstab', summary: 'a volume in fstab through a reboot', systemd: true, boots: 2, run: reboot },
];
