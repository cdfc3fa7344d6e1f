// The check of a store: a sound one is clean, every kind of damage is found under its code, and no damage makes it throw.

import { deepStrictEqual, strictEqual } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { Catalog } from '../../../src/catalog/catalog.js';
import type { Level } from '../../../src/catalog/level.js';
import { classicLevel } from '../../../src/catalog/level.js';
import { newRecord } from '../../../src/model/cell/host-record.js';
import { windowKey, writtenKey } from '../../../src/model/keys.js';
import { slotOf } from '../../../src/model/slot.js';
import { encodeWindowRecord } from '../../../src/model/window-record.js';
import { WrittenSet } from '../../../src/model/written-set.js';
import type { FindingCode } from '../../../src/operations/check/findings.js';
import { FINDING_CODES, Findings } from '../../../src/operations/check/findings.js';
import { StoreImage } from '../../../src/operations/check/image.js';
import { checkJournal } from '../../../src/operations/check/journal-check.js';
import { checkStore } from '../../../src/operations/check.js';
import { FORMAT_VERSION } from '../../../src/operations/store-directory.js';
import { replay } from '../../support/replay.js';
import type { Cell } from './sound-store.js';
import {
  catalogOf,
  del,
  edit,
  journal,
  put,
  SOUND_CELLS,
  STORE_ID,
  soundStore,
  write,
} from './sound-store.js';

const UNFINISHED_SYNC = Buffer.from(
  JSON.stringify({
    id: 1,
    phase: 'rebased',
    members: [{ container: 2, oldLine: 8, newLine: 9, oldSizeBytes: '1', newSizeBytes: '1' }],
  }),
);
const OPEN_LINE = Buffer.from(
  JSON.stringify({
    id: 5,
    container: 2,
    base: null,
    current: 1,
    deleted: [],
    cutOffs: [],
    regions: [],
  }),
);
const SOUND = join(t.testdir(), 'sound');
let copies = 0;

async function aStore(): Promise<string> {
  const directory = join(t.testdirName, `${++copies}`);
  await cp(SOUND, directory, { recursive: true });
  return directory;
}

async function found(directory: string): Promise<FindingCode[]> {
  const { found: codes } = await checkStore({ directory });
  return Object.keys(codes).sort() as FindingCode[];
}

t.before(() => soundStore(SOUND));

t.test('a sound store is clean, and everything was looked at', async (t) => {
  const { clean, findings, counts } = await checkStore({ directory: await aStore() });
  t.strictSame(findings, []);
  t.equal(clean, true);
  t.strictSame(counts, {
    volumes: 2,
    snapshots: 1,
    lines: 2,
    files: 2,
    records: 4n,
    blocks: 25n,
    pendingPunches: 1,
    journalEntries: 6n,
  });
});

t.test('reads only: not one byte of the store changes', async (t) => {
  const directory = await aStore();
  const contents = async (): Promise<string[]> => {
    const names = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    );
    return Promise.all(
      names.map(async ({ parentPath, name }) => {
        const path = join(parentPath, name);
        return `${path} ${(await stat(path)).mtimeMs} ${(await readFile(path)).toString('base64')}`;
      }),
    );
  };
  const before = await contents();
  await checkStore({ directory });
  t.strictSame(await contents(), before);
});

type Damage = (level: Level, catalog: Catalog, directory: string) => Promise<void>;
const line1 = (catalog: Catalog) => catalog.lines.get(1)!;

async function json(
  level: Level,
  key: string,
  change: (value: Record<string, unknown>) => void,
): Promise<void> {
  const value = JSON.parse((await level.get(Buffer.from(key)))!.toString()) as Record<string, unknown>;
  change(value);
  await level.batch([put(key, JSON.stringify(value))]);
}

async function ofJournal(directory: string, ...cells: Cell[]): Promise<void> {
  await writeFile(join(directory, 'journal'), journal([...SOUND_CELLS, ...cells]));
}

