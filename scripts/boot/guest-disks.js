// The disks of one guest as raw images: a boot disk (GPT, an ESP with Debian's GRUB, ext4) and a data disk (XFS), and what the guest knows
// itself and them by. No device of the machine is needed: file systems are made in files and put into the disk.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { run } from './command.js';

const ESP_MIB = 64;
const ROOT_MIB = 640;
/** The table before, its copy behind. */
const DISK_MIB = 1 + ESP_MIB + ROOT_MIB + 1;
const DATA_MIB = 320;
const GRUB = '/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed';

/** A name and everything that tells a guest from another one. */
export function newGuest(name, marker) {
  const serial = randomBytes(4).toString('hex').toUpperCase();
  return {
    name,
    marker,
    machineId: randomBytes(16).toString('hex'),
    rootUuid: randomUUID(),
    dataUuid: randomUUID(),
    espUuid: `${serial.slice(0, 4)}-${serial.slice(4)}`,
    vmUuid: randomUUID(),
    mac: `52:54:00:${randomBytes(3).toString('hex').match(/../g).join(':')}`,
  };
}

/** Answers the images. */
export async function makeDisks(guest, { tree, folder }) {
  const boot = path.join(folder, `${guest.name}-boot.img`);
  const data = path.join(folder, `${guest.name}-data.img`);
  await personalize(guest, tree);
  await makeBootDisk(guest, { tree, boot, folder });
  await makeDataDisk(guest, { data, folder });
  return { boot, data };
}

/** The guest knows its own key afterwards. */
async function personalize(guest, tree) {
  const { name, machineId, rootUuid, dataUuid, espUuid } = guest;
  const write = (file, text) => writeFileSync(path.join(tree, file), text);
  write('etc/hostname', `${name}\n`);
  write('etc/hosts', '127.0.0.1 localhost\n');
  write('etc/machine-id', `${machineId}\n`);
  write(
    'etc/fstab',
    [
      `UUID=${rootUuid} / ext4 errors=remount-ro 0 1`,
      `UUID=${espUuid} /boot/efi vfat umask=0077 0 1`,
      `UUID=${dataUuid} /data xfs x-systemd.device-timeout=60s 0 2`,
      '',
    ].join('\n'),
  );
  write('boot/grub/grub.cfg', grubConfiguration(rootUuid, kernelVersion(tree)));
  const key = path.join(tree, 'etc/ssh/ssh_host_ed25519_key');
  for (const file of [key, `${key}.pub`]) rmSync(file, { force: true });
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `root@${name}`, '-f', key]);
  guest.sshKey = createHash('sha256')
    .update(readFileSync(`${key}.pub`))
    .digest('hex')
    .slice(0, 16);
}

function kernelVersion(tree) {
  const kernel = readdirSync(path.join(tree, 'boot')).find((name) => name.startsWith('vmlinuz-'));
  return kernel.slice('vmlinuz-'.length);
}

/** What update-grub would write, without a menu. */
function grubConfiguration(uuid, version) {
  return `search --no-floppy --fs-uuid --set=root ${uuid}
linux /boot/vmlinuz-${version} root=UUID=${uuid} ro console=ttyS0,115200 quiet
initrd /boot/initrd.img-${version}
boot
`;
}

/** As grub-install writes it beside the signed GRUB: from the ESP on to the file system with /boot. */
function grubStub(uuid) {
  return `search.fs_uuid ${uuid} root hd0,gpt2
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
`;
}

async function makeBootDisk(guest, { tree, boot, folder }) {
  const esp = await makeEsp(guest, folder);
  const root = path.join(folder, 'root.part');
  emptyFile(root, ROOT_MIB);
  await run('mkfs.ext4', ['-q', '-U', guest.rootUuid, '-L', `${guest.name}-root`, '-d', tree, root]);
  emptyFile(boot, DISK_MIB);
  const espPart = ['-n', `1:2048:+${ESP_MIB}M`, '-t', '1:ef00', '-c', '1:EFI System Partition'];
  const rootPart = ['-n', `2:0:+${ROOT_MIB}M`, '-t', '2:8304', '-c', `2:${guest.name}-root`];
  await run('sgdisk', [...espPart, ...rootPart, boot]);
  await putInto(boot, esp, 1);
  await putInto(boot, root, 1 + ESP_MIB);
  for (const file of [esp, root]) rmSync(file);
}

async function makeEsp({ name, espUuid, rootUuid }, folder) {
  const esp = path.join(folder, 'esp.part');
  const stub = path.join(folder, 'stub.cfg');
  emptyFile(esp, ESP_MIB);
  writeFileSync(stub, grubStub(rootUuid));
  await run('mkfs.fat', ['-F', '32', '-s', '1', '-i', espUuid.replace('-', ''), '-n', `ESP-${name}`, esp]);
  await run('mmd', ['-i', esp, '::/EFI', '::/EFI/BOOT', '::/EFI/debian']);
  await run('mcopy', ['-i', esp, GRUB, '::/EFI/BOOT/BOOTX64.EFI']);
  await run('mcopy', ['-i', esp, stub, '::/EFI/debian/grub.cfg']);
  rmSync(stub);
  return esp;
}

/** A prototype has mkfs put the marker in. */
async function makeDataDisk({ name, dataUuid, marker }, { data, folder }) {
  const markerFile = path.join(folder, 'marker');
  const prototype = path.join(folder, 'prototype');
  writeFileSync(markerFile, `${marker}\n`);
  writeFileSync(prototype, `/\n0 0\nd--755 0 0\nmarker ---644 0 0 ${markerFile}\n$\n`);
  emptyFile(data, DATA_MIB);
  await run('mkfs.xfs', ['-q', '-m', `uuid=${dataUuid}`, '-L', `${name}-data`, '-p', prototype, data]);
  for (const file of [markerFile, prototype]) rmSync(file);
}

function emptyFile(file, mebibytes) {
  mkdirSync(path.dirname(file), { recursive: true });
  rmSync(file, { force: true });
  writeFileSync(file, '');
  truncateSync(file, mebibytes * 2 ** 20);
}

async function putInto(disk, part, atMebibyte) {
  const place = [`if=${part}`, `of=${disk}`, 'bs=1M', `seek=${atMebibyte}`];
  await run('dd', [...place, 'conv=notrunc,sparse', 'status=none']);
}

/** The virtual machine as libvirt describes it. */
export function domainXml({ name, vmUuid, mac }, socket) {
  const disk = (part, target) => `    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <source protocol='nbd' name='${name}-${part}'><host transport='unix' socket='${socket}'/></source>
      <target dev='${target}' bus='virtio'/>
    </disk>`;
  return `<domain type='qemu'>
  <name>${name}</name>
  <uuid>${vmUuid}</uuid>
  <memory unit='MiB'>384</memory>
  <os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <devices>
${disk('boot', 'vda')}
${disk('data', 'vdb')}
    <interface type='network'><mac address='${mac}'/><source network='default'/></interface>
  </devices>
</domain>
`;
}
