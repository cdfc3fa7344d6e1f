// Reads the journal's file without the data plane: header and entries, as native/store/journal.cc writes them (docs/architecture.md,
// "Journal"). Invariant: as there, every cell is looked at and a bad one hides nothing behind it; nothing is written.

import type { FileHandle } from 'node:fs/promises';

import { crc32c } from '../../base/crc32c.js';

export const JOURNAL_FORMAT = 1;

const MAGIC = 0x4c4a4b434c4c4543n;
const HEADER_BYTES = 4096;
const HEADER_USED = 256;
const CELL_BYTES = 64;
const MEMBER_BYTES = 40;
const MAX_ENTRY_CELLS = 8192;
const CHUNK_CELLS = 16_384;
const OPEN_END = (1n << 64n) - 1n;
const AT = { format: 8, crc: 12, cells: 16, store: 24, seed: 48, position: 56, clean: 80 } as const;

export interface JournalHeader {
  format: number;
  cells: bigint;
  /** 32 hexadecimal digits. */
  storeId: string;
  /** Entries below do not count. */
  position: bigint;
  clean: boolean;
  /** As it is stored: entries are checked with it. */
  seed: Buffer;
}

/** `blank`: no header was ever written, its making was cut short; it is made anew at the next start. */
export type HeaderRead =
  | { header: JournalHeader }
  | { blank: true }
  | { damaged: string }
  | { newer: number };

interface SeenBlocks {
  position: bigint;
  line: number;
  version: number;
  window: bigint;
  start: number;
  count: number;
  slot: bigint;
}

export type SeenEntry =
  | ({ kind: 'own' } & SeenBlocks)
  | ({ kind: 'zero' } & SeenBlocks)
  | { kind: 'cut-off'; position: bigint; line: number; version: number; first: bigint; end: bigint | null }
  | { kind: 'commit'; position: bigint; line: number; upTo: bigint }
  | { kind: 'failed'; position: bigint; line: number; upTo: bigint }
  | {
      kind: 'cut';
      position: bigint;
      members: { line: number; version: number; upTo: bigint; name: string }[];
    };

export async function readJournalHeader(file: FileHandle): Promise<HeaderRead> {
  const { size } = await file.stat();
  const bytes = Buffer.alloc(HEADER_USED);
  await file.read(bytes, 0, HEADER_USED, 0);
  const magic = bytes.readBigUInt64LE(0);
  if (magic === 0n || size < HEADER_BYTES + CELL_BYTES) return { blank: true };
  if (magic !== MAGIC) return { damaged: 'it does not begin as a journal does' };
  const format = bytes.readUInt32LE(AT.format);
  if (format > JOURNAL_FORMAT) return { newer: format };
  const crc = bytes.readUInt32LE(AT.crc);
  bytes.writeUInt32LE(0, AT.crc);
  if (crc32c(bytes) !== crc) return { damaged: 'the checksum of its header is wrong' };
  const cells = bytes.readBigUInt64LE(AT.cells);
  if (cells === 0n || BigInt(HEADER_BYTES) + cells * BigInt(CELL_BYTES) > BigInt(size)) {
    return { damaged: `it says that it has ${cells} cells and is ${size} bytes long` };
  }
  return {
    header: {
      format,
      cells,
      storeId: bytes.subarray(AT.store, AT.store + 16).toString('hex'),
      position: bytes.readBigUInt64LE(AT.position),
      clean: bytes[AT.clean] !== 0,
      seed: bytes.subarray(AT.seed, AT.seed + 8),
    },
  };
}

/** Valid entries in the order of their cells; `position` says the order of happening. */
export async function* readJournalEntries(
  file: FileHandle,
  header: JournalHeader,
): AsyncGenerator<SeenEntry[]> {
  const cells = Number(header.cells);
  const chunk = Buffer.alloc(Math.min(CHUNK_CELLS, cells) * CELL_BYTES);
  for (let first = 0; first < cells; first += CHUNK_CELLS) {
    const count = Math.min(CHUNK_CELLS, cells - first);
    await file.read(chunk, 0, count * CELL_BYTES, HEADER_BYTES + first * CELL_BYTES);
    const found: SeenEntry[] = [];
    for (let cell = 0; cell < count; cell++) {
      const one = chunk.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
      const length = cellsOf(one, first + cell, header);
      if (length === 0) continue;
      const bytes =
        length === 1 ? one : await readWrapped(file, header, { first: first + cell, count: length });
      const entry = decode(bytes, header.seed);
      if (entry) found.push(entry);
    }
    yield found;
  }
}

/** How many cells the entry that may begin here has; 0: none begins here. */
function cellsOf(cell: Buffer, index: number, header: JournalHeader): number {
  const type = cell[4]!;
  if (type < 1 || type > 6) return 0;
  const position = cell.readBigUInt64LE(8);
  if (position % header.cells !== BigInt(index) || position < header.position) return 0;
  const cells = cell.readUInt16LE(6);
  return cells <= MAX_ENTRY_CELLS && BigInt(cells) <= header.cells ? cells : 0;
}

async function readWrapped(
  file: FileHandle,
  header: JournalHeader,
  range: { first: number; count: number },
): Promise<Buffer> {
  const bytes = Buffer.alloc(range.count * CELL_BYTES);
  const untilEnd = Math.min(range.count, Number(header.cells) - range.first) * CELL_BYTES;
  await file.read(bytes, 0, untilEnd, HEADER_BYTES + range.first * CELL_BYTES);
  if (untilEnd < bytes.length) await file.read(bytes, untilEnd, bytes.length - untilEnd, HEADER_BYTES);
  return bytes;
}

/** Null: torn, damaged, or of an older incarnation. */
function decode(bytes: Buffer, seed: Buffer): SeenEntry | null {
  if (bytes.readUInt32LE(0) !== crc32c(bytes, 4, bytes.length, crc32c(seed))) return null;
  const position = bytes.readBigUInt64LE(8);
  const line = Number(bytes.readBigUInt64LE(16));
  const version = bytes.readUInt32LE(24);
  const window = bytes.readBigUInt64LE(32);
  const argument = bytes.readBigUInt64LE(40);
  switch (bytes[4]) {
    case 1:
    case 2: {
      const [start, count] = [bytes.readUInt16LE(28), bytes.readUInt16LE(30)];
      return {
        kind: bytes[4] === 1 ? 'own' : 'zero',
        position,
        line,
        version,
        window,
        start,
        count,
        slot: argument,
      };
    }
    case 3:
      return {
        kind: 'cut-off',
        position,
        line,
        version,
        first: window,
        end: argument === OPEN_END ? null : argument,
      };
    case 4:
      return { kind: 'commit', position, line, upTo: argument };
    case 5:
      return decodeCut(bytes, position);
    default:
      return { kind: 'failed', position, line, upTo: argument };
  }
}

function decodeCut(bytes: Buffer, position: bigint): SeenEntry | null {
  const members: Extract<SeenEntry, { kind: 'cut' }>['members'] = [];
  let at = CELL_BYTES;
  for (let left = bytes.readUInt16LE(30); left > 0; left--) {
    if (at + MEMBER_BYTES > bytes.length) return null;
    const end = at + MEMBER_BYTES + bytes.readUInt16LE(at + 12);
    if (end > bytes.length) return null;
    members.push({
      line: Number(bytes.readBigUInt64LE(at)),
      version: bytes.readUInt32LE(at + 8),
      upTo: bytes.readBigUInt64LE(at + 16),
      name: bytes.toString('utf8', at + MEMBER_BYTES, end),
    });
    at = end;
  }
  return { kind: 'cut', position, members };
}