const CELL_VOLUME = 'f'.repeat(32);

/** Of volume 1, which is owned and sound if nothing else is said. */
function lineage({
  record = {},
  ...changes
}: {
  record?: object;
  container?: number | null;
  hidden?: string[];
}) {
  const sound = { ...newRecord(CELL_VOLUME), ...record };
  return JSON.stringify({ container: 1, hidden: [], ...changes, record: sound });
}

/** Into the current version of volume 1. */
function copy(changes: object = {}) {
  const sound = {
    volume: CELL_VOLUME,
    container: 1,
    line: 1,
    version: 2,
    snapshot: '5'.repeat(32),
    since: 'a'.repeat(32),
  };
  return put(`copy/${CELL_VOLUME}`, JSON.stringify({ ...sound, ...changes }));
}

const RECEIVED = put(`lineage/${CELL_VOLUME}`, lineage({ record: { state: 'RECEIVING' } }));

const DAMAGE: [FindingCode[], string, Damage][] = [
  [['store-record-missing'], 'no meta/store', (level) => level.batch([del('meta/store')])],
  [['store-record-damaged'], 'garbage in meta/store', (level) => level.batch([put('meta/store', '{')])],
  [
    ['store-newer'],
    'a newer format',
    (level) =>
      json(level, 'meta/store', (meta) => {
        meta['format'] = FORMAT_VERSION + 1;
      }),
  ],
  [
    ['store-older'],
    'a format of before the first release',
    (level) =>
      json(level, 'meta/store', (meta) => {
        meta['format'] = 1;
      }),
  ],
  [['key-unknown'], 'a strange key', (level) => level.batch([put('zzz/1', '{}')])],
  [
    ['record-damaged'],
    'a damaged counter',
    (level) =>
      json(level, 'meta/counters', (counters) => {
        delete counters['punch'];
        counters['task'] = 'x';
        delete counters['file'];
      }),
  ],
  [
    ['record-misplaced'],
    'a file under the key of another',
    (level) => level.batch([put('file/9', '{"number":8,"container":1,"state":"live","movedOut":false}')]),
  ],
  [
    ['counter-behind'],
    'a counter put back',
    (level) =>
      json(level, 'meta/counters', (counters) => {
        counters['file'] = 2;
      }),
  ],
  [
    ['container-invalid'],
    'a name with a slash',
    (level) =>
      json(level, 'container/1', (value) => {
        value['name'] = 'a/b';
      }),
  ],
  [
    ['container-invalid'],
    'a size of 0',
    (level) =>
      json(level, 'container/2', (value) => {
        value['sizeBytes'] = '0';
      }),
  ],
  [
    ['container-name-taken'],
    'two volumes of one name',
    (level) =>
      json(level, 'container/2', (value) => {
        value['name'] = 'volume-1';
      }),
  ],
  [
    ['container-line-missing'],
    'a volume without its line',
    (level) =>
      json(level, 'container/2', (value) => {
        value['line'] = 1;
      }),
  ],
  [
    ['container-state-wrong'],
    'a live volume without a current version',
    (level) =>
      json(level, 'line/2', (value) => {
        value['deleted'] = [1];
        value['current'] = null;
      }),
  ],
  [
    ['container-state-wrong'],
    'a volume being deleted that has a snapshot',
    (level) =>
      json(level, 'container/1', (value) => {
        value['state'] = 'deleting';
      }),
  ],
  [
    ['container-without-file'],
    'a volume without a file',
    async (level) => {
      await level.batch([del('file/2'), del(windowKey(2, 1n, 1))]);
    },
  ],
  [['line-container-missing'], 'a line without its volume', (level) => level.batch([del('container/2')])],
  [
    ['base-missing'],
    'a base that is gone',
    (level) =>
      json(level, 'line/2', (value) => {
        value['base'] = { line: 1, version: 9 };
      }),
  ],
  [
    ['base-cycle'],
    'a circle of bases',
    (level) =>
      json(level, 'line/1', (value) => {
        value['base'] = { line: 2, version: 1 };
      }),
  ],
  [
    ['sync-invalid'],
    'an interrupted sync between maps that are not there',
    (level) => level.batch([put('sync/1', UNFINISHED_SYNC)]),
  ],
  [
    ['vm-member-missing'],
    'a virtual machine of a volume that is not there',
    (level) =>
      level.batch([
        put(
          'vm/1',
          JSON.stringify({ id: 1, name: 'v', config: '', members: [{ slot: 'vda', container: 9 }] }),
        ),
      ]),
  ],
  [
    ['vm-snapshot-strange'],
    'a snapshot of a virtual machine that is not there',
    (level) =>
      level.batch([
        put('vm-snapshot/2', JSON.stringify({ id: 2, vm: 1, name: 's', config: '', members: [] })),
      ]),
  ],
  [
    ['lineage-container-missing'],
    'a volume of a cell that is not there',
    (level) => level.batch([put(`lineage/${CELL_VOLUME}`, lineage({ container: 99 }))]),
  ],
  [
    ['lineage-container-missing'],
    'an owner without a volume',
    (level) => level.batch([put(`lineage/${CELL_VOLUME}`, lineage({ container: null }))]),
  ],
  [
    ['lineage-container-missing'],
    'a volume of two records',
    (level) =>
      level.batch([
        put(`lineage/${CELL_VOLUME}`, lineage({})),
        put(`lineage/${'b'.repeat(32)}`, lineage({ record: { volume: 'b'.repeat(32) } })),
      ]),
  ],
  [
    ['lineage-head-unknown'],
    'a head whose seq has another id',
    (level) =>
      level.batch([
        put(`lineage/${CELL_VOLUME}`, lineage({ record: { head: { id: 'a'.repeat(32), seq: 2 } } })),
        put(`lineage-id/${CELL_VOLUME}/0000000000000002`, JSON.stringify('b'.repeat(32))),
      ]),
  ],
  [
    ['lineage-head-unknown'],
    'a seal that could not be opened again',
    (level) =>
      level.batch([
        put(
          `lineage/${CELL_VOLUME}`,
          lineage({ record: { state: 'SEALED', sealedHead: { id: 'c'.repeat(32), seq: 0 } } }),
        ),
      ]),
  ],
  [
    ['lineage-hidden-strange'],
    'a hidden snapshot that is not there',
    (level) => level.batch([put(`lineage/${CELL_VOLUME}`, lineage({ hidden: ['c'.repeat(32)] }))]),
  ],
  [
    ['lineage-id-strange'],
    'an id of a volume without a record',
    (level) =>
      level.batch([put(`lineage-id/${CELL_VOLUME}/0000000000000001`, JSON.stringify('b'.repeat(32)))]),
  ],
  [['copy-target-missing'], 'a copy of a volume that no record knows', (level) => level.batch([copy()])],
  [
    ['copy-target-missing'],
    'a copy into another volume than that of the record',
    (level) => level.batch([RECEIVED, copy({ container: 2, line: 2, version: 1 })]),
  ],
  [
    ['copy-target-missing'],
    'a copy into a map of another volume',
    (level) => level.batch([RECEIVED, copy({ line: 2, version: 1 })]),
  ],
  [
    ['copy-target-missing'],
    'a copy into a version that is frozen',
    (level) => level.batch([RECEIVED, copy({ version: 1 })]),
  ],
  [
    ['copy-target-missing'],
    'a copy into a version that there never was',
    (level) => level.batch([RECEIVED, copy({ version: 3 })]),
  ],
  [
    ['copy-target-missing'],
    'a copy of a snapshot that is here as another one',
    (level) => level.batch([RECEIVED, copy({ snapshot: 'a'.repeat(32) })]),
  ],
  [
    ['copy-target-missing', 'lineage-container-missing'],
    'a copy into a volume that is gone',
    (level) =>
      level.batch([
        put(`lineage/${CELL_VOLUME}`, lineage({ record: { state: 'RECEIVING' }, container: 99 })),
        copy({ container: 99 }),
      ]),
  ],
  [
    ['copy-unneeded'],
    'a copy of a volume that is owned',
    (level) => level.batch([put(`lineage/${CELL_VOLUME}`, lineage({})), copy()]),
  ],
  [
    ['record-damaged'],
    'a copy that names no version',
    (level) => level.batch([RECEIVED, copy({ version: 'two' })]),
  ],
  [
    ['record-misplaced'],
    'a copy under the key of another volume',
    (level) => level.batch([RECEIVED, { ...copy(), key: Buffer.from(`copy/${'b'.repeat(32)}`) }]),
  ],
  [
    ['group-cut-strange'],
    'a group without its snapshot',
    (level) =>
      level.batch([
        put(
          `group-cut/${'d'.repeat(32)}`,
          JSON.stringify({
            id: 'd'.repeat(32),
            phase: 'cut',
            created: '2024-01-01T00:00:00.000Z',
            heldMs: 1,
            members: [{ volume: CELL_VOLUME, epoch: 1, parent: null, snapshot: 'c'.repeat(32), name: 's' }],
            parts: [],
          }),
        ),
      ]),
  ],
  [
    ['record-damaged'],
    'a lineage that cannot be understood',
    (level) => level.batch([put(`lineage/${CELL_VOLUME}`, lineage({ record: { state: 'OWNER' } }))]),
  ],
  [
    ['record-damaged'],
    'an id of a lineage under a key that is none',
    (level) => level.batch([put(`lineage-id/${CELL_VOLUME}/2`, JSON.stringify('b'.repeat(32)))]),
  ],
  [
    ['line-left-open'],
    'a map that was left and not ended',
    (level) => level.batch([put('line/5', OPEN_LINE)]),
  ],
  [
    ['version-order-wrong'],
    'a version twice',
    (level) =>
      json(level, 'line/1', (value) => {
        value['deleted'] = [1];
      }),
  ],
  [
    ['cut-off-malformed'],
    'an empty cut-off',
    (level) =>
      json(level, 'line/2', (value) => {
        value['cutOffs'] = [['5', '5', 1]];
      }),
  ],
  [
    ['cut-off-malformed'],
    'a cut-off of a dead version',
    (level) =>
      json(level, 'line/2', (value) => {
        value['cutOffs'] = [['5', null, 7]];
      }),
  ],
  [
    ['cut-off-malformed'],
    'cut-offs that overlap',
    (level) =>
      json(level, 'line/2', (value) => {
        value['cutOffs'] = [
          ['5', '8', 1],
          ['7', null, 1],
        ];
      }),
  ],
  [
    ['snapshot-line-missing'],
    'a snapshot of no line',
    (level) =>
      level.batch([
        put(
          `snapshot/${'b'.repeat(32)}`,
          JSON.stringify({
            id: 'b'.repeat(32),
            name: 'lost',
            container: 1,
            line: 77,
            version: 1,
            sizeBytes: '4096',
            created: '',
          }),
        ),
      ]),
  ],
  [
    ['snapshot-invalid'],
    'a snapshot of a bad name',
    (level) =>
      json(level, `snapshot/${'a'.repeat(32)}`, (value) => {
        value['name'] = '..';
      }),
  ],
  [['applied-unknown'], 'a position of no line', (level) => level.batch([put('applied/77', '5')])],
  [['window-key-malformed'], 'a short window key', (level) => level.batch([put('window/1', 'x')])],
  [
    ['window-record-damaged'],
    'a flipped byte in a window record',
    async (level) => {
      const key = windowKey(1, 0n, 1);
      const value = Buffer.from((await level.get(key))!);
      value[10]! ^= 1;
      await level.batch([put(key, value)]);
    },
  ],
  [
    ['window-record-empty'],
    'an empty window record',
    (level) => level.batch([put(windowKey(1, 2n, 2), encodeWindowRecord({ ownSlot: null, runs: [] }))]),
  ],
  [
    ['window-line-unknown'],
    'a record of no line',
    (level) =>
      level.batch([
        put(
          windowKey(9, 2n, 2),
          encodeWindowRecord({ ownSlot: null, runs: [{ start: 0, count: 1, slot: null }] }),
        ),
      ]),
  ],
  [
    ['window-version-dead'],
    'a record of a dead version',
    (_, catalog) => write(catalog, line1(catalog), 9, 2n, [{ start: 0, count: 1, slot: null }]),
  ],
  [
    ['window-region-missing'],
    'a record in a region that is not listed',
    (level) =>
      level.batch([
        put(
          windowKey(1, 14n * 64n, 1),
          encodeWindowRecord({ ownSlot: null, runs: [{ start: 0, count: 1, slot: null }] }),
        ),
      ]),
  ],
  [
    ['window-unnoted'],
    'a record the index does not know',
    (level) =>
      level.batch([
        put(
          windowKey(1, 5n, 2),
          encodeWindowRecord({ ownSlot: null, runs: [{ start: 0, count: 1, slot: null }] }),
        ),
      ]),
  ],
  [
    ['written-damaged'],
    'a flipped byte in the index of written windows',
    async (level) => {
      const key = writtenKey(1, 1, 0n);
      const value = Buffer.from((await level.get(key))!);
      value[4]! ^= 1;
      await level.batch([put(key, value)]);
    },
  ],
  [
    ['written-unneeded'],
    'an index of a version that is gone',
    (level) => level.batch([put(writtenKey(1, 9, 0n), new WrittenSet().encode())]),
  ],
  [
    ['window-beyond-end'],
    'a record behind the end',
    (_, catalog) => write(catalog, line1(catalog), 2, 16n, [{ start: 0, count: 1, slot: null }]),
  ],
  [
    ['slot-file-unknown'],
    'a slot in no file',
    (_, catalog) => write(catalog, line1(catalog), 2, 3n, [{ start: 0, count: 1, slot: slotOf(77, 0) }]),
  ],
  [
    ['slot-file-dropping'],
    'a slot in a file being removed',
    async (level, catalog) => {
      await catalog.change().file({ number: 3, container: 1, state: 'dropping', movedOut: false }).commit();
      await write(catalog, line1(catalog), 2, 3n, [{ start: 0, count: 1, slot: slotOf(3, 0) }]);
      await level.batch([]);
    },
  ],
  [
    ['own-slot-foreign', 'slot-file-unmarked'],
    'an own slot in a file of another volume',
    (_, catalog) => {
      return write(
        catalog,
        catalog.lines.get(2)!,
        1,
        2n,
        [{ start: 0, count: 1, slot: slotOf(1, 3) }].map((run) => ({ ...run, start: 6 })),
      );
    },
  ],
  [
    ['slot-file-unmarked'],
    'a foreign place of an unmarked file',
    async (_, catalog) => {
      const runs = [{ start: 8, count: 1, slot: slotOf(1, 3) }];
      await catalog
        .change()
        .window(catalog.lines.get(2)!, 2n, 1, encodeWindowRecord({ ownSlot: null, runs }))
        .commit();
    },
  ],
  [
    ['block-owned-twice'],
    'one block in two records',
    (_, catalog) => write(catalog, line1(catalog), 2, 2n, [{ start: 15, count: 1, slot: slotOf(1, 0) }]),
  ],
  [
    ['punch-damaged'],
    'a damaged pending punch',
    (level) => level.batch([put(Buffer.from('punch/\0\0\0\0\0\0\0\x07', 'latin1'), 'x')]),
  ],
  [
    ['punch-file-unknown'],
    'a punch in no file',
    (_, catalog) =>
      catalog
        .change()
        .punch([{ slot: slotOf(77, 0), start: 0, count: 1 }])
        .commit(),
  ],
  [
    ['punch-live'],
    'a punch of a live block',
    (_, catalog) =>
      catalog
        .change()
        .punch([{ slot: slotOf(1, 2), start: 4, count: 4 }])
        .commit(),
  ],
  [
    ['extents-missing'],
    'an extents file that is gone',
    (_, __, directory) => rm(join(directory, 'extents/1')),
  ],
  [
    ['extents-short'],
    'an extents file cut short',
    (_, __, directory) => truncate(join(directory, 'extents/1'), 2 * 65536 + 4 * 4096),
  ],
  [
    ['extents-orphan'],
    'an extents file nobody knows',
    (_, __, directory) => writeFile(join(directory, 'extents/44'), 'x'),
  ],
  [
    ['extents-stranger'],
    'a stranger among the extents files',
    (_, __, directory) => writeFile(join(directory, 'extents/notes.txt'), 'x'),
  ],
  [
    ['extents-unneeded'],
    'a file of a volume that is gone',
    (_, catalog) =>
      catalog.change().file({ number: 3, container: 88, state: 'live', movedOut: true }).commit(),
  ],
  [
    ['extents-unreadable'],
    'no directory of extents files',
    async (_, catalog, directory) => {
      await catalog.change().commit();
      await rm(join(directory, 'extents'), { recursive: true });
      await writeFile(join(directory, 'extents'), 'a file');
    },
  ],
  [['journal-missing'], 'no journal', (_, __, directory) => rm(join(directory, 'journal'))],
  [
    ['journal-missing'],
    'a journal without a header',
    (_, __, directory) => writeFile(join(directory, 'journal'), Buffer.alloc(8192)),
  ],
  [
    ['journal-damaged'],
    'a flipped bit in the header of the journal',
    (_, __, directory) => flip(join(directory, 'journal'), 60),
  ],
  [
    ['journal-damaged'],
    'a journal cut short',
    (_, __, directory) => truncate(join(directory, 'journal'), 4096 + 63 * 64),
  ],
  [
    ['journal-newer'],
    'a newer journal',
    async (_, __, directory) => {
      const file = await open(join(directory, 'journal'), 'r+');
      await file.write(Buffer.of(2), 0, 1, 8);
      await file.close();
    },
  ],
  [
    ['journal-foreign'],
    'the journal of another store',
    (level) =>
      json(level, 'meta/store', (meta) => {
        meta['storeId'] = 'f'.repeat(32);
      }),
  ],
  [
    ['journal-unreadable'],
    'a journal that is a directory',
    async (_, __, directory) => {
      await rm(join(directory, 'journal'));
      await mkdir(join(directory, 'journal'));
    },
  ],
  [
    ['journal-line-invalid'],
    'an entry of a line that never was',
    (_, __, directory) => ofJournal(directory, { type: 4, line: 5000, argument: 1n }),
  ],
  [
    ['journal-entry-invalid'],
    'an entry of blocks that cannot be',
    (_, __, directory) => ofJournal(directory, { type: 2, line: 1, version: 2, start: 10, count: 7 }),
  ],
  [
    ['journal-entry-invalid'],
    'an entry of a file of another volume',
    (_, __, directory) =>
      ofJournal(directory, { type: 1, line: 1, version: 2, count: 1, argument: slotOf(2, 5) }),
  ],
  [
    ['journal-version-dead'],
    'an entry of a dead version',
    async (level, _, directory) => {
      await json(level, 'line/1', (value) => {
        value['current'] = 5;
      });
      await level.batch([del(windowKey(1, 0n, 2))]);
      await ofJournal(directory);
    },
  ],
  [
    ['metadata-unopenable'],
    'no CURRENT',
    async (_, __, directory) => rm(join(directory, 'metadata/CURRENT')),
  ],
  [
    ['metadata-missing'],
    'no metadata',
    async (level, _, directory) => {
      await level.close();
      await rm(join(directory, 'metadata'), { recursive: true });
    },
  ],
];

