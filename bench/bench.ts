// What every row is given: how long to measure, where data may lie, the servers, and the two loads.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Cellblock } from './cellblock.js';
import { type ClientResult, type ClientWork, client, type TcpExport } from './client.js';
import type { Column, NumbersTable, ServerName } from './finding.js';
import { type Export, type FioJob, type FioResult, fio } from './fio.js';
import type { Series } from './judge.js';
import type { Peers } from './peers.js';
import { type Running, run } from './processes.js';

export interface Sizes {
  /** Bytes of the volume that cached rows work on. */
  readonly cached_bytes: number;
  /** A volume that is huge and mostly hole. */
  readonly huge_bytes: number;
  /** A volume that is trimmed and formatted. */
  readonly trimmed_bytes: number;
  /** What the snapshot holds whose deletion is measured. */
  readonly deleted_bytes: number;
  /** Windows that are touched for the first time. */
  readonly touched_windows: number;
  readonly depths: readonly number[];
  /** What one coordinator knows of. */
  readonly coordinator: { readonly volumes: number; readonly hosts: number };
}

export interface BenchOptions {
  readonly root: string;
  readonly directory: string;
  readonly sockets: string;
  readonly rounds: number;
  readonly runtime_ms: number;
  readonly sizes: Sizes;
  readonly clientProgram: string;
  readonly peers: Peers;
  /** Without ours: the baseline of a machine. */
  readonly peersOnly: boolean;
  /** Root of another build of ours, which takes the place of all peers and of the limit. */
  readonly against: string | null;
  readonly log: (line: string) => void;
}

/** One server that takes part in a comparison. */
export interface Subject {
  readonly name: ServerName;
  readonly target: Export;
  /** Of our servers. */
  readonly daemon?: Cellblock;
}

/** One of our builds under its name in the report. */
export interface Build {
  readonly name: 'cellblock' | 'before';
  readonly daemon: Cellblock;
}

export class Bench {
  readonly options: BenchOptions;
  #cellblock: Cellblock | null = null;
  #before: Cellblock | null = null;

  readonly #kept: Running[] = [];

  constructor(options: BenchOptions) {
    this.options = options;
  }

  get peers(): Peers {
    return this.options.peers;
  }

  get sizes(): Sizes {
    return this.options.sizes;
  }

  log(line: string): void {
    this.options.log(line);
  }

  path(name: string): string {
    return join(this.options.directory, name);
  }

  /** Our daemon on the bench's store, started when first asked for; null when only peers are measured. */
  async cellblock(): Promise<Cellblock | null> {
    if (this.options.peersOnly) return null;
    if (this.#cellblock === null) {
      const { root, sockets } = this.options;
      this.#cellblock = new Cellblock({ root, sockets, store: this.path('store'), label: 'c' });
      await this.#cellblock.start();
    }
    return this.#cellblock;
  }

  /** Our daemon and, where two builds are compared, that of the other one on a store of its own. */
  async builds(): Promise<Build[]> {
    const daemon = await this.cellblock();
    if (daemon === null) return [];
    const { against, sockets } = this.options;
    if (against === null) return [{ name: 'cellblock', daemon }];
    if (this.#before === null) {
      this.#before = new Cellblock({ root: against, sockets, store: this.path('store-before'), label: 'b' });
      await this.#before.start();
    }
    return [
      { name: 'cellblock', daemon },
      { name: 'before', daemon: this.#before },
    ];
  }

  /** A server of one row: ended with the bench, if not before. */
  keep(server: Running): Running {
    this.#kept.push(server);
    return server;
  }

  fio(target: Export, job: FioJob): Promise<FioResult> {
    return fio(this.options.directory, target, job);
  }

  client(target: Export | TcpExport, work: ClientWork): Promise<ClientResult> {
    return client(this.options.clientProgram, target, work);
  }

  /** Nobody pays for what another one left to be written back. */
  async settle(): Promise<void> {
    await run('sync', ['-f', this.options.directory]);
  }

  async remove(path: string): Promise<void> {
    await rm(path, { force: true, recursive: true });
  }

  async stop(): Promise<void> {
    for (const server of this.#kept.splice(0).reverse()) await server.stop('SIGKILL');
    await this.#cellblock?.stop();
    this.#cellblock = null;
    await this.#before?.stop();
    this.#before = null;
    await this.peers.stopAll();
  }
}

/**
 * Every subject once, then every subject again, as often as there are rounds: A B C A B C. Two builds take turns in going
 * first, A B B A: what one leaves behind for the next would look like a difference between them.
 */
export async function inTurn<S extends { readonly name: string }, M>(
  bench: Bench,
  work: string,
  subjects: readonly S[],
  measure: (subject: S, round: number) => Promise<M>,
): Promise<Map<S['name'], M[]>> {
  const results = new Map<S['name'], M[]>(subjects.map((subject) => [subject.name, []]));
  for (let round = 0; round < bench.options.rounds; round += 1) {
    bench.log(`${work}: round ${round + 1} of ${bench.options.rounds}`);
    const turnedRound = bench.options.against !== null && round % 2 === 1;
    for (const subject of turnedRound ? [...subjects].reverse() : subjects) {
      results.get(subject.name)?.push(await measure(subject, round));
    }
  }
  return results;
}

export function seriesOf<N extends string, M>(
  results: ReadonlyMap<N, readonly M[]>,
  of: (one: M) => number,
): Map<N, number[]> {
  return new Map([...results].map(([name, all]) => [name, all.map(of)]));
}

const COLUMNS: readonly ServerName[] = ['cellblock', 'limit', 'qemu-raw', 'qcow2', 'nbdkit', 'nbd-server'];

/** One column a server, also for the ones that did not take part. */
export function serverTable(
  options: { title: string; unit: string; absent?: Partial<Record<ServerName, string>> },
  series: Series,
): NumbersTable {
  const names = series.has('before') ? (['cellblock', 'before'] as const) : COLUMNS;
  const columns = names.map((name): Column => {
    const values = series.get(name);
    if (values !== undefined && values.length > 0) return { name, values };
    const standard = name === 'cellblock' ? 'not measured' : 'not installed';
    return { name, values: [], absent: options.absent?.[name] ?? standard };
  });
  return { title: options.title, unit: options.unit, columns };
}
