// What a move costs, shown with real processes: a volume with 50 snapshots under write load there and back, a clone, and a volume that was synced
// from another. Nothing may be lost, nothing may fork, and only what has changed may be sent.
//
//   node dist/test/cells/show-moves.js [--snapshots N] [--print]
//
// Writes docs/moves-measured.md, or prints it; the exit code is 0 only if everything held. Needs to be root.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine } from '../../bench/machine.js';
import { isHiddenName } from '../../src/model/names.js';
import { OptionRefused } from '../../src/nbd-client/handshake.js';
import { OPTION_REPLY_UNKNOWN } from '../../src/nbd-client/wire.js';
import { noEtcd } from '../support/etcd-cluster.js';
import { MIB } from '../support/nbd-wire.js';
import { noNetworks } from '../support/network-lab.js';
import { repositoryRoot } from '../support/programs.js';
import { type Copied, CopyLog } from './copied.js';
import { Installation } from './installation.js';
import { type Move, movesPage } from './moves-page.js';
import type { HostParty } from './parties.js';
import { began, moveOver } from './rounds.js';
import { bytesOf, Subject } from './subject.js';

const { values } = parseArgs({
  options: { snapshots: { type: 'string', default: '50' }, print: { type: 'boolean', default: false } },
});

const SIZE = 32 * MIB;
/** Where nobody of the load writes. */
const FREE_FROM = 8 * MIB;
const WRITTEN_EACH = 2;
const SNAPSHOTS = Number(values.snapshots);
const AGAIN = 5;
/** What a change is told in. */
const BLOCK = 4096;
const ZEROS = Buffer.alloc(BLOCK);

/** Incompressible; at places of its own each time. */
async function fill(subject: Subject, host: HostParty, mebibytes: number): Promise<void> {
  const client = await host.connect(subject.name);
  const places = (SIZE - FREE_FROM) / MIB;
  for (let at = 0; at < mebibytes; at++)
    await client.write(BigInt(FREE_FROM + Math.floor(Math.random() * places) * MIB), randomBytes(MIB));
  await client.disconnect();
}

/** An owner keeps the last two deltas of a move, and the seal: what was carried before is given back. */
function unlessGivenBack(error: unknown): null {
  if (error instanceof OptionRefused && error.type === OPTION_REPLY_UNKNOWN) return null;
  throw error;
}

/**
 * Bytes of the blocks that differ between two snapshots, both read whole at the host that made them; null: one is there no more. Blocks of zeros
 * are not sent, and not counted.
 */
async function changedBytes(host: HostParty, from: string | null, to: string): Promise<number | null> {
  const before = from === null ? Buffer.alloc(SIZE) : await bytesOf(host, from).catch(unlessGivenBack);
  const after = await bytesOf(host, to).catch(unlessGivenBack);
  if (before === null || after === null) return null;
  let changed = 0;
  for (let at = 0; at < SIZE; at += BLOCK) {
    const block = after.subarray(at, at + BLOCK);
    if (!block.equals(before.subarray(at, at + BLOCK)) && !block.equals(ZEROS)) changed += BLOCK;
  }
  return changed;
}

/** The names of those that are seen say whose they are: a clone continues one of another volume. */
function exportOf(snapshot: string, volume: string): string {
  const of = isHiddenName(snapshot) ? volume : snapshot.slice(0, snapshot.lastIndexOf('-'));
  return `${of}@${snapshot}`;
}

async function withChanges(volume: string, source: HostParty, copied: Copied[]): Promise<Move['snapshots']> {
  const rows: Move['snapshots'] = [];
  for (const { snapshot, since, receivedBytes } of copied) {
    const from = since && exportOf(since, volume);
    const changed = await changedBytes(source, from, exportOf(snapshot, volume));
    rows.push({ snapshot, since, receivedBytes, changedBytes: changed });
  }
  return rows;
}

