// B11: TRIM of a whole volume, and the file systems people make first thing. mkfs reaches every server alike, through
// nbdfuse, so it needs no kernel module.
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bench, inTurn, type Subject, serverTable } from '../bench.js';
import type { ClientWork } from '../client.js';
import { type DataSets, makeSparse, rawSubjects } from '../data-sets.js';
import type { Finding, NumbersTable, ServerName } from '../finding.js';
import type { Export } from '../fio.js';
import { BEST_PEER, judgeByRule, judgeNumber, notMeasured } from '../judge.js';
import { attempt, Running, run } from '../processes.js';
import { Qcow2Chain } from '../qcow2.js';
import type { Row } from '../row.js';

/** What the kernel's NBD client sends for a discard of a whole device: the largest aligned length of 32 bits. */
const LARGEST_TRIM = 2 ** 32 - 65536;

const FILE_SYSTEMS: readonly (readonly [name: string, command: readonly string[]])[] = [
  ['ext4', ['mkfs.ext4', '-F', '-q']],
  ['xfs', ['mkfs.xfs', '-f', '-q']],
  ['btrfs', ['mkfs.btrfs', '-f', '-q']],
];

async function trimSeconds(bench: Bench, target: Export, bytes: number): Promise<number> {
  const whole = Math.floor(bytes / LARGEST_TRIM);
  const rest = bytes - whole * LARGEST_TRIM;
  const work: ClientWork = {
    op: 'trim',
    pattern: 'sequential',
    bytes: LARGEST_TRIM,
    requests: whole,
    depth: 4,
  };
  const most = await bench.client(target, work);
  const last =
    rest === 0
      ? null
      : await bench.client(target, {
          op: 'trim',
          bytes: rest,
          start: whole * LARGEST_TRIM,
          range: rest,
          requests: 1,
        });
  return most.seconds + (last?.seconds ?? 0);
}

async function trimOurs(
  bench: Bench,
  data: DataSets,
  bytes: number,
): Promise<{ findings: Finding[]; table: NumbersTable }> {
  const question = { target: '< 1 s', unit: 's', better: 'lower' } as const;
  const daemon = await bench.cellblock();
  const kinds = [{ name: 'fresh' }, { name: 'clone of a full one' }];
  if (daemon === null) {
    const findings = kinds.map(({ name }) =>
      notMeasured({ part: `TRIM, ${name}`, target: question.target }, ''),
    );
    return { findings, table: { title: 'TRIM of the whole volume', unit: 's', columns: [] } };
  }
  const full = await data.huge.full(daemon, bytes);
  await daemon.snapshot(`${full}@b11`);
  const results = await inTurn(bench, 'B11 TRIM', kinds, async ({ name }, round) => {
    const volume = `b11-${name.split(' ')[0]}-${round}`;
    if (name === 'fresh') await daemon.createVolume(volume, bytes);
    else await daemon.clone(`${full}@b11`, volume);
    const seconds = await trimSeconds(bench, daemon.target(volume), bytes);
    await daemon.deleteVolume(volume);
    return seconds;
  });
  const findings = [...results].map(([name, seconds]) =>
    judgeNumber({ part: `TRIM, ${name}`, ...question }, seconds, 1),
  );
  const columns = [...results].map(([name, values]) => ({ name, values }));
  return { findings, table: { title: 'TRIM of the whole volume', unit: 's', columns } };
}

async function mounted(file: string, server: Running): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (
      await stat(file).then(
        () => true,
        () => false,
      )
    )
      return;
    if (server.ended) throw new Error(`nbdfuse ended: ${server.complaint}`);
    await sleep(20);
  }
  throw new Error(`nbdfuse did not show ${file}`);
}

async function mkfsSeconds(bench: Bench, target: Export, command: readonly string[]): Promise<number> {
  const directory = bench.path('fuse');
  await mkdir(directory, { recursive: true });
  const file = join(directory, 'disk');
  const uri = `nbd+unix:///${target.name}?socket=${target.socket}`;
  const fuse = new Running({ command: 'nbdfuse', args: [file, uri] });
  try {
    await mounted(file, fuse);
    const [program, ...args] = command as [string, ...string[]];
    const started = performance.now();
    await run(program, [...args, file]);
    return (performance.now() - started) / 1000;
  } finally {
    await attempt('fusermount3', ['-u', directory]);
    await fuse.stop();
  }
}

async function mkfsSubjects(bench: Bench, size_bytes: number): Promise<Subject[]> {
  const subjects = (await rawSubjects(bench, await makeSparse(bench, 'mkfs.raw', size_bytes))).filter(
    ({ name }) => name !== 'limit',
  );
  if (bench.peers.has('qemu-nbd')) {
    const { peers } = bench;
    const chain = await Qcow2Chain.create({
      peers,
      directory: bench.options.directory,
      name: 'mkfs',
      size_bytes,
    });
    subjects.push({ name: 'qcow2', target: chain.served.target });
  }
  const daemon = await bench.cellblock();
  if (daemon === null) return subjects;
  await daemon.createVolume('mkfs', size_bytes);
  return [{ name: 'cellblock', target: daemon.target('mkfs') }, ...subjects];
}

export const trimAndMkfs: Row = {
  id: 'B11',
  work: 'TRIM of a whole volume, fresh and a clone of a full one; mkfs.ext4, mkfs.xfs, mkfs.btrfs on it',
  needsCellblock: false,
  run: async (bench, data) => {
    const bytes = bench.sizes.trimmed_bytes;
    const trim = await trimOurs(bench, data, bytes);
    const findings = [...trim.findings];
    const tables = [trim.table];
    const subjects = await mkfsSubjects(bench, bytes);
    for (const [fileSystem, command] of FILE_SYSTEMS) {
      const results = await inTurn<Subject, number>(
        bench,
        `B11 mkfs.${fileSystem}`,
        subjects,
        async ({ target }) => {
          // Every mkfs finds the volume as empty as a new one.
          await trimSeconds(bench, target, bytes);
          await bench.settle();
          return mkfsSeconds(bench, target, command);
        },
      );
      const series = new Map<ServerName, number[]>(results);
      const part = `mkfs.${fileSystem}`;
      findings.push(
        judgeByRule({ part, target: "<= the best peer's", unit: 's', better: 'lower' }, series, BEST_PEER),
      );
      const absent = { limit: 'takes no part' };
      tables.push(serverTable({ title: part, unit: 's', absent }, series));
    }
    const notes = [
      `The volume has ${bytes / 2 ** 30} GiB. mkfs runs on a file of nbdfuse, the same for every server.`,
    ];
    return { findings, tables, plots: [], notes };
  },
};
