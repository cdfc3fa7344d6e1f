// A small store on disk that is sound in every way, made without a data plane: LevelDB, extents files, a journal with entries.

import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '../../../src/base/crc32c.js';
import { Catalog } from '../../../src/catalog/catalog.js';
import { CommitQueue } from '../../../src/catalog/commit-queue.js';
import type { Level, Operation } from '../../../src/catalog/level.js';
import { classicLevel } from '../../../src/catalog/level.js';
import type { Base, Line } from '../../../src/model/entities.js';
import { RegionSet } from '../../../src/model/region-set.js';
import { slotOf } from '../../../src/model/slot.js';
import type { Run } from '../../../src/model/window-record.js';
import { encodeWindowRecord } from '../../../src/model/window-record.js';
import { FORMAT_VERSION } from '../../../src/operations/store-directory.js';

export const WINDOW_BYTES = 64 << 10;
export const STORE_ID = '00112233445566778899aabbccddeeff';
const CREATED = '2024-01-01T00:00:00.000Z';
const SEED = Buffer.from('0123456789abcdef', 'hex');

export interface Cell {
  type: number;
  line: number;
  version?: number;
  window?: bigint;
  start?: number;
  count?: number;
  argument?: bigint;
  members?: { line: number; version: number; upTo: bigint; name: string }[];
}

/** Volume 1 with a snapshot, and volume 2, a clone of it. Windows 0 and 1 are written in each version. */
export async function soundStore(directory: string, cells: readonly Cell[] = SOUND_CELLS): Promise<void> {
  await mkdir(join(directory, 'extents'), { recursive: true });
  await edit(directory, async (level, catalog) => {
    const meta = { format: FORMAT_VERSION, storeId: STORE_ID, windowBytes: WINDOW_BYTES, created: CREATED };
    await level.batch([
      { type: 'put', key: Buffer.from('meta/store'), value: Buffer.from(JSON.stringify(meta)) },
      { type: 'put', key: Buffer.from('meta/state'), value: Buffer.from('{"clean":false}') },
    ]);
    const first = await volume(catalog, null);
    await write(catalog, first, 1, 0n, [{ start: 0, count: 16, slot: slotOf(1, 0) }]);
    await write(catalog, first, 1, 1n, [
      { start: 0, count: 4, slot: slotOf(1, 1) },
      { start: 4, count: 1, slot: null },
    ]);
    first.versions = [
      { version: 1, state: 'listed', snapshot: 'a'.repeat(32) },
      { version: 2, state: 'current', snapshot: null },
    ];
    await catalog
      .change()
      .line(first)
      .snapshot({
        id: 'a'.repeat(32),
        name: 'one',
        container: 1,
        line: 1,
        version: 1,
        sizeBytes: 1n << 20n,
        created: CREATED,
        expires: null,
      })
      .commit();
    await write(catalog, first, 2, 0n, [{ start: 2, count: 3, slot: slotOf(1, 2) }]);
    const clone = await volume(catalog, { line: 1, version: 1 });
    clone.cutOffs = [{ first: 3n, end: null, version: 1 }];
    await catalog.change().line(clone).applied(1, 40n).commit();
    await write(catalog, clone, 1, 1n, [{ start: 1, count: 2, slot: slotOf(2, 0) }]);
    await catalog
      .change()
      .punch([{ slot: slotOf(1, 3), start: 0, count: 4 }])
      .commit();
  });
  for (const [file, places] of [
    [1, 4],
    [2, 1],
  ] as const) {
    const handle = await open(join(directory, 'extents', `${file}`), 'w');
    await handle.truncate(places * WINDOW_BYTES);
    await handle.close();
  }
  await writeFile(join(directory, 'journal'), journal(cells));
}

export const SOUND_CELLS: readonly Cell[] = [
  { type: 1, line: 1, version: 2, window: 0n, start: 2, count: 3, argument: slotOf(1, 2) },
  { type: 2, line: 2, version: 1, window: 1n, start: 8, count: 2 },
  { type: 3, line: 2, version: 1, window: 3n, argument: (1n << 64n) - 1n },
  { type: 4, line: 1, argument: 41n },
  {
    type: 5,
    line: 0,
    members: [{ line: 1, version: 1, upTo: 41n, name: 'a name long enough to need another cell of its own' }],
  },
  { type: 6, line: 2, argument: 42n },
];

