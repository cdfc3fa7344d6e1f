// Where an export writes to: a new file (holes kept, there whole or not at all), an existing device, or a pipe.

import { once } from 'node:events';
import { constants, createWriteStream, openSync } from 'node:fs';
import { type FileHandle, link, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { addAbortSignal, type Writable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { PIECE_BYTES } from './buffer-pool.js';
import { CommandError } from './command-error.js';

export interface ImageTarget {
  /** In order, without gaps; `data` undefined means zeros. */
  write(piece: { offset: bigint; lengthBytes: bigint; data: Buffer | undefined }): Promise<void>;
  /** Everything is there and stable. */
  finish(): Promise<void>;
  /** Takes back what can be taken back; answers what cannot, a sentence or nothing. */
  discard(): Promise<string>;
}

export interface TargetOptions {
  path: string;
  sizeBytes: bigint;
  /** Replace a file that is there. */
  force: boolean;
  stdout: NodeJS.WritableStream;
  signal: AbortSignal;
  /** Gives a new file what it has besides its content, before it appears; until then only its owner reads it. */
  dress?: ((path: string) => Promise<void>) | undefined;
}

export async function openTarget(options: TargetOptions): Promise<ImageTarget> {
  const { path, force } = options;
  if (path === '-') return new StreamTarget(options.stdout, 'standard output');
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
  if (there.isFIFO()) {
    const fifo = await openFifo(options);
    return new StreamTarget(fifo, path, () => fifo.end());
  }
  const stream = createWriteStream(path, { flags: 'r+' });
  await once(stream, 'open');
  return new StreamTarget(stream, path);
}

const READER_LOOKED_FOR_MS = 100;

/** Neither the wait for a reader nor that for its pace may hold the process: both would be calls that nothing ends. */
async function openFifo({ path, signal }: TargetOptions): Promise<Writable> {
  for (;;) {
    try {
      const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      return addAbortSignal(signal, new Socket({ fd, readable: false, writable: true }));
    } catch (error) {
      // Nobody reads yet.
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
      await setTimeout(READER_LOOKED_FOR_MS, undefined, { signal });
    }
  }
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
    await removeAbandoned(options.path);
    const partial = `${options.path}.partial-${process.pid}`;
    const file = await open(partial, 'wx', options.dress ? 0o600 : 0o666).catch(
      (error: NodeJS.ErrnoException) => {
        // The name beside is our affair: what is wrong is wrong with the directory.
        throw Object.assign(error, { path: dirname(options.path) });
      },
    );
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
      const { bytesWritten } = await this.#file
        .write(data, done, data.length - done, Number(offset) + done)
        .catch(this.#named);
      done += bytesWritten;
    }
  }

  async finish(): Promise<void> {
    await this.#file.sync().catch(this.#named);
    await this.#file.close();
    const { path, force, dress } = this.#options;
    await dress?.(this.#partial);
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

  async discard(): Promise<string> {
    await this.#file.close().catch(() => undefined);
    await unlink(this.#partial).catch(() => undefined);
    return '';
  }

  /** Calls on an open file fail without a name. */
  readonly #named = (error: Error): never => {
    throw Object.assign(error, { path: this.#options.path });
  };
}

/** What an export that was killed left beside its name. */
async function removeAbandoned(path: string): Promise<void> {
  const start = `${basename(path)}.partial-`;
  // A directory that cannot be read may still be written to; then what is there stays.
  for (const name of await readdir(dirname(path)).catch(() => [])) {
    const pid = name.startsWith(start) ? name.slice(start.length) : '';
    if (/^[1-9]\d{0,9}$/.test(pid) && !isRunning(Number(pid)))
      await unlink(join(dirname(path), name)).catch(() => undefined);
  }
}

/** Our own number on a file that was there before us is that of a predecessor. */
function isRunning(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

const ZEROS = Buffer.alloc(PIECE_BYTES);

/** Pipes and devices: zeros are written as such. */
class StreamTarget implements ImageTarget {
  readonly #stream: NodeJS.WritableStream;
  readonly #name: string;
  readonly #end: () => void;
  #failure: Error | undefined;
  #began = false;

  constructor(stream: NodeJS.WritableStream, name: string, end: () => void = () => undefined) {
    this.#stream = stream;
    this.#name = name;
    this.#end = end;
    stream.on('error', (error) => this.#fail(error));
    // Aborted from outside: nobody calls back what was waiting.
    stream.on('close', () => this.#fail(new Error('closed')));
  }

  async write({ lengthBytes, data }: { lengthBytes: bigint; data: Buffer | undefined }): Promise<void> {
    if (data !== undefined) return this.#send(data);
    for (let left = lengthBytes; left > 0n; left -= BigInt(PIECE_BYTES)) {
      await this.#send(left >= BigInt(PIECE_BYTES) ? ZEROS : ZEROS.subarray(0, Number(left)));
    }
  }

  async finish(): Promise<void> {
    await this.#send(Buffer.alloc(0));
    this.#end();
  }

  async discard(): Promise<string> {
    return this.#began ? `What was written to ${this.#name} is only a part of the image.` : '';
  }

  /** Waits until the bytes are out: one piece at a time waits here, however slow the reader. */
  async #send(bytes: Buffer): Promise<void> {
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()));
    if (this.#failure !== undefined) throw this.#failure;
    this.#began = true;
  }

  #fail(error: Error): void {
    this.#failure ??= Object.assign(error, { path: this.#name });
  }
}
