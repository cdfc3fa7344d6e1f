// The store directory: made or recognised, held by one process, of a format this program knows. One sentence for everything else.
// Layout: metadata/ (LevelDB), extents/ (data), journal, ballast, lock (who holds the store, for people; LevelDB's LOCK decides).

import { randomBytes } from 'node:crypto';
import { access, constants, mkdir, open, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';

import { CellblockError, systemCode } from '../base/errors.js';
import type { Level } from '../catalog/level.js';
import { classicLevel } from '../catalog/level.js';
import { jsonKey } from '../model/keys.js';
import { DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_WINDOW_BYTES } from '../model/units.js';
import { sentenceOf } from './trouble.js';
import type { OperationsOptions } from './types.js';

/** 1: without the index of written windows; never released. */
export const FORMAT_VERSION = 3;

export interface StoreMeta {
  format: number;
  /** 32 hexadecimal digits. */
  storeId: string;
  windowBytes: number;
  created: string;
}

/** Says what a directory is, or in one sentence why it cannot be a store. Touches nothing: what is there may be evidence. */
export async function recogniseDirectory(directory: string): Promise<'new' | 'store'> {
  try {
    const names = await namesIn(directory);
    const extents = names.includes('extents') ? await namesIn(join(directory, 'extents')) : [];
    const metadata = names.includes('metadata') ? await namesIn(join(directory, 'metadata')) : [];
    const holdsData = names.includes('journal') || extents.length > 0;
    // LevelDB without its CURRENT would be taken for a new one.
    if (metadata.includes('CURRENT') && names.includes('extents')) return 'store';
    const isOwn = names.every((name) => OWN_NAMES.has(name));
    if (holdsData && isOwn) throw incomplete(directory, metadata);
    if (!isOwn || metadata.some((name) => !FIRST_NAMES.has(name))) {
      throw new CellblockError(
        'store-not-a-store',
        `The directory ${directory} holds other things and is not a cellblock store.`,
        {
          hint: 'Give an empty directory, or one that cellblock made.',
        },
      );
    }
    return 'new';
  } catch (error) {
    throw directoryError(directory, error);
  }
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  });
}

function incomplete(directory: string, metadata: readonly string[]): CellblockError {
  const what = metadata.length > 0 ? 'is damaged' : 'is missing';
  return new CellblockError(
    'store-incomplete',
    `The metadata of the store ${directory} ${what}, while its journal or data is there; nothing was touched.`,
    {
      hint: 'Put the directory `metadata` back, or restore the whole store from a copy.',
    },
  );
}

/** Throws when a new store would not fit (`no-space`), or nothing can be made there at all. */
export async function requireRoom(directory: string, bytes: bigint): Promise<void> {
  await accessNearest(directory).catch((error: unknown) => {
    throw directoryError(directory, error);
  });
  const free = await freeNear(directory);
  if (free < BigInt(FULL_BYTES)) throw directoryError(directory, fullError());
  if (free >= bytes) return;
  throw new CellblockError(
    'no-space',
    `A journal of ${bytes} bytes does not fit on the file system of the store ${directory}, which has ${free} bytes left.`,
    {
      hint: 'Make room there, or set a smaller store.journal.',
    },
  );
}

/** Of the file system a directory that may not be there yet will lie on. */
async function freeNear(path: string): Promise<bigint> {
  try {
    const { bavail, bsize } = await statfs(path, { bigint: true });
    return bavail * bsize;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) throw directoryError(path, error);
    return freeNear(dirname(path));
  }
}

function fullError(cause?: unknown): Error {
  return Object.assign(new Error('no space left', { cause }), { code: 'ENOSPC' });
}

/** Makes what is missing, or says in one sentence why it cannot be made, or why a store cannot be on its file system. */
export async function prepareDirectory(
  directory: string,
  punchHole: OperationsOptions['punchHole'],
): Promise<void> {
  try {
    await makeDirectory(directory);
    await mkdir(join(directory, 'extents'), { recursive: true });
    const probe = await open(join(directory, 'lock'), 'a', 0o600);
    try {
      punchHole?.(probe.fd, BEHIND_ITS_END, PUNCHED_BYTES);
    } finally {
      await probe.close();
    }
  } catch (error) {
    throw directoryError(directory, error);
  }
}

