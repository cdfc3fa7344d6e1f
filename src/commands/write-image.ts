// Import: writes a stream of bytes to an export, many requests in flight. Afterwards the export holds the stream followed by
// zeros, made stable by a FLUSH; zero blocks of the stream cost no space.

import type { Hash } from 'node:crypto';
import type { NbdClient } from '../nbd-client/nbd-client.js';
import { zeroRuns } from './zero-runs.js';

export const PIECE_BYTES = 1024 * 1024;
const REQUESTS_IN_FLIGHT = 16;
/** WRITE_ZEROES carries a length of 32 bits. */
const ZEROES_AT_ONCE = 1n << 30n;

export interface WriteImageOptions {
  client: NbdClient;
  /** The bytes, in pieces of any size. */
  source: AsyncIterable<Buffer>;
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
  const { client, signal } = options;
  const writer = new Writer(client, options.fresh);
  let position = 0n;
  try {
    for await (const piece of inPieces(options.source)) {
      signal.throwIfAborted();
      if (position + BigInt(piece.length) > client.sizeBytes) {
        throw new SourceTooLarge(`the input is larger than the volume (${client.sizeBytes} bytes)`);
      }
      options.hash?.update(piece);
      for (const run of zeroRuns(piece)) {
        if (run.zero) await writer.zero(position + BigInt(run.start), run.end - run.start);
        else await writer.data(position + BigInt(run.start), piece.subarray(run.start, run.end));
      }
      position += BigInt(piece.length);
      options.onProgress(position);
    }
    if (position < client.sizeBytes) await writer.zeroUpTo(position, client.sizeBytes);
  } finally {
    await writer.settled();
  }
  signal.throwIfAborted();
  await writer.finish();
  return position;
}

/** Keeps a bounded number of requests in flight and remembers the first that failed. */
class Writer {
  readonly #client: NbdClient;
  readonly #fresh: boolean;
  readonly #inFlight = new Set<Promise<void>>();
  #failure: unknown;
  /** Zeros seen but not sent yet, so that a long hole is few requests. */
  #zeroes = { start: 0n, end: 0n };

  constructor(client: NbdClient, fresh: boolean) {
    this.#client = client;
    this.#fresh = fresh;
  }

  async data(offset: bigint, bytes: Buffer): Promise<void> {
    await this.#sendZeroes();
    await this.#submit(() => this.#client.write(offset, bytes));
  }

  async zero(offset: bigint, length: number): Promise<void> {
    await this.zeroUpTo(offset, offset + BigInt(length));
  }

  async zeroUpTo(start: bigint, end: bigint): Promise<void> {
    if (this.#fresh) return;
    if (this.#zeroes.end !== start) {
      await this.#sendZeroes();
      this.#zeroes = { start, end: start };
    }
    this.#zeroes.end = end;
  }

  async finish(): Promise<void> {
    await this.#sendZeroes();
    await this.settled();
    if (this.#failure !== undefined) throw this.#failure;
    await this.#client.flush();
  }

  async settled(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  async #sendZeroes(): Promise<void> {
    const { end } = this.#zeroes;
    while (this.#zeroes.start < end) {
      const { start } = this.#zeroes;
      const length = end - start < ZEROES_AT_ONCE ? end - start : ZEROES_AT_ONCE;
      this.#zeroes.start += length;
      await this.#submit(() => this.#client.writeZeroes(start, Number(length)));
    }
  }

  async #submit(send: () => Promise<void>): Promise<void> {
    while (this.#inFlight.size >= REQUESTS_IN_FLIGHT) await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
    const request: Promise<void> = send()
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#inFlight.delete(request));
    this.#inFlight.add(request);
  }
}

/** The same bytes in pieces of PIECE_BYTES, the last one shorter: so blocks of the source are blocks of the pieces. */
export async function* inPieces(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let count = 0;
  for await (let chunk of source) {
    while (count + chunk.length >= PIECE_BYTES) {
      const missing = PIECE_BYTES - count;
      yield count === 0
        ? chunk.subarray(0, missing)
        : Buffer.concat([...waiting, chunk.subarray(0, missing)]);
      waiting = [];
      count = 0;
      chunk = chunk.subarray(missing);
    }
    if (chunk.length > 0) waiting.push(chunk);
    count += chunk.length;
  }
  if (count > 0) yield Buffer.concat(waiting);
}
