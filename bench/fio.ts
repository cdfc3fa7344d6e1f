// One run of fio's nbd engine against one export, and what is kept of its report.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './processes.js';

export interface Export {
  readonly socket: string;
  readonly name: string;
}

export interface FioJob {
  readonly rw: 'randread' | 'randwrite' | 'read' | 'write';
  readonly block_bytes: number;
  readonly depth: number;
  readonly processes: number;
  readonly range_bytes: number;
  readonly runtime_ms: number;
  /** Each block at most once, and no more than so many bytes per process. */
  readonly once_bytes?: number;
}

export interface FioResult {
  readonly requests_per_s: number;
  readonly bytes_per_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly p999_us: number;
}

interface FioDirection {
  total_ios: number;
  io_bytes: number;
  runtime: number;
  iops: number;
  bw_bytes: number;
  clat_ns: { percentile?: Record<string, number> };
}

interface FioReport {
  jobs: { error: number; read: FioDirection; write: FioDirection }[];
}

export function fioArguments(target: Export, job: FioJob): string[] {
  // Several sequential processes share the range; random ones each work on all of it.
  const share = job.rw === 'read' || job.rw === 'write' ? job.processes : 1;
  const size = Math.floor(job.range_bytes / share / job.block_bytes) * job.block_bytes;
  const limit =
    job.once_bytes === undefined
      ? ['--time_based', '--norandommap']
      : [`--io_size=${Math.floor(job.once_bytes / job.block_bytes) * job.block_bytes}`];
  return [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=nbd+unix:///${target.name}?socket=${target.socket}`,
    `--rw=${job.rw}`,
    `--bs=${job.block_bytes}`,
    `--iodepth=${job.depth}`,
    `--numjobs=${job.processes}`,
    `--size=${size}`,
    ...(share > 1 ? [`--offset_increment=${size}`] : []),
    `--runtime=${job.runtime_ms}ms`,
    ...limit,
    '--randrepeat=0',
    '--group_reporting',
    '--percentile_list=50:99:99.9',
    '--output-format=json',
  ];
}

export function parseFio(report: string): FioResult {
  const job = (JSON.parse(report) as FioReport).jobs[0];
  if (job === undefined || job.error !== 0) throw new Error(`fio failed with error ${job?.error}`);
  const done = job.read.total_ios > 0 ? job.read : job.write;
  const percentile = (name: string): number => (done.clat_ns.percentile?.[name] ?? Number.NaN) / 1000;
  return {
    requests_per_s: done.iops,
    bytes_per_s: done.bw_bytes,
    p50_us: percentile('50.000000'),
    p99_us: percentile('99.000000'),
    p999_us: percentile('99.900000'),
  };
}

export async function fio(scratch: string, target: Export, job: FioJob): Promise<FioResult> {
  // Not standard output: the nbd engine prints lines of its own there.
  const output = join(scratch, 'fio.json');
  await rm(output, { force: true });
  await run('fio', [...fioArguments(target, job), `--output=${output}`]);
  return parseFio(await readFile(output, 'utf8'));
}
