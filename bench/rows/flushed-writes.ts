// B5: a write and its flush as one request, queue 1, the work of a database's log; over old data and into new space.
import { type Bench, inTurn, type Subject, seriesOf, serverTable } from '../bench.js';
import type { ClientResult, ClientWork } from '../client.js';
import type { DataSets } from '../data-sets.js';
import type { Finding, NumbersTable, Plot, ServerName } from '../finding.js';
import { judgeAgainst } from '../judge.js';
import { latencyPlot } from '../plot.js';
import type { Row } from '../row.js';

/** New space of one round of one server. */
const REGION_BYTES = 256 << 20;

interface Variant {
  readonly part: string;
  readonly target: string;
  readonly factors: readonly (readonly [ServerName, number])[];
  readonly subjects: (data: DataSets) => Promise<Subject[]>;
  readonly where: (turn: number) => Pick<ClientWork, 'pattern' | 'start' | 'range'>;
}

const VARIANTS: readonly Variant[] = [
  {
    part: 'overwriting',
    target: '>= 1.0 x raw file',
    factors: [['qemu-raw', 1]],
    subjects: (data) => data.owned(),
    where: () => ({ pattern: 'random' }),
  },
  {
    part: 'into new space',
    target: '>= 1.5 x qcow2 and >= 0.45 x a raw sparse file',
    factors: [
      ['qcow2', 1.5],
      ['qemu-raw', 0.45],
    ],
    subjects: (data) => data.sparse(),
    where: (turn) => ({ pattern: 'distinct', start: turn * REGION_BYTES, range: REGION_BYTES }),
  },
];

async function measure(
  bench: Bench,
  data: DataSets,
  variant: Variant,
): Promise<Map<ServerName, ClientResult[]>> {
  let turn = 0;
  return inTurn(bench, `B5 ${variant.part}`, await variant.subjects(data), async (subject) => {
    await bench.settle();
    turn += 1;
    // The sparse qcow2 is not the chain of `current`: it never gets a new overlay.
    const target = variant.part === 'overwriting' ? data.current(subject) : subject.target;
    const work: ClientWork = {
      op: 'write',
      depth: 1,
      flush_each: 1,
      runtime_ms: bench.options.runtime_ms,
      seed: turn,
    };
    return bench.client(target, { ...work, ...variant.where(turn) });
  });
}

function sumHistograms(results: readonly ClientResult[]): (readonly [number, number])[] {
  const sums = new Map<number, number>();
  for (const { histogram } of results) {
    for (const [upper_ns, count] of histogram) sums.set(upper_ns, (sums.get(upper_ns) ?? 0) + count);
  }
  return [...sums].sort(([a], [b]) => a - b);
}

export const flushedWrites: Row = {
  id: 'B5',
  work: '4 KiB write + flush, queue 1',
  needsCellblock: false,
  run: async (bench, data) => {
    const findings: Finding[] = [];
    const tables: NumbersTable[] = [];
    const plots: Plot[] = [];
    for (const variant of VARIANTS) {
      const results = await measure(bench, data, variant);
      const rate = seriesOf<ServerName, ClientResult>(results, (result) => result.requests / result.seconds);
      const tail = seriesOf<ServerName, ClientResult>(results, (result) => result.latency_ns.p99 / 1000);
      const { part, target } = variant;
      findings.push(
        judgeAgainst({ part, target, unit: 'requests/s', better: 'higher' }, rate, variant.factors),
      );
      const inverse = variant.factors.map(([name, times]) => [name, 1 / times] as const);
      findings.push(
        judgeAgainst({ part: `${part}, p99`, target, unit: 'µs', better: 'lower' }, tail, inverse),
      );
      tables.push(serverTable({ title: part, unit: 'requests/s' }, rate));
      tables.push(serverTable({ title: `${part}, p99`, unit: 'µs' }, tail));
      const title = `4 KiB write + flush, ${part}: latency`;
      const servers = [...results].map(([name, all]) => ({ name, histogram: sumHistograms(all) }));
      plots.push({
        file: `b5-${part.replaceAll(' ', '-')}-latency.svg`,
        title,
        svg: latencyPlot(title, servers),
      });
    }
    const notes = [
      '"Raw file" is qemu-nbd on a raw file. A request is a write and the flush after it, timed together.',
    ];
    return { findings, tables, plots, notes };
  },
};
