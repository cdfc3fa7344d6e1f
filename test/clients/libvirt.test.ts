// libvirt's `<source protocol='nbd'>`: libvirt itself writes the command line of the machine (its QEMU driver, embedded, with a root of its
// own: no libvirtd runs), and QEMU opens the disk as that says.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { blockdevsIn, domainWith, nativeArguments, withoutLibvirt } from '../support/libvirt.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { Qmp } from '../support/qmp.js';
import { RawNbd } from '../support/raw-nbd.js';

t.setTimeout(300_000);

const SIZE = 64 * MIB;

/** The values of `-blockdev` of the command line libvirt writes for a disk of this source. */
async function blockdevsOf(directory: string, source: string): Promise<string[]> {
  const disk = `<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/>
    ${source}<target dev='vda' bus='virtio'/></disk>`;
  return blockdevsIn(await nativeArguments(directory, domainWith(disk)));
}

t.test('libvirt writes the command line, QEMU uses the disk', { skip: withoutLibvirt }, async (t) => {
  const port = 20_000 + (process.pid % 20_000);
  const daemon = await Daemon.start(t, { args: ['--nbd', `tcp:127.0.0.1:${port}`] });
  await daemon.api.createVolume('disk', SIZE);
  const hosts = [
    `<host transport='unix' socket='${daemon.nbdPath}'/>`,
    `<host name='127.0.0.1' port='${port}'/>`,
  ];
  for (const [index, host] of hosts.entries()) {
    // Short: libvirt puts sockets below it.
    const directory = mkdtempSync(path.join(tmpdir(), 'libvirt'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const blockdevs = await blockdevsOf(directory, `<source protocol='nbd' name='disk'>${host}</source>`);
    t.equal(blockdevs.length, 2, `${host}: protocol and format`);
    const words = ['-M', 'none', '-nodefaults', '-display', 'none', '-qmp', 'stdio'];
    const qemu = await Qmp.start(t, 'qemu-system-x86_64', [
      ...words,
      ...blockdevs.flatMap((value) => ['-blockdev', value]),
    ]);
    const value = 0x30 + index;
    await qemu.io('libvirt-1-format', `write -P ${value} 1M 64k`);
    await qemu.io('libvirt-1-format', `read -P ${value} 1M 64k`);
    await qemu.io('libvirt-1-format', 'flush');
    t.equal(await qemu.quit(), 0);
    const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
    const { data } = await client.command({ type: CMD.read, offset: MIB, length: 65536 });
    t.ok(data.equals(Buffer.alloc(65536, value)), 'what QEMU wrote');
    await client.leave();
  }
  t.ok((await daemon.api.check()).clean);
});
