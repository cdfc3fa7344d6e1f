// Makes a machine ready: Debian packages, npm packages, both builds. Plain Node, so it runs on a fresh checkout.
//
//   node scripts/setup.js start|test|package|bench|boot|fuzz|vm
//
// What is there already is left alone: when nothing is missing this ends within a second. What cannot be put right
// here is said in one sentence with the command that does it, and the exit code is 1.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildNative, buildTypeScript } from './build.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const compiling = ['python3', 'make', 'g++', 'libssl-dev'];
const fuzzing = ['clang-14', 'libclang-rt-14-dev', 'llvm-14'];
/** Debian packages by purpose. Only those of `start` are indispensable; tests say what they had to skip. */
const debianPackages = {
  start: compiling,
  test: [
    ...compiling,
    'clang-format',
    'qemu-utils',
    'nbdkit',
    'nbd-server',
    'fio',
    'libnbd-bin',
    'libnbd-dev',
    'python3-libnbd',
    'nbd-client',
    'qemu-system-x86',
    'openssl',
    'fuse3',
    'mount',
    'e2fsprogs',
    'xfsprogs',
    'btrfs-progs',
    'gdisk',
    'fdisk',
    'dosfstools',
    'mtools',
    'exfatprogs',
    'ntfs-3g',
    'cryptsetup-bin',
    'mdadm',
    'lvm2',
    'libvirt-clients',
    'libvirt-daemon',
    'libvirt-daemon-driver-qemu',
    'libxml2-utils',
    'etcd-server',
    'iproute2',
    'util-linux',
    'binutils',
    'zsh',
    'fish',
    'man-db',
    'groff-base',
    'mandoc',
    ...fuzzing,
  ],
  package: [...compiling, 'binutils'],
  fuzz: [...compiling, ...fuzzing],
  bench: [
    ...compiling,
    'qemu-utils',
    'nbdkit',
    'nbd-server',
    'fio',
    'libnbd-bin',
    'openssl',
    'fuse3',
    'mount',
    'e2fsprogs',
    'xfsprogs',
    'btrfs-progs',
  ],
  vm: [
    ...compiling,
    'user-mode-linux',
    'util-linux',
    'mount',
    'kmod',
    'iproute2',
    'nbd-client',
    'e2fsprogs',
    'xfsprogs',
    'gdisk',
    'fio',
  ],
  boot: [
    ...compiling,
    'mmdebstrap',
    'qemu-system-x86',
    'ovmf',
    'grub-efi-amd64-signed',
    'mtools',
    'dosfstools',
    'e2fsprogs',
    'xfsprogs',
    'gdisk',
    'openssh-client',
  ],
};

class SetupError extends Error {}

function fail(sentence) {
  throw new SetupError(sentence);
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options });
}

function missingDebianPackages(purpose) {
  const wanted = debianPackages[purpose];
  const asked = run('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n', ...wanted]);
  if (asked.error) return null; // no dpkg: not a Debian
  const installed = new Set(
    asked.stdout
      .split('\n')
      .filter((line) => line.startsWith('installed '))
      .map((line) => line.split(' ')[1]),
  );
  return wanted.filter((name) => !installed.has(name));
}

/** What `apt-get` has to be called with to change the system, or null when this user may not. */
function rootPrefix() {
  if (process.getuid() === 0) return [];
  return run('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : null;
}

function aptGet(prefix, args) {
  const [command, ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args];
  return run(command, rest, { stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
}

function installDebianPackages(purpose) {
  const missing = missingDebianPackages(purpose);
  if (missing === null) {
    console.error(
      `setup: no dpkg here, so these have to be installed by hand: ${debianPackages[purpose].join(' ')}`,
    );
    return;
  }
  if (missing.length === 0) return;
  const byHand = `apt-get install ${missing.join(' ')}`;
  const prefix = rootPrefix();
  if (prefix !== null) {
    console.error(`setup: installing Debian packages: ${missing.join(' ')}`);
    const install = ['install', '-y', '--no-install-recommends', ...missing];
    if (aptGet(prefix, ['update']) && aptGet(prefix, install)) return;
  }
  const why = prefix === null ? 'this user may not install Debian packages' : 'apt-get failed';
  if (missing.some((name) => compiling.includes(name))) fail(`${why}; as root, run: ${byHand}`);
  console.error(`setup: ${why}; what needs them will be skipped. As root, run: ${byHand}`);
}

const readJson = (file) => JSON.parse(readFileSync(path.join(root, file), 'utf8'));

/** The first package that is not installed as the lock file wants it, or null. */
function staleNpmPackage() {
  const installedList = 'node_modules/.package-lock.json';
  if (!existsSync(path.join(root, installedList))) return 'all of them';
  const installed = readJson(installedList).packages;
  for (const [place, { version, optional }] of Object.entries(readJson('package-lock.json').packages)) {
    if (place === '' || optional) continue;
    if (installed[place]?.version !== version) return place.replace(/^.*node_modules\//, '');
  }
  return null;
}

function installNpmPackages() {
  const stale = staleNpmPackage();
  if (stale === null) return;
  console.error(`setup: installing npm packages (missing or outdated: ${stale})`);
  // Not `npm ci`: it fails where a registry lacks the packages of platforms that are not ours. This keeps to the lock file
  // as well, and --no-save leaves that file alone.
  const words = ['install', '--no-save', '--no-audit', '--no-fund'];
  const done = run('npm', words, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (done.error) fail('npm was not found; install it (Debian: apt-get install npm) and try again');
  if (done.status !== 0)
    fail('npm install failed; its message stands above (is the package registry within reach?)');
}

/** With the plugins of .taprc: tap's first run would do it too, but run every file with the ones that tap comes with. */
function buildTap() {
  if (existsSync(path.join(root, '.tap/plugins'))) return;
  if (run(process.execPath, ['node_modules/tap/dist/esm/run.mjs', 'build']).status !== 0)
    fail('tap could not be built with the plugins of .taprc: `npx tap build` says why');
}

function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) fail(`Node 20 or newer is needed, this is ${process.versions.node}`);
  if (process.platform !== 'linux') fail(`cellblock runs on Linux only, this is ${process.platform}`);
}

/** Everything `purpose` needs; throws with a sentence when it cannot be had. */
export function setUp(purpose) {
  checkNode();
  installDebianPackages(purpose);
  installNpmPackages();
  if (purpose === 'test') buildTap();
  if (!buildNative()) fail("the native build failed; the compiler's messages stand above");
  if (!buildTypeScript()) fail("the TypeScript build failed; the compiler's messages stand above");
}

/** Calls setUp and ends the process with its sentence when it fails. */
export function setUpOrExit(purpose) {
  try {
    setUp(purpose);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`setup: ${error.message}`);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const purpose = process.argv[2];
  if (!Object.hasOwn(debianPackages, purpose ?? '')) {
    console.error(`usage: node scripts/setup.js ${Object.keys(debianPackages).join('|')}`);
    process.exit(2);
  }
  setUpOrExit(purpose);
}
