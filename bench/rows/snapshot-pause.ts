// B7: the longest request around a snapshot under full load, against the tail without one; on a small volume and on a
// huge one with as large a working set.
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdClient } from '../../src/nbd-client/nbd-client.js';
import type { Bench } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import type { ClientResult, ClientWork } from '../client.js';
import type { DataSets } from '../data-sets.js';
import { fillWork } from '../data-sets.js';
import type { Finding, NumbersTable } from '../finding.js';
import type { Export } from '../fio.js';
import { judge, number } from '../judge.js';
import { plotSvg } from '../plot.js';
import type { Row } from '../row.js';
import { quantile, spread } from '../statistics.js';

const GIB = 2 ** 30;
const BIN_MS = 1;
/** Requests that end so long after the answer still count as around the snapshot. */
const AFTER_MS = 20;
const PAUSE_MS = 200;
const WORKING_SET_BYTES = GIB / 2;

interface Span {
  readonly from_ns: number;
  readonly to_ns: number;
}

interface Round {
  readonly tail_us: number;
  readonly longest_us: number;
  readonly control_us: number;
  readonly worst_us: number;
  readonly flush_us: number;
}

function now(): number {
  return Number(process.hrtime.bigint());
}

/** Calls `work` every so often while a load of `runtime_ms` runs; the span around each call. */
async function repeatedDuring(runtime_ms: number, work: (turn: number) => Promise<unknown>): Promise<Span[]> {
  const spans: Span[] = [];
  const end = now() + (runtime_ms - 2 * PAUSE_MS) * 1e6;
  await sleep(PAUSE_MS);
  while (now() < end) {
    const from_ns = now();
    await work(spans.length);
    spans.push({ from_ns, to_ns: now() + AFTER_MS * 1e6 });
    await sleep(PAUSE_MS);
  }
  return spans;
}

/** The longest request of each span, in microseconds. */
function longestIn(result: ClientResult, spans: readonly Span[], offset_ns: number): number[] {
  const bins = result.longest_ns ?? [];
  return spans.map(({ from_ns, to_ns }) => {
    const first = Math.max(0, Math.floor((from_ns - offset_ns) / (BIN_MS * 1e6)));
    const last = Math.floor((to_ns - offset_ns) / (BIN_MS * 1e6));
    return Math.max(0, ...bins.slice(first, last + 1)) / 1000;
  });
}

function workOf(bench: Bench): ClientWork & { runtime_ms: number } {
  return {
    op: 'mix',
    depth: 32,
    range: WORKING_SET_BYTES,
    runtime_ms: Math.max(2000, bench.options.runtime_ms),
    timeline_ms: BIN_MS,
  };
}

/** The longest requests, in microseconds, around what is done to the export while the load runs on it. */
async function longestAround(
  bench: Bench,
  target: Export,
  done: (turn: number) => Promise<unknown>,
): Promise<{ spans: Span[]; started_ns: number; longest: number[] }> {
  const work = workOf(bench);
  await bench.settle();
  const [result, spans] = await Promise.all([
    bench.client(target, work),
    repeatedDuring(work.runtime_ms, done),
  ]);
  if (spans.length === 0) throw new Error('nothing was done under load');
  return { spans, started_ns: result.started_ns, longest: longestIn(result, spans, result.started_ns) };
}

/** What a plain FLUSH by another client costs the same load. */
async function longestAroundFlushes(bench: Bench, target: Export): Promise<number> {
  const other = await NbdClient.connect({ address: `unix:${target.socket}`, exportName: target.name });
  const { longest } = await longestAround(bench, target, () => other.flush());
  await other.disconnect();
  return quantile(longest, 0.5);
}

