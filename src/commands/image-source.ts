// Where an import reads from: a file, a block device or a pipe, opened by whoever runs the command. Holes of files are neither read
// nor looked at.

import { constants, openSync, readFileSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { addAbortSignal, type Readable } from 'node:stream';
import { loadNextExtent, type NextExtent } from '../plane/addon.js';
import { type BufferPool, PIECE_BYTES } from './buffer-pool.js';

/** A hole reads as zeros. The buffer of a piece of data is of the pool, `bytes` a part of it: whoever takes the piece gives it back. */
export type SourcePiece =
  | { type: 'hole'; lengthBytes: bigint }
  | { type: 'data'; bytes: Buffer; buffer: Buffer };

export interface ImageSource {
  /** Null: only the end of the stream will tell. */
  sizeBytes: bigint | null;
  /** The content in order, to be called once. Pieces of data are full but the last before a hole or the end. */
  pieces(pool: BufferPool): AsyncIterable<SourcePiece>;
  /** What it begins with, at most so many bytes; null: of a pipe nothing is read before it is used. */
  head(bytes: number): Promise<Buffer | null>;
  /** May be called more than once; ends a read that waits. */
  close(): Promise<void>;
}

/** `-` is `stdin`. */
export async function openSource(path: string, stdin: Readable, signal: AbortSignal): Promise<ImageSource> {
  if (path === '-') return streamSource(interruptible(stdin, signal));
  if ((await stat(path)).isFIFO()) return streamSource(interruptible(openFifo(path), signal));
  const file = await open(path, 'r');
  try {
    const sizeBytes = await sizeOf(file, path);
    if (sizeBytes === null) return streamSource(interruptible(file.createReadStream(), signal));
    return {
      sizeBytes,
      pieces: (pool) => filePieces({ file, path, sizeBytes, nextExtent: extentFinder() }, pool),
      head: async (bytes) => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
        return buffer.subarray(0, bytesRead);
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** It may be interrupted before anybody reads: an error nobody listens to would end the process. Whoever reads then is told. */
function interruptible(stream: Readable, signal: AbortSignal): Readable {
  stream.on('error', () => undefined);
  return addAbortSignal(signal, stream);
}

/** Neither the wait for a writer nor that for its bytes may hold the process: both would be calls that nothing ends. */
function openFifo(path: string): Readable {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return new Socket({ fd, readable: true, writable: false });
}

async function sizeOf(file: FileHandle, path: string): Promise<bigint | null> {
  const stat = await file.stat({ bigint: true });
  if (stat.isFile()) return stat.size;
  if (stat.isDirectory())
    throw Object.assign(new Error('is a directory'), { code: 'EISDIR', syscall: 'read', path });
  if (!stat.isBlockDevice()) return null;
  // Linux's encoding of device numbers; the size of a device stands in sectors of 512 bytes, whatever the device's are.
  const major = ((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & ~0xfffn);
  const minor = (stat.rdev & 0xffn) | ((stat.rdev >> 12n) & ~0xffn);
  return BigInt(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8').trim()) * 512n;
}

function streamSource(stream: Readable): ImageSource {
  return {
    sizeBytes: null,
    pieces: (pool) => streamPieces(stream, pool),
    head: async () => null,
    close: async () => {
      stream.destroy();
    },
  };
}

async function* streamPieces(stream: Readable, pool: BufferPool): AsyncGenerator<SourcePiece> {
  let buffer = await pool.take();
  let filled = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; ) {
      const count = chunk.copy(buffer, filled, at);
      at += count;
      filled += count;
      if (filled < PIECE_BYTES) continue;
      yield { type: 'data', bytes: buffer, buffer };
      buffer = await pool.take();
      filled = 0;
    }
  }
  yield { type: 'data', bytes: buffer.subarray(0, filled), buffer };
}

/** Without the addon every hole is read, and found to be zeros then. */
function extentFinder(): NextExtent {
  try {
    return loadNextExtent();
  } catch {
    return (_fd, offset) => ({ start: offset, end: 1n << 63n });
  }
}

interface SizedFile {
  file: FileHandle;
  path: string;
  sizeBytes: bigint;
  nextExtent: NextExtent;
}

/** Reads that are under way while earlier pieces are being used. */
const READ_AHEAD = 4;

/** Exactly `sizeBytes`, whatever happens to the file meanwhile. */
async function* filePieces(from: SizedFile, pool: BufferPool): AsyncGenerator<SourcePiece> {
  const waiting: Promise<SourcePiece>[] = [];
  try {
    for (const range of ranges(from)) {
      if (waiting.length >= READ_AHEAD) yield await (waiting.shift() as Promise<SourcePiece>);
      const piece = range.data ? readPiece(from, range, await pool.take()) : hole(range);
      // Awaited in order further up; a failure must not count as unhandled until then.
      piece.catch(() => undefined);
      waiting.push(piece);
    }
    for (const piece of waiting) yield await piece;
  } finally {
    await Promise.allSettled(waiting);
  }
}

interface Range {
  start: bigint;
  end: bigint;
  data: boolean;
}

const BLOCK_BYTES = 4096n;
/** Ends of pieces are multiples of this, so that blocks of the file are blocks of the pieces. */
const STEP_BYTES = BigInt(PIECE_BYTES);

/** Covers the file: holes of any length, data in pieces. Both begin and end at whole blocks. */
function* ranges({ file, sizeBytes, nextExtent }: SizedFile): Generator<Range> {
  for (let at = 0n; at < sizeBytes; ) {
    const extent = nextExtent(file.fd, at);
    if (extent === null) return yield { start: at, end: sizeBytes, data: false };
    const start = smaller((extent.start / BLOCK_BYTES) * BLOCK_BYTES, sizeBytes);
    if (start > at) yield { start: at, end: start, data: false };
    const end = smaller(((extent.end + BLOCK_BYTES - 1n) / BLOCK_BYTES) * BLOCK_BYTES, sizeBytes);
    for (at = larger(start, at); at < end; ) {
      const next = smaller((at / STEP_BYTES + 1n) * STEP_BYTES, end);
      yield { start: at, end: next, data: true };
      at = next;
    }
  }
}

async function hole({ start, end }: Range): Promise<SourcePiece> {
  return { type: 'hole', lengthBytes: end - start };
}

async function readPiece(
  { file, path }: SizedFile,
  { start, end }: Range,
  buffer: Buffer,
): Promise<SourcePiece> {
  const length = Number(end - start);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, done, length - done, Number(start) + done);
    if (bytesRead === 0) {
      throw Object.assign(new Error('became shorter while it was read'), { syscall: 'read', path });
    }
    done += bytesRead;
  }
  return { type: 'data', bytes: buffer.subarray(0, length), buffer };
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
