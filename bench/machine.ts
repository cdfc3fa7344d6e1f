// What the numbers were taken on: named in every report, because none of them means anything elsewhere.
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { attempt } from './processes.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_bytes: number;
  readonly kernel: string;
  readonly file_system: string;
  readonly versions: Readonly<Record<string, string>>;
}

async function firstLine(command: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await attempt(command, args);
    return (stdout.trim() || stderr.trim()).split('\n')[0] ?? '';
  } catch {
    return 'not installed';
  }
}

/** Version and commit of the cellblock in a directory. */
export async function versionOf(root: string): Promise<string> {
  const packaged = JSON.parse(await readFile(`${root}/package.json`, 'utf8')) as { version: string };
  const commit = await firstLine('git', ['-C', root, 'rev-parse', '--short', 'HEAD']);
  return `${packaged.version} (${commit})`;
}

async function versions(root: string): Promise<Record<string, string>> {
  return {
    cellblock: await versionOf(root),
    node: process.version,
    fio: await firstLine('fio', ['--version']),
    'qemu-nbd': await firstLine('qemu-nbd', ['--version']),
    nbdkit: await firstLine('nbdkit', ['--version']),
    'nbd-server':
      (await firstLine('dpkg-query', ['-W', '-f', 'nbd-server $' + '{Version}', 'nbd-server'])) || 'unknown',
    'g++': await firstLine('g++', ['--version']),
  };
}

export async function describeMachine(root: string, directory: string): Promise<Machine> {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    kernel: release(),
    file_system: await firstLine('findmnt', ['-n', '-o', 'FSTYPE,OPTIONS', '-T', directory]),
    versions: await versions(root),
  };
}

/** Bytes the machine could still use for a page cache. */
export async function availableMemory(): Promise<number> {
  const line = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'));
  return line?.[1] === undefined ? totalmem() / 2 : Number(line[1]) * 1024;
}

export interface ProcessCosts {
  readonly cpu_ms: number;
  readonly resident_bytes: number;
  readonly peak_bytes: number;
  /** Bytes the process caused to be written to and read from the disk. */
  readonly written_bytes: number;
  readonly read_bytes: number;
  readonly threads: number;
}

/** What a process has cost so far, from /proc. */
export async function processCosts(pid: number): Promise<ProcessCosts> {
  const [stat, status, io] = await Promise.all(
    ['stat', 'status', 'io'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8')),
  );
  const field = (text: string | undefined, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text ?? '')?.[1] ?? Number.NaN);
  // Fields after the command's closing parenthesis; utime and stime are the 14th and 15th of all, in 10 ms ticks.
  const fields = (stat ?? '').slice((stat ?? '').lastIndexOf(')') + 2).split(' ');
  return {
    cpu_ms: (Number(fields[11]) + Number(fields[12])) * 10,
    resident_bytes: field(status, 'VmRSS') * 1024,
    peak_bytes: field(status, 'VmHWM') * 1024,
    written_bytes: field(io, 'write_bytes'),
    read_bytes: field(io, 'read_bytes'),
    threads: field(status, 'Threads'),
  };
}
