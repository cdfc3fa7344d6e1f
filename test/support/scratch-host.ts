// This machine with a layer above it: packages can be installed in it, users made and files removed, and nothing of that reaches the
// machine. A mount namespace with an overlay over `/`, its changes in memory, is held by a process; each command runs in there, chrooted.
// There is no systemd in it; a `systemctl` that only writes down what it was asked for can be put there.
import { mkdtempSync, rmdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Teardown } from './daemon.js';
import { missing, must, type Outcome, Running, run } from './programs.js';
import { until } from './waiting.js';

const MOUNT = `
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 scratch "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t proc proc root/proc
for directory in run tmp dev; do mount -t tmpfs -o mode=755 scratch root/$directory; done
chmod 1777 root/tmp
mknod -m 666 root/dev/null c 1 3
mknod -m 666 root/dev/zero c 1 5
mknod -m 666 root/dev/urandom c 1 9
mknod -m 666 root/dev/random c 1 8
rm -f root/usr/sbin/policy-rc.d
echo "$2"
exec sleep infinity
`;

const READY = 'layer ready';

/** What is done to files only, it does: --root= is how deb-systemd-helper asks for that. */
const PRETENDED = `#!/bin/sh
case $1 in --root=*) exec /usr/bin/systemctl "$@" ;; esac
echo "$@" >>/var/log/asked-of-systemd
[ "$2" != is-enabled ] || echo enabled
`;

export class ScratchHost {
  readonly #holder: Running;
  readonly #directory: string;

  private constructor(holder: Running, directory: string) {
    this.#holder = holder;
    this.#directory = directory;
  }

  /** Why there can be none here, or false. */
  static async missing(): Promise<string | false> {
    const lacking = missing('unshare', 'nsenter', 'mount', 'chroot');
    if (lacking) return lacking;
    if (process.getuid?.() !== 0) return 'only root can mount';
    const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-layer-'));
    try {
      const outcome = await run('unshare', [
        '--mount',
        'sh',
        '-c',
        MOUNT.replace('exec sleep infinity', ''),
        'sh',
        directory,
        READY,
      ]);
      return !outcome.stdout.includes(READY) && `no overlay can be mounted here: ${outcome.stderr.trim()}`;
    } finally {
      rmdirSync(directory);
    }
  }

  static async make(t: Teardown): Promise<ScratchHost> {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-layer-'));
    const holder = new Running('unshare', ['--mount', 'sh', '-c', MOUNT, 'sh', directory, READY]);
    t.teardown(async () => {
      await holder.stop('SIGKILL');
      rmdirSync(directory);
    });
    await until('the layer', () => {
      if (holder.isOver) throw new Error(`no layer:\n${holder.output}`);
      return holder.output.includes(READY);
    });
    return new ScratchHost(holder, directory);
  }

  /** Words that come before a command that is to run in there. */
  get entrance(): string[] {
    return [
      'nsenter',
      `--mount=/proc/${this.#holder.pid}/ns/mnt`,
      'chroot',
      path.join(this.#directory, 'root'),
    ];
  }

  run(...words: string[]): Promise<Outcome> {
    const [program = '', ...rest] = [...this.entrance, ...words];
    return run(program, rest, { cwd: '/', env: { DEBIAN_FRONTEND: 'noninteractive' } });
  }

  must(...words: string[]): Promise<string> {
    const [program = '', ...rest] = [...this.entrance, ...words];
    return must(program, rest, { cwd: '/', env: { DEBIAN_FRONTEND: 'noninteractive' } });
  }

  start(...words: string[]): Running {
    const [program = '', ...rest] = [...this.entrance, ...words];
    return new Running(program, rest, { cwd: '/' });
  }

  async write(file: string, content: string, mode = '644'): Promise<void> {
    const [program = '', ...rest] = [
      ...this.entrance,
      'sh',
      '-c',
      'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"',
      'sh',
      file,
      mode,
    ];
    await must(program, rest, { cwd: '/', input: content });
  }

  async has(...files: string[]): Promise<boolean[]> {
    return Promise.all(files.map(async (file) => (await this.run('test', '-e', file)).code === 0));
  }

  /** From now on systemd seems to run; what it is asked for is written down. */
  async pretendSystemd(): Promise<void> {
    await this.must('mkdir', '-p', '/run/systemd/system');
    await this.write('/usr/local/sbin/systemctl', PRETENDED, '755');
  }

  /** What systemd was asked to do since the last time; questions are left out. */
  async askedOfSystemd(): Promise<string[]> {
    const { stdout } = await this.run('cat', '/var/log/asked-of-systemd');
    await this.run('rm', '-f', '/var/log/asked-of-systemd');
    return stdout
      .split('\n')
      .filter((line) => line !== '' && !/is-(enabled|active)/.test(line))
      .map((line) => line.replaceAll(/--(quiet|system) /g, ''));
  }
}
