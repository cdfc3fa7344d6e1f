// B8: clones, syncs that keep the identity, and restores: by size of the volumes, and by snapshots below the one that is synced to;
// against the time of one synced LevelDB batch of the same rounds.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bench, inTurn } from '../bench.js';
import type { Cellblock, SyncAnswer } from '../cellblock.js';
import type { DataSets } from '../data-sets.js';
import type { Finding, NumbersTable, Plot } from '../finding.js';
import { changeWindows } from '../huge.js';
import { judge, judgeNumber } from '../judge.js';
import { putDisk } from '../partitioned-disk.js';
import { plotSvg } from '../plot.js';
import { withBatches } from '../rates.js';
import type { Row } from '../row.js';
import { spread } from '../statistics.js';

const GIB = 2 ** 30;
const DEEP_BYTES = 64 * GIB;
/** Windows that change between two snapshots. */
const CHANGED = 4;
/** A round's value is the median of so many in a row. */
const IN_A_ROW = 7;
/** Milliseconds in which a deleted snapshot of these volumes is reclaimed. */
const REST_MS = 200;
const MOST_BATCHES = 12;
const FLAT = 1.2;

const OPERATIONS = ['clone', 'sync', 'restore'] as const;
type Operation = (typeof OPERATIONS)[number];
type Times = Record<Operation | 'batch', number>;

/** Volumes with a disk each; the source has `depth` snapshots, and the last is synced to. */
interface Point {
  readonly name: string;
  readonly bytes: number;
  readonly depth: number;
  readonly source: string;
  readonly target: string;
}

async function makePoint(
  bench: Bench,
  daemon: Cellblock,
  { full, bytes, depth }: { full: string; bytes: number; depth: number },
): Promise<Point> {
  const gib = bytes / GIB;
  const name = `${gib} GiB, depth ${depth}`;
  bench.log(`B8: making volumes of ${name}`);
  const [source, target] = [`b8-source-${gib}-${depth}`, `b8-target-${gib}-${depth}`];
  for (const volume of [source, target]) {
    await daemon.clone(full, volume);
    await putDisk(bench, daemon.target(volume), bytes);
  }
  const change = { range_bytes: bytes, windows: CHANGED };
  for (let number = 1; number <= depth; number += 1) {
    // It may hit blocks of the disk, which is put there again at last.
    if (number > 1) await changeWindows(bench, daemon.target(source), { ...change, seed: number });
    if (number === depth && depth > 1) await putDisk(bench, daemon.target(source), bytes);
    await daemon.snapshot(`${source}@s${number}`);
  }
  await daemon.snapshot(`${target}@own`);
  return { name, bytes, depth, source: `${source}@s${depth}`, target };
}

async function makePoints(bench: Bench, data: DataSets, daemon: Cellblock): Promise<Point[]> {
  const points: Point[] = [];
  for (const bytes of [...new Set([GIB, DEEP_BYTES, bench.sizes.huge_bytes])]) {
    const full = `${await data.huge.full(daemon, bytes)}@b8`;
    await daemon.snapshot(full);
    const deep = bench.sizes.depths.filter((depth) => depth >= 100);
    for (const depth of bytes === DEEP_BYTES ? [1, ...deep] : [1])
      points.push(await makePoint(bench, daemon, { full, bytes, depth }));
  }
  await daemon.untilIdle();
  return points;
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** The median of several in a row; what `undo` takes is no part of it, nor what it leaves to be reclaimed. */
async function medianOf(work: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let turn = 0; turn < IN_A_ROW; turn += 1) {
    times.push(await milliseconds(work));
    await undo();
    await sleep(REST_MS);
  }
  return spread(times).median;
}

/** All that was overwritten is back: else it would be no sync that is measured. */
function requireRestored({ disks }: SyncAnswer): void {
  const kinds = new Set(disks[0]?.identity.restored.map(({ kind }) => kind));
  for (const kind of ['gpt', 'ext', 'xfs'])
    if (![...kinds].some((found) => found.startsWith(kind)))
      throw new Error(`no identity of ${kind} was restored, only of ${[...kinds].join(', ')}`);
}

async function measure(bench: Bench, daemon: Cellblock, { source, target }: Point): Promise<Times> {
  const clone = `${target}-clone`;
  let safety: readonly string[] = [];
  const forget = async (): Promise<void> => {
    for (const point of safety) await daemon.deleteSnapshot(point);
  };
  await bench.settle();
  return {
    clone: await medianOf(
      () => daemon.clone(source, clone),
      () => daemon.deleteVolume(clone),
    ),
    sync: await medianOf(
      async () => {
        const answer = await daemon.sync(target, source);
        requireRestored(answer);
        safety = answer.safety;
      },
      async () => {
        // Back to what differs from the source.
        await forget();
        ({ safety } = await daemon.sync(target, `${target}@own`));
        await forget();
      },
    ),
    restore: await medianOf(async () => {
      ({ safety } = await daemon.sync(target, `${target}@own`));
    }, forget),
    batch: await batchTime(bench),
  };
}

