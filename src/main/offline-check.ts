// `cellblock store check --store DIR`: the check of the operations, on a store that no agent has open.

import { readdir } from 'node:fs/promises';
import { CellblockError, systemCode } from '../base/errors.js';
import type { OfflineCheck } from '../commands/check-command.js';
import { checkStore } from '../operations/check.js';
import { checkOptions, checkReport } from './inspection.js';

export const checkOffline: OfflineCheck = async (directory, watcher) => {
  await requireStore(directory);
  return checkReport(await checkStore({ directory }, checkOptions(watcher)));
};

/** A wrong path is no damaged store. What has any part of a store is one, and the check says what it lacks. */
async function requireStore(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw unreadable(directory, error);
  });
  if (names.some((name) => PARTS.has(name))) return;
  throw new CellblockError('store-not-a-store', `${directory} is not a cellblock store.`, {
    hint: 'Give the directory that cellblockd was started with.',
  });
}

const PARTS = new Set(['metadata', 'extents', 'journal']);

function unreadable(directory: string, error: unknown): CellblockError {
  const hint = 'Check the path.';
  switch (systemCode(error)) {
    case 'ENOENT':
      return new CellblockError('file-not-found', `There is no directory ${directory}.`, { hint });
    case 'ENOTDIR':
      return new CellblockError('store-not-a-store', `${directory} is not a directory.`, { hint });
    case 'EACCES':
      return new CellblockError('permission-denied', `Permission denied on ${directory}.`, {
        hint: 'Run the check as the user the directory belongs to.',
      });
    default:
      return new CellblockError('catalog-read-failed', `${directory} cannot be read: ${String(error)}.`, {
        hint: 'Check the disk.',
        cause: error,
      });
  }
}
