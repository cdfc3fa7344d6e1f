// Files as a tar.gz that only the caller may read, made by the tar of the system. Invariant: nothing that is there is replaced, and nothing
// half done stays.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.js';
import { CommandError } from '../command-error.js';

export interface ArchiveFile {
  name: string;
  text: string;
}

/** `folder`: what the files lie in, in the archive. Gives the size of `path`. `file-exists`, `tar-failed`. */
export async function writeArchive(
  path: string,
  { folder, files, signal }: { folder: string; files: readonly ArchiveFile[]; signal: AbortSignal },
): Promise<number> {
  const scratch = await mkdtemp(join(tmpdir(), 'cellblock-support-'));
  try {
    await mkdir(join(scratch, folder), { mode: 0o700 });
    for (const { name, text } of files)
      await writeFile(join(scratch, folder, name), text, { mode: 0o600, flag: 'wx' });
    const made = await open(path, 'wx', 0o600).catch((error: unknown) => {
      throw systemCode(error) === 'EEXIST' ? exists(path) : error;
    });
    try {
      await runTar({ scratch, folder, descriptor: made.fd, signal });
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await made.close();
    }
    return (await stat(path)).size;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function runTar({
  scratch,
  folder,
  descriptor,
  signal,
}: {
  scratch: string;
  folder: string;
  descriptor: number;
  signal: AbortSignal;
}): Promise<void> {
  signal.throwIfAborted();
  const words = ['--create', '--gzip', '--owner=0', '--group=0', `--directory=${scratch}`, folder];
  const tar = spawn('tar', words, { stdio: ['ignore', descriptor, 'pipe'], signal });
  let said = '';
  tar.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [code] = (await once(tar, 'close').catch((error: unknown) => {
    signal.throwIfAborted();
    throw systemCode(error) === 'ENOENT' ? failed('it is not installed') : error;
  })) as [number | null];
  if (code !== 0) throw failed(said.trim().split('\n')[0] ?? `exit code ${code}`);
}

function failed(why: string): CommandError {
  return new CommandError(
    'io',
    'tar-failed',
    `The archive cannot be made by tar: ${why}.`,
    'Install tar and gzip, and look whether there is room.',
  );
}

export function exists(path: string): CommandError {
  return new CommandError(
    'exists',
    'file-exists',
    `${path} exists already.`,
    'Choose another name with --output.',
  );
}