async function oneRound(bench: Bench, daemon: Cellblock, volume: string, prefix: string): Promise<Round> {
  const target = daemon.target(volume);
  await bench.settle();
  const quiet = await bench.client(target, workOf(bench));
  const { spans, started_ns, longest } = await longestAround(bench, target, (turn) =>
    daemon.snapshot(`${volume}@${prefix}-${turn}`),
  );
  // The same spans of the run without snapshots: what the machine does by itself.
  const control = longestIn(quiet, spans, started_ns);
  return {
    tail_us: quiet.latency_ns.p999 / 1000,
    longest_us: quantile(longest, 0.5),
    control_us: quantile(control, 0.5),
    worst_us: Math.max(...longest),
    flush_us: await longestAroundFlushes(bench, target),
  };
}

/** The same of qemu-nbd on a raw file, which has no snapshots: what a flush costs a load on this machine. */
async function flushesOfRaw(bench: Bench, data: DataSets): Promise<number[]> {
  const raw = (await data.owned()).find(({ name }) => name === 'qemu-raw');
  const all: number[] = [];
  for (let round = 0; raw && round < bench.options.rounds; round += 1) {
    bench.log(`B7 flushes of qemu-raw: round ${round + 1} of ${bench.options.rounds}`);
    all.push(await longestAroundFlushes(bench, raw.target));
  }
  return all;
}

async function volumeOf(bench: Bench, data: DataSets, daemon: Cellblock, bytes: number): Promise<string> {
  let volume = `pause-${bytes}`;
  if (bytes === bench.sizes.huge_bytes) volume = await data.huge.full(daemon, bytes);
  else await daemon.createVolume(volume, bytes);
  await bench.client(daemon.target(volume), fillWork(WORKING_SET_BYTES));
  return volume;
}

export const snapshotPause: Row = {
  id: 'B7',
  work: 'longest request around a snapshot under full load',
  needsCellblock: true,
  run: async (bench, data) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    const findings: Finding[] = [];
    const tables: NumbersTable[] = [];
    const bySize: [number, number][] = [];
    for (const bytes of new Set([GIB, 64 * GIB, bench.sizes.huge_bytes])) {
      const volume = await volumeOf(bench, data, daemon, bytes);
      const part = `${bytes / GIB} GiB`;
      const rounds: Round[] = [];
      for (let round = 0; round < bench.options.rounds; round += 1) {
        bench.log(`B7 ${part}: round ${round + 1} of ${bench.options.rounds}`);
        rounds.push(await oneRound(bench, daemon, volume, `b7-${round}`));
      }
      const longest = rounds.map((round) => round.longest_us);
      const allowed = rounds.map((round) => round.tail_us * 1.5);
      const target = '<= 1.5 x the p99.9 without one';
      const control = number(spread(rounds.map((round) => round.control_us)).median);
      const words = [`in equal spans without a snapshot: ${control} µs`];
      findings.push(judge({ part, target, unit: 'µs', better: 'lower' }, longest, allowed, words));
      tables.push({
        title: part,
        unit: 'µs',
        columns: [
          { name: 'p99.9 without', values: rounds.map((round) => round.tail_us) },
          { name: 'longest around a snapshot (median of snapshots)', values: longest },
          { name: 'longest in an equal span without', values: rounds.map((round) => round.control_us) },
          { name: 'longest around any snapshot', values: rounds.map((round) => round.worst_us) },
          { name: 'longest around a flush instead', values: rounds.map((round) => round.flush_us) },
        ],
      });
      bySize.push([bytes / GIB, spread(longest).median]);
    }
    tables.push({
      title: 'the same load on qemu-nbd, which takes no snapshots',
      unit: 'µs',
      columns: [{ name: 'longest around a flush', values: await flushesOfRaw(bench, data) }],
    });
    const title = 'Longest request around a snapshot';
    const svg = plotSvg({
      title,
      x: { label: 'size of the volume, GiB', scale: 'log' },
      y: { label: 'µs', scale: 'linear' },
      lines: [{ name: 'cellblock', points: bySize }],
    });
    const notes = [
      `"Around": from the call to ${AFTER_MS} ms after its answer. Load: half reads, half writes, queue 32.`,
      'A snapshot makes what was written before it stable, as a flush does: the columns of flushes say what that alone costs.',
    ];
    return { findings, tables, plots: [{ file: 'b7-size.svg', title, svg }], notes };
  },
};
