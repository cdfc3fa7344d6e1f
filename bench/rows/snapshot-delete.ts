// B9: deleting a middle snapshot that holds much data. Ours must move none of it; qcow2 commits it into the layer below.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bench, inTurn, serverTable } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import { fillWork } from '../data-sets.js';
import type { Finding, ServerName } from '../finding.js';
import { judgeAgainst, judgeNumber, notMeasured } from '../judge.js';
import { Qcow2Chain } from '../qcow2.js';
import type { Row } from '../row.js';

interface Deletion {
  readonly seconds: number;
  /** Bytes written to the disk while it ran, and by which the store grew. */
  readonly written_bytes: number;
  readonly grown_bytes: number;
}

/** What every write-back of LevelDB and journal may add up to; data would be thousands of times more. */
const METADATA_BYTES = 64 << 20;

async function allocatedBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

async function deleteOurs(bench: Bench, daemon: Cellblock, round: number): Promise<Deletion> {
  const volume = `delete-${round}`;
  const bytes = bench.sizes.deleted_bytes;
  const target = daemon.target(volume);
  await daemon.createVolume(volume, bytes * 2);
  await bench.client(target, { ...fillWork(bytes), start: bytes / 2 });
  await daemon.snapshot(`${volume}@below`);
  await bench.client(target, fillWork(bytes));
  await daemon.snapshot(`${volume}@middle`);
  await bench.client(target, { ...fillWork(bytes / 8), start: bytes });
  await daemon.snapshot(`${volume}@above`);
  await bench.settle();

  const [before, sizeBefore] = [await daemon.costs(), await allocatedBytes(daemon.store)];
  const started = performance.now();
  await daemon.deleteSnapshot(`${volume}@middle`);
  const seconds = (performance.now() - started) / 1000;
  await bench.settle();
  const [after, sizeAfter] = [await daemon.costs(), await allocatedBytes(daemon.store)];
  await daemon.deleteVolume(volume);
  const written_bytes = after.written_bytes - before.written_bytes;
  return { seconds, written_bytes, grown_bytes: Math.max(0, sizeAfter - sizeBefore) };
}

async function deleteQcow2(bench: Bench, round: number): Promise<Deletion> {
  const bytes = bench.sizes.deleted_bytes;
  const chain = await Qcow2Chain.create({
    peers: bench.peers,
    directory: bench.options.directory,
    name: `delete-${round}`,
    size_bytes: bytes * 2,
  });
  await bench.client(chain.served.target, { ...fillWork(bytes), start: bytes / 2 });
  await chain.snapshot();
  await bench.client(chain.served.target, fillWork(bytes));
  await chain.snapshot();
  await bench.client(chain.served.target, { ...fillWork(bytes / 8), start: bytes });
  await chain.stop();
  await bench.settle();
  const started = performance.now();
  await chain.commit(1);
  const seconds = (performance.now() - started) / 1000;
  await chain.remove();
  return { seconds, written_bytes: bytes, grown_bytes: 0 };
}

export const snapshotDelete: Row = {
  id: 'B9',
  work: 'deleting a middle snapshot that holds much data',
  needsCellblock: false,
  run: async (bench) => {
    const daemon = await bench.cellblock();
    const subjects: { name: ServerName }[] = [];
    if (daemon !== null) subjects.push({ name: 'cellblock' });
    if (bench.peers.has('qemu-nbd')) subjects.push({ name: 'qcow2' });
    const results = await inTurn<{ name: ServerName }, Deletion>(bench, 'B9', subjects, ({ name }, round) =>
      name === 'cellblock' ? deleteOurs(bench, daemon as Cellblock, round) : deleteQcow2(bench, round),
    );
    const seconds = new Map([...results].map(([name, all]) => [name, all.map((one) => one.seconds)]));
    const findings: Finding[] = [
      judgeAgainst(
        { part: 'time', target: ">= 20 x faster than qcow2's commit", unit: 's', better: 'lower' },
        seconds,
        [['qcow2', 1 / 20]],
      ),
    ];
    const moved = {
      part: 'data moved',
      target: '0 bytes of data',
      unit: 'bytes written or grown',
      better: 'lower',
    } as const;
    const ours = results.get('cellblock')?.map((one) => one.written_bytes + one.grown_bytes);
    findings.push(ours === undefined ? notMeasured(moved, '') : judgeNumber(moved, ours, METADATA_BYTES));
    const none = 'has no snapshots';
    const absent = { limit: none, 'qemu-raw': none, nbdkit: none, 'nbd-server': none };
    const held = bench.sizes.deleted_bytes / 2 ** 30;
    return {
      findings,
      tables: [serverTable({ title: `snapshot of ${held} GiB`, unit: 's', absent }, seconds)],
      plots: [],
      notes: [
        `The snapshot holds ${held} GiB. Ours is timed from the call to the end of its task. Bytes written by the daemon ` +
          `include LevelDB and the journal, hence the bound of ${METADATA_BYTES >> 20} MiB for "no data".`,
      ],
    };
  },
};
