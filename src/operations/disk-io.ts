// A device of the data plane as the computations of src/identity see a disk: their steps become its own requests, which go on
// while it is held. Reads are served from chunks that were read before, so that looking for twenty kinds of identity in one
// superblock costs one read. Where one disk was looked at, another one is likely to be, too: those chunks can be read all at once.
// Invariant: what a step has written, later reads see; nothing of it is stable before the device is flushed.

import { MAX_STEP_BYTES, type Reading, type Step, type Writing } from '../identity/steps.js';
import type { ContainerKind } from '../model/entities.js';
import type { PlaneClient } from './plane-client.js';
import type { DiskIo } from './sync-types.js';

/** Most of what is looked at has 4 KiB or less: larger chunks are garbage that V8 collects in the middle of a hold. */
const CHUNK_BYTES = 16 << 10;
const CHUNKS_KEPT = 128;

export class DeviceDisk implements DiskIo {
  readonly bytes: bigint;
  readonly kind: ContainerKind;
  readonly #client: PlaneClient;
  readonly #handle: number;
  readonly #chunks = new Map<bigint, Uint8Array>();
  #revoked = false;

  constructor(
    client: PlaneClient,
    device: { handle: number },
    { sizeBytes, kind }: { sizeBytes: bigint; kind: ContainerKind },
  ) {
    this.#client = client;
    this.#handle = device.handle;
    this.bytes = sizeBytes;
    this.kind = kind;
  }

  async run<T>(work: Reading<T> | Writing<T>): Promise<T> {
    let next = work.next(NOTHING);
    while (!next.done) {
      let answer: Uint8Array;
      try {
        answer = await this.#do(next.value);
      } catch (error) {
        work.return(undefined as T);
        throw error;
      }
      next = work.next(answer);
    }
    return next.value;
  }

  /** Chunks that are kept. */
  get looked(): readonly bigint[] {
    return [...this.#chunks.keys()];
  }

  /** Reads chunks before they are asked for. What cannot be read now says why when it is. */
  async readAhead(chunks: readonly bigint[]): Promise<void> {
    const there = chunks.filter((at) => at < this.bytes && !this.#chunks.has(at));
    await Promise.allSettled(there.map((at) => this.#chunk(at)));
  }

  /** What still runs ends at its next step. */
  revoke(): void {
    this.#revoked = true;
  }

  async #do(step: Step): Promise<Uint8Array> {
    if (this.#revoked) throw new Error('the disk was taken away');
    if (step.do === 'read') return this.#read(step.at, step.bytes);
    const bytes = step.do === 'write' ? BigInt(step.data.length) : step.bytes;
    if (step.at < 0n || step.at + bytes > this.bytes)
      throw new RangeError(`bytes ${step.at} to ${step.at + bytes} of a disk of ${this.bytes}`);
    this.#forget(step.at, bytes);
    if (bytes === 0n) return NOTHING;
    if (step.do === 'write') await this.#client.write(this.#handle, step.at, step.data);
    else await this.#client.zero(this.#handle, step.at, step.bytes);
    return NOTHING;
  }

  async #read(at: bigint, bytes: number): Promise<Uint8Array> {
    if (at < 0n || bytes < 0 || bytes > MAX_STEP_BYTES)
      throw new RangeError(`a read of ${bytes} bytes at ${at}`);
    const data = Buffer.allocUnsafe(bytes);
    for (let done = 0; done < bytes; ) {
      const from = at + BigInt(done);
      if (from >= this.bytes) {
        data.fill(0, done);
        break;
      }
      const inChunk = Number(from % BigInt(CHUNK_BYTES));
      const chunk = await this.#chunk(from - BigInt(inChunk));
      const part = chunk.subarray(inChunk, inChunk + bytes - done);
      data.set(part, done);
      done += part.length;
    }
    return data;
  }

  async #chunk(at: bigint): Promise<Uint8Array> {
    const kept = this.#chunks.get(at);
    if (kept) return kept;
    const left = this.bytes - at;
    const bytes = left < BigInt(CHUNK_BYTES) ? Number(left) : CHUNK_BYTES;
    const chunk = await this.#client.read(this.#handle, at, bytes);
    this.#chunks.set(at, chunk);
    const [oldest] = this.#chunks.keys();
    if (this.#chunks.size > CHUNKS_KEPT) this.#chunks.delete(oldest!);
    return chunk;
  }

  #forget(at: bigint, bytes: bigint): void {
    for (const chunk of this.#chunks.keys())
      if (chunk < at + bytes && at < chunk + BigInt(CHUNK_BYTES)) this.#chunks.delete(chunk);
  }
}

/** Changes stay in memory: what a sync would do is worked out without doing it. */
export class OverlaidDisk implements DiskIo {
  readonly bytes: bigint;
  readonly kind: ContainerKind;
  readonly #below: DiskIo;
  readonly #changes: { at: bigint; data: Uint8Array | bigint }[] = [];

  constructor(below: DiskIo, bytes: bigint) {
    this.#below = below;
    this.bytes = bytes;
    this.kind = below.kind;
  }

  async run<T>(work: Reading<T> | Writing<T>): Promise<T> {
    let next = work.next(NOTHING);
    while (!next.done) next = work.next(await this.#do(next.value));
    return next.value;
  }

  async #do(step: Step): Promise<Uint8Array> {
    if (step.do === 'write') this.#changes.push({ at: step.at, data: Uint8Array.from(step.data) });
    if (step.do === 'zero') this.#changes.push({ at: step.at, data: step.bytes });
    if (step.do !== 'read') return NOTHING;
    const data = Uint8Array.from(await this.#below.run(readOnce(step)));
    for (const change of this.#changes) lay(change, step.at, data);
    return data;
  }
}

function* readOnce(step: Extract<Step, { do: 'read' }>): Reading<Uint8Array> {
  return yield step;
}

/** Puts what the change says over what was read at `at`. */
function lay(change: { at: bigint; data: Uint8Array | bigint }, at: bigint, data: Uint8Array): void {
  const bytes = typeof change.data === 'bigint' ? change.data : BigInt(change.data.length);
  const from = change.at > at ? change.at : at;
  const end = change.at + bytes < at + BigInt(data.length) ? change.at + bytes : at + BigInt(data.length);
  if (from >= end) return;
  const to = Number(from - at);
  if (typeof change.data === 'bigint') data.fill(0, to, Number(end - at));
  else data.set(change.data.subarray(Number(from - change.at), Number(end - change.at)), to);
}

const NOTHING = new Uint8Array(0);
