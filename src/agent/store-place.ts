// Where a store lies: its directory, the file system below, who may look in.

import { readFile, realpath, stat, statfs } from 'node:fs/promises';
import { systemCode } from '../base/errors.js';
import { type Mount, mountOf } from './mounts.js';

export interface StorePlace {
  directory: string;
  /** errno of what kept it from being looked at. */
  error: string | null;
  uid: number | null;
  /** Permissions. */
  mode: number | null;
  mount: Mount | null;
  sizeBytes: bigint | null;
  freeBytes: bigint | null;
}

const UNKNOWN = { uid: null, mode: null, mount: null, sizeBytes: null, freeBytes: null };
const PERMISSIONS = 0o7777;

/** Never throws. `mountinfo`: tests have another one. */
export async function storePlace(directory: string, mountinfo = '/proc/self/mountinfo'): Promise<StorePlace> {
  try {
    const { uid, mode } = await stat(directory);
    const { blocks, bavail, bsize } = await statfs(directory, { bigint: true });
    const table = await readFile(mountinfo, 'utf8').catch(() => '');
    return {
      directory,
      error: null,
      uid,
      mode: mode & PERMISSIONS,
      mount: mountOf(table, await realpath(directory)),
      sizeBytes: blocks * bsize,
      freeBytes: bavail * bsize,
    };
  } catch (error) {
    return { directory, error: systemCode(error) || 'unknown', ...UNKNOWN };
  }
}
