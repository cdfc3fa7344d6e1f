// The files of a small Debian with a kernel, as a tree: what both guests are made of. And what makes it one of the guests.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { run } from './command.js';

const PACKAGES = 'systemd-sysv,udev,kmod,util-linux,initramfs-tools,linux-image-cloud-amd64,zstd';
const UNNEEDED = ['doc', 'man', 'locale', 'info'];

/** Made once: a tree that is there already is used again. */
export async function makeRoot(tree) {
  if (existsSync(tree)) return;
  const part = `${tree}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part);
  const archive = `${tree}.tar`;
  await makeArchive(archive);
  await run('tar', ['-C', part, '-xpf', archive, '--exclude=./dev/*']);
  rmSync(archive);
  addFiles(part);
  renameSync(part, tree);
}

/** Not a folder: what is mounted in it meanwhile is mmdebstrap's to clean up, and nothing here removes it. */
async function makeArchive(archive) {
  const left = UNNEEDED.map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
  const plain = '--aptopt=APT::Install-Recommends "false"';
  const options = ['--mode=root', '--variant=minbase', `--include=${PACKAGES}`, '--quiet', plain, ...left];
  await run('mmdebstrap', [...options, codeName(), archive, ...aptSources()], { seconds: 1200 });
}

function codeName() {
  return /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))[1];
}

/** Where this machine gets its own packages from. */
function aptSources() {
  const folder = '/etc/apt/sources.list.d';
  const more = existsSync(folder) ? readdirSync(folder).map((name) => path.join(folder, name)) : [];
  const all = ['/etc/apt/sources.list', ...more].filter((file) => /\.(list|sources)$/.test(file));
  return all.filter((file) => existsSync(file) && readFileSync(file, 'utf8').trim() !== '');
}

/** Says on the serial console who it is and what it found, and switches off. In a machine with the serial number `writes` it writes on. */
const TELL = `#!/bin/sh
exec > /dev/ttyS0 2>&1
echo
echo "tell hostname $(uname -n)"
echo "tell machine-id $(cat /etc/machine-id)"
echo "tell ssh-key $(sha256sum < /etc/ssh/ssh_host_ed25519_key.pub | cut -c 1-16)"
echo "tell root-uuid $(findmnt -no UUID /)"
echo "tell data-uuid $(findmnt -no UUID /data)"
echo "tell data-mount $(findmnt -no SOURCE,FSTYPE,OPTIONS /data)"
echo "tell esp-uuid $(findmnt -no UUID /boot/efi)"
echo "tell marker $(cat /data/marker)"
echo "tell log $(tail -n 1 /data/log)"
echo "tell command-line $(cat /proc/cmdline)"
echo "tell emergency $(systemctl is-active emergency.target)"
number=0
while [ "$(cat /sys/class/dmi/id/product_serial)" = writes ]; do
  number=$((number + 1))
  dd if=/dev/urandom of=/data/file-$((number % 8)) bs=64k count=4 conv=fsync status=none
  dd if=/dev/urandom of=/var/tmp/file-$((number % 8)) bs=64k count=4 conv=fsync status=none
  echo "$number" >> /data/log
  sync /data/log
  echo "tell wrote $number"
done
echo "tell end"
systemctl poweroff --force
`;

const UNIT = `[Unit]
Description=Who this is
After=local-fs.target

[Service]
Type=oneshot
ExecStart=/usr/local/bin/tell

[Install]
WantedBy=multi-user.target
`;

/** Where a disk is not found systemd ends here; then that is told instead of a prompt. */
const EMERGENCY = `[Service]
ExecStartPre=
ExecStart=
ExecStart=/usr/local/bin/tell
`;

/** Cost seconds under emulation and show nothing here. */
const MASKED = ['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer'];
const MASKED_TOO = [
  'fstrim.timer',
  'systemd-timesyncd.service',
  'getty@tty1.service',
  'e2scrub_reap.service',
];

function addFiles(tree) {
  const units = path.join(tree, 'etc/systemd/system');
  writeFileSync(path.join(tree, 'usr/local/bin/tell'), TELL);
  chmodSync(path.join(tree, 'usr/local/bin/tell'), 0o755);
  writeFileSync(path.join(units, 'tell.service'), UNIT);
  mkdirSync(path.join(units, 'emergency.service.d'), { recursive: true });
  writeFileSync(path.join(units, 'emergency.service.d/tell.conf'), EMERGENCY);
  mkdirSync(path.join(units, 'multi-user.target.wants'), { recursive: true });
  symlinkSync('../tell.service', path.join(units, 'multi-user.target.wants/tell.service'));
  for (const unit of [...MASKED, ...MASKED_TOO, 'serial-getty@ttyS0.service']) {
    rmSync(path.join(units, unit), { force: true });
    symlinkSync('/dev/null', path.join(units, unit));
  }
  for (const folder of ['data', 'boot/efi', 'boot/grub', 'etc/ssh'])
    mkdirSync(path.join(tree, folder), { recursive: true });
  rmSync(path.join(tree, 'var/cache/apt'), { recursive: true, force: true });
}
