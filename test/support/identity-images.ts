// What the tests of the kinds of identity share: images made by the owners' tools, what a restore changed in one, and noise that no kind
// may stumble over.
import { ok } from 'node:assert';
import { closeSync, copyFileSync, fstatSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import type { Test } from 'tap';
import { CellblockError } from '../../src/base/errors.js';
import type { Found, Kind, Restored } from '../../src/identity/kind.js';
import { MAX_STEP_BYTES, type Reading, type Step, type Writing } from '../../src/identity/steps.js';
import { FileDisk } from './identity-disk.js';
import { must, mustNow, run } from './programs.js';
import { replay } from './replay.js';

/** A sparse file of so many bytes. */
export function blank(file: string, bytes: number): string {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  return file;
}

export function copyOf(file: string, copy: string): string {
  copyFileSync(file, copy);
  return copy;
}

export function detectIn(file: string, kind: Kind): Found | null {
  const disk = new FileDisk(file, { readOnly: true });
  try {
    return disk.run(kind.detect(disk.bytes));
  } finally {
    disk.close();
  }
}

export function restoreIn(file: string, kind: Kind, wanted: Record<string, string>): Restored {
  const disk = new FileDisk(file);
  try {
    return disk.run(kind.restore(disk.bytes, new Map(Object.entries(wanted))));
  } finally {
    disk.close();
  }
}

/** Bytes that a detect reads, and that a restore reads and writes. */
export function cost(file: string, kind: Kind, wanted: Record<string, string>): string {
  const disk = new Overlay(file);
  disk.run(kind.detect(disk.bytes));
  const detected = disk.bytesRead;
  disk.run(kind.restore(disk.bytes, new Map(Object.entries(wanted))));
  const { bytesRead, bytesWritten } = disk;
  disk.close();
  return `${kind.name}: detect reads ${detected}; restore reads ${bytesRead - detected}, writes ${bytesWritten}`;
}

/** Values of the fields by name. */
export function valuesOf(found: Found | null): Record<string, string> {
  return Object.fromEntries(found?.fields.map(({ name, value }) => [name, value]) ?? []);
}

/** What blkid finds by itself, without a cache and without partition tables. */
export async function blkid(file: string): Promise<Record<string, string>> {
  const { stdout } = await run('blkid', ['-p', '-o', 'export', file]);
  return Object.fromEntries(
    stdout
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => line.replace(/\\(.)/g, '$1'))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

export const needsRoot: string | false = process.getuid?.() !== 0 && 'needs root for losetup and mount';

/** A loop device over the file; gone after the test. */
export async function loopDevice(t: Test, file: string): Promise<string> {
  const device = (await must('losetup', ['--find', '--show', file])).trim();
  t.teardown(() => mustNow('losetup', ['-d', device]));
  return device;
}

/** Mounts what exists already as a device; unmounted after the test. */
export async function mounted(t: Test, device: string, folder: string, options = 'rw'): Promise<void> {
  await must('mount', ['-o', options, device, folder]);
  t.teardown(() => mustNow('umount', [folder]));
}

const BLOCK = 4096;

/** A file that computations run over without changing it: what they write, and damage made on purpose, lies over it. */
export class Overlay {
  readonly #fd: number;
  readonly #blocks = new Map<bigint, Buffer>();
  readonly bytes: bigint;
  /** What was asked for, in order. */
  readonly reads: { at: bigint; bytes: number }[] = [];
  bytesRead = 0;
  bytesWritten = 0;
  steps = 0;

  constructor(file: string) {
    this.#fd = openSync(file, 'r');
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

  flip(at: bigint, mask: number): void {
    const block = this.#block(at / BigInt(BLOCK));
    block[Number(at % BigInt(BLOCK))]! ^= mask;
  }

  put(at: bigint, data: Uint8Array): void {
    for (const [index, byte] of data.entries()) {
      const place = at + BigInt(index);
      this.#block(place / BigInt(BLOCK))[Number(place % BigInt(BLOCK))] = byte;
    }
  }

  read(at: bigint, bytes: number): Buffer {
    const data = this.#below(at, bytes);
    const size = BigInt(BLOCK);
    for (const [index, block] of this.#blocks) {
      const from = index * size;
      if (from + size > at && from < at + BigInt(bytes))
        block.copy(data, from > at ? Number(from - at) : 0, from < at ? Number(at - from) : 0);
    }
    const left = this.bytes - at;
    return left < BigInt(bytes) ? data.fill(0, left < 0n ? 0 : Number(left)) : data;
  }

  /** Places whose bytes are not those of the file, as [from, end) in order. */
  changed(): [bigint, bigint][] {
    const ranges: [bigint, bigint][] = [];
    const blocks = [...this.#blocks].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [index, block] of blocks) {
      const before = this.#below(index * BigInt(BLOCK), BLOCK);
      for (let byte = 0; byte < BLOCK; byte++) {
        if (before[byte] === block[byte]) continue;
        const at = index * BigInt(BLOCK) + BigInt(byte);
        const last = ranges.at(-1);
        if (last?.[1] === at) last[1] = at + 1n;
        else ranges.push([at, at + 1n]);
      }
    }
    return ranges;
  }

  #answer(step: Step): Uint8Array {
    ok(++this.steps < 100_000, 'more steps than any identity needs');
    ok(step.at >= 0n, `a step at ${step.at}`);
    if (step.do === 'read') {
      ok(step.bytes >= 0 && step.bytes <= MAX_STEP_BYTES, `a read of ${step.bytes} bytes`);
      this.reads.push({ at: step.at, bytes: step.bytes });
      this.bytesRead += step.bytes;
      return this.read(step.at, step.bytes);
    }
    const data = step.do === 'write' ? step.data : new Uint8Array(Number(step.bytes));
    ok(data.length <= MAX_STEP_BYTES, `a write of ${data.length} bytes`);
    ok(step.at + BigInt(data.length) <= this.bytes, `a write of ${data.length} bytes at ${step.at}`);
    this.bytesWritten += data.length;
    this.put(step.at, data);
    return new Uint8Array(0);
  }

  #block(index: bigint): Buffer {
    const known = this.#blocks.get(index);
    if (known !== undefined) return known;
    const block = this.#below(index * BigInt(BLOCK), BLOCK);
    this.#blocks.set(index, block);
    return block;
  }

  #below(at: bigint, bytes: number): Buffer {
    const data = Buffer.alloc(bytes);
    readSync(this.#fd, data, 0, bytes, at);
    return data;
  }
}

/** Whether every change lies within one of the places. */
export function onlyWithin(changed: [bigint, bigint][], places: [number, number][]): boolean {
  return changed.every(([from, end]) =>
    places.some(([at, bytes]) => from >= BigInt(at) && end <= BigInt(at) + BigInt(bytes)),
  );
}

function allowed(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof CellblockError) || !/^identity-(damaged|invalid)$/.test(error.code)) throw error;
  }
}

