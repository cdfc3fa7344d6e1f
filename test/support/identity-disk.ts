// A file that computations of src/identity run over, in place of a held volume.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { MAX_STEP_BYTES, type Reading, type Step, type Writing } from '../../src/identity/steps.js';

const ZEROS = Buffer.alloc(1 << 20);

export class FileDisk {
  readonly #fd: number;
  readonly bytes: bigint;
  /** What was asked for and changed since it was opened. */
  bytesRead = 0;
  bytesWritten = 0;
  bytesZeroed = 0n;

  constructor(path: string, options: { readOnly?: boolean } = {}) {
    this.#fd = openSync(path, options.readOnly ? 'r' : 'r+');
    this.bytes = BigInt(fstatSync(this.#fd).size);
  }

  close(): void {
    closeSync(this.#fd);
  }

  run<T>(work: Reading<T> | Writing<T>): T {
    let next = work.next(new Uint8Array(0));
    while (!next.done) next = work.next(this.#answer(next.value));
    return next.value;
  }

  #answer(step: Step): Uint8Array {
    if (step.do === 'read') return this.#read(step.at, step.bytes);
    const bytes = step.do === 'write' ? BigInt(step.data.length) : step.bytes;
    if (step.at < 0n || step.at + bytes > this.bytes)
      throw new RangeError(`bytes ${step.at} to ${step.at + bytes} of a disk of ${this.bytes}`);
    if (step.do === 'write') this.#write(step.at, step.data);
    else this.#zero(step.at, step.bytes);
    return new Uint8Array(0);
  }

  #read(at: bigint, bytes: number): Uint8Array {
    if (at < 0n || bytes < 0 || bytes > MAX_STEP_BYTES)
      throw new RangeError(`a read of ${bytes} bytes at ${at}`);
    this.bytesRead += bytes;
    const data = Buffer.alloc(bytes);
    let done = 0;
    while (done < bytes) {
      const read = readSync(this.#fd, data, done, bytes - done, at + BigInt(done));
      if (read === 0) break;
      done += read;
    }
    return data;
  }

  #write(at: bigint, data: Uint8Array): void {
    if (data.length > MAX_STEP_BYTES) throw new RangeError(`a write of ${data.length} bytes`);
    this.bytesWritten += data.length;
    writeAll(this.#fd, data, at);
  }

  #zero(at: bigint, bytes: bigint): void {
    this.bytesZeroed += bytes;
    for (let done = 0n; done < bytes; done += BigInt(ZEROS.length)) {
      const left = bytes - done;
      writeAll(this.#fd, left < BigInt(ZEROS.length) ? ZEROS.subarray(0, Number(left)) : ZEROS, at + done);
    }
  }
}

/** The position is a number: writeSync of Node 20 takes a bigint for none, and writes where the file stands. */
function writeAll(fd: number, data: Uint8Array, at: bigint): void {
  let done = 0;
  while (done < data.length) done += writeSync(fd, data, done, data.length - done, Number(at) + done);
}
