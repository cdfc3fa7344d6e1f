// Images of ext2, ext3 and ext4 made by their own tools, and looked at by them; mounted ones are unmounted whatever happens.
import { strictEqual } from 'node:assert';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { missing, must, mustNow, run } from './programs.js';

export const MIB = 1 << 20;
/** Why this machine cannot make images, or cannot mount them; or false. */
export const noTools = missing('mke2fs', 'e2fsck', 'blkid', 'debugfs', 'tune2fs');
export const cannotMount: string | false =
  noTools || (process.getuid?.() !== 0 && 'needs root for mount and losetup') || missing('losetup', 'mount');

export async function makeImage(file: string, args: string[], bytes = 64 * MIB): Promise<string> {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  await must('mke2fs', ['-q', '-F', ...args, file]);
  return file;
}

export async function copyImage(from: string, to: string): Promise<string> {
  await must('cp', ['--sparse=always', from, to]);
  return to;
}

/** e2fsck finds nothing to complain of, and nothing to replay. */
export async function mustBeClean(image: string): Promise<void> {
  const outcome = await run('e2fsck', ['-fn', image]);
  strictEqual(outcome.code, 0, outcome.story);
  strictEqual(/wrong|recover|fix\?/i.test(outcome.stdout + outcome.stderr), false, outcome.story);
}

/** What blkid reads from an image. */
export async function probe(image: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of ['TYPE', 'UUID', 'LABEL']) {
    const { stdout } = await run('blkid', ['-p', '-s', name, '-o', 'value', image]);
    found[name] = stdout.trimEnd();
  }
  return found;
}

/** First bytes of the pieces of `piece` bytes in which two files of a size differ. */
export function differences(one: string, other: string, piece: number): number[] {
  const fds = [openSync(one, 'r'), openSync(other, 'r')] as const;
  const buffers = [Buffer.alloc(MIB), Buffer.alloc(MIB)] as const;
  const found: number[] = [];
  for (let at = 0; ; at += MIB) {
    const [read, same] = fds.map((fd, n) => readSync(fd, buffers[n]!, 0, MIB, at));
    strictEqual(read, same, 'of one size');
    if (!read) break;
    if (buffers[0].equals(buffers[1])) continue;
    for (let from = 0; from < read; from += piece)
      if (!buffers[0].subarray(from, from + piece).equals(buffers[1].subarray(from, from + piece)))
        found.push(at + from);
  }
  fds.forEach(closeSync);
  return found;
}

export interface Mounted {
  readonly device: string;
  readonly folder: string;
}

/** Runs `work` while an image is mounted. */
export async function mounted<T>(
  image: string,
  options: string,
  work: (at: Mounted) => Promise<T> | T,
): Promise<T> {
  const folder = `${image}.mount`;
  mkdirSync(folder, { recursive: true });
  const device = (await must('losetup', ['--find', '--show', image])).trim();
  try {
    // Without barriers nothing waits for the real disk; what is logged is the same.
    await must('mount', ['-o', `${options},barrier=0`, device, folder]);
    try {
      return await work({ device, folder });
    } finally {
      mustNow('umount', [folder]);
    }
  } finally {
    mustNow('losetup', ['-d', device]);
  }
}

/** Name, kind and content of everything below a folder. */
export function tree(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const content = entry.isFile() ? createHash('sha1').update(readFileSync(file)).digest('hex') : 'no file';
    found[path.relative(folder, file)] = content;
  }
  return found;
}