/** Random bytes in place of a disk, and a true image with some bytes changed: an answer or one of the two errors, nothing else. */
export function survivesNoise(t: Test, kind: Kind, file: string, wanted: Record<string, string>): void {
  const base = new Overlay(file);
  const map = new Map(Object.entries(wanted));
  base.run(kind.restore(base.bytes, map));
  const reads = base.reads.filter(({ bytes }) => bytes > 0);
  base.close();
  const flip = fc.tuple(fc.nat({ max: reads.length - 1 }), fc.nat(), fc.integer({ min: 1, max: 255 }));
  fc.assert(
    fc.property(fc.array(flip, { minLength: 1, maxLength: 6 }), (flips) => {
      const disk = new Overlay(file);
      try {
        for (const [read, offset, mask] of flips) {
          const { at, bytes } = reads[read]!;
          const place = at + BigInt(offset % bytes);
          if (place < disk.bytes) disk.flip(place, mask);
        }
        allowed(() => disk.run(kind.detect(disk.bytes)));
        allowed(() => disk.run(kind.restore(disk.bytes, map)));
      } finally {
        disk.close();
      }
    }),
    replay({ quick: 100, normal: 400, long: 5000 }),
  );
  t.pass('every change of bytes');
}

/** Random bytes at the places in question (magics kept or not) of a blank disk of any size. */
export function survivesRandomBytes(t: Test, kind: Kind, file: string, magics: [number, string][]): void {
  const disks = fc.record({
    bytes: fc.oneof(fc.nat({ max: 70_000 }), fc.bigInt(0n, 1n << 50n).map(Number)),
    noise: fc.uint8Array({ minLength: 4096, maxLength: 70_000 }),
    keep: fc.boolean(),
    shift: fc.constantFrom(0, 65536),
  });
  fc.assert(
    fc.property(disks, ({ bytes, noise, keep, shift }) => {
      const disk = new Overlay(file);
      Object.defineProperty(disk, 'bytes', { value: BigInt(bytes) });
      disk.put(BigInt(shift), noise);
      if (keep) for (const [at, magic] of magics) disk.put(BigInt(at), Buffer.from(magic, 'latin1'));
      try {
        allowed(() => disk.run(kind.detect(BigInt(bytes))));
        allowed(() => disk.run(kind.restore(BigInt(bytes), new Map())));
      } finally {
        disk.close();
      }
    }),
    replay({ quick: 30, normal: 100, long: 2000 }),
  );
  t.pass('every noise');
}
