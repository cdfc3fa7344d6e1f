// cellblock volume import: an image into a volume. A volume made for it is deleted again when the import does not end well, so
// nothing is left half done; an existing one says that it is.

import { createHash, getHashes, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import type { Volume } from '../agent/api-schema.js';
import { CellblockError } from '../base/errors.js';
import { checkName } from '../model/names.js';
import { parseSize } from '../model/sizes.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { connectExport } from './find-export.js';
import { formatBytes } from './format.js';
import { type ImageSource, openSource } from './image-source.js';
import { printable } from './table.js';
import { SourceTooLarge, writeImage } from './write-image.js';

export interface ImportOptions {
  size?: string;
  hash?: string;
  force?: boolean;
}

export function addImportCommand(volume: Command, contextOf: ContextOf, stdin: Readable): void {
  volume
    .command('import')
    .description('fill a volume from a raw image; makes the volume when there is none; holes cost no space')
    .argument('<name>')
    .argument('<file>', 'file or device to read; - for a pipe')
    .option('--size <size>', 'size of a volume that has to be made; default: of the file')
    .option('--hash <algorithm>', 'print a hash of what was read, such as sha256')
    .option('--force', 'write to a volume that clients have open')
    .action((name: string, file: string, options: ImportOptions, command: Command) =>
      importVolume(contextOf(command), { name, file, stdin, ...options }),
    );
}

export async function importVolume(
  context: Context,
  options: ImportOptions & { name: string; file: string; stdin: Readable },
): Promise<void> {
  checkName(options.name, 'volume');
  const hash = makeHash(options.hash);
  const source = await openSource(options.file, options.stdin, context.signal);
  try {
    const { volume, fresh } = await targetVolume(context, options, source);
    const bytes = await fill(context, { name: volume.name, source, fresh, hash });
    report(context, { volume, fresh, bytes, hash, algorithm: options.hash });
  } finally {
    await source.close();
  }
}

/** A hash by its name, or none when none is asked for. */
export function makeHash(algorithm: string | undefined): Hash | undefined {
  if (algorithm === undefined) return undefined;
  if (getHashes().includes(algorithm)) return createHash(algorithm);
  throw new CellblockError('option-invalid', `There is no hash ${JSON.stringify(algorithm)}.`, {
    hint: 'Use sha256, say.',
  });
}

async function targetVolume(
  { api, signal }: Context,
  { name, size, force, file }: ImportOptions & { name: string; file: string },
  source: ImageSource,
): Promise<{ volume: Volume; fresh: boolean }> {
  const volumes = await api.call<Volume[]>({ method: 'GET', path: apiPath(['volumes']), signal });
  const existing = volumes.find((volume) => volume.name === name);
  if (existing !== undefined) {
    checkExisting(existing, source, force === true);
    return { volume: existing, fresh: false };
  }
  const sizeBytes = size === undefined ? source.sizeBytes : parseSize(size);
  if (sizeBytes === null) {
    throw new CellblockError(
      'option-invalid',
      `How large volume ${JSON.stringify(name)} has to be cannot be seen from a pipe.`,
      {
        hint: 'Say it with --size, or make the volume first.',
      },
    );
  }
  if (sizeBytes === 0n) {
    throw new CellblockError('size-zero', `${file} is empty.`, {
      hint: 'Say the size of the volume with --size.',
    });
  }
  checkFits(name, sizeBytes, source);
  const body = { name, size: String(sizeBytes) };
  return {
    volume: await api.call<Volume>({ method: 'POST', path: apiPath(['volumes']), body, signal }),
    fresh: true,
  };
}

function checkExisting(volume: Volume, source: ImageSource, force: boolean): void {
  if (volume.connections > 0 && !force) {
    throw new CommandError(
      'in-use',
      'volume-in-use',
      `Volume ${volume.name} is open by ${volume.connections} clients.`,
      'Disconnect them, or import all the same with --force.',
    );
  }
  checkFits(volume.name, volume.sizeBytes, source);
}

function checkFits(name: string, sizeBytes: bigint, source: ImageSource): void {
  if (source.sizeBytes === null || source.sizeBytes <= sizeBytes) return;
  throw tooLarge(`The image has ${formatBytes(source.sizeBytes)}, volume ${name} ${formatBytes(sizeBytes)}.`);
}

function tooLarge(message: string): CommandError {
  return new CommandError(
    'invalid',
    'image-too-large',
    message,
    'Resize the volume, or give a larger --size.',
  );
}

interface Filling {
  name: string;
  source: ImageSource;
  fresh: boolean;
  hash: Hash | undefined;
}

async function fill(context: Context, { name, source, fresh, hash }: Filling): Promise<bigint> {
  const progress = context.terminal.progress(`import ${printable(name)}`);
  try {
    const client = await connectExport(context, name);
    const bytes = await writeImage({
      client,
      source,
      fresh,
      hash,
      signal: context.signal,
      onProgress: (done) => progress.update(done, source.sizeBytes ?? client.sizeBytes),
    });
    await client.disconnect();
    progress.end();
    return bytes;
  } catch (error) {
    progress.end();
    await takeBack(context, { name, fresh });
    if (context.signal.aborted) context.signal.throwIfAborted();
    throw error instanceof SourceTooLarge ? tooLarge(`The input is larger than volume ${name}.`) : error;
  }
}

/** Without the signal: it may be what brought us here. */
async function takeBack(
  { api, terminal }: Context,
  { name, fresh }: { name: string; fresh: boolean },
): Promise<void> {
  if (!fresh) {
    terminal.error(`Volume ${printable(name)} holds part of the image now; import it again.`);
    return;
  }
  try {
    const path = apiPath(['volumes', name], { disconnect: 'true' });
    await api.call({ method: 'DELETE', path });
    terminal.error(`The import did not end; volume ${printable(name)}, made for it, is deleted again.`);
  } catch {
    terminal.error(
      `The import did not end, and volume ${printable(name)}, made for it, could not be deleted: delete it by hand.`,
    );
  }
}

interface Imported {
  volume: Volume;
  fresh: boolean;
  bytes: bigint;
  hash: Hash | undefined;
  algorithm: string | undefined;
}

function report({ terminal }: Context, { volume, fresh, bytes, hash, algorithm }: Imported): void {
  const digest = hash?.digest('hex');
  const value = {
    volume: volume.name,
    created: fresh,
    importedBytes: bytes,
    ...(digest === undefined ? {} : { hash: { algorithm, digest } }),
  };
  terminal.result(value, () => {
    const sum = digest === undefined ? '' : `${algorithm} ${digest}\n`;
    return `Volume ${printable(volume.name)} holds the image, ${formatBytes(bytes)}.\n${sum}`;
  });
}
