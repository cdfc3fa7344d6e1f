// `npm run bench`: sets up, measures the rows one after the other, writes the report. A missed target is a result, not a
// failure; exit code 1 means that something is broken, 2 that the command line is.
import { mkdir, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Arguments, chooseSizes, readArguments, roomNeeded, USAGE, UsageError } from './arguments.js';
import { Bench } from './bench.js';
import { daemonProgram, isBuilt } from './cellblock.js';
import { DataSets } from './data-sets.js';
import type { RowResult } from './finding.js';
import { loadRows } from './load.js';
import { describeMachine, versionOf } from './machine.js';
import { Peers } from './peers.js';
import { readReport, withRow, writeReport } from './report.js';
import type { Row } from './row.js';
import { afterSnapshot } from './rows/after-snapshot.js';
import { busyScript } from './rows/busy-script.js';
import { cachedRows } from './rows/cached-io.js';
import { controlRates } from './rows/control-rates.js';
import { coordinatorFailover } from './rows/coordinator-failover.js';
import { coordinatorRoutes } from './rows/coordinator-routes.js';
import { depth } from './rows/depth.js';
import { flushedWrites } from './rows/flushed-writes.js';
import { snapshotDelete } from './rows/snapshot-delete.js';
import { snapshotPause } from './rows/snapshot-pause.js';
import { start } from './rows/start.js';
import { syncs } from './rows/syncs.js';
import { tlsReads } from './rows/tls-reads.js';
import { trimAndMkfs } from './rows/trim-and-mkfs.js';
import { buildPrograms, installPeers, PEER_PROGRAMS } from './setup.js';

/** In the order of their numbers; B3 and B10 leave snapshots behind, which no later row works on. */
const ROWS: readonly Row[] = [
  ...cachedRows,
  tlsReads,
  flushedWrites,
  afterSnapshot,
  snapshotPause,
  syncs,
  snapshotDelete,
  depth,
  trimAndMkfs,
  start,
  busyScript,
  controlRates,
  ...loadRows,
  coordinatorRoutes,
  coordinatorFailover,
];

/** Rows that compare two builds as well as servers. */
const COMPARED: readonly Row[] = [...cachedRows, flushedWrites, afterSnapshot];

/** A row as a comparison with an older build; it has a place of its own in the report. */
function comparing(row: Row, before: string): Row {
  return {
    id: `${row.id}-BEFORE`,
    work: `two builds: ${row.work}`,
    needsCellblock: true,
    run: async (bench, data) => {
      const { findings, tables } = await row.run(bench, data);
      // The plots are those of the row itself, of other servers.
      return { findings, tables, plots: [], notes: [`"before" is cellblock ${before}. Rounds: A B B A.`] };
    },
  };
}

async function rowsOf({ rows, against }: Arguments): Promise<Row[]> {
  const wanted = (against === null ? ROWS : COMPARED).filter(
    ({ id }) => rows.length === 0 || rows.includes(id),
  );
  if (against === null) return wanted;
  const before = await versionOf(resolve(against));
  return wanted.map((row) => comparing(row, before));
}

function log(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
}

async function measureRow(bench: Bench, data: DataSets, row: Row): Promise<RowResult> {
  const { id, work } = row;
  if (row.needsCellblock && bench.options.peersOnly) {
    return { id, work, findings: [], tables: [], plots: [], notes: ['This row has no peers: not measured.'] };
  }
  log(`${id}: ${work}`);
  const result: RowResult = { id, work, ...(await row.run(bench, data)) };
  for (const { part, measured, verdict } of result.findings) log(`${id} ${part}: ${verdict}: ${measured}`);
  return result;
}

/** Answers the ids of the rows that are broken. */
async function measureRows(
  bench: Bench,
  wanted: readonly Row[],
  measured: (row: RowResult) => Promise<void>,
): Promise<string[]> {
  const data = new DataSets(bench);
  const broken: string[] = [];
  for (const row of wanted) {
    try {
      await measured(await measureRow(bench, data, row));
    } catch (error) {
      // The other rows still say something; the exit code will say that this one did not.
      const why = error instanceof Error ? error.message : String(error);
      log(`${row.id} is broken: ${why}`);
      broken.push(row.id);
      const { id, work } = row;
      await measured({ id, work, findings: [], tables: [], plots: [], notes: [`Broken: ${why}`] });
    }
  }
  return broken;
}

