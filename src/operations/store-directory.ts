// The store directory: made or recognised, held by one process, of a format this program knows. One sentence for everything else.
// Layout: metadata/ (LevelDB), extents/ (data), journal, ballast, lock (who holds the store, for people; LevelDB's LOCK decides).

import { randomBytes } from 'node:crypto';
import { access, constants, mkdir, open, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

import { CellblockError, systemCode } from '../base/errors.js';
import type { Level } from '../catalog/level.js';
import { classicLevel } from '../catalog/level.js';
import { jsonKey } from '../model/keys.js';
import { DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_WINDOW_BYTES } from '../model/units.js';

export const FORMAT_VERSION = 1;

export interface StoreMeta {
  format: number;
  /** 32 hexadecimal digits. */
  storeId: string;
  windowBytes: number;
  created: string;
}

/** Makes what is missing, or says in one sentence why this directory cannot be a store. */
export async function prepareDirectory(directory: string): Promise<void> {
  try {
    await makeDirectory(directory);
    const names = await readdir(directory);
    if (names.length > 0 && !names.includes('metadata') && !names.every((name) => OWN_NAMES.has(name))) {
      throw new CellblockError(
        'store-not-a-store',
        `The directory ${directory} holds other things and is not a cellblock store.`,
        {
          hint: 'Give an empty directory, or one that cellblock made.',
        },
      );
    }
    await mkdir(join(directory, 'extents'), { recursive: true });
    const probe = await open(join(directory, 'lock'), 'a', 0o600);
    await probe.close();
  } catch (error) {
    throw directoryError(directory, error);
  }
}

/** mkdir -p of Node answers ENOENT where the file system is read-only; the parent that is there tells why. */
async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') await accessNearest(directory);
    throw error;
  }
}

async function accessNearest(path: string): Promise<void> {
  try {
    await access(path, constants.W_OK);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await accessNearest(dirname(path));
  }
}

const OWN_NAMES = new Set([
  'metadata',
  'extents',
  'journal',
  'ballast',
  'lock',
  'lost+found',
  'api.sock',
  'nbd.sock',
]);

export function directoryError(directory: string, error: unknown): CellblockError {
  if (error instanceof CellblockError) return error;
  const code = systemCode(error);
  const facts = { directory, errno: code };
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return new CellblockError(
        'permission-denied',
        `The store ${directory} cannot be written: permission denied.`,
        {
          hint: 'Run the agent as the user the directory belongs to, or change its owner.',
          facts,
          cause: error,
        },
      );
    case 'EROFS':
      return new CellblockError(
        'store-read-only',
        `The store ${directory} lies on a read-only file system.`,
        {
          hint: 'Mount it read-write, or give another directory.',
          facts,
          cause: error,
        },
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new CellblockError('no-space', `The file system of the store ${directory} is full.`, {
        hint: 'Make room there and start again.',
        facts,
        cause: error,
      });
    case 'ENOTDIR':
    case 'EEXIST':
      return new CellblockError('store-not-a-store', `${directory} is not a directory.`, {
        hint: 'Give a directory for the store.',
        facts,
        cause: error,
      });
    default:
      return new CellblockError(
        'file-system-unsuitable',
        `The store ${directory} cannot be used: ${error instanceof Error ? error.message : String(error)}.`,
        {
          hint: 'Check the disk and the path.',
          facts,
          cause: error,
        },
      );
  }
}

export function levelOf(directory: string): Level {
  return classicLevel(join(directory, 'metadata'));
}

/** Opens LevelDB, whose lock makes this process the only one; then says so in the lock file. */
export async function openLocked(directory: string, level: Level): Promise<void> {
  try {
    await openWithRoom(directory, level);
  } catch (error) {
    if (hasCode(error, 'LEVEL_LOCKED')) throw await lockedError(directory, error);
    throw directoryError(directory, systemCode(error) === '' ? rootCause(error) : error);
  }
  const holder = { pid: process.pid, host: hostname(), since: new Date().toISOString() };
  await writeFile(join(directory, 'lock'), `${JSON.stringify(holder)}\n`).catch((error: unknown) => {
    throw directoryError(directory, error);
  });
}

/** Opening writes a little. On a full disk the ballast, kept for that, makes room. */
async function openWithRoom(directory: string, level: Level): Promise<void> {
  try {
    await level.open();
  } catch (error) {
    if (!hasCode(error, 'LEVEL_IO_ERROR') || !(await isFull(directory))) throw error;
    await rm(join(directory, 'ballast'), { force: true });
    await level.open().catch(async (again: unknown) => {
      if (!(await isFull(directory))) throw again;
      throw Object.assign(new Error('no space left', { cause: again }), { code: 'ENOSPC' });
    });
  }
}

/** LevelDB does not say why it could not write. */
async function isFull(directory: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize < FULL_BYTES;
}

const FULL_BYTES = 1 << 20;

function hasCode(error: unknown, code: string): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ((at as NodeJS.ErrnoException).code === code) return true;
  }
  return false;
}

function rootCause(error: unknown): unknown {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at;
}

async function lockedError(directory: string, cause: unknown): Promise<CellblockError> {
  let who = 'another process';
  const facts: Record<string, string | number> = { directory };
  try {
    const holder = JSON.parse(await readFile(join(directory, 'lock'), 'utf8')) as {
      pid: number;
      host: string;
      since: string;
    };
    who = `process ${holder.pid} on ${holder.host} since ${holder.since}`;
    Object.assign(facts, holder);
  } catch {
    // The holder has not written its name yet: the sentence does without.
  }
  return new CellblockError('store-locked', `The store ${directory} is in use by ${who}.`, {
    hint: 'Stop that agent first, or give another directory.',
    facts,
    cause,
  });
}

/** Reads what the store is; a new one gets its identity. Refuses newer formats. */
export async function readMeta(
  level: Level,
  directory: string,
  wanted: { windowBytes?: number },
): Promise<StoreMeta> {
  const stored = await level.get(jsonKey('meta', 'store'));
  if (!stored) return createMeta(level, wanted.windowBytes ?? DEFAULT_WINDOW_BYTES);
  const meta = JSON.parse(stored.toString()) as StoreMeta;
  if (meta.format > FORMAT_VERSION) {
    throw new CellblockError(
      'store-newer',
      `The store ${directory} has format ${meta.format}; this program knows formats up to ${FORMAT_VERSION}.`,
      {
        hint: 'Use a newer version of cellblock.',
        facts: { format: meta.format, known: FORMAT_VERSION },
      },
    );
  }
  return meta;
}

async function createMeta(level: Level, windowBytes: number): Promise<StoreMeta> {
  const isPower = (windowBytes & (windowBytes - 1)) === 0;
  if (!isPower || windowBytes < MIN_WINDOW_BYTES || windowBytes > MAX_WINDOW_BYTES) {
    throw new CellblockError('option-invalid', `A window of ${windowBytes} bytes is not possible.`, {
      hint: 'The window size is a power of two from 64 KiB to 4 MiB.',
    });
  }
  const storeId = randomBytes(16).toString('hex');
  const meta: StoreMeta = { format: FORMAT_VERSION, storeId, windowBytes, created: new Date().toISOString() };
  await level.batch([
    { type: 'put', key: jsonKey('meta', 'store'), value: Buffer.from(JSON.stringify(meta)) },
  ]);
  return meta;
}
