// Where an import reads from: a file, a block device or a pipe, opened by whoever runs the command.

import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { addAbortSignal, type Readable } from 'node:stream';
import { PIECE_BYTES } from './write-image.js';

export interface ImageSource {
  /** Null: only the end of the stream will tell. */
  sizeBytes: bigint | null;
  bytes: AsyncIterable<Buffer>;
  close(): Promise<void>;
}

/** `-` is `stdin`. */
export async function openSource(path: string, stdin: Readable, signal: AbortSignal): Promise<ImageSource> {
  if (path === '-')
    return { sizeBytes: null, bytes: addAbortSignal(signal, stdin), close: async () => undefined };
  const file = await open(path, 'r');
  try {
    return { sizeBytes: await sizeOf(file), bytes: readAll(file), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function sizeOf(file: FileHandle): Promise<bigint | null> {
  const stat = await file.stat({ bigint: true });
  if (stat.isFile()) return stat.size;
  if (stat.isDirectory())
    throw Object.assign(new Error('is a directory'), { code: 'EISDIR', syscall: 'read' });
  if (!stat.isBlockDevice()) return null;
  // Linux's encoding of device numbers; the size of a device stands in sectors of 512 bytes, whatever the device's are.
  const major = ((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & ~0xfffn);
  const minor = (stat.rdev & 0xffn) | ((stat.rdev >> 12n) & ~0xffn);
  return BigInt(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8').trim()) * 512n;
}

/** Reads on while what was read is being used. */
async function* readAll(file: FileHandle): AsyncGenerator<Buffer> {
  let next = readPiece(file);
  try {
    for (;;) {
      const piece = await next;
      if (piece.length === 0) return;
      next = readPiece(file);
      // Awaited at the next turn; a failure must not count as unhandled until then.
      next.catch(() => undefined);
      yield piece;
    }
  } finally {
    await next.catch(() => undefined);
  }
}

async function readPiece(file: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, null);
  return buffer.subarray(0, bytesRead);
}
