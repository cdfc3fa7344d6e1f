// A copy of the metadata of a store that no agent has open: opening LevelDB always writes, so the original is never opened.
// Invariant: nothing in the store directory is changed; nobody holds the store before and after the copying.

import { constants } from 'node:fs';
import { copyFile, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { CellblockError, systemCode } from '../../base/errors.js';
import { throwIfCancelled } from '../cancellation.js';

export interface MetadataCopy {
  path: string;
  remove(): Promise<void>;
}

/** Throws `store-locked` when an agent holds the store. Answers null when there is nothing to copy. */
export async function copyMetadata(
  directory: string,
  options: { scratch?: string; signal?: AbortSignal } = {},
): Promise<MetadataCopy | null> {
  const metadata = join(directory, 'metadata');
  await refuseHeld(directory);
  const names = await readdir(metadata).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null;
    throw error;
  });
  if (!names) return null;
  const path = await mkdtemp(join(options.scratch ?? tmpdir(), 'cellblock-check-'));
  const remove = (): Promise<void> => rm(path, { recursive: true, force: true });
  try {
    for (const name of names) {
      throwIfCancelled(options.signal);
      if (name !== 'LOCK') await copyFile(join(metadata, name), join(path, name), constants.COPYFILE_FICLONE);
    }
    await refuseHeld(directory);
    return { path, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function refuseHeld(directory: string): Promise<void> {
  const holder = await holderOf(directory);
  if (holder === null) return;
  throw new CellblockError('store-locked', `The store ${directory} is in use by process ${holder}.`, {
    hint: 'Use `cellblock store check` without --store, which asks the agent, or stop it first.',
    facts: { directory, pid: holder },
  });
}

/**
 * The process that holds LevelDB's lock. The kernel lists record locks by device and inode; where a file system shows another device
 * to stat (btrfs) the process that wrote its number into `lock` has to be the one.
 */
async function holderOf(directory: string): Promise<number | null> {
  const lock = await stat(join(directory, 'metadata', 'LOCK')).catch(() => null);
  const locks = lock && (await readFile('/proc/locks', 'utf8').catch(() => null));
  if (!lock || !locks) return null;
  const written = await writtenHolder(directory);
  for (const row of locks.split('\n')) {
    const found = /\bPOSIX\s.*\bWRITE\s+(-?\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)\s/.exec(row);
    if (!found || Number(found[4]) !== lock.ino) continue;
    const pid = Number(found[1]);
    const [major, minor] = [parseInt(found[2]!, 16), parseInt(found[3]!, 16)];
    if (deviceOf(lock.dev, major, minor) || pid === written) return pid;
  }
  return null;
}

/** Linux's encoding of device numbers in stat. */
function deviceOf(device: number, major: number, minor: number): boolean {
  const number = BigInt(device);
  const deviceMajor = ((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n);
  const deviceMinor = (number & 0xffn) | ((number >> 12n) & 0xffffff00n);
  return deviceMajor === BigInt(major) && deviceMinor === BigInt(minor);
}

async function writtenHolder(directory: string): Promise<number | null> {
  try {
    const { pid } = JSON.parse(await readFile(join(directory, 'lock'), 'utf8')) as { pid: unknown };
    return typeof pid === 'number' ? pid : null;
  } catch {
    return null;
  }
}
