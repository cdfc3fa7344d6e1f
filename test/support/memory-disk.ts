// A buffer that computations of src/identity run over, where a file would be too slow.
import type { Reading, Step, Writing } from '../../src/identity/steps.js';

export class MemoryDisk {
  readonly data: Buffer;

  constructor(data: Buffer) {
    this.data = data;
  }

  get bytes(): bigint {
    return BigInt(this.data.length);
  }

  run<T>(work: Reading<T> | Writing<T>): T {
    let next = work.next(new Uint8Array(0));
    while (!next.done) next = work.next(this.#answer(next.value));
    return next.value;
  }

  #answer(step: Step): Uint8Array {
    const at = Number(step.at);
    if (step.do === 'read') return this.#read(at, step.bytes);
    const bytes = step.do === 'write' ? step.data.length : Number(step.bytes);
    if (at < 0 || at + bytes > this.data.length) throw new RangeError(`${bytes} bytes at ${at}`);
    if (step.do === 'write') this.data.set(step.data, at);
    else this.data.fill(0, at, at + bytes);
    return new Uint8Array(0);
  }

  /** Behind the end there are zeros. */
  #read(at: number, bytes: number): Uint8Array {
    if (at < 0 || bytes < 0) throw new RangeError(`a read of ${bytes} bytes at ${at}`);
    const data = Buffer.alloc(bytes);
    this.data.copy(data, 0, at);
    return data;
  }
}