/** Of a lock file: what it says of its holder stays. */
const BEHIND_ITS_END = 1n << 20n;
const PUNCHED_BYTES = 4096n;

/**
 * For its owner alone: whoever can look into it can read every volume. mkdir -p of Node answers ENOENT where the file system is read-only; the
 * parent that is there tells why.
 */
async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(dirname(resolve(directory)), { recursive: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
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

/** What a LevelDB holds whose making was cut short. */
const FIRST_NAMES = new Set(['LOCK', 'LOG']);

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
    case 'EOPNOTSUPP':
    case 'ENOTSUP':
    case 'ENOSYS':
      return new CellblockError(
        'file-system-unsuitable',
        `The file system of the store ${directory} cannot punch holes, so nothing that is discarded or deleted would give its space back.`,
        {
          hint: 'Give a directory on a local file system such as ext4 or XFS; `cellblock doctor` says which it is now.',
          facts,
          cause: error,
        },
      );
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
    if (hasCode(error, 'LEVEL_CORRUPTION')) throw metadataDamaged(directory, sentenceOf(error), error);
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
      throw fullError(again);
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

/** Reads what the store is; a new one gets its identity. Refuses other formats, and guesses nothing. */
export async function readMeta(
  level: Level,
  directory: string,
  wanted: { windowBytes?: number },
): Promise<StoreMeta> {
  const stored = await level.get(jsonKey('meta', 'store'));
  if (!stored) {
    for await (const page of level.scan(EVERYTHING, { page: 1 })) {
      if (page.length > 0) throw metadataDamaged(directory, 'it does not say what store it is of');
    }
    const found = await namesIn(directory);
    if (found.includes('journal') || (await namesIn(join(directory, 'extents'))).length > 0)
      throw metadataDamaged(directory, 'it is empty, while there is a journal or data');
    return createMeta(level, wanted.windowBytes ?? DEFAULT_WINDOW_BYTES);
  }
  const meta = parseMeta(stored, directory);
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
  if (meta.format < FORMAT_VERSION) {
    throw new CellblockError(
      'store-older',
      `The store ${directory} has format ${meta.format}, of a version of cellblock that was never released; this program knows format ${FORMAT_VERSION}.`,
      {
        hint: 'Export its volumes with the version that made it, and import them into a new store.',
        facts: { format: meta.format, known: FORMAT_VERSION },
      },
    );
  }
  if (!/^[0-9a-f]{32}$/.test(meta.storeId)) throw metadataDamaged(directory, 'the id of the store is none');
  if (!isWindow(meta.windowBytes)) throw metadataDamaged(directory, 'the size of its windows is none');
  return meta;
}

const EVERYTHING = { gte: Buffer.alloc(0), lt: Buffer.alloc(16, 0xff) };

/** The format is a number whoever wrote it; what else is there is for a format that is known. */
function parseMeta(stored: Buffer, directory: string): StoreMeta {
  const meta = parseRecord('store', stored, directory) as StoreMeta;
  if (Number.isSafeInteger(meta.format) && meta.format > 0) return meta;
  throw metadataDamaged(directory, `the format of the store is ${JSON.stringify(meta.format)}`);
}

/** A JSON object of the family meta. */
export function parseRecord(name: string, stored: Buffer, directory: string): object {
  try {
    const value: unknown = JSON.parse(stored.toString());
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // No JSON: the sentence below.
  }
  throw metadataDamaged(directory, `the record meta/${name} cannot be read`);
}

function metadataDamaged(directory: string, what: string, cause?: unknown): CellblockError {
  return new CellblockError(
    'catalog-corrupt',
    `The metadata of the store ${directory} is damaged: ${what}.`,
    {
      hint: `Run \`cellblock store check --store ${directory}\`, and restore the store from a copy.`,
      cause,
    },
  );
}

function isWindow(bytes: number): boolean {
  const isPower = Number.isSafeInteger(bytes) && (bytes & (bytes - 1)) === 0;
  return isPower && bytes >= MIN_WINDOW_BYTES && bytes <= MAX_WINDOW_BYTES;
}

async function createMeta(level: Level, windowBytes: number): Promise<StoreMeta> {
  if (!isWindow(windowBytes)) {
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
