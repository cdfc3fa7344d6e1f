// Small kinds of identity, and GPTs made by hand: for tests of what goes over whole disks, without tools.

import { formatUuid, parseGuid, parseUuid } from '../../src/identity/formats.js';
import { damaged, type Found, type Kind, type Restored } from '../../src/identity/kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../../src/identity/steps.js';

const MAGIC_AT = 0;
const UUID_AT = 16;
const LABEL_AT = 32;
const LABEL_BYTES = 32;
const SUM_AT = 64;
const FAKE_BYTES = 65;

/** A kind whose superblock is 65 bytes at `at`: a magic, a UUID, a label, a sum. */
export function fakeKind(name: string, at: bigint): Kind {
  function* detect(bytes: bigint): Reading<Found | null> {
    if (bytes < at + BigInt(FAKE_BYTES)) return null;
    const superblock = yield* readAt(at, FAKE_BYTES);
    if (superblock.toString('latin1', MAGIC_AT, MAGIC_AT + 16).replace(/\0+$/, '') !== `fake ${name}`)
      return null;
    if (superblock[SUM_AT] !== sumOf(superblock)) throw damaged(`the sum of the fake ${name} is wrong`);
    return {
      kind: `${name}4`,
      fields: [
        { name: 'uuid', group: 'fs', format: 'uuid', value: formatUuid(superblock.subarray(UUID_AT)) },
        { name: 'label', group: 'fs', format: 'text', value: labelOf(superblock) },
      ],
      unsupported: [],
      notes: [],
    };
  }
  function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
    if ((yield* detect(bytes)) === null) return { written: [], unsupported: [], notes: [] };
    const superblock = yield* readAt(at, FAKE_BYTES);
    const [uuid, label] = [wanted.get('uuid'), wanted.get('label')];
    yield* writeAt(
      at,
      fakeBytes(name, {
        uuid: uuid ?? formatUuid(superblock.subarray(UUID_AT)),
        label: label ?? labelOf(superblock),
      }),
    );
    return { written: ['uuid', 'label'].filter((field) => wanted.has(field)), unsupported: [], notes: [] };
  }
  return { name, detect, restore };
}

export function fakeBytes(name: string, { uuid, label }: { uuid: string; label: string }): Buffer {
  const bytes = Buffer.alloc(FAKE_BYTES);
  bytes.write(`fake ${name}`, MAGIC_AT, 'latin1');
  parseUuid('uuid', uuid).copy(bytes, UUID_AT);
  bytes.write(label, LABEL_AT, LABEL_BYTES, 'utf8');
  bytes[SUM_AT] = sumOf(bytes);
  return bytes;
}

function labelOf(superblock: Buffer): string {
  return superblock.toString('utf8', LABEL_AT, LABEL_AT + LABEL_BYTES).replace(/\0+$/, '');
}

function sumOf(superblock: Buffer): number {
  return superblock.subarray(0, SUM_AT).reduce((sum, byte) => (sum + byte) & 0xff, 0);
}

export interface MadePartition {
  readonly first: number;
  readonly sectors: number;
  readonly type: string;
  readonly guid: string;
  readonly name: string;
}

/** Writes a GPT with 128 entries and sectors of 512 bytes over a whole disk. */
export function makeGpt(disk: Buffer, guid: string, partitions: readonly MadePartition[]): void {
  const last = Math.floor(disk.length / 512) - 1;
  disk.writeUInt32LE(1, 446 + 8);
  disk.writeUInt32LE(last, 446 + 12);
  disk[446 + 4] = 0xee;
  disk.writeUInt16BE(0x55aa, 510);
  const entries = Buffer.alloc(128 * 128);
  partitions.forEach(({ first, sectors, type, guid, name }, index) => {
    const entry = entries.subarray(index * 128, index * 128 + 128);
    parseGuid('type', type).copy(entry, 0);
    parseGuid('guid', guid).copy(entry, 16);
    entry.writeBigUInt64LE(BigInt(first), 32);
    entry.writeBigUInt64LE(BigInt(first + sectors - 1), 40);
    entry.write(name, 56, 72, 'utf16le');
  });
  for (const [lba, other, at] of [
    [1, last, 2],
    [last, 1, last - 32],
  ] as const) {
    entries.copy(disk, at * 512);
    gptHeader({ lba, other, at, last, guid, entries }).copy(disk, lba * 512);
  }
}

interface HeaderParts {
  lba: number;
  other: number;
  at: number;
  last: number;
  guid: string;
  entries: Buffer;
}

function gptHeader({ lba, other, at, last, guid, entries }: HeaderParts): Buffer {
  const header = Buffer.alloc(92);
  header.write('EFI PART', 0, 'latin1');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(92, 12);
  [lba, other, 34, last - 33].forEach((value, index) => {
    header.writeBigUInt64LE(BigInt(value), 24 + 8 * index);
  });
  parseGuid('guid', guid).copy(header, 56);
  header.writeBigUInt64LE(BigInt(at), 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(slowCrc32(entries), 88);
  header.writeUInt32LE(slowCrc32(header), 16);
  return header;
}

/** CRC-32 bit by bit, from its definition. */
export function slowCrc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