function batchTime(bench: Bench): Promise<number> {
  return withBatches(bench, async (batch) => {
    const times: number[] = [];
    for (let turn = 0; turn < IN_A_ROW * 4; turn += 1) times.push(await milliseconds(() => batch(turn)));
    return spread(times).median;
  });
}

type Results = ReadonlyMap<string, readonly Times[]>;

/** The highest of medians over the lowest. */
function flatness(results: Results, names: readonly string[], operation: Operation): number {
  const medians = names.map((name) => medianTime(results, name, operation));
  return Math.max(...medians) / Math.min(...medians);
}

function medianTime(results: Results, name: string, operation: Operation): number {
  return spread((results.get(name) ?? []).map((times) => times[operation])).median;
}

function judgeOperation(results: Results, points: readonly Point[], operation: Operation): Finding[] {
  const names = points.map(({ name }) => name);
  const slowest = names.reduce((a, b) =>
    medianTime(results, a, operation) >= medianTime(results, b, operation) ? a : b,
  );
  const times = results.get(slowest) ?? [];
  const flat = { target: `max/min <= ${FLAT}`, unit: 'x', better: 'lower' } as const;
  const of = (chosen: readonly Point[]): number[] => [
    flatness(
      results,
      chosen.map(({ name }) => name),
      operation,
    ),
  ];
  const [bySize, byDepth] = [points.filter(ofSizes), points.filter(ofDepths)];
  return [
    judgeNumber({ part: `${operation}, by size`, ...flat }, of(bySize), FLAT),
    judgeNumber({ part: `${operation}, by depth`, ...flat }, of(byDepth), FLAT),
    judge(
      {
        part: `${operation}, ${slowest}`,
        target: `<= ${MOST_BATCHES} synced LevelDB batches`,
        unit: 'ms',
        better: 'lower',
      },
      times.map((one) => one[operation]),
      times.map((one) => one.batch * MOST_BATCHES),
      [`${(spread(times.map((one) => one[operation] / one.batch)).median).toFixed(1)} batches`],
    ),
  ];
}

const ofSizes = ({ depth }: Point): boolean => depth === 1;
const ofDepths = ({ bytes }: Point): boolean => bytes === DEEP_BYTES;

function plotOf(
  what: { file: string; title: string; x: string },
  points: readonly (readonly [number, Point])[],
  results: Results,
): Plot {
  const lines = OPERATIONS.map((operation) => ({
    name: operation,
    points: points.map(([at, { name }]) => [at, medianTime(results, name, operation)] as const),
  }));
  const svg = plotSvg({
    title: what.title,
    x: { label: what.x, scale: 'log' },
    y: { label: 'ms', scale: 'linear' },
    lines,
  });
  return { file: what.file, title: what.title, svg };
}

function plots(results: Results, points: readonly Point[]): Plot[] {
  const title = 'Clone, sync and restore';
  const sizes = points.filter(ofSizes).map((point) => [point.bytes / GIB, point] as const);
  const depths = points.filter(ofDepths).map((point) => [point.depth, point] as const);
  const bySize = { file: 'b8-size.svg', title: `${title} by size`, x: 'size of the volumes, GiB' };
  const byDepth = { file: 'b8-depth.svg', title: `${title} by depth`, x: 'snapshots of the source' };
  return [plotOf(bySize, sizes, results), ...(depths.length > 1 ? [plotOf(byDepth, depths, results)] : [])];
}

function tableOf(results: Results, operation: Operation | 'batch'): NumbersTable {
  const columns = [...results].map(([name, all]) => ({ name, values: all.map((times) => times[operation]) }));
  return { title: operation === 'batch' ? 'one synced batch' : operation, unit: 'ms', columns };
}

export const syncs: Row = {
  id: 'B8',
  work: 'clone, sync (identity restored), restore, by size and by depth',
  needsCellblock: true,
  run: async (bench, data) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    const points = await makePoints(bench, data, daemon);
    const results = await inTurn(bench, 'B8', points, (point) => measure(bench, daemon, point));
    return {
      findings: OPERATIONS.flatMap((operation) => judgeOperation(results, points, operation)),
      tables: [...OPERATIONS, 'batch' as const].map((operation) => tableOf(results, operation)),
      plots: plots(results, points),
      notes: [
        'Calls over HTTP on the unix socket. Every window of the volumes has a record. Each disk has a GPT, an ext4 with metadata_csum ' +
          'and an XFS unmounted cleanly; a sync keeps the ids of all three, and an undo point. ' +
          `A round's value is the median of ${IN_A_ROW} in a row; the batches are written in the same rounds.`,
      ],
    };
  },
};
