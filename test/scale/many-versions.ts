// Measures what one line of many versions costs: the difference of two neighbours, the delete of one snapshot and of all. On a real
// LevelDB, with maps only: no data is written.
//
//   node dist/test/scale/many-versions.js DIRECTORY [VERSIONS RECORDS hot|spread [DELETED]]
//
// `hot`: every version has records of the same windows; `spread`: of random windows of 1 TiB. DELETED: how many of the snapshots the
// delete of all takes (default: all).

import { mkdirSync, rmSync } from 'node:fs';

import type { Line } from '../../src/model/entities.js';
import { slotOf } from '../../src/model/slot.js';
import { encodeWindowRecord } from '../../src/model/window-record.js';
import { diff } from '../../src/operations/diff.js';
import { Operations } from '../../src/operations/operations.js';
import { levelOf } from '../../src/operations/store-directory.js';
import { FakeDisk } from '../support/fake-disk.js';
import { FakePlane } from '../support/fake-plane.js';
import { quiet } from '../support/store-harness.js';

const WINDOW_BYTES = 2 << 20;
const SIZE_BYTES = 1n << 40n;
const WINDOWS = Number(SIZE_BYTES / BigInt(WINDOW_BYTES));
const RECORDS_AT_ONCE = 4000;

const [directory = '/tmp/many-versions', versions = '1000', records = '2200', where = 'hot', deleted] =
  process.argv.slice(2);

let place = 0;
let state = 1;

/** xorshift32: the same windows in every run. */
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

function windowsOfVersion(): number[] {
  const count = Number(records);
  if (where === 'hot') return Array.from({ length: count }, (_, index) => index);
  const windows = new Set<number>();
  while (windows.size < count) windows.add(random() % WINDOWS);
  return [...windows];
}

async function writeVersion(operations: Operations, line: Line): Promise<void> {
  const { catalog } = operations.parts;
  const { version } = line.versions[line.versions.length - 1]!;
  const windows = windowsOfVersion();
  for (let at = 0; at < windows.length; at += RECORDS_AT_ONCE) {
    const change = catalog.change();
    for (const window of windows.slice(at, at + RECORDS_AT_ONCE)) {
      const slot = slotOf(1, place++);
      const record = encodeWindowRecord({ ownSlot: slot, runs: [{ start: random() % 512, count: 1, slot }] });
      change.window(line, BigInt(window), version, record);
    }
    await change.commit();
  }
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work();
  console.log(`${what}: ${((performance.now() - began) / 1000).toFixed(3)} s`);
  return result;
}

async function main(): Promise<void> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const operations = await Operations.open({
    directory,
    plane: new FakePlane(new FakeDisk()),
    level: levelOf(directory),
    log: quiet,
    windowBytes: WINDOW_BYTES,
    reserveBytes: 0n,
    ballastBytes: 0,
  });
  await operations.createVolume('v', { sizeBytes: SIZE_BYTES });
  const line = operations.parts.catalog.lines.get(1)!;
  await timed(`${versions} versions of ${records} records (${where})`, async () => {
    for (let version = 1; version < Number(versions); version++) {
      await writeVersion(operations, line);
      await operations.createSnapshots([{ volume: 'v', snapshot: `s${version}` }]);
    }
    await writeVersion(operations, line);
  });
  const middle = Math.floor(Number(versions) / 2);
  const side = (version: number) => ({ line: 1, version, sizeBytes: SIZE_BYTES });
  for (const [from, to] of [
    [middle, middle + 1],
    [middle, middle + 10],
  ] as const) {
    await timed(`diff of versions ${from} and ${to}`, async () => {
      let ranges = 0;
      const pages = diff(operations.parts.catalog, side(from), side(to), { windowBytes: WINDOW_BYTES });
      for await (const page of pages) ranges += page.length;
      console.log(`  ${ranges} ranges`);
    });
  }
  const remove = async (names: string[]): Promise<void> => {
    const task = await operations.deleteSnapshots(names.map((snapshot) => ({ volume: 'v', snapshot })));
    await operations.waitForTask(task.id);
    await operations.parts.punches.settled();
  };
  await timed('delete of one snapshot', () => remove([`s${middle}`]));
  const left = operations.listSnapshots('v').map(({ name }) => name);
  const some = deleted === undefined ? left : left.slice(-Number(deleted));
  await timed(`delete of ${some.length} snapshots`, () => remove(some));
  console.log(`memory: ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`);
  await operations.close();
  rmSync(directory, { recursive: true, force: true });
}

await main();
