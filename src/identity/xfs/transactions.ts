// Follows the operations in the payload of log records: which transaction they belong to, which item, which region of it. Transactions
// may run over several records, and regions may be split over them. Only copies of the superblock are of interest, whose bytes are
// changed where they lie; of every other item nothing but its kind and its number of regions is looked at.
// Invariant: what is kept for a transaction has a fixed size, and there are few transactions at a time.

import { Refusal } from './log-blocks.js';
import type { LogRecord } from './record.js';
import { AT } from './superblock.js';

const OPERATION_HEADER = 12;
const CLIENTS = [0x69, 0xaa];
const START = 0x01;
const COMMIT = 0x02;
const CONTINUE = 0x04;
const WAS_CONTINUED = 0x08;
const END = 0x10;
const UNMOUNT = 0x20;
const TRANSACTION_MAGIC = 0x5452414e;
const TRANSACTION_HEADER = 16;
const FIRST_ITEM = 0x1236;
const LAST_ITEM = 0x124f;
const BUFFER_ITEM = 0x123c;
const CANCELLED = 0x2;
const CHUNK = 128;
/** What is kept of an item's first region: enough for the chunks of a superblock. */
const KEPT_BYTES = 128;
const MOST_TRANSACTIONS = 4096;

/** The new bytes of a logged superblock: where, and what from what was there. */
export interface SuperblockPatch {
  readonly at: number;
  readonly change: (old: number, index: number) => number;
  readonly bytes: number;
}

interface Item {
  readonly regions: number;
  readonly type: number;
  /** Regions begun. */
  region: number;
  /** Bytes seen of the present region. */
  seen: number;
  /** The first region, as far as it is kept. */
  readonly format: Buffer;
  /** Bit n: chunk n was logged. Null: the item is no superblock. */
  chunks: readonly boolean[] | null;
  /** Where the present region lies in the superblock, in chunks. */
  chunk: number;
  readonly groups: Buffer;
}

interface Transaction {
  headerSeen: number;
  item: Item | null;
}

interface Operation {
  readonly record: LogRecord;
  /** Of the data, in the payload. */
  readonly at: number;
  readonly data: Buffer;
  readonly flags: number;
}

export class Transactions {
  readonly #open = new Map<number, Transaction>();
  readonly #patches: readonly SuperblockPatch[];
  readonly #isSuperblock: (block: bigint) => boolean;
  /** Copies of superblocks seen, and the most groups one of them counts. */
  copies = 0;
  groups = 0;

  constructor(patches: readonly SuperblockPatch[], isSuperblock: (block: bigint) => boolean) {
    this.#patches = patches;
    this.#isSuperblock = isSuperblock;
  }

