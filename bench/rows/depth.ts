// B10: what depth costs. Random reads of volumes with 0 to 1,000 snapshots, and the first touch of windows whose records
// must be faulted in from far below.
import { type Bench, inTurn, seriesOf } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import { type DataSets, makeHistory } from '../data-sets.js';
import type { Finding, NumbersTable, Plot } from '../finding.js';
import type { Export, FioResult } from '../fio.js';
import { changeWindows, readWindows, WINDOW_BYTES } from '../huge.js';
import { judge } from '../judge.js';
import { plotSvg } from '../plot.js';
import type { Row } from '../row.js';
import { spread } from '../statistics.js';

interface DeepVolume {
  readonly name: string;
  readonly depth: number;
  readonly target: Export;
}

async function makeDeep(
  bench: Bench,
  daemon: Cellblock,
  depth: number,
  size_bytes: number,
): Promise<DeepVolume> {
  const name = `depth-${depth}`;
  const target = daemon.target(name);
  bench.log(`B10: making a volume with ${depth} snapshots`);
  await daemon.createVolume(name, size_bytes);
  // All in all as many blocks are rewritten as there are, whatever the depth.
  const rewritten = depth === 0 ? 0 : Math.ceil(size_bytes / 4096 / depth);
  await makeHistory(
    { size_bytes, snapshots: depth, rewritten },
    (work) => bench.client(target, work),
    (number) => daemon.snapshot(`${name}@s${number}`),
  );
  return { name, depth, target };
}

async function warmReads(bench: Bench, data: DataSets, daemon: Cellblock): Promise<Part> {
  const size_bytes = bench.sizes.cached_bytes / 4;
  const volumes: DeepVolume[] = [];
  for (const depth of bench.sizes.depths) volumes.push(await makeDeep(bench, daemon, depth, size_bytes));
  await data.warm(
    volumes.map(({ target }) => ({ name: 'cellblock', target })),
    size_bytes,
  );
  const results = await inTurn<DeepVolume, FioResult>(bench, 'B10 random reads', volumes, ({ target }) =>
    bench.fio(target, {
      rw: 'randread',
      block_bytes: 4096,
      depth: 32,
      processes: 1,
      range_bytes: size_bytes,
      runtime_ms: bench.options.runtime_ms,
    }),
  );
  const rates = seriesOf(results, (result) => result.requests_per_s);
  const [shallow, ...deeper] = volumes as [DeepVolume, ...DeepVolume[]];
  const base = rates.get(shallow.name) as number[];
  const findings = deeper.map(({ name, depth }) =>
    judge(
      { part: `depth ${depth}`, target: '>= 0.95 x depth 0', unit: 'requests/s', better: 'higher' },
      rates.get(name) as number[],
      base.map((rate) => rate * 0.95),
      [],
    ),
  );
  const points = volumes.map(
    ({ name, depth }) => [Math.max(depth, 1), spread(rates.get(name) as number[]).median] as const,
  );
  const title = '4 KiB random reads, queue 32, by number of snapshots';
  const svg = plotSvg({
    title,
    x: { label: 'snapshots (0 drawn at 1)', scale: 'log' },
    y: { label: 'requests/s', scale: 'linear' },
    lines: [{ name: 'cellblock', points }],
  });
  const columns = volumes.map(({ name, depth }) => ({
    name: `depth ${depth}`,
    values: rates.get(name) as number[],
  }));
  return {
    findings,
    tables: [{ title: 'random reads after first touch', unit: 'requests/s', columns }],
    plots: [{ file: 'b10-depth.svg', title, svg }],
  };
}

interface Part {
  readonly findings: Finding[];
  readonly tables: NumbersTable[];
  readonly plots: Plot[];
}

const STEPS = 1000;

/** A full huge volume, then 1,000 snapshots of a clone of it, and 1,000 clones of clones of it. */
async function makeChains(
  bench: Bench,
  data: DataSets,
  daemon: Cellblock,
): Promise<{ name: string; volume: string }[]> {
  const range_bytes = bench.sizes.huge_bytes;
  const windows = Math.ceil(range_bytes / WINDOW_BYTES / 4 / STEPS);
  const full = await data.huge.full(daemon, range_bytes);
  await daemon.snapshot(`${full}@b10`);
  const steps = Math.min(STEPS, Math.max(...bench.sizes.depths));
  bench.log(
    `B10: ${steps} snapshots, and ${steps} clones of clones, of a volume of ${range_bytes / 2 ** 30} GiB`,
  );

  await daemon.clone(`${full}@b10`, 'b10-versions');
  for (let step = 0; step < steps; step += 1) {
    await changeWindows(bench, daemon.target('b10-versions'), { range_bytes, windows, seed: step + 1 });
    await daemon.snapshot(`b10-versions@s${step}`);
  }
  let last = full;
  for (let step = 0; step < steps; step += 1) {
    const next = `b10-clone-${step}`;
    await daemon.clone(`${last}@b10`, next);
    await changeWindows(bench, daemon.target(next), { range_bytes, windows, seed: step + 1 });
    await daemon.snapshot(`${next}@b10`);
    last = next;
  }
  return [
    { name: 'depth 1', volume: full },
    { name: `depth ${steps}`, volume: 'b10-versions' },
    { name: `${steps} clones of clones`, volume: last },
  ];
}

async function firstTouch(bench: Bench, data: DataSets, daemon: Cellblock): Promise<Part> {
  const chains = await makeChains(bench, data, daemon);
  const range_bytes = bench.sizes.huge_bytes;
  const results = await inTurn(bench, 'B10 first touch', chains, async ({ volume }, round) => {
    // Nothing of any map is resident in a daemon that has just started.
    await daemon.restart();
    const windows = bench.sizes.touched_windows;
    return bench.client(daemon.target(volume), readWindows({ range_bytes, windows, seed: 7000 + round }));
  });
  const means = seriesOf(results, (result) => (result.seconds / result.requests) * 1e6);
  const [shallow, ...deeper] = chains as [(typeof chains)[number], ...typeof chains];
  const allowed = (means.get(shallow.name) as number[]).map((mean) => mean * 2);
  const findings = deeper.map(({ name }) =>
    judge(
      { part: `first touch, ${name}`, target: '<= 2 x depth 1', unit: 'µs a window', better: 'lower' },
      means.get(name) as number[],
      allowed,
      [],
    ),
  );
  const columns = chains.map(({ name }) => ({ name, values: means.get(name) as number[] }));
  const title = `first touch of ${bench.sizes.touched_windows} random windows`;
  return { findings, tables: [{ title, unit: 'µs a window', columns }], plots: [] };
}

export const depth: Row = {
  id: 'B10',
  work: 'B1 by depth after first touch; first touch of random windows by depth',
  needsCellblock: true,
  run: async (bench, data) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    const warm = await warmReads(bench, data, daemon);
    const cold = await firstTouch(bench, data, daemon);
    return {
      findings: [...warm.findings, ...cold.findings],
      tables: [...warm.tables, ...cold.tables],
      plots: [...warm.plots, ...cold.plots],
      notes: ["First touch: queue 1, the daemon just started, LevelDB's own files in the page cache."],
    };
  },
};
