// Where an export writes to: a new file (holes kept, there whole or not at all), an existing device, or a pipe.

import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { type FileHandle, link, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PIECE_BYTES } from './buffer-pool.js';
import { CommandError } from './command-error.js';

export interface ImageTarget {
  /** In order, without gaps; `data` undefined means zeros. */
  write(piece: { offset: bigint; lengthBytes: bigint; data: Buffer | undefined }): Promise<void>;
  /** Everything is there and stable. */
  finish(): Promise<void>;
  /** Takes back what can be taken back. */
  discard(): Promise<void>;
}

export interface TargetOptions {
  path: string;
  sizeBytes: bigint;
  /** Replace a file that is there. */
  force: boolean;
  stdout: NodeJS.WritableStream;
}

export async function openTarget(options: TargetOptions): Promise<ImageTarget> {
  const { path, force } = options;
  if (path === '-') return new StreamTarget(options.stdout);
  const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (there === undefined || there.isFile()) {
    if (there !== undefined && !force) throw taken(path);
    return FileTarget.create(options);
  }
  if (there.isDirectory())
    throw Object.assign(new Error('is a directory'), { code: 'EISDIR', syscall: 'open', path });
  if (there.isBlockDevice() && !force) throw taken(path);
  const stream = createWriteStream(path, { flags: 'r+' });
  await once(stream, 'open');
  return new StreamTarget(stream);
}

function taken(path: string): CommandError {
  return new CommandError(
    'exists',
    'file-exists',
    `${path} exists already.`,
    'Choose another name, or replace it with --force.',
  );
}

/** Writes beside the final name and moves there at the end, so the name never shows half an image. */
class FileTarget implements ImageTarget {
  readonly #file: FileHandle;
  readonly #partial: string;
  readonly #options: TargetOptions;

  private constructor(file: FileHandle, partial: string, options: TargetOptions) {
    this.#file = file;
    this.#partial = partial;
    this.#options = options;
  }

  static async create(options: TargetOptions): Promise<FileTarget> {
    const partial = `${options.path}.partial-${process.pid}`;
    const file = await open(partial, 'wx', 0o666).catch((error: NodeJS.ErrnoException) => {
      // The name beside is our affair: what is wrong is wrong with the directory.
      throw Object.assign(error, { path: dirname(options.path) });
    });
    const target = new FileTarget(file, partial, options);
    try {
      await target.#file.truncate(Number(options.sizeBytes));
    } catch (error) {
      await target.discard();
      throw error;
    }
    return target;
  }

  async write({ offset, data }: { offset: bigint; data: Buffer | undefined }): Promise<void> {
    if (data === undefined) return;
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await this.#file.write(data, done, data.length - done, Number(offset) + done);
      done += bytesWritten;
    }
  }

  async finish(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
    const { path, force } = this.#options;
    if (force) {
      await rename(this.#partial, path);
      return;
    }
    // link() refuses a name that was taken meanwhile; rename() would not.
    await link(this.#partial, path).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EEXIST' ? taken(path) : error;
    });
    await unlink(this.#partial);
  }

  async discard(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await unlink(this.#partial).catch(() => undefined);
  }
}

const ZEROS = Buffer.alloc(PIECE_BYTES);

/** Pipes and devices: zeros are written as such. */
class StreamTarget implements ImageTarget {
  readonly #stream: NodeJS.WritableStream;
  #failure: Error | undefined;

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream;
    stream.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  async write({ lengthBytes, data }: { lengthBytes: bigint; data: Buffer | undefined }): Promise<void> {
    if (data !== undefined) return this.#send(data);
    for (let left = lengthBytes; left > 0n; left -= BigInt(PIECE_BYTES)) {
      await this.#send(left >= BigInt(PIECE_BYTES) ? ZEROS : ZEROS.subarray(0, Number(left)));
    }
  }

  async finish(): Promise<void> {
    await new Promise<void>((resolve) => this.#stream.write('', () => resolve()));
    if (this.#failure !== undefined) throw this.#failure;
  }

  async discard(): Promise<void> {}

  /** Waits until the bytes are out: one piece at a time waits here, however slow the reader. */
  async #send(bytes: Buffer): Promise<void> {
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()));
    if (this.#failure !== undefined) throw this.#failure;
  }
}
