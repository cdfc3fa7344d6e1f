// One record of the log: a header block, for more than 32 KiB further ones, and the payload. The first word of every payload
// block is the cycle; the word that belongs there stands in the headers.
// Invariant: a record's length is checked before anything of its payload is used.

import { crc32c } from '../../base/crc32c.js';
import { BLOCK, isHeader, type Log, mostRecordBlocks } from './log-blocks.js';

const CRC_AT = 32;
const CYCLE_DATA_AT = 44;
const UUID_AT = 304;
/** Of a record's header; logs of 32-bit x86 have it over 324 and count as damaged. */
const CHECKED_BYTES = 328;
const EXTENSION_CHECKED_BYTES = 260;
const BLOCKS_BY_HEADER = 64;
const MOST_BYTES = 256 * 1024;
const LITTLE_ENDIAN = 1;

export interface Header {
  readonly cycle: number;
  readonly tail: number;
  /** Of the payload, in bytes. */
  readonly length: number;
  readonly operations: number;
  /** Of the buffer the record was written from. */
  readonly bufferBytes: number;
  readonly headerBlocks: number;
  /** Headers and payload. */
  readonly blocks: number;
}

/** @param block starts with a record's header. */
export function parseHeader(log: Log, block: Buffer): Header {
  const length = block.readUInt32BE(12);
  const bufferBytes = block.readUInt32BE(320);
  const version2 = log.version === 2 && (block.readUInt32BE(8) & 2) !== 0;
  const headerBlocks = version2 ? Math.max(1, Math.ceil(bufferBytes / (BLOCKS_BY_HEADER * BLOCK))) : 1;
  return {
    cycle: block.readUInt32BE(4),
    tail: block.readUInt32BE(28),
    length,
    operations: block.readUInt32BE(40),
    bufferBytes,
    headerBlocks,
    blocks: headerBlocks + Math.ceil(length / BLOCK),
  };
}

/** Whether its lengths can be followed. A record without payload is one that the kernel wrote over a stale one. */
export function isSound(log: Log, header: Header): boolean {
  return (
    header.bufferBytes <= MOST_BYTES &&
    header.length > 0 &&
    header.length <= mostRecordBlocks(log) * BLOCK &&
    header.blocks < log.blocks
  );
}

/** The most blocks a sound record has, headers included. */
export function mostBlocks(log: Log): number {
  return mostRecordBlocks(log) + MOST_BYTES / (BLOCKS_BY_HEADER * BLOCK);
}

/** A record in memory, which may be changed. */
export class LogRecord {
  readonly raw: Buffer;
  readonly header: Header;
  readonly #log: Log;

  /** @param raw all blocks of a sound record. */
  constructor(log: Log, raw: Buffer) {
    this.#log = log;
    this.raw = raw;
    this.header = parseHeader(log, raw);
  }

  /** The stored checksum is that of the content; mkfs stores none. */
  checksumIsRight(): boolean {
    const stored = this.raw.readUInt32LE(CRC_AT);
    return stored === 0 || stored === this.#checksum();
  }

  get isLittleEndian(): boolean {
    return this.raw.readUInt32BE(300) === LITTLE_ENDIAN;
  }

  /** More payload than its headers have words for: the unmount record of mkfs with a large stripe unit. */
  get isWithoutWords(): boolean {
    return Math.ceil(this.header.length / BLOCK) > this.header.headerBlocks * BLOCKS_BY_HEADER;
  }

  setUuid(uuid: Uint8Array): void {
    this.raw.set(uuid, UUID_AT);
  }

  /** The payload with every word where it belongs. A copy. */
  payload(): Buffer {
    const start = this.header.headerBlocks * BLOCK;
    const copy = Buffer.from(this.raw.subarray(start, start + this.header.length));
    for (let at = 0; at < copy.length; at += BLOCK)
      this.raw.copy(copy, at, this.#place(at), this.#place(at) + Math.min(4, copy.length - at));
    return copy;
  }

  setPayload(offset: number, byte: number): void {
    this.raw[this.#place(offset)] = byte;
  }

  /** After a change. A record without a checksum stays without. */
  stampChecksum(): void {
    if (this.raw.readUInt32LE(CRC_AT) !== 0) this.raw.writeUInt32LE(this.#checksum(), CRC_AT);
  }

  /** Where a byte of the payload is stored, in `raw`. */
  #place(offset: number): number {
    const block = Math.floor(offset / BLOCK);
    const inBlock = offset % BLOCK;
    if (inBlock >= 4) return (this.header.headerBlocks + block) * BLOCK + inBlock;
    const header = Math.floor(block / BLOCKS_BY_HEADER);
    const word = (block % BLOCKS_BY_HEADER) * 4 + inBlock;
    return header === 0 ? CYCLE_DATA_AT + word : header * BLOCK + 4 + word;
  }

  #checksum(): number {
    const { raw, header } = this;
    let crc = crc32c(raw, 0, CRC_AT);
    crc = crc32c(Buffer.alloc(4), 0, 4, crc);
    crc = crc32c(raw, CRC_AT + 4, CHECKED_BYTES, crc);
    const headers = this.#log.version === 2 ? Math.ceil(header.length / (BLOCKS_BY_HEADER * BLOCK)) : 1;
    for (let at = BLOCK; at < headers * BLOCK; at += BLOCK)
      crc = crc32c(raw, at, at + EXTENSION_CHECKED_BYTES, crc);
    const start = header.headerBlocks * BLOCK;
    return crc32c(raw, start, start + header.length, crc);
  }
}

/** Puts the UUID into a header that is not part of a whole record. */
export function setHeaderUuid(block: Buffer, uuid: Uint8Array): void {
  if (isHeader(block)) block.set(uuid, UUID_AT);
}
