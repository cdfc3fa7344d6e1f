// libvirt's own opinion of a domain: the command line of QEMU it makes of it. Its QEMU driver runs embedded, with a root of its own: no libvirtd.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { missing, must } from './programs.js';

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

export const withoutLibvirt =
  missing('virsh', 'virt-qemu-run', 'qemu-system-x86_64', 'unshare') ||
  (process.getuid?.() !== 0 && 'needs root, for a mount namespace');

/** A machine with this disk, and this beside its devices. */
export function domainWith(disk: string, besides = ''): string {
  return `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <name>machine</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
    <os><type arch='x86_64'>hvm</type></os>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${disk}</devices>${besides}</domain>`;
}

/** The values of `-blockdev`. */
export function blockdevsIn(words: readonly string[]): string[] {
  return words.filter((_, at) => words[at - 1] === '-blockdev');
}

/** The words of the command line. `directory`: one with a short name, for sockets. */
export async function nativeArguments(directory: string, domain: string): Promise<string[]> {
  mkdirSync(path.join(directory, 'root/etc'), { recursive: true });
  writeFileSync(
    path.join(directory, 'root/etc/qemu.conf'),
    'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n',
  );
  writeFileSync(path.join(directory, 'domain.xml'), domain);
  const line = await must('unshare', ['-m', 'sh', '-c', WITH_USER, 'sh', directory]);
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}