async function volume(catalog: Catalog, base: Base | null): Promise<Line> {
  const change = catalog.change();
  const id = change.take('container');
  const line: Line = {
    id: change.take('line'),
    container: id,
    base,
    cutOffs: [],
    regions: new RegionSet(),
    versions: [{ version: 1, state: 'current', snapshot: null }],
  };
  await change
    .line(line)
    .container({
      id,
      name: `volume-${id}`,
      kind: 'volume',
      state: 'live',
      sizeBytes: 1n << 20n,
      created: CREATED,
      line: line.id,
      clonedFrom: null,
      expires: null,
      shrinkingTo: null,
      limits: null,
      transactionLog: null,
      failure: null,
      attributes: null,
      allow: [],
      description: '',
    })
    .file({ number: change.take('file'), container: id, state: 'live', movedOut: false })
    .commit();
  return line;
}

export async function write(
  catalog: Catalog,
  line: Line,
  version: number,
  window: bigint,
  runs: Run[],
): Promise<void> {
  const ownSlot = runs[0]?.slot ?? null;
  await catalog.change().window(line, window, version, encodeWindowRecord({ ownSlot, runs })).commit();
}

/** Opens the metadata, loads the catalog, lets `change` do what it wants. */
export async function edit(
  directory: string,
  change: (level: Level, catalog: Catalog) => Promise<void>,
): Promise<void> {
  const level = classicLevel(join(directory, 'metadata'));
  await level.open();
  const catalog = catalogOf(level);
  await catalog.load();
  await change(level, catalog);
  await level.close();
}

export function catalogOf(level: Level): Catalog {
  return new Catalog(
    new CommitQueue(level, {
      makeRoom: async () => undefined,
      onTrouble: (error) => {
        throw error;
      },
      onHealed: () => undefined,
      pause: async () => undefined,
      giveUpAfter: 1,
    }),
  );
}

export function put(key: string | Buffer, value: string | Buffer): Operation {
  return { type: 'put', key: Buffer.from(key), value: Buffer.from(value) };
}

export function del(key: string | Buffer): Operation {
  return { type: 'del', key: Buffer.from(key) };
}

const CELLS = 64;
const FIRST_POSITION = 61n;

/** A ring of 64 cells whose entries begin at position 61, so that they wrap. */
export function journal(cells: readonly Cell[]): Buffer {
  const bytes = Buffer.alloc(4096 + CELLS * 64);
  bytes.writeBigUInt64LE(0x4c4a4b434c4c4543n, 0);
  bytes.writeUInt32LE(1, 8);
  bytes.writeBigUInt64LE(BigInt(CELLS), 16);
  Buffer.from(STORE_ID, 'hex').copy(bytes, 24);
  SEED.copy(bytes, 48);
  bytes.writeBigUInt64LE(FIRST_POSITION, 56);
  bytes.writeUInt32LE(crc32c(bytes, 0, 256), 12);
  let position = FIRST_POSITION;
  for (const cell of cells) {
    const entry = encode(cell, position);
    for (let at = 0; at < entry.length; at += 64) {
      entry.copy(bytes, 4096 + (Number(position) % CELLS) * 64, at, at + 64);
      position++;
    }
  }
  return bytes;
}

function encode(cell: Cell, position: bigint): Buffer {
  const members = (cell.members ?? []).map(({ line, version, upTo, name }) => {
    const bytes = Buffer.alloc(40 + Buffer.byteLength(name));
    bytes.writeBigUInt64LE(BigInt(line), 0);
    bytes.writeUInt32LE(version, 8);
    bytes.writeUInt16LE(Buffer.byteLength(name), 12);
    bytes.writeBigUInt64LE(upTo, 16);
    bytes.write(name, 40);
    return bytes;
  });
  const length = 64 + members.reduce((sum, bytes) => sum + bytes.length, 0);
  const cells = Math.ceil(length / 64);
  const entry = Buffer.alloc(cells * 64);
  entry.writeUInt8(cell.type, 4);
  entry.writeUInt16LE(cells, 6);
  entry.writeBigUInt64LE(position, 8);
  entry.writeBigUInt64LE(BigInt(cell.line), 16);
  entry.writeUInt32LE(cell.version ?? 0, 24);
  entry.writeUInt16LE(cell.start ?? 0, 28);
  entry.writeUInt16LE(cell.members?.length ?? cell.count ?? 0, 30);
  entry.writeBigUInt64LE(cell.window ?? 0n, 32);
  entry.writeBigUInt64LE(cell.argument ?? 0n, 40);
  Buffer.concat(members).copy(entry, 64);
  entry.writeUInt32LE(crc32c(entry, 4, entry.length, crc32c(SEED)), 0);
  return entry;
}
