// What the cases work with: a daemon, its command line, the driver, file systems, and somebody who writes all the time and times it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Daemon, type Teardown } from '../support/daemon.js';
import { must, type Outcome, Running, repositoryRoot, run } from '../support/programs.js';
import { until } from '../support/waiting.js';
import type { GuestNetwork } from './guest-network.js';

const cli = path.join(repositoryRoot, 'dist/src/main/cellblock.js');

/** As `cellblock attach list --json` says it. */
export interface Attached {
  name: string;
  device: string;
  connected: number;
  connections: number;
  sizeBytes: number;
  readOnly: boolean;
  users: { kind: string; device: string; where: string }[];
}

export type FileSystem = 'ext4' | 'xfs';

export class Machine {
  #daemon: Daemon | null = null;
  readonly #mounted: string[] = [];
  readonly #teardowns: (() => unknown)[] = [];

  get daemon(): Daemon {
    assert.ok(this.#daemon, 'the daemon runs');
    return this.#daemon;
  }

  say(line: string): void {
    console.log(line);
  }

  /** The driver, with room for eight devices. */
  async loadDriver(): Promise<void> {
    const module = process.env.CELLBLOCK_VM_MODULE;
    const words = ['nbds_max=8', 'max_part=15'];
    if (module === undefined) await must('modprobe', ['nbd', ...words]);
    else await must('insmod', [module, ...words]);
  }

  async start(args: string[] = []): Promise<void> {
    this.#daemon = await Daemon.start({ teardown: (clean) => void this.#teardowns.push(clean) }, { args });
  }

  /** `cellblock` with these words. */
  tell(...words: string[]): Promise<Outcome> {
    return run(process.execPath, [cli, '--api', this.daemon.apiPath, ...words]);
  }

  async must(...words: string[]): Promise<string> {
    const outcome = await this.tell(...words);
    assert.equal(outcome.code, 0, outcome.story);
    return outcome.stdout;
  }

  async attach(name: string, ...words: string[]): Promise<string> {
    const { device } = JSON.parse(await this.must('attach', name, ...words, '--json')) as Attached;
    return device;
  }

  async attached(): Promise<Attached[]> {
    return JSON.parse(await this.must('attach', 'list', '--json')) as Attached[];
  }

  async allocated(name: string): Promise<number> {
    const { volumes } = JSON.parse(await this.must('store', 'status', '--json')) as {
      volumes: { name: string; allocatedBytes: number }[];
    };
    return volumes.find((one) => one.name === name)!.allocatedBytes;
  }

  async format(device: string, kind: FileSystem): Promise<void> {
    if (kind === 'ext4') await must('mkfs.ext4', ['-qF', device]);
    else await must('mkfs.xfs', ['-qf', device]);
  }

  /** Answers the directory. */
  async mount(device: string, ...words: string[]): Promise<string> {
    const where = path.join(process.env.CELLBLOCK_VM_MOUNTS ?? '/tmp', `vm-${path.basename(device)}`);
    await must('mkdir', ['-p', where]);
    await must('mount', [...words, device, where]);
    this.#mounted.push(where);
    return where;
  }

  async unmount(where: string): Promise<void> {
    await must('umount', [where]);
    this.#mounted.splice(this.#mounted.indexOf(where), 1);
  }

  async check(device: string, kind: FileSystem): Promise<void> {
    if (kind === 'ext4') await must('e2fsck', ['-fn', device]);
    else await must('xfs_repair', ['-n', device]);
  }

  /** fio that writes and reads back, for so long; fails at the first byte that is not as it was written, and at the first error. */
  verify(directory: string, seconds: number): Promise<string> {
    return must('fio', [
      '--name=verify',
      `--directory=${directory}`,
      '--rw=randwrite',
      '--bs=4k',
      '--size=48M',
      '--ioengine=libaio',
      '--direct=1',
      '--iodepth=8',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--time_based',
      `--runtime=${seconds}`,
      '--eta=never',
    ]);
  }

  async sha256(file: string): Promise<string> {
    return (await must('sha256sum', [file])).split(' ')[0]!;
  }

  /** Errors the kernel has noted of block devices since the start. */
  async ioErrors(): Promise<string[]> {
    const log = await must('dmesg', []);
    return log
      .split('\n')
      .filter((line) => /I\/O error|Buffer I\/O|EXT4-fs error|XFS .*(error|Shutdown)/i.test(line));
  }

  /** What may say why a case failed. */
  troubles(): string {
    return this.#daemon ? `the daemon's last words:\n${this.#daemon.output.slice(-4000)}` : '';
  }

  async end(): Promise<void> {
    for (const where of [...this.#mounted].reverse()) await this.unmount(where);
    for (const clean of this.#teardowns.reverse()) await clean();
  }
}

/** A guest as the machine sees it. */
export interface Guest {
  /** It has said "ready"; rejects if it ends without. */
  isReady: Promise<void>;
  over: Promise<void>;
  isOver: boolean;
}

export type Beside = (
  t: Teardown,
  around: { network: GuestNetwork; guest: Guest; say: (line: string) => void },
) => Promise<void>;

export interface VmCase {
  name: string;
  summary: string;
  /** Throws where something is not as it should be. `boot`: 1 for the first. */
  run(machine: Machine, boot: number): Promise<void>;
  /** What runs on the machine meanwhile, in a network with the guest; the case has failed if it throws. */
  beside?: Beside;
  /** A guest with systemd, and, in the folder of the job, two versions of the package. */
  systemd?: true;
  /** It is shut down in order and booted again after all but the last. */
  boots?: number;
}

interface Timed {
  writes: number;
  longestMs: number;
  error: string | null;
}

/** Writes and syncs in a process of its own, one record after the other, until it is stopped. */
export class Writer {
  readonly #file: string;
  readonly #running: Running;

  private constructor(file: string, running: Running) {
    this.#file = file;
    this.#running = running;
  }

  static async start(directory: string): Promise<Writer> {
    const file = path.join(directory, 'records');
    const writer = new Writer(
      file,
      new Running(process.execPath, [path.join(repositoryRoot, 'dist/test/vm/writer.js'), file]),
    );
    await until('the first records', () => writer.#running.output.includes('\n'));
    return writer;
  }

  /** What it timed; the file has every record it was told is stable. */
  async stop(): Promise<Timed> {
    await this.#running.stop('SIGTERM');
    const { output } = this.#running;
    const said = output.trimEnd().split('\n').at(-1)!;
    assert.ok(said.startsWith('{'), `it came to its end: ${output}`);
    const timed = JSON.parse(said) as Timed;
    assert.equal(timed.error, null, 'no write failed');
    const records = readFileSync(this.#file, 'utf8').split('\n').slice(0, timed.writes);
    assert.equal(
      records.findIndex((text, index) => Number(text) !== index),
      -1,
      'every record is there, in order',
    );
    return timed;
  }
}
