// Import: writes an image to an export, many requests in flight. Afterwards the export holds the image followed by zeros, made
// stable by a FLUSH; holes and zero blocks of the image cost no space.

import type { Hash } from 'node:crypto';
import type { NbdClient } from '../nbd-client/nbd-client.js';
import { BufferPool } from './buffer-pool.js';
import { hashZeros } from './hash-zeros.js';
import type { ImageSource } from './image-source.js';
import { zeroRuns } from './zero-runs.js';

/** Buffers being read into, looked through and written from. */
const BUFFERS = 16;
const ZERO_REQUESTS_IN_FLIGHT = 16;
/** WRITE_ZEROES carries a length of 32 bits. */
const ZEROES_AT_ONCE = 1n << 30n;

export interface WriteImageOptions {
  client: NbdClient;
  source: ImageSource;
  /** The export was just created: what is not written reads as zero without being told. */
  fresh: boolean;
  hash: Hash | undefined;
  signal: AbortSignal;
  /** Called with the bytes taken from the source so far. */
  onProgress: (bytes: bigint) => void;
}

export class SourceTooLarge extends Error {
  override name = 'SourceTooLarge';
}

/** Returns the number of bytes taken from the source. */
export async function writeImage(options: WriteImageOptions): Promise<bigint> {
  const { client, source, hash, signal } = options;
  const { sizeBytes } = client;
  const pool = new BufferPool(BUFFERS);
  // A request that failed ends a read that waits, however long the other end of a pipe says nothing.
  const writer = new Writer(client, { fresh: options.fresh, onFailure: () => void source.close() });
  let position = 0n;
  try {
    for await (const piece of source.pieces(pool)) {
      signal.throwIfAborted();
      writer.throwIfFailed();
      const end = position + (piece.type === 'hole' ? piece.lengthBytes : BigInt(piece.bytes.length));
      if (end > sizeBytes) {
        throw new SourceTooLarge(`the input is larger than the volume (${sizeBytes} bytes)`);
      }
      if (piece.type === 'hole') {
        if (hash !== undefined) await hashZeros(hash, piece.lengthBytes);
        await writer.zero(position, end);
      } else {
        hash?.update(piece.bytes);
        void writer.piece(position, piece.bytes).then(() => pool.give(piece.buffer));
      }
      position = end;
      options.onProgress(position);
    }
    await writer.zero(position, sizeBytes);
    await writer.finish();
  } catch (error) {
    signal.throwIfAborted();
    writer.throwIfFailed();
    throw error;
  } finally {
    await writer.settled();
  }
  return position;
}

interface WriterOptions {
  fresh: boolean;
  onFailure: () => void;
}

/** Sends requests and remembers the first that failed. */
class Writer {
  readonly #client: NbdClient;
  readonly #options: WriterOptions;
  readonly #inFlight = new Set<Promise<void>>();
  #zeroesInFlight = 0;
  #failure: { error: unknown } | undefined;
  /** Zeros seen but not sent yet, so that a long hole is few requests. At most ZEROES_AT_ONCE. */
  #zeroes = { start: 0n, end: 0n };

  constructor(client: NbdClient, options: WriterOptions) {
    this.#client = client;
    this.#options = options;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Sends what is not zero. Resolves, and never rejects, when the bytes are not needed any more. */
  async piece(offset: bigint, bytes: Buffer): Promise<void> {
    const sent: (Promise<void> | undefined)[] = zeroRuns(bytes).map(({ start, end, zero }) => {
      const from = offset + BigInt(start);
      if (zero) return this.#addZeroes(from, offset + BigInt(end));
      return this.#submit(this.#client.write(from, bytes.subarray(start, end)));
    });
    await Promise.all(sent);
  }

  /** Resolves when more may be sent. */
  async zero(start: bigint, end: bigint): Promise<void> {
    for (let at = start; at < end && this.#failure === undefined; ) {
      const next = end - at < ZEROES_AT_ONCE ? end : at + ZEROES_AT_ONCE;
      void this.#addZeroes(at, next);
      while (this.#zeroesInFlight >= ZERO_REQUESTS_IN_FLIGHT) await Promise.race(this.#inFlight);
      at = next;
    }
  }

  async finish(): Promise<void> {
    void this.#sendZeroes();
    await this.settled();
    this.throwIfFailed();
    await this.#client.flush();
  }

  async settled(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  /** Answers the request it had to send to make room, if any. */
  #addZeroes(start: bigint, end: bigint): Promise<void> | undefined {
    if (this.#options.fresh) return undefined;
    if (this.#zeroes.end === start && end - this.#zeroes.start <= ZEROES_AT_ONCE) {
      this.#zeroes.end = end;
      return undefined;
    }
    const sent = this.#sendZeroes();
    this.#zeroes = { start, end };
    return sent;
  }

  #sendZeroes(): Promise<void> | undefined {
    const { start, end } = this.#zeroes;
    if (start === end) return undefined;
    this.#zeroes = { start: end, end };
    this.#zeroesInFlight++;
    return this.#submit(
      this.#client.writeZeroes(start, Number(end - start)).finally(() => {
        this.#zeroesInFlight--;
      }),
    );
  }

  #submit(answer: Promise<void>): Promise<void> {
    const request: Promise<void> = answer
      .catch((error: unknown) => {
        if (this.#failure === undefined) this.#options.onFailure();
        this.#failure ??= { error };
      })
      .finally(() => this.#inFlight.delete(request));
    this.#inFlight.add(request);
    return request;
  }
}
