// B15: the JavaScript thread held busy for a second must not be felt by reads, writes and flushes of resident windows.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import type { ClientResult, ClientWork } from '../client.js';
import { fillWork } from '../data-sets.js';
import type { Finding, NumbersTable } from '../finding.js';
import { judge } from '../judge.js';
import type { Row } from '../row.js';
import { spread } from '../statistics.js';

const VOLUME = 'busy';
const VOLUME_BYTES = 64 << 20;
const BIN_MS = 20;
const BUSY_MS = 1000;
/** Left out at either end of a span, where it is not certain which side a bin is on. */
const EDGE_MS = 60;

const LOADS: readonly (readonly [name: string, work: ClientWork])[] = [
  ['reads', { op: 'read', depth: 32 }],
  ['writes', { op: 'write', depth: 32 }],
  ['write + flush', { op: 'write', depth: 1, flush_each: 1 }],
];

function rate(result: ClientResult, from_ns: number, to_ns: number): number {
  const edge_ns = EDGE_MS * 1e6;
  const first = Math.ceil((from_ns + edge_ns - result.started_ns) / (BIN_MS * 1e6));
  const last = Math.floor((to_ns - edge_ns - result.started_ns) / (BIN_MS * 1e6));
  const bins = Array.from({ length: last - first }, (_, i) => result.completed?.[first + i] ?? 0);
  return bins.reduce((sum, count) => sum + count, 0) / ((bins.length * BIN_MS) / 1000);
}

async function oneRound(
  bench: Bench,
  daemon: Cellblock,
  work: ClientWork,
): Promise<{ free: number; busy: number }> {
  await bench.settle();
  const timed: ClientWork = { ...work, runtime_ms: 3 * BUSY_MS + 500, timeline_ms: BIN_MS };
  const load = bench.client(daemon.target(VOLUME), timed);
  await sleep(BUSY_MS + 200);
  const from = Number(process.hrtime.bigint());
  await daemon.busy(BUSY_MS);
  const to = Number(process.hrtime.bigint());
  const result = await load;
  // Free: the second before and the second after, so that a slow drift of the machine cancels out.
  const around = [rate(result, from - BUSY_MS * 1e6, from), rate(result, to, to + BUSY_MS * 1e6)];
  return { free: spread(around).median, busy: rate(result, from, to) };
}

export const busyScript: Row = {
  id: 'B15',
  work: 'JavaScript held busy for a second: reads, writes and flushes of resident windows',
  needsCellblock: true,
  run: async (bench) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    await daemon.createVolume(VOLUME, VOLUME_BYTES);
    await bench.client(daemon.target(VOLUME), fillWork(VOLUME_BYTES));
    const findings: Finding[] = [];
    const tables: NumbersTable[] = [];
    for (const [part, work] of LOADS) {
      const rounds = [];
      for (let round = 0; round < bench.options.rounds; round += 1) {
        bench.log(`B15 ${part}: round ${round + 1} of ${bench.options.rounds}`);
        rounds.push(await oneRound(bench, daemon, work));
      }
      const busy = rounds.map((round) => round.busy);
      const free = rounds.map((round) => round.free);
      const question = { part, target: '>= 95 %', unit: 'requests/s', better: 'higher' } as const;
      findings.push(
        judge(
          question,
          busy,
          free.map((one) => one * 0.95),
          [],
        ),
      );
      const columns = [
        { name: 'JavaScript free', values: free },
        { name: 'JavaScript busy', values: busy },
      ];
      tables.push({ title: part, unit: 'requests/s', columns });
    }
    return { findings, tables, plots: [], notes: [] };
  },
};
