// A disk in memory that computations of src/identity run over: for many small random disks, and to see which bytes were changed.
import type { Reading, Step, Writing } from '../../src/identity/steps.js';

export class MemoryDisk {
  readonly content: Buffer;
  /** Number of bytes that were asked for, and the ranges that were written, as they came. */
  bytesRead = 0;
  readonly writes: { at: number; bytes: number }[] = [];

  constructor(content: Buffer | number) {
    this.content = typeof content === 'number' ? Buffer.alloc(content) : content;
  }

  get bytes(): bigint {
    return BigInt(this.content.length);
  }

  run<T>(work: Reading<T> | Writing<T>): T {
    let next = work.next(new Uint8Array(0));
    while (!next.done) next = work.next(this.#answer(next.value));
    return next.value;
  }

  #answer(step: Step): Uint8Array {
    const at = Number(step.at);
    const bytes = step.do === 'write' ? step.data.length : Number(step.bytes);
    if (at < 0 || bytes < 0 || (step.do !== 'read' && at + bytes > this.content.length))
      throw new RangeError(`${step.do} of ${bytes} bytes at ${at}`);
    if (step.do === 'read') {
      this.bytesRead += bytes;
      return Buffer.concat([this.content.subarray(at, at + bytes)], bytes);
    }
    this.writes.push({ at, bytes });
    if (step.do === 'write') this.content.set(step.data, at);
    else this.content.fill(0, at, at + bytes);
    return new Uint8Array(0);
  }
}

/** Sectors of 512 bytes in which two contents differ. */
export function differingSectors(a: Buffer, b: Buffer): number[] {
  const sectors: number[] = [];
  const end = Math.max(a.length, b.length);
  for (let at = 0; at < end; at += 512)
    if (!a.subarray(at, at + 512).equals(b.subarray(at, at + 512))) sectors.push(at / 512);
  return sectors;
}

/** The code of the error that `work` throws, or null. Anything but a CellblockError goes on. */
export function codeOf(work: () => unknown): string | null {
  try {
    work();
    return null;
  } catch (error) {
    if (error instanceof Error && error.name === 'CellblockError')
      return (error as Error & { code: string }).code;
    throw error;
  }
}
