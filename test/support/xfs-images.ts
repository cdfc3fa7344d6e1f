// Images of XFS made by mkfs.xfs and the kernel, for the tests of its kind of identity.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import type { Found, Kind, Restored } from '../../src/identity/kind.js';
import type { Reading, Step, Writing } from '../../src/identity/steps.js';
import { FileDisk } from './identity-disk.js';
import { missing, must, mustNow, run } from './programs.js';

export const withoutTools = (): string | false =>
  missing('mkfs.xfs', 'xfs_repair', 'xfs_db', 'xfs_io', 'blkid');

export const withoutMounts = (): string | false =>
  withoutTools() ||
  (process.getuid?.() !== 0 && 'needs root for loop devices') ||
  missing('losetup', 'mount');

/** mkfs.xfs makes file systems below 300 MB for its own test suite only, and knows it by these. */
const SMALL = { TEST_DIR: '-', TEST_DEV: '-', QA_CHECK_FS: '-' };

export async function makeXfs(image: string, options: string[], mebibytes = 64): Promise<string> {
  writeFileSync(image, '');
  truncateSync(image, mebibytes << 20);
  await must('mkfs.xfs', ['-q', '-f', ...options, image], { env: SMALL });
  return image;
}

export function copyOf(image: string, copy: string): string {
  copyFileSync(image, copy);
  return copy;
}

export interface Mounted {
  readonly folder: string;
  unmount(): Promise<void>;
}

/**
 * Mounted on a loop device that goes with it; unmounted after the test at the latest. Not in the test's folder: that is removed before
 * teardowns run, and a folder in use would keep them from running.
 */
export async function mountXfs(t: Test, image: string, options = 'noatime'): Promise<Mounted> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cellblock-xfs-'));
  let isMounted = false;
  t.teardown(() => {
    if (isMounted) mustNow('umount', [folder]);
    rmdirSync(folder);
  });
  await must('mount', ['-o', `loop,${options}`, image, folder]);
  isMounted = true;
  const unmount = async (): Promise<void> => {
    if (isMounted) await must('umount', [folder]);
    isMounted = false;
  };
  return { folder, unmount };
}

/** As after a power loss: what the log has is on the disk, what it describes is not yet. */
export async function crash(mounted: Mounted): Promise<void> {
  await must('xfs_io', ['-x', '-c', 'shutdown -f', mounted.folder]);
  await mounted.unmount();
}

/** Many small changes of metadata below a folder, from a seed. */
export function churn(folder: string, rounds: number): void {
  let state = rounds;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  mkdirSync(folder, { recursive: true });
  for (let index = 0; index < rounds; index++)
    writeFileSync(path.join(folder, `${index}-${'n'.repeat(next(100))}`), Buffer.alloc(next(5000), index));
}

/** Every name below a folder with its kind, times, and content. */
export function treeOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const file = path.join(folder, name);
      const { mode, ino, size, nlink, mtimeMs } = lstatSync(file);
      return [name, mode, ino, size, nlink, mtimeMs, contentOf(file, mode)].join(' ');
    });
}

function contentOf(file: string, mode: number): string {
  const kind = mode & 0o170000;
  if (kind === 0o120000) return readlinkSync(file);
  return kind === 0o100000 ? createHash('sha256').update(readFileSync(file)).digest('hex') : '';
}

export async function repairFinds(image: string): Promise<string | null> {
  const outcome = await run('xfs_repair', ['-n', image]);
  return outcome.code === 0 ? null : outcome.story;
}

export async function blkid(image: string): Promise<{ uuid: string; label: string }> {
  const value = async (tag: string): Promise<string> =>
    (await run('blkid', ['-p', '-s', tag, '-o', 'value', image])).stdout.trim();
  return { uuid: await value('UUID'), label: await value('LABEL') };
}

export function detectIn(image: string, kind: Kind): Found | null {
  const disk = new FileDisk(image, { readOnly: true });
  try {
    return disk.run(kind.detect(disk.bytes));
  } finally {
    disk.close();
  }
}

export function restoreIn(
  image: string,
  kind: Kind,
  wanted: Record<string, string>,
): Restored & { bytes: string } {
  const disk = new FileDisk(image);
  try {
    const restored = disk.run(kind.restore(disk.bytes, new Map(Object.entries(wanted))));
    return { ...restored, bytes: `read ${disk.bytesRead}, written ${disk.bytesWritten}` };
  } finally {
    disk.close();
  }
}

/** An image in memory whose changes can be taken back. */
export class MemoryDisk {
  readonly image: Buffer;
  readonly #undo: { at: number; old: Buffer }[] = [];
  /** What was written, and where. */
  writes: { at: number; bytes: number }[] = [];

  constructor(image: Buffer) {
    this.image = image;
  }

  run<T>(work: Reading<T> | Writing<T>): T {
    let next = work.next(new Uint8Array(0));
    while (!next.done) next = work.next(this.#answer(next.value));
    return next.value;
  }

  put(at: number, data: Uint8Array): void {
    this.#undo.push({ at, old: Buffer.from(this.image.subarray(at, at + data.length)) });
    this.image.set(data, at);
  }

  reset(): void {
    for (const { at, old } of this.#undo.reverse()) this.image.set(old, at);
    this.#undo.length = 0;
    this.writes = [];
  }

  #answer(step: Step): Uint8Array {
    const at = Number(step.at);
    if (step.do === 'read') return Buffer.concat([this.image.subarray(at, at + step.bytes)], step.bytes);
    if (step.do === 'zero' || at < 0 || at + step.data.length > this.image.length)
      throw new RangeError(`a ${step.do} at ${at}`);
    this.writes.push({ at, bytes: step.data.length });
    this.put(at, step.data);
    return new Uint8Array(0);
  }
}
