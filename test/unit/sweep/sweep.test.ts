// The leak sweep against a naive list of what is named, and against everything that may happen while it runs.

import { deepStrictEqual, strictEqual } from 'node:assert';
import { access, mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import type { Test } from 'tap';
import t from 'tap';
import { extentsPath } from '../../../src/model/entities.js';
import { offsetInFile, slotOf } from '../../../src/model/slot.js';
import type { SweepCollaborators, SweepOptions } from '../../../src/operations/sweep.js';
import { sweep } from '../../../src/operations/sweep.js';
import { replay } from '../../support/replay.js';
import type { Step } from '../usage/small-store.js';
import { BLOCKS, history, SmallStore, WINDOW_BYTES } from '../usage/small-store.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const PLACES = 12;

interface Bench {
  store: SmallStore;
  options: SweepOptions;
  collaborators: SweepCollaborators;
  /** `file/place/block`. */
  punched: Set<string>;
  released: number[];
  open: Set<number>;
}

let benches = 0;

async function bench(t: Test, steps: readonly Step[], places = PLACES): Promise<Bench> {
  const directory = join(t.testdir(), `${++benches}`);
  await mkdir(join(directory, 'extents'), { recursive: true });
  const store = await SmallStore.of(steps);
  for (const file of store.catalog.files.keys()) {
    const handle = await open(join(directory, extentsPath(file)), 'w');
    await handle.truncate(places * WINDOW_BYTES);
    await handle.close();
  }
  const made: Bench = {
    store,
    punched: new Set(),
    released: [],
    open: new Set(),
    options: { directory, windowBytes: WINDOW_BYTES, thorough: true },
    collaborators: {
      catalog: store.catalog,
      client: {
        grace: async () => undefined,
        punch: async (ranges) => {
          for (const { file, offset, bytes } of ranges) {
            for (let at = offset; at < offset + bytes; at += 4096n) {
              made.punched.add(`${file}/${at / BigInt(WINDOW_BYTES)}/${(at % BigInt(WINDOW_BYTES)) / 4096n}`);
            }
          }
        },
      },
      files: { release: async (number) => void made.released.push(number) },
      isOpen: (container) => made.open.has(container),
      log: silent,
    },
  };
  return made;
}

/** What must be punched: all blocks of places handed out, but those named, and whole own slots of current versions. */
function leaked({ store, open }: Bench, places = PLACES): string[] {
  const kept = new Set<string>();
  for (const [key, { ownSlot, runs }] of store.records) {
    const [line, version] = key.split('/').map(Number) as [number, number];
    const isCurrent = store.catalog.lines
      .get(line)!
      .versions.some((live) => live.version === version && live.state === 'current');
    for (let block = 0; block < BLOCKS; block++) {
      if (ownSlot !== null && isCurrent) kept.add(`${ownSlot >> 24n}/${ownSlot & 0xffffffn}/${block}`);
      const run = runs.find(({ start, count }) => block >= start && block < start + count);
      if (run && run.slot !== null) kept.add(`${run.slot >> 24n}/${run.slot & 0xffffffn}/${block}`);
    }
  }
  const all: string[] = [];
  for (const { number, container } of store.catalog.files.values()) {
    if (open.has(container)) continue;
    for (let place = 0; place < places; place++) {
      for (let block = 0; block < BLOCKS; block++) all.push(`${number}/${place}/${block}`);
    }
  }
  return all.filter((place) => !kept.has(place)).sort();
}

t.test('punches exactly what nothing names and nobody may write to', async (t) => {
  await fc.assert(
    fc.asyncProperty(history, fc.nat({ max: 7 }), async (steps, openMask) => {
      const made = await bench(t, steps);
      for (const { id } of made.store.catalog.containers.values())
        if (openMask & (1 << (id - 1))) made.open.add(id);
      const report = await sweep(made.collaborators, made.options);
      deepStrictEqual([...made.punched].sort(), leaked(made));
      deepStrictEqual(report.filesRemoved, []);
      strictEqual(report.records, BigInt(made.store.records.size));
    }),
    replay({ quick: 20, normal: 150, long: 2000 }),
  );
  t.pass('every history');
});

const WRITTEN: Step[] = [
  { kind: 'write', line: 0, window: 0, start: 0, count: 4 },
  { kind: 'snapshot', line: 0, version: 0 },
  { kind: 'write', line: 0, window: 0, start: 2, count: 4 },
];

t.test('nothing is punched when a record cannot be read', async (t) => {
  const made = await bench(t, WRITTEN);
  await made.store.catalog.change().window(made.store.lines[0]!, 5n, 1, Buffer.from('nonsense')).commit();
  await t.rejects(sweep(made.collaborators, made.options), { code: 'record-corrupt' });
  t.equal(made.punched.size, 0);
});

t.test(
  'nothing is punched before every record was seen and everybody who looked before has finished',
  async (t) => {
    const made = await bench(t, WRITTEN);
    made.collaborators.client.grace = async () => {
      t.equal(made.punched.size, 0);
    };
    await sweep(made.collaborators, made.options);
    t.not(made.punched.size, 0);
  },
);

t.test('HAZARDS 7: a place that a merge moves while the sweep runs is left alone', async (t) => {
  const made = await bench(t, WRITTEN);
  const { store } = made;
  const line = store.lines[0]!;
  made.collaborators.client.grace = async () => {
    // Version 1 is merged into version 2: its blocks 0 and 1 go over.
    const old = slotOf(1, 0);
    const own = slotOf(1, 1);
    await store.put(line, 2, 0, {
      ownSlot: own,
      runs: [
        { start: 0, count: 2, slot: old },
        { start: 2, count: 4, slot: own },
      ],
    });
    await store.catalog.change().removeWindow(line.id, 0n, 1).commit();
  };
  await sweep(made.collaborators, made.options);
  for (const block of [0, 1]) t.notOk(made.punched.has(`1/0/${block}`), `block ${block}`);
});

t.test(
  'HAZARDS J6: a block of an own slot that is not owned is left alone, an export may write it at any time',
  async (t) => {
    const made = await bench(t, WRITTEN);
    await sweep(made.collaborators, made.options);
    for (let block = 0; block < BLOCKS; block++) t.notOk(made.punched.has(`1/1/${block}`), `block ${block}`);
    t.ok(made.punched.has('1/0/4'), 'but one of a frozen version is not');
  },
);

t.test('places handed out after the sweep began are left alone', async (t) => {
  const made = await bench(t, WRITTEN);
  made.collaborators.client.grace = async () => {
    const handle = await open(join(made.options.directory, extentsPath(1)), 'r+');
    await handle.truncate(100 * WINDOW_BYTES);
    await handle.close();
  };
  await sweep(made.collaborators, made.options);
  t.notOk([...made.punched].some((place) => Number(place.split('/')[1]) >= PLACES));
});

t.test('a file that holds no more than what is named is not touched', async (t) => {
  const made = await bench(t, WRITTEN);
  const report = await sweep(made.collaborators, { ...made.options, thorough: false });
  t.equal(report.punchedRanges, 0, 'it is one large hole');
  const handle = await open(join(made.options.directory, extentsPath(1)), 'r+');
  await handle.write(
    Buffer.alloc(10 * 4096, 1),
    0,
    10 * 4096,
    Number(offsetInFile(slotOf(1, 7), 0, WINDOW_BYTES)),
  );
  await handle.sync();
  await handle.close();
  await sweep(made.collaborators, { ...made.options, thorough: false });
  t.ok(made.punched.has('1/7/0'), 'ten blocks are more than the eight that are named');
});

t.test('files of containers that are gone go when nothing names them, and files nobody knows', async (t) => {
  const made = await bench(t, WRITTEN);
  const { catalog } = made.store;
  await catalog
    .change()
    .file({ number: 20, container: 99, state: 'live', movedOut: true })
    .file({ number: 21, container: 99, state: 'live', movedOut: true })
    .commit();
  await made.store.put(made.store.lines[0]!, 2, 3, {
    ownSlot: null,
    runs: [{ start: 0, count: 1, slot: slotOf(21, 0) }],
  });
  for (const name of ['5', '300', 'notes.txt'])
    await writeFile(join(made.options.directory, 'extents', name), 'x');
  const report = await sweep(made.collaborators, made.options);
  t.strictSame(made.released, [20], 'the one a record names stays');
  t.strictSame(report.filesRemoved, [20, 5]);
  await t.rejects(access(join(made.options.directory, 'extents/5')));
  await t.resolves(
    access(join(made.options.directory, 'extents/300')),
    'newer than what is known: left for the check',
  );
  await t.resolves(access(join(made.options.directory, 'extents/notes.txt')));
});

t.test('a cancelled sweep ends with task-cancelled', async (t) => {
  const made = await bench(t, WRITTEN);
  await t.rejects(sweep(made.collaborators, { ...made.options, signal: AbortSignal.abort() }), {
    code: 'task-cancelled',
  });
});