  /** Takes the record's operations and changes the copies of superblocks in it. Throws Refusal. */
  take(record: LogRecord): void {
    const payload = record.payload();
    let at = 0;
    for (let left = record.header.operations; left > 0 && at < payload.length; left--) {
      if (at + OPERATION_HEADER > payload.length) throw new Refusal('has an operation that is cut off');
      const bytes = payload.readUInt32BE(at + 4);
      const data = at + OPERATION_HEADER;
      if (data + bytes > payload.length)
        throw new Refusal(`has an operation of ${bytes} bytes where ${payload.length - data} are left`);
      if (!CLIENTS.includes(payload.readUInt8(at + 8)))
        throw new Refusal(`has an operation of client ${payload.readUInt8(at + 8)}`);
      this.#route(payload.readUInt32BE(at), {
        record,
        at: data,
        data: payload.subarray(data, data + bytes),
        flags: payload.readUInt8(at + 9),
      });
      at = data + bytes;
    }
  }

  /** Operations of a transaction that began before the live part are passed over, as replay does. */
  #route(id: number, operation: Operation): void {
    const transaction = this.#open.get(id);
    if (transaction !== undefined) {
      this.#follow(id, transaction, operation);
    } else if ((operation.flags & START) !== 0) {
      if (this.#open.size >= MOST_TRANSACTIONS)
        throw new Refusal(`has more than ${MOST_TRANSACTIONS} transactions at a time`);
      this.#open.set(id, { headerSeen: 0, item: null });
    }
  }

  #follow(id: number, transaction: Transaction, operation: Operation): void {
    const continued = (operation.flags & WAS_CONTINUED) !== 0;
    const kind = operation.flags & ~END & (continued ? ~CONTINUE : ~0);
    if (kind === COMMIT || kind === UNMOUNT) this.#open.delete(id);
    else if (kind === WAS_CONTINUED) this.#continue(transaction, operation);
    else if (kind === 0 || kind === CONTINUE) this.#begin(transaction, operation);
    else throw new Refusal(`has an operation with flags 0x${operation.flags.toString(16)}`);
  }

  #begin(transaction: Transaction, operation: Operation): void {
    const { item, headerSeen } = transaction;
    if (operation.data.length === 0) return;
    if (headerSeen < TRANSACTION_HEADER) {
      beginHeader(transaction, operation.data);
    } else if (item === null || item.region === item.regions) {
      transaction.item = beginItem(operation.data);
    } else {
      this.#nextRegion(item);
      this.#takePart(item, operation);
    }
  }

  #continue(transaction: Transaction, operation: Operation): void {
    const { item, headerSeen } = transaction;
    if (headerSeen < TRANSACTION_HEADER) {
      if (headerSeen + operation.data.length > TRANSACTION_HEADER)
        throw new Refusal('has a transaction with a long header');
      transaction.headerSeen += operation.data.length;
    } else if (item === null) {
      throw new Refusal('continues a region that was not begun');
    } else {
      this.#takePart(item, operation);
    }
  }

  #nextRegion(item: Item): void {
    if (item.region === 1) {
      item.chunks = this.#loggedChunks(item);
      item.chunk = 0;
    } else {
      item.chunk += Math.floor(item.seen / CHUNK);
    }
    item.region++;
    item.seen = 0;
    if (item.chunks === null) return;
    while (item.chunk < item.chunks.length && !item.chunks[item.chunk]) item.chunk++;
    if (item.chunk === item.chunks.length)
      throw new Refusal('has a copy of a superblock with more regions than chunks');
  }

  /** In the byte order of the machine that wrote the log, as all of an item's description. */
  #loggedChunks(item: Item): boolean[] | null {
    if (item.type !== BUFFER_ITEM || item.seen < 24) return null;
    const { format } = item;
    if ((format.readUInt16LE(4) & CANCELLED) !== 0 || !this.#isSuperblock(format.readBigInt64LE(8)))
      return null;
    const words = format.readUInt32LE(16);
    if (20 + words * 4 > Math.min(item.seen, KEPT_BYTES))
      throw new Refusal(`has a copy of a superblock with ${words} words of chunks`);
    this.copies++;
    return Array.from(
      { length: words * 32 },
      (_, bit) => ((format.readUInt32LE(20 + (bit >> 5) * 4) >>> (bit & 31)) & 1) === 1,
    );
  }

  #takePart(item: Item, operation: Operation): void {
    if (item.region === 1) keepFormat(item, operation.data);
    else if (item.chunks !== null) this.#patch(item, operation);
    item.seen += operation.data.length;
  }

  /** A part of a superblock: [start, start + data) of it lies at operation.at. */
  #patch(item: Item, operation: Operation): void {
    const start = item.chunk * CHUNK + item.seen;
    this.#noteGroups(item, start, operation.data);
    for (const patch of this.#patches) {
      const from = Math.max(patch.at, start);
      const to = Math.min(patch.at + patch.bytes, start + operation.data.length);
      for (let at = from; at < to; at++)
        operation.record.setPayload(
          operation.at + at - start,
          patch.change(operation.data[at - start]!, at - patch.at),
        );
    }
  }

  #noteGroups(item: Item, start: number, data: Buffer): void {
    for (let index = 0; index < 4; index++) {
      const at = AT.agCount + index - start;
      if (at >= 0 && at < data.length) item.groups[index] = data[at]!;
    }
    if (start <= AT.agCount + 3 && start + data.length > AT.agCount + 3)
      this.groups = Math.max(this.groups, item.groups.readUInt32BE(0));
  }
}

function beginHeader(transaction: Transaction, data: Buffer): void {
  if (data.length > TRANSACTION_HEADER || data.length < 4 || data.readUInt32LE(0) !== TRANSACTION_MAGIC)
    throw new Refusal('has a transaction without its header');
  transaction.headerSeen = data.length;
}

function beginItem(data: Buffer): Item {
  if (data.length < 4) throw new Refusal(`has an item of ${data.length} bytes`);
  const type = data.readUInt16LE(0);
  const regions = data.readUInt16LE(2);
  if (type < FIRST_ITEM || type > LAST_ITEM || regions === 0)
    throw new Refusal(
      `has an item of kind 0x${type.toString(16)} with ${regions} regions, which is not known here`,
    );
  const item: Item = {
    type,
    regions,
    region: 1,
    seen: 0,
    format: Buffer.alloc(KEPT_BYTES),
    chunks: null,
    chunk: 0,
    groups: Buffer.alloc(4),
  };
  keepFormat(item, data);
  item.seen = data.length;
  return item;
}

function keepFormat(item: Item, data: Buffer): void {
  if (item.seen < KEPT_BYTES) data.copy(item.format, item.seen);
}