/** A directory of its own: nothing that was there before is ever removed. */
async function makeDataDirectory(root: string, asked: Arguments): Promise<string> {
  const place = resolve(asked.directory ?? join(root, 'build', 'bench'));
  await mkdir(place, { recursive: true });
  const { bavail, bsize } = await statfs(place);
  if (bavail * bsize < roomNeeded(asked.quick)) {
    const needed = `${roomNeeded(asked.quick) / 2 ** 30} GiB`;
    log(`${place} may have too little room: all rows need about ${needed}; --dir chooses another place`);
  }
  return mkdtemp(join(place, 'data-'));
}

interface Prepared {
  readonly bench: Bench;
  /** Stops every server and removes what the bench made but for its report. */
  readonly leave: () => Promise<void>;
}

async function prepare(root: string, asked: Arguments): Promise<Prepared> {
  const lacking = await installPeers(log);
  const missing = asked.against === null ? lacking : PEER_PROGRAMS;
  const programs = await buildPrograms(root);
  const directory = await makeDataDirectory(root, asked);
  // Short: a socket path has at most 107 bytes, wherever the project lies.
  const sockets = await mkdtemp(join(tmpdir(), 'cb-'));
  const bench = new Bench({
    root,
    directory,
    sockets,
    rounds: asked.rounds,
    runtime_ms: asked.runtime_ms,
    sizes: await chooseSizes(asked.quick),
    clientProgram: programs.client,
    peers: new Peers({ sockets, limitProgram: programs.limit, missing }),
    peersOnly: asked.peersOnly,
    against: asked.against === null ? null : resolve(asked.against),
    log,
  });
  const leave = async (): Promise<void> => {
    await bench.stop();
    await rm(sockets, { recursive: true, force: true });
    if (!asked.keep) await rm(directory, { recursive: true, force: true });
  };
  return { bench, leave };
}

async function measureAndReport(bench: Bench, asked: Arguments): Promise<number> {
  const wanted = await rowsOf(asked);
  const { rounds, runtime_ms, quick } = asked;
  const method = { rounds, runtime_ms, quick, cached_bytes: bench.sizes.cached_bytes };
  const machine = await describeMachine(bench.options.root, bench.options.directory);
  const out = resolve(asked.out);
  // After every row: a run that is interrupted loses one.
  const broken = await measureRows(bench, wanted, async (row) => {
    const taken = new Date().toISOString();
    const cellblock = machine.versions['cellblock'] ?? 'unknown';
    const report = withRow(await readReport(out), machine, { ...row, taken, cellblock, method });
    log(`${row.id} written: ${await writeReport(out, report)}`);
  });
  if (broken.length > 0) log(`broken: ${broken.join(', ')}`);
  return broken.length === 0 ? 0 : 1;
}

async function runBench(root: string, asked: Arguments): Promise<number> {
  if (!asked.peersOnly && !isBuilt(root)) {
    log(`${daemonProgram(root)} is missing: build first, or measure the peers alone with --peers-only`);
    return 1;
  }
  if (asked.against !== null && !isBuilt(resolve(asked.against))) {
    log(`${daemonProgram(asked.against)} is missing: build there first (\`npm run build\`)`);
    return 1;
  }
  const { bench, leave } = await prepare(root, asked);
  const interrupted = (): void => {
    log('interrupted: stopping the servers');
    void leave().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    return await measureAndReport(bench, asked);
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    await leave();
  }
}

async function main(): Promise<number> {
  try {
    return await runBench(
      process.cwd(),
      readArguments(process.argv.slice(2), {
        all: ROWS.map(({ id }) => id),
        compared: COMPARED.map(({ id }) => id),
      }),
    );
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    return 2;
  }
}

process.exitCode = await main();