async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0]! ^= 0x10;
  await file.write(byte, 0, 1, at);
  await file.close();
}

for (const [codes, what, damage] of DAMAGE) {
  t.test(`${what}: ${codes.join(', ')}`, async (t) => {
    const directory = await aStore();
    await edit(directory, (level, catalog) => damage(level, catalog, directory));
    const { clean, found: counted } = await checkStore({ directory });
    const all = Object.keys(counted) as FindingCode[];
    for (const code of codes) t.ok(all.includes(code), `${code} is among ${all.join(' ')}`);
    t.equal(
      clean,
      all.every((code) => FINDING_CODES[code][0] === 'warning'),
    );
  });
}

t.test('every code can be found', (t) => {
  const tried = new Set(DAMAGE.flatMap(([codes]) => codes));
  // An empty line cannot be written by the catalog; unreadable metadata needs a broken disk: see the damage of LevelDB's files below.
  const untried = Object.keys(FINDING_CODES).filter((code) => !tried.has(code as FindingCode));
  t.strictSame(untried, ['metadata-unreadable', 'line-empty']);
  t.end();
});

t.test(
  'a copy under way is sound: what it is told since may be gone, its snapshot cut already',
  async (t) => {
    const heldBack = lineage({ record: { state: 'FAULTED', faultedFrom: 'RECEIVING' } });
    const sound = [
      [RECEIVED, copy()],
      [RECEIVED, copy({ since: 'b'.repeat(32) })],
      [RECEIVED, copy({ version: 1, snapshot: 'a'.repeat(32) })],
      // Received again when it is readmitted.
      [put(`lineage/${CELL_VOLUME}`, heldBack), copy()],
    ];
    for (const records of sound) {
      const directory = await aStore();
      await edit(directory, (level) => level.batch(records));
      t.same(await found(directory), []);
    }
  },
);

