// libvirt's `<source protocol='nbd'>`: libvirt itself writes the command line of the machine (its QEMU driver, embedded, with a root of its
// own: no libvirtd runs), and QEMU opens the disk as that says.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, must } from '../support/programs.js';
import { Qmp } from '../support/qmp.js';
import { RawNbd } from '../support/raw-nbd.js';

t.setTimeout(300_000);

const SIZE = 64 * MIB;

/** In a mount namespace with the user that Debian's set-up of libvirtd would have made, which the driver looks up. */
const WITH_USER = `
set -e
cd "$1"
cp /etc/passwd /etc/group .
echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >> passwd
echo 'libvirt-qemu:x:64055:' >> group
grep -q '^kvm:' group || echo 'kvm:x:64056:' >> group
mount --bind passwd /etc/passwd
mount --bind group /etc/group
exec virsh -q -c "qemu:///embed?root=$1/root" domxml-to-native qemu-argv "$1/domain.xml"
`;

const skip =
  missing('virsh', 'virt-qemu-run', 'qemu-system-x86_64', 'unshare') ||
  (process.getuid?.() !== 0 && 'needs root, for a mount namespace');

/** The values of `-blockdev` of the command line libvirt writes for a disk of this source. */
async function blockdevsOf(directory: string, source: string): Promise<string[]> {
  mkdirSync(path.join(directory, 'root/etc'), { recursive: true });
  writeFileSync(
    path.join(directory, 'root/etc/qemu.conf'),
    'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n',
  );
  const disk = `<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/>
    ${source}<target dev='vda' bus='virtio'/></disk>`;
  writeFileSync(
    path.join(directory, 'domain.xml'),
    `<domain type='qemu'><name>machine</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
    <os><type arch='x86_64'>hvm</type></os>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${disk}</devices></domain>`,
  );
  const line = await must('unshare', ['-m', 'sh', '-c', WITH_USER, 'sh', directory]);
  return [...line.matchAll(/-blockdev '([^']+)'/g)].map(([, value]) => value as string);
}

t.test('libvirt writes the command line, QEMU uses the disk', { skip }, async (t) => {
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
