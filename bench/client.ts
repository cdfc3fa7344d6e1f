// Runs the bench's own NBD client (bench/client/nbd_client.cc) and types what it prints.
import type { Export } from './fio.js';
import { run } from './processes.js';

/** A port on loopback; fio's engine is not asked for TLS, so only this client takes one. */
export interface TcpExport {
  readonly port: number;
  readonly name: string;
  /** A directory as test/support/certificates.ts makes it; absent: in clear. */
  readonly certificates?: string;
}

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
  /** Of the client's own process, user and system, while it worked. */
  readonly cpu_seconds: number;
  /** CLOCK_MONOTONIC, the clock of process.hrtime. */
  readonly started_ns: number;
  readonly ended_ns: number;
  /** "TLSv1.3 SUITE", or empty. */
  readonly tls: string;
  readonly latency_ns: { mean: number; p50: number; p99: number; p999: number; max: number };
  /** Per bin of `timeline_ms`, counted from `started_ns`. */
  readonly completed?: readonly number[];
  readonly longest_ns?: readonly number[];
  /** Upper end of a bucket, and how many requests fell into it. */
  readonly histogram: readonly (readonly [number, number])[];
}

function addressWords(target: Export | TcpExport): string[] {
  if ('socket' in target) return ['--socket', target.socket];
  const tls = target.certificates === undefined ? [] : ['--tls', target.certificates];
  return ['--tcp-port', String(target.port), ...tls];
}

export async function client(
  program: string,
  target: Export | TcpExport,
  work: ClientWork,
): Promise<ClientResult> {
  const options = Object.entries(work).flatMap(([name, value]) => [
    `--${name.replaceAll('_', '-')}`,
    String(value),
  ]);
  const printed = await run(program, [...addressWords(target), '--export', target.name, ...options]);
  return JSON.parse(printed) as ClientResult;
}