t.test('a line without versions is found', async (t) => {
  const directory = await aStore();
  const empty = { id: 3, container: 1, base: null, current: null, deleted: [], cutOffs: [], regions: [] };
  await edit(directory, (level) => level.batch([put('line/3', JSON.stringify(empty))]));
  t.strictSame(await found(directory), ['line-empty']);
});

t.test('a clean stop needs no journal', async (t) => {
  const directory = await aStore();
  await edit(directory, (level) => level.batch([put('meta/state', '{"clean":true}')]));
  await rm(join(directory, 'journal'));
  t.strictSame(await found(directory), []);
});

t.test('each code is listed a hundred times at most, and counted in full', async (t) => {
  const directory = await aStore();
  await edit(directory, (level) =>
    level.batch(Array.from({ length: 250 }, (_, at) => put(windowKey(1, BigInt(at + 2), 1), 'x'))),
  );
  const told: string[] = [];
  const result = await checkStore({ directory }, { onFinding: ({ code }) => told.push(code) });
  t.equal(result.found['window-record-damaged'], 250);
  t.equal(result.findings.filter(({ code }) => code === 'window-record-damaged').length, 100);
  t.equal(told.length, result.findings.length);
});

t.test('garbage anywhere in the metadata is a finding or nothing, never an exception', async (t) => {
  const directory = await aStore();
  const metadata = join(directory, 'metadata');
  // Into tables: what is only in LevelDB's log is dropped from the damaged place on, without a word.
  const level = classicLevel(metadata);
  await level.open();
  await level.close();
  const names = (await readdir(metadata)).filter(
    (name) => name !== 'LOCK' && name !== 'LOG' && name !== 'LOG.old',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...names),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 6 }),
      async (name, flips) => {
        const damaged = await aStore();
        await rm(join(damaged, 'metadata'), { recursive: true });
        await cp(metadata, join(damaged, 'metadata'), { recursive: true });
        const path = join(damaged, 'metadata', name);
        const bytes = await readFile(path);
        if (bytes.length === 0) return;
        for (const [at, bits] of flips) bytes[at % bytes.length]! ^= bits;
        await writeFile(path, bytes);
        const result = await checkStore({ directory: damaged });
        strictEqual(result.clean, !result.findings.some(({ severity }) => severity === 'error'));
        await rm(damaged, { recursive: true });
      },
    ),
    replay({ quick: 10, normal: 12, long: 1000 }),
  );
  t.pass('every damage');
});

