// A writer that knows what it may expect after a crash: for every block the content of the last write that was replied to,
// and of the one that was on its way. Every block names itself and its write, so a block that is lost, stale, torn or somebody
// else's is told apart. A block has one request on its way at most; any number of connections share the work.

import { ConnectionEnded } from '../support/nbd-answers.js';
import { CMD, FLAG, MIB } from '../support/nbd-wire.js';
import type { RawNbd } from '../support/raw-nbd.js';

const BLOCK = 4096;
const SECTOR = 512;
const MAGIC = 0xce11b10c;
const ON_THE_WAY = 24;
const NONE = -1;

interface Pending {
  first: number;
  count: number;
  sequence: number;
}

/** What a block holds after write number `sequence`; 0 means zeros. */
function content(block: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(BLOCK, sequence === 0 ? 0 : (sequence * 31 + block) & 0xff);
  if (sequence === 0) return bytes;
  for (let at = 0; at < BLOCK; at += SECTOR) {
    bytes.writeUInt32BE(MAGIC, at);
    bytes.writeUInt32BE(block, at + 4);
    bytes.writeUInt32BE(sequence, at + 8);
  }
  return bytes;
}

function describe(bytes: Buffer): string {
  if (bytes.every((byte) => byte === 0)) return 'zeros';
  if (bytes.readUInt32BE(0) !== MAGIC) return `bytes of nobody (${bytes.toString('hex', 0, 16)})`;
  return `write ${bytes.readUInt32BE(8)} of block ${bytes.readUInt32BE(4)}`;
}

export class LoggedWriter {
  /** Replies received since the last load began. */
  replies = 0;
  readonly #blocks: number;
  /** Number of the last write replied to, by block. */
  readonly #replied: Uint32Array;
  /** Number of the write on its way, by block, or NONE. */
  readonly #onTheWay: Int32Array;
  #sequence = 0;
  #random: () => number;

  /** `random` gives numbers in [0, 1). */
  constructor(sizeBytes: number, random: () => number) {
    this.#blocks = sizeBytes / BLOCK;
    this.#replied = new Uint32Array(this.#blocks);
    this.#onTheWay = new Int32Array(this.#blocks).fill(NONE);
    this.#random = random;
  }

  /** Loads one connection until it ends, or until `enough` says so and everything on its way was answered. */
  async load(client: RawNbd, enough: () => boolean): Promise<void> {
    const pending = new Map<bigint, Pending>();
    try {
      for (;;) {
        while (pending.size < ON_THE_WAY && !enough()) this.#submit(client, pending);
        if (pending.size === 0) return;
        const { cookie, error } = await client.readSimple();
        const done = pending.get(cookie);
        if (!done) throw new Error(`an answer to request ${cookie}, which was not asked`);
        if (error !== 0) throw new Error(`a write failed with ${error}`);
        pending.delete(cookie);
        if (done.count > 0) this.#settle(done);
        this.replies++;
      }
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
    }
  }

  /** What the volume holds now, for a snapshot taken while nothing is on its way. */
  state(): Uint32Array {
    if (this.#onTheWay.some((sequence) => sequence !== NONE)) throw new Error('requests are on their way');
    return this.#replied.slice();
  }

  /** Problems of the volume as it is now; what was on its way is settled by what is found. */
  async verify(client: RawNbd): Promise<string[]> {
    return this.#compare(client, (block, found) => {
      const onTheWay = this.#onTheWay[block] as number;
      const replied = this.#replied[block] as number;
      this.#onTheWay[block] = NONE;
      if (found.equals(content(block, replied))) return null;
      if (onTheWay === NONE) return `holds ${describe(found)}, but write ${replied} was replied to`;
      if (!isMixOf(found, content(block, replied), content(block, onTheWay))) {
        return `holds ${describe(found)}, which is neither write ${replied} nor ${onTheWay}`;
      }
      this.#replied[block] = onTheWay;
      return null;
    });
  }

  /** Problems of a snapshot (or clone) taken in `state`. */
  async verifyState(client: RawNbd, state: Uint32Array): Promise<string[]> {
    return this.#compare(client, (block, found) =>
      found.equals(content(block, state[block] as number))
        ? null
        : `holds ${describe(found)}, but write ${state[block]} was there at the snapshot`,
    );
  }

  /** Blocks whose content is a mix of old and new by sectors are made whole again. */
  async repair(client: RawNbd): Promise<void> {
    for (let block = 0; block < this.#blocks; block++) {
      const bytes = content(block, this.#replied[block] as number);
      const found = await client.command({ type: CMD.read, offset: block * BLOCK, length: BLOCK });
      if (!found.data.equals(bytes))
        await client.command({ type: CMD.write, offset: block * BLOCK, length: BLOCK }, bytes);
    }
  }

  #settle({ first, count, sequence }: Pending): void {
    this.#replied.fill(sequence, first, first + count);
    this.#onTheWay.fill(NONE, first, first + count);
  }

  #submit(client: RawNbd, pending: Map<bigint, Pending>): void {
    const dice = this.#random();
    if (dice < 0.02) {
      pending.set(client.request({ type: CMD.flush }), { first: 0, count: 0, sequence: 0 });
      return;
    }
    const range = this.#freeRange(dice < 0.8 ? 1 : 1 + Math.floor(this.#random() * 64));
    const isZero = dice > 0.94;
    const sequence = isZero ? 0 : ++this.#sequence;
    const { first, count } = range;
    this.#onTheWay.fill(sequence, first, first + count);
    const flags = dice > 0.2 && dice < 0.23 ? FLAG.fua : 0;
    const place = { offset: first * BLOCK, length: count * BLOCK };
    const type = isZero ? (dice > 0.97 ? CMD.trim : CMD.writeZeroes) : CMD.write;
    const blocks = Array.from({ length: isZero ? 0 : count }, (_, i) => content(first + i, sequence));
    const payload = isZero ? undefined : Buffer.concat(blocks);
    pending.set(client.request({ type, flags, ...place }, payload), { first, count, sequence });
  }

  /** A range with nothing on its way, at most `longest` blocks. */
  #freeRange(longest: number): { first: number; count: number } {
    for (;;) {
      const first = Math.floor(this.#random() * this.#blocks);
      let count = 0;
      while (count < longest && first + count < this.#blocks && this.#onTheWay[first + count] === NONE)
        count++;
      if (count > 0) return { first, count };
    }
  }

  async #compare(client: RawNbd, judge: (block: number, found: Buffer) => string | null): Promise<string[]> {
    const problems: string[] = [];
    const perRead = MIB / BLOCK;
    for (let block = 0; block < this.#blocks; block += perRead) {
      const count = Math.min(perRead, this.#blocks - block);
      const answer = await client.command({ type: CMD.read, offset: block * BLOCK, length: count * BLOCK });
      if (answer.error !== 0) return [...problems, `block ${block} cannot be read: error ${answer.error}`];
      for (let i = 0; i < count; i++) {
        const problem = judge(block + i, answer.data.subarray(i * BLOCK, (i + 1) * BLOCK));
        if (problem) problems.push(`block ${block + i} ${problem}`);
      }
    }
    return problems;
  }
}

function isMixOf(found: Buffer, one: Buffer, two: Buffer): boolean {
  for (let at = 0; at < found.length; at += SECTOR) {
    const sector = found.subarray(at, at + SECTOR);
    if (!sector.equals(one.subarray(at, at + SECTOR)) && !sector.equals(two.subarray(at, at + SECTOR)))
      return false;
  }
  return true;
}
