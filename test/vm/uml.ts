// A throw-away guest: user-mode Linux, a kernel that is a process. Its root is the host's own file system, read-only, so it has the same
// Node, the same tools and this very build; a scratch disk takes what a case writes.
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { find, must, repositoryRoot } from '../support/programs.js';
import type { GuestNetwork } from './guest-network.js';

const MODULES = '/usr/lib/uml/modules';
const MEMORY_MB = 1024;
const SCRATCH_BYTES = 6 * 2 ** 30;

export interface GuestRun {
  /** Null: it did not come to an end. */
  code: number | null;
  lines: string[];
  /** What the kernel said, or the console where it did not get that far. */
  kernel: string;
}

/** Why there can be no guest; null: there can. */
export function whyNot(): string | null {
  if (process.getuid?.() !== 0) return 'guests need root, for name spaces of their own';
  if (find('linux.uml') === null) return 'user-mode Linux is not installed (Debian: user-mode-linux)';
  return existsSync(MODULES) ? null : `${MODULES} is missing`;
}

function modulePath(module: string): string {
  const [version] = readdirSync(MODULES);
  return path.join(MODULES, version!, 'kernel', module);
}

/** The library that lets the guest live on processors with AMX. */
async function preloaded(folder: string): Promise<string> {
  const library = path.join(folder, 'xstate.so');
  const source = path.join(repositoryRoot, 'test/vm/xstate.cc');
  await must('g++', ['-std=gnu++20', '-O2', '-Wall', '-shared', '-fPIC', '-o', library, source]);
  return library;
}

/** Runs one case; its lines are shown as they come. Ends the guest after `seconds`. */
export async function runInGuest(
  name: string,
  { seconds, show, systemd = false, boots = 1, files = [], network = null }: GuestOptions,
): Promise<GuestRun> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cellblock-vm-'));
  try {
    const job = path.join(folder, 'job');
    mkdirSync(job);
    writeFileSync(path.join(job, 'case'), name);
    const disk = path.join(folder, 'scratch.img');
    writeFileSync(disk, '');
    truncateSync(disk, SCRATCH_BYTES);
    await must('mkfs.ext4', ['-qF', '-O', '^has_journal', '-E', 'lazy_itable_init=1', disk]);
    for (const file of files) copyFileSync(file, path.join(job, path.basename(file)));
    const place = { folder, job, disk, library: await preloaded(folder), systemd, network };
    for (let number = 1; ; number++) {
      for (const stale of ['code', 'dmesg', 'again']) rmSync(path.join(job, stale), { force: true });
      writeFileSync(path.join(job, 'boot'), String(number));
      if (number < boots) writeFileSync(path.join(job, 'again'), '');
      const run = await once(place, { seconds, show });
      if (run.code !== 0 || number === boots) return run;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface GuestOptions {
  /** Of one boot. */
  seconds: number;
  show: (line: string) => void;
  systemd?: boolean;
  boots?: number;
  network?: GuestNetwork | null;
  /** Put into the folder of the job, /run/job in the guest. */
  files?: readonly string[];
}

async function once(
  place: Place,
  options: { seconds: number; show: (line: string) => void },
): Promise<GuestRun> {
  const { job } = place;
  const console = await boot(place, options);
  const lines = between(console);
  const code = path.join(job, 'code');
  return {
    code: existsSync(code) ? Number(readFileSync(code, 'utf8')) : null,
    lines,
    kernel: existsSync(path.join(job, 'dmesg')) ? readFileSync(path.join(job, 'dmesg'), 'utf8') : console,
  };
}

interface Place {
  systemd: boolean;
  network: GuestNetwork | null;
  folder: string;
  job: string;
  disk: string;
  library: string;
}

/** Answers what the console said. */
async function boot(
  { folder, job, disk, library, systemd, network }: Place,
  { seconds, show }: { seconds: number; show: (line: string) => void },
): Promise<string> {
  const kernel = [
    `mem=${MEMORY_MB}M`,
    'root=/dev/root',
    'rootfstype=hostfs',
    'rootflags=/',
    'ro',
    `init=${path.join(repositoryRoot, 'test/vm/init.sh')}`,
    `ubd0=${disk}`,
    `uml_dir=${folder}/uml`,
    'con=null',
    'con0=null,fd:1',
    'console=tty0',
    'panic=-1',
    'noreboot',
    'quiet',
    `cellblock.project=${repositoryRoot}`,
    `cellblock.job=${job}`,
    `cellblock.node=${process.execPath}`,
    `cellblock.module=${modulePath('drivers/block/nbd.ko')}`,
    `cellblock.overlay=${modulePath('fs/overlayfs/overlay.ko')}`,
    `cellblock.modules=${MODULES}`,
    `cellblock.systemd=${systemd ? 1 : 0}`,
    ...(network?.kernelWords ?? []),
  ];
  // In a name space of processes that ends with its first one, so nothing of the guest is left whatever happens to it. The kernel is
  // neither that first one (its abort() would be ignored) nor in our process group (it signals its own).
  const words = [
    ...(network?.entrance ?? []),
    'unshare',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
    'sh',
    '-c',
    // hostfs has a descriptor of the host's for each file that the guest has seen.
    'ulimit -n 1000000 2>/dev/null || ulimit -n $(ulimit -Hn); setsid -w "$@"; exit $?',
    'sh',
  ];
  const [program = '', ...rest] = [...words, 'linux.uml', ...kernel];
  const child = spawn(program, rest, {
    env: { PATH: process.env.PATH ?? '', LD_PRELOAD: library, TMPDIR: '/dev/shm' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const limit = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
  let console = '';
  let shown = false;
  let partial = '';
  const take = (text: string): void => {
    console += text;
    const lines = (partial + text).split('\n');
    partial = lines.pop() ?? '';
    for (const line of lines.map((one) => one.replace(/\r$/, ''))) {
      if (line === '@@begin@@' || line === '@@end@@') shown = line === '@@begin@@';
      else if (shown) show(line);
    }
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  await new Promise((resolve, reject) => {
    child.once('close', resolve);
    child.once('error', reject);
  });
  clearTimeout(limit);
  return console;
}

function between(console: string): string[] {
  const [, behind = ''] = console.split(/@@begin@@\r?\n/);
  return behind
    .split('@@end@@')[0]!
    .split(/\r?\n/)
    .filter((line) => line !== '');
}