t.test('garbage in values is found or harmless, never an exception', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc.json().map((text) => Buffer.from(text)),
      ),
      async (which, value) => {
        const directory = await aStore();
        await edit(directory, async (level) => {
          const keys: Buffer[] = [];
          for await (const page of level.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff) }))
            keys.push(...page.map(([key]) => key));
          await level.batch([put(keys[which % keys.length]!, Buffer.from(value))]);
        });
        const result = await checkStore({ directory });
        deepStrictEqual(result.findings.length > 0 || result.clean, true);
        await rm(directory, { recursive: true });
      },
    ),
    replay({ quick: 10, normal: 12, long: 1000 }),
  );
  t.pass('every value');
});

t.test('garbage in the journal is found or skipped, never an exception', async (t) => {
  const directory = await aStore();
  const image = new StoreImage(new Findings());
  image.storeId = STORE_ID;
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.nat({ max: 8191 }),
      async (bytes, at) => {
        const file = journal(SOUND_CELLS);
        Buffer.from(bytes).copy(file, at % file.length);
        await writeFile(join(directory, 'journal'), file);
        await checkJournal(directory, image, new Findings(), { running: false });
      },
    ),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
  t.pass('every journal');
});

t.test('a store that a process holds is refused, with who it is', async (t) => {
  const directory = await aStore();
  const script = `import { ClassicLevel } from 'classic-level';
    const level = new ClassicLevel(process.argv[1]); await level.open(); console.log('open'); setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script, join(directory, 'metadata')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => holder.kill());
  await once(holder.stdout, 'data');
  await t.rejects(checkStore({ directory }), {
    code: 'store-locked',
    message: new RegExp(`process ${holder.pid}\\.`),
  });
});

t.test('with an agent the check reads one instant of its open database', async (t) => {
  const directory = await aStore();
  const level = classicLevel(join(directory, 'metadata'));
  await level.open();
  t.teardown(() => level.close());
  const catalog = catalogOf(level);
  await catalog.load();
  const target = {
    directory,
    queue: catalog.queue,
    isKnownFile: (number: number) => catalog.files.has(number),
  };
  const checking = checkStore(target);
  // After the snapshot was taken: not seen.
  await new Promise((resolve) => setImmediate(resolve));
  await catalog
    .change()
    .punch([{ slot: slotOf(1, 2), start: 2, count: 1 }])
    .commit();
  t.match(await checking, { clean: true, counts: { records: 4n, journalEntries: 0n } });
  t.match(await checkStore(target), { clean: false, found: { 'punch-live': 1 } });
});

t.test('a cancelled check ends with task-cancelled and leaves no copy', async (t) => {
  const scratch = join(t.testdir(), 'scratch');
  await mkdir(scratch);
  await t.rejects(checkStore({ directory: await aStore() }, { scratch, signal: AbortSignal.abort() }), {
    code: 'task-cancelled',
  });
  t.strictSame(await readdir(scratch), []);
});

t.test('the page of the operator lists every code with its meaning', async (t) => {
  const page = await readFile('docs/operations/check.md', 'utf8');
  for (const [code, [severity, means, todo]] of Object.entries(FINDING_CODES)) {
    t.ok(page.includes(`| \`${code}\` | ${severity} | ${means} ${todo} |`), code);
  }
});
