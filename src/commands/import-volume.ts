// cellblock volume import: an image into a volume. A volume made for it is deleted again when the import does not end well; of an
// existing one is said what it holds then. An existing volume that holds anything is not written to unasked.

import { createHash, getHashes, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import type { StoreSpace, Volume, VolumeDetails } from '../agent/api-schema.js';
import { CellblockError } from '../base/errors.js';
import { parseSize } from '../model/sizes.js';
import type { NbdClient } from '../nbd-client/nbd-client.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { connectExport } from './find-export.js';
import { formatBytes } from './format.js';
import { type ImageSource, openSource } from './image-source.js';
import { checkVolumeName } from './names.js';
import { printable } from './table.js';
import { SourceTooLarge, writeImage } from './write-image.js';

export interface ImportOptions {
  size?: string;
  hash?: string;
  force?: boolean;
  dryRun?: boolean;
}

export function addImportCommand(volume: Command, contextOf: ContextOf, stdin: Readable): void {
  volume
    .command('import')
    .description(
      'fill a volume from a raw image; makes the volume when there is none; holes cost no space; what is left of the volume behind the image is zeroed',
    )
    .argument('<name>')
    .argument('<file>', 'file or device to read; - for a pipe')
    .option('--size <size>', 'size of a volume that has to be made; default: of the file')
    .option('--hash <algorithm>', 'print a hash of what was read, such as sha256')
    .option('--force', 'overwrite a volume that holds data, has snapshots or is open by clients')
    .option('--dry-run', 'only say what would be done')
    .action((name: string, file: string, options: ImportOptions, command: Command) =>
      importVolume(contextOf(command), { name, file, stdin, ...options }),
    );
}

type Wanted = ImportOptions & { name: string; file: string };

export async function importVolume(context: Context, options: Wanted & { stdin: Readable }): Promise<void> {
  checkVolumeName(options.name, { instead: 'Import into a volume: nothing writes to a snapshot.' });
  const hash = makeHash(options.hash);
  const source = await openSource(options.file, options.stdin, context.signal);
  try {
    const target = await findTarget(context, options, source);
    if (options.dryRun === true) return announce(context, { target, source, file: options.file });
    if (target.existing !== null && options.force !== true) refuseToOverwrite(target.existing);
    const fresh = target.existing === null;
    const { name, sizeBytes } = target.existing?.volume ?? (await makeVolume(context, target));
    const bytes = await fill(context, { name, source, fresh, hash });
    report(context, { name, sizeBytes, fresh, bytes, hash, algorithm: options.hash });
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

interface Existing {
  volume: Volume;
  allocatedBytes: bigint;
}

interface Target {
  name: string;
  sizeBytes: bigint;
  /** Null: it has to be made. */
  existing: Existing | null;
}

async function findTarget(context: Context, options: Wanted, source: ImageSource): Promise<Target> {
  const { api, signal } = context;
  const { name, size } = options;
  const volumes = await api.call<Volume[]>({ method: 'GET', path: apiPath(['volumes']), signal });
  const volume = volumes.find((other) => other.name === name);
  const sizeBytes = volume === undefined ? newSize(options, source) : volume.sizeBytes;
  if (volume !== undefined && size !== undefined && parseSize(size) !== sizeBytes) {
    throw new CellblockError(
      'option-invalid',
      `Volume ${name} is there already and has ${sizeBytes} bytes, not ${size}.`,
      { hint: 'Leave --size out, or change the size with `cellblock volume resize` first.' },
    );
  }
  checkFits(name, sizeBytes, source);
  const existing = volume && { volume, allocatedBytes: await allocatedBytes(context, volume) };
  return { name, sizeBytes, existing: existing ?? null };
}

function newSize({ name, size, file }: Wanted, source: ImageSource): bigint {
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
  return sizeBytes;
}

/** Counting them takes the agent a while in a large store: a volume that is no clone and has no files holds nothing. */
async function allocatedBytes({ api, signal }: Context, { name, clonedFrom }: Volume): Promise<bigint> {
  const details = apiPath(['volumes', name]);
  const { files } = await api.call<VolumeDetails>({ method: 'GET', path: details, signal });
  if (clonedFrom === null && files.length === 0) return 0n;
  const { volumes } = await api.call<StoreSpace>({
    method: 'GET',
    path: apiPath(['store', 'status']),
    signal,
  });
  return volumes.find((row) => row.name === name)?.allocatedBytes ?? 0n;
}

function refuseToOverwrite(existing: Existing): void {
  const { volume } = existing;
  if (volume.connections > 0) {
    throw new CommandError(
      'in-use',
      'volume-in-use',
      `Volume ${volume.name} is open by ${clients(volume.connections)}.`,
      'Disconnect them, or import all the same with --force.',
    );
  }
  const has = contentOf(existing);
  if (has === '') return;
  throw new CommandError(
    'exists',
    'volume-not-empty',
    `Volume ${volume.name} ${has}.`,
    'Import into a new volume, or overwrite this one with --force.',
  );
}

/** What would be overwritten, as the end of a sentence; nothing when it is empty. */
function contentOf({ volume, allocatedBytes }: Existing): string {
  return [
    ...(allocatedBytes > 0n ? [`holds ${formatBytes(allocatedBytes)} of data`] : []),
    ...(volume.snapshots > 0
      ? [`has ${volume.snapshots} ${volume.snapshots === 1 ? 'snapshot' : 'snapshots'}`]
      : []),
  ].join(' and ');
}

function clients(count: number): string {
  return `${count} ${count === 1 ? 'client' : 'clients'}`;
}

async function makeVolume({ api, signal }: Context, { name, sizeBytes }: Target): Promise<Volume> {
  return api.change<Volume>({
    method: 'POST',
    path: apiPath(['volumes']),
    body: { name, size: String(sizeBytes) },
    signal,
    look: '`cellblock volume list`; delete the volume if the import made it',
  });
}

interface Announced {
  target: Target;
  source: ImageSource;
  file: string;
}

function announce({ terminal }: Context, { target, source, file }: Announced): void {
  const { name, sizeBytes, existing } = target;
  const restBytes = source.sizeBytes === null ? null : sizeBytes - source.sizeBytes;
  const has = existing === null ? '' : contentOf(existing);
  const connections = existing?.volume.connections ?? 0;
  const value = {
    volume: name,
    sizeBytes,
    exists: existing !== null,
    allocatedBytes: existing?.allocatedBytes ?? 0n,
    snapshots: existing?.volume.snapshots ?? 0,
    connections,
    imageBytes: source.sizeBytes,
    zeroedBytes: restBytes,
    needsForce: has !== '' || connections > 0,
  };
  const image = source.sizeBytes === null ? 'what the pipe holds' : formatBytes(source.sizeBytes);
  const lines = [
    existing === null
      ? `Would make volume ${printable(name)}, ${formatBytes(sizeBytes)}, and write ${printable(file)} to it, ${image}.`
      : `Would write ${printable(file)}, ${image}, over volume ${printable(name)}, ${formatBytes(sizeBytes)}.`,
    ...(has === '' ? [] : [`Needs --force: the volume ${has}; snapshots stay as they are.`]),
    ...(connections > 0 ? [`Needs --force: ${clients(connections)} have it open.`] : []),
    ...(restBytes === null
      ? ['What is left of the volume behind the image would be zeroed.']
      : restBytes > 0n
        ? [`The rest of the volume, ${formatBytes(restBytes)}, would be zeroed.`]
        : []),
  ];
  terminal.result(value, () => `${lines.join('\n')}\n`);
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
  let client: NbdClient | undefined;
  try {
    // Making the volume is waited for whatever happens: an interrupt of that is noticed here.
    context.signal.throwIfAborted();
    client = await connectExport(context, name);
    const { sizeBytes } = client;
    const bytes = await writeImage({
      client,
      source,
      fresh,
      hash,
      signal: context.signal,
      onProgress: (done) => progress.update(done, source.sizeBytes ?? sizeBytes),
    });
    await client.disconnect();
    progress.end();
    return bytes;
  } catch (error) {
    progress.end();
    client?.destroy();
    await takeBack(context, { name, fresh, began: client !== undefined });
    if (context.signal.aborted) context.signal.throwIfAborted();
    throw error instanceof SourceTooLarge ? tooLarge(`The input is larger than volume ${name}.`) : error;
  }
}

/** Without the signal: it may be what brought us here. */
async function takeBack(
  { api, terminal }: Context,
  { name, fresh, began }: { name: string; fresh: boolean; began: boolean },
): Promise<void> {
  if (!fresh) {
    terminal.error(
      began
        ? `Volume ${name} holds part of the image now; import it again.`
        : `Nothing was written to volume ${name}.`,
    );
    return;
  }
  try {
    const path = apiPath(['volumes', name], { disconnect: 'true' });
    await api.change({ method: 'DELETE', path, look: '`cellblock volume list`' });
    terminal.error(`The import did not end; volume ${name}, made for it, is deleted again.`);
  } catch {
    terminal.error(
      `The import did not end, and volume ${name}, made for it, could not be deleted: delete it by hand.`,
    );
  }
}

interface Imported {
  name: string;
  sizeBytes: bigint;
  fresh: boolean;
  bytes: bigint;
  hash: Hash | undefined;
  algorithm: string | undefined;
}

function report({ terminal }: Context, imported: Imported): void {
  const { name, sizeBytes, fresh, bytes, hash, algorithm } = imported;
  const digest = hash?.digest('hex');
  const zeroedBytes = sizeBytes - bytes;
  const value = {
    volume: name,
    created: fresh,
    importedBytes: bytes,
    zeroedBytes,
    ...(digest === undefined ? {} : { hash: { algorithm, digest } }),
  };
  terminal.result(value, () => {
    const rest = zeroedBytes > 0n ? `; the rest of it, ${formatBytes(zeroedBytes)}, is zeros` : '';
    const sum = digest === undefined ? '' : `${algorithm} ${digest}\n`;
    return `Volume ${printable(name)} holds the image, ${formatBytes(bytes)}${rest}.\n${sum}`;
  });
}
