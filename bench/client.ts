// Runs the bench's own NBD client (bench/client/nbd_client.cc) and types what it prints.
import type { Export } from './fio.js';
import { run } from './processes.js';

export interface ClientWork {
  readonly op: 'read' | 'write' | 'mix' | 'trim' | 'zero';
  readonly pattern?: 'sequential' | 'random' | 'distinct';
  readonly bytes?: number;
  readonly stride?: number;
  readonly start?: number;
  readonly range?: number;
  readonly requests?: number;
  readonly runtime_ms?: number;
  readonly depth?: number;
  readonly flush_each?: 0 | 1;
  readonly flush_end?: 0 | 1;
  readonly seed?: number;
  readonly timeline_ms?: number;
  readonly connect_timeout_ms?: number;
}

export interface ClientResult {
  readonly requests: number;
  readonly errors: number;
  readonly seconds: number;
  /** CLOCK_MONOTONIC, the clock of process.hrtime. */
  readonly started_ns: number;
  readonly ended_ns: number;
  readonly latency_ns: { mean: number; p50: number; p99: number; p999: number; max: number };
  /** Per bin of `timeline_ms`, counted from `started_ns`. */
  readonly completed?: readonly number[];
  readonly longest_ns?: readonly number[];
  /** Upper end of a bucket, and how many requests fell into it. */
  readonly histogram: readonly (readonly [number, number])[];
}

export async function client(program: string, target: Export, work: ClientWork): Promise<ClientResult> {
  const options = Object.entries(work).flatMap(([name, value]) => [
    `--${name.replaceAll('_', '-')}`,
    String(value),
  ]);
  const printed = await run(program, ['--socket', target.socket, '--export', target.name, ...options]);
  return JSON.parse(printed) as ClientResult;
}
