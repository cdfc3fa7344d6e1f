// The directory of a coordinator's LevelDB: made or recognised, of a format this program knows, held by one process. One sentence for
// everything else, and what is there is not touched then: it may be evidence.

import { mkdir, readdir } from 'node:fs/promises';
import { type CellblockError, systemCode } from '../base/errors.js';
import { classicLevel, type Level } from '../catalog/level.js';
import { corrupt, foreign, newer, stateError } from './state-errors.js';
import { FORMAT, FORMAT_KEY, formatOf, formatText } from './state-values.js';

/** What a LevelDB holds whose making was cut short, and what a file system puts into its root. */
const FIRST_NAMES = /^(LOCK|LOG|LOG\.old|MANIFEST-\d+|\d+\.dbtmp|lost\+found)$/;

/** An open LevelDB, whose lock makes this process the only one. */
export async function openDirectory(directory: string): Promise<Level> {
  // Before there is a database: it opens itself, and makes files.
  await requireOwn(directory);
  const level = classicLevel(directory);
  try {
    await level.open();
  } catch (error) {
    throw openError(directory, error);
  }
  try {
    await requireFormat(directory, level);
  } catch (error) {
    await level.close();
    throw error;
  }
  return level;
}

async function requireOwn(directory: string): Promise<void> {
  let names: string[];
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    names = await readdir(directory);
  } catch (error) {
    throw directoryError(directory, error);
  }
  if (!names.includes('CURRENT') && !names.every((name) => FIRST_NAMES.test(name)))
    throw foreign(`The directory ${directory}`);
}

/** A LevelDB without a record of its format is new if it is empty. */
async function requireFormat(directory: string, level: Level): Promise<void> {
  const key = Buffer.from(FORMAT_KEY);
  const stored = (await level.get(key))?.toString();
  if (stored === undefined) {
    for await (const page of level.scan(EVERYTHING, { page: 1 }))
      if (page.length > 0) throw foreign(`The directory ${directory}`);
    await level.batch([{ type: 'put', key, value: Buffer.from(formatText()) }]);
    return;
  }
  const format = formatOf(stored);
  if (format === undefined || format < 1) throw foreign(`The directory ${directory}`);
  if (format > FORMAT) throw newer(directory, format, FORMAT);
}

const EVERYTHING = { gte: Buffer.alloc(0), lt: Buffer.alloc(2000, 0xff) };

function openError(directory: string, error: unknown): CellblockError {
  if (hasCode(error, 'LEVEL_LOCKED'))
    return stateError(
      'coordinator-state-locked',
      `The state ${directory} is in use by another process.`,
      'Stop that coordinator first, or give another directory; several coordinators share etcd.',
      error,
    );
  if (hasCode(error, 'LEVEL_CORRUPTION')) return corrupt(directory, innermost(error).message, error);
  return directoryError(directory, systemCode(error) === '' ? innermost(error) : error);
}

export function directoryError(directory: string, error: unknown): CellblockError {
  const code = systemCode(error);
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return stateError(
        'permission-denied',
        `The state ${directory} cannot be written: permission denied.`,
        'Run the coordinator as the user the directory belongs to, or change its owner.',
        error,
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return stateError(
        'coordinator-state-full',
        `The file system of the state ${directory} is full.`,
        'Make room there and start again.',
        error,
      );
    case 'ENOTDIR':
    case 'EEXIST':
      return foreign(directory);
    default:
      return stateError(
        'coordinator-state-failed',
        `The state ${directory} cannot be used: ${innermost(error).message}.`,
        'Check the disk and the path.',
        error,
      );
  }
}

function hasCode(error: unknown, code: string): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if ((at as NodeJS.ErrnoException).code === code) return true;
  return false;
}

/** LevelDB says why in the innermost one. */
export function innermost(error: unknown): Error {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at instanceof Error ? at : new Error(String(at));
}