/** The move, and everything that is wrong after it. */
async function moved(
  site: Installation,
  subject: Subject,
  { cell, title }: { cell: string; title: string },
): Promise<Move> {
  const source = await subject.settled();
  const receiver = [...site.hosts.values()].find((host) => host.cell === cell)!;
  const log = CopyLog.begin(receiver);
  subject.load.takeLongestSilenceMs();
  const writes = subject.load.writes;
  const begun = performance.now();
  await began(site, subject, cell);
  const { result, at } = await moveOver(site, subject);
  const copied = log.end();
  const silenceMs = subject.load.takeLongestSilenceMs();
  const during = subject.load.writes - writes;
  const problems = await subject.problems('all');
  if (result !== 'moved') problems.push(`the move has ended ${result}`);
  const snapshots = await withChanges(subject.name, source, copied);
  for (const { snapshot, receivedBytes, changedBytes: changed } of snapshots)
    if (changed !== null && receivedBytes > changed)
      problems.push(`of ${snapshot} ${receivedBytes} bytes came, and ${changed} had changed`);
  console.error(`${title}: ${result}, ${snapshots.length} snapshots, ${problems.length} problems`);
  return { title, tookMs: at - begun, silenceMs, writes: during, snapshots, problems };
}

async function chain(site: Installation): Promise<Move[]> {
  const subject = await Subject.make(site, { name: 'db', host: 'h1', sizeBytes: SIZE });
  subject.load.start();
  try {
    const take = async (count: number): Promise<void> => {
      for (let at = 0; at < count; at++) {
        await fill(subject, await subject.settled(), WRITTEN_EACH);
        await subject.snapshot();
      }
    };
    await take(SNAPSHOTS);
    const there = await moved(site, subject, {
      cell: 'west',
      title: `A volume with ${SNAPSHOTS} snapshots, there`,
    });
    await take(AGAIN);
    const back = await moved(site, subject, { cell: 'east', title: `The same, back, with ${AGAIN} more` });
    return [there, back];
  } finally {
    await subject.load.stop();
  }
}

/** What they share with the golden volume is there already. */
async function sharing(site: Installation): Promise<Move[]> {
  const golden = await Subject.make(site, { name: 'golden', host: 'h1', sizeBytes: SIZE });
  await fill(golden, site.host('h1'), 16);
  await golden.snapshot();
  const moves = [
    await moved(site, golden, { cell: 'west', title: 'A golden volume, of which the next two are made' }),
  ];
  await moved(site, golden, { cell: 'east', title: 'It is brought back' });
  const { api } = site.host('h1').daemon;
  await api.clone('golden@golden-1', 'clone');
  await site.said('route', 'claim', 'clone', '--host', 'h1');
  const clone = new Subject(site, 'clone');
  const synced = await Subject.make(site, { name: 'synced', host: 'h1', sizeBytes: SIZE });
  await fill(synced, site.host('h1'), 2);
  await synced.snapshot();
  await api.sync('synced', 'golden@golden-1', { safety: false });
  for (const [subject, what] of [
    [clone, 'A clone'],
    [synced, 'A volume that was synced from another'],
  ] as const) {
    subject.load.start();
    await fill(subject, site.host('h1'), 1);
    await subject.snapshot();
    moves.push(await moved(site, subject, { cell: 'west', title: `${what}, there` }));
    await subject.snapshot();
    moves.push(await moved(site, subject, { cell: 'east', title: `${what}, back` }));
    await subject.load.stop();
  }
  return moves;
}

const reason = noNetworks() || noEtcd();
if (reason) {
  console.error(`show:moves: ${reason}`);
  process.exit(1);
}
const clean: (() => unknown)[] = [];
let moves: Move[] = [];
try {
  const site = await Installation.begin({ teardown: (one) => clean.push(one) }, { hosts: ['h1', 'h3'] });
  moves = [...(await chain(site)), ...(await sharing(site))];
  const page = movesPage(moves, await describeMachine(repositoryRoot, os.tmpdir()));
  if (values.print) console.log(page);
  else writeFileSync(path.join(repositoryRoot, 'docs/moves-measured.md'), page);
} finally {
  for (const one of clean.reverse()) await one();
}
const problems = moves.flatMap((move) => move.problems.map((problem) => `${move.title}: ${problem}`));
for (const problem of problems) console.error(`WRONG: ${problem}`);
process.exit(problems.length === 0 ? 0 : 1);
