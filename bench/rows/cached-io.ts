// B1, B2, B4 and B6: fio against every server on data that is in the page cache, with one process and with two.
import { type Bench, inTurn, type Subject, seriesOf, serverTable } from '../bench.js';
import type { DataSets } from '../data-sets.js';
import type { Finding, NumbersTable, Plot, RowResult, ServerName } from '../finding.js';
import type { FioJob, FioResult } from '../fio.js';
import {
  AHEAD_OF_PEERS,
  BEST_PEER,
  type Better,
  judgeByRule,
  NEAR_THE_LIMIT,
  type PeerRule,
} from '../judge.js';
import { latencyPlot } from '../plot.js';
import type { Row } from '../row.js';

interface Part {
  readonly part: string;
  readonly rw: FioJob['rw'];
  readonly block_bytes: number;
  readonly depth: number;
}

interface Measure {
  readonly unit: string;
  readonly better: Better;
  readonly of: (result: FioResult) => number;
}

const REQUESTS: Measure = { unit: 'requests/s', better: 'higher', of: (result) => result.requests_per_s };
const MEGABYTES: Measure = { unit: 'MB/s', better: 'higher', of: (result) => result.bytes_per_s / 1e6 };
const MEDIAN_LATENCY: Measure = {
  unit: 'µs (median of a round)',
  better: 'lower',
  of: (result) => result.p50_us,
};

interface CachedRow {
  readonly id: string;
  readonly work: string;
  readonly target: string;
  readonly rule: PeerRule;
  readonly measure: Measure;
  readonly parts: readonly Part[];
  /** Adds to what fio said. */
  readonly plots?: (bench: Bench, data: DataSets, subjects: readonly Subject[]) => Promise<Plot[]>;
}

const isWrite = (part: Part): boolean => part.rw === 'write' || part.rw === 'randwrite';

async function comparePart(
  bench: Bench,
  data: DataSets,
  row: CachedRow,
  part: Part,
  processes: number,
): Promise<{ finding: Finding; tables: NumbersTable[] }> {
  const subjects = isWrite(part) ? await data.owned() : await data.cached();
  const words = `${part.part}, ${processes === 1 ? '1 process' : `${processes} processes`}`;
  const results = await inTurn<Subject, FioResult>(bench, `${row.id} ${words}`, subjects, async (subject) => {
    if (isWrite(part)) await bench.settle();
    return bench.fio(data.current(subject), {
      rw: part.rw,
      block_bytes: part.block_bytes,
      depth: part.depth,
      processes,
      range_bytes: bench.sizes.cached_bytes,
      runtime_ms: bench.options.runtime_ms,
    });
  });
  const series = seriesOf<ServerName, FioResult>(results, row.measure.of);
  const tail = seriesOf<ServerName, FioResult>(results, (result) => result.p99_us);
  const question = { part: words, target: row.target, unit: row.measure.unit, better: row.measure.better };
  return {
    finding: judgeByRule(question, series, row.rule),
    tables: [
      serverTable({ title: words, unit: row.measure.unit }, series),
      serverTable({ title: `${words}, p99`, unit: 'µs' }, tail),
    ],
  };
}

async function runRow(bench: Bench, data: DataSets, row: CachedRow): Promise<Omit<RowResult, 'id' | 'work'>> {
  const findings: Finding[] = [];
  const tables: NumbersTable[] = [];
  for (const part of row.parts) {
    for (const processes of [1, 2]) {
      const compared = await comparePart(bench, data, row, part, processes);
      findings.push(compared.finding);
      tables.push(...compared.tables);
    }
  }
  const plots =
    row.plots === undefined || bench.options.against !== null
      ? []
      : await row.plots(bench, data, await data.cached());
  return { findings, tables, plots, notes: [] };
}

async function queueOneLatencies(
  bench: Bench,
  data: DataSets,
  subjects: readonly Subject[],
): Promise<Plot[]> {
  const plots: Plot[] = [];
  for (const op of ['read', 'write'] as const) {
    const servers = [];
    for (const subject of subjects) {
      await bench.settle();
      const work = { op, pattern: 'random', depth: 1, runtime_ms: bench.options.runtime_ms } as const;
      const { histogram } = await bench.client(data.current(subject), work);
      servers.push({ name: subject.name, histogram });
    }
    const title = `4 KiB ${op}, queue 1: latency`;
    plots.push({ file: `b6-${op}-latency.svg`, title, svg: latencyPlot(title, servers) });
  }
  return plots;
}

const small = (part: string, rw: FioJob['rw'], depth: number): Part => ({
  part,
  rw,
  block_bytes: 4096,
  depth,
});
const large = (part: string, rw: FioJob['rw']): Part => ({ part, rw, block_bytes: 256 << 10, depth: 8 });
const AHEAD = 'the lower of 1.3 x the best peer and 0.85 x the limit, never below the best peer';

const ROWS: readonly CachedRow[] = [
  {
    id: 'B1',
    work: '4 KiB random reads, queue 32, cached, volume with 10 snapshots',
    target: AHEAD,
    rule: AHEAD_OF_PEERS,
    measure: REQUESTS,
    parts: [small('random read', 'randread', 32)],
  },
  {
    id: 'B2',
    work: '4 KiB random overwrites, queue 32',
    target: AHEAD,
    rule: AHEAD_OF_PEERS,
    measure: REQUESTS,
    parts: [small('random overwrite', 'randwrite', 32)],
  },
  {
    id: 'B4',
    work: '256 KiB sequential read; write (queue 8)',
    target: '>= 1.0 x the best peer, >= 0.9 x the limit',
    rule: NEAR_THE_LIMIT,
    measure: MEGABYTES,
    parts: [large('sequential read', 'read'), large('sequential write', 'write')],
  },
  {
    id: 'B6',
    work: 'queue 1 latency, 4 KiB read and write',
    target: "<= the best peer's",
    rule: BEST_PEER,
    measure: MEDIAN_LATENCY,
    parts: [small('random read', 'randread', 1), small('random overwrite', 'randwrite', 1)],
    plots: queueOneLatencies,
  },
];

export const cachedRows: readonly Row[] = ROWS.map((row) => ({
  id: row.id,
  work: row.work,
  needsCellblock: false,
  run: (bench, data) => runRow(bench, data, row),
}));
