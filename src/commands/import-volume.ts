// cellblock volume import, cellblock file import: an image into a volume, a file into a file. One made for it is deleted again when the import does not end well; of an
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
import { formatOf, HEAD_BYTES } from './image-format.js';
import { type ImageSource, openSource } from './image-source.js';
import { checkVolumeName } from './names.js';
import type { Noun } from './noun.js';
import { printable } from './table.js';
import { SourceTooLarge, writeImage } from './write-image.js';

export interface ImportOptions {
  size?: string;
  hash?: string;
  force?: boolean;
  dryRun?: boolean;
  asRaw?: boolean;
}

export function addImportCommand(
  command: Command,
  contextOf: ContextOf,
  { noun, stdin }: { noun: Noun; stdin: Readable },
): void {
  const { kind } = noun;
  const importing = command
    .command('import')
    .description(
      kind === 'file'
        ? 'take the content of a file; makes the file when there is none, with the attributes of the other; holes cost no space; what is left of a longer one is zeroed'
        : 'fill a volume from a raw image; makes the volume when there is none; holes cost no space; what is left of the volume behind the image is zeroed',
    )
    .argument('<name>')
    .argument('<file>', 'file or device to read; - for a pipe')
    .option('--size <size>', `size of a ${kind} that has to be made; default: of the file`)
    .option('--hash <algorithm>', 'print a hash of what was read, such as sha256')
    .option('--force', `overwrite a ${kind} that holds data, has snapshots or is open by clients`)
    .option('--dry-run', 'only say what would be done')
    .action((name: string, file: string, options: ImportOptions, command: Command) =>
      importVolume(contextOf(command), { noun, name, file, stdin, ...options }),
    );
  if (kind === 'volume')
    importing.option('--as-raw', 'take an image of another format (qcow2, VMDK ...) as it is, byte for byte');
}

type Wanted = ImportOptions & { noun: Noun; name: string; file: string };

export async function importVolume(context: Context, options: Wanted & { stdin: Readable }): Promise<void> {
  const { noun } = options;
  checkVolumeName(options.name, {
    instead: `Import into a ${noun.kind}: nothing writes to a snapshot.`,
    kind: noun.kind,
  });
  const hash = makeHash(options.hash);
  const source = await openSource(options.file, options.stdin, context.signal);
  try {
    if (noun.kind === 'volume' && options.asRaw !== true) await refuseOtherFormats(source, options.file);
    const target = await findTarget(context, options, source);
    if (options.dryRun === true) return announce(context, { noun, target, source, file: options.file });
    if (target.existing !== null && options.force !== true) refuseToOverwrite(target.existing, noun);
    const fresh = target.existing === null;
    const { name, sizeBytes } = target.existing?.volume ?? (await makeVolume(context, target, options));
    const bytes = await fill(context, { noun, name, source, fresh, hash });
    if (noun.kind === 'file') await noteModified(context, name);
    report(context, { noun, name, sizeBytes, fresh, bytes, hash, algorithm: options.hash });
  } finally {
    await source.close();
  }
}

/** Nobody means it: a machine would find the format's own header in place of a disk. */
async function refuseOtherFormats(source: ImageSource, file: string): Promise<void> {
  const head = await source.head(HEAD_BYTES);
  const found = head && formatOf(head);
  if (!found) return;
  throw new CommandError(
    'invalid',
    'image-not-raw',
    `${file} is a ${found.format} image, not a raw one.`,
    `Convert it: \`qemu-img convert -f ${found.qemu} -O raw ${file} IMAGE\`; or take it as it is with --as-raw.`,
  );
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
  const { noun, name, size } = options;
  const volume = await findVolume(context, options);
  const sizeBytes = volume === undefined ? newSize(options, source) : volume.sizeBytes;
  if (volume !== undefined && size !== undefined && parseSize(size) !== sizeBytes) {
    throw new CellblockError(
      'option-invalid',
      `${noun.title} ${name} is there already and has ${sizeBytes} bytes, not ${size}.`,
      { hint: `Leave --size out, or change the size with \`cellblock ${noun.kind} resize\` first.` },
    );
  }
  checkFits({ noun, name, sizeBytes, source });
  const existing = volume && { volume, allocatedBytes: await allocatedBytes(context, volume) };
  return { name, sizeBytes, existing: existing ?? null };
}

/** Undefined: the name is free. Throws `container-kind-wrong`. */
async function findVolume(
  { api, signal }: Context,
  { noun, name }: Wanted,
): Promise<VolumeDetails | undefined> {
  try {
    const path = apiPath([noun.collection, name]);
    return await api.call<VolumeDetails>({ method: 'GET', path, signal });
  } catch (error) {
    if (error instanceof CommandError && error.code === 'volume-not-found') return undefined;
    throw error;
  }
}

function newSize({ noun: { kind }, name, size, file }: Wanted, source: ImageSource): bigint {
  const sizeBytes = size === undefined ? source.sizeBytes : parseSize(size);
  if (sizeBytes === null) {
    throw new CellblockError(
      'option-invalid',
      `How large ${kind} ${JSON.stringify(name)} has to be cannot be seen from a pipe.`,
      {
        hint: `Say it with --size, or make the ${kind} first.`,
      },
    );
  }
  if (sizeBytes === 0n) {
    throw new CellblockError('size-zero', `${file} is empty.`, {
      hint: `Say the size of the ${kind} with --size.`,
    });
  }
  return sizeBytes;
}

/** Counting them takes the agent a while in a large store: a volume that is no clone and has no files holds nothing. */
async function allocatedBytes(
  { api, signal }: Context,
  { name, clonedFrom, files }: VolumeDetails,
): Promise<bigint> {
  if (clonedFrom === null && files.length === 0) return 0n;
  const { volumes } = await api.call<StoreSpace>({
    method: 'GET',
    path: apiPath(['store', 'status']),
    signal,
  });
  return volumes.find((row) => row.name === name)?.allocatedBytes ?? 0n;
}

function refuseToOverwrite(existing: Existing, { title, kind }: Noun): void {
  const { volume } = existing;
  if (volume.connections > 0) {
    throw new CommandError(
      'in-use',
      'volume-in-use',
      `${title} ${volume.name} is open by ${clients(volume.connections)}.`,
      'Disconnect them, or import all the same with --force.',
    );
  }
  const has = contentOf(existing);
  if (has === '') return;
  throw new CommandError(
    'exists',
    'volume-not-empty',
    `${title} ${volume.name} ${has}.`,
    `Import into a new ${kind}, or overwrite this one with --force.`,
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

async function makeVolume(
  { api, terminal, signal }: Context,
  { name, sizeBytes }: Target,
  { noun, file }: Wanted,
): Promise<Volume> {
  const extras = await noun.extrasOf({ path: file, note: (text) => terminal.note(text) });
  return api.change<Volume>({
    method: 'POST',
    path: apiPath([noun.collection]),
    body: { name, size: String(sizeBytes), ...extras },
    signal,
    look: `${noun.look}; delete the ${noun.kind} if the import made it`,
  });
}

/** Its content is another one from now on; what else it has it keeps. */
async function noteModified({ api, signal }: Context, name: string): Promise<void> {
  const body = { attributes: { modified: new Date().toISOString() } };
  const path = apiPath(['files', name]);
  await api.change({ method: 'PATCH', path, body, signal, look: '`cellblock file show`' });
}

interface Announced {
  noun: Noun;
  target: Target;
  source: ImageSource;
  file: string;
}

function announce({ terminal }: Context, { noun, target, source, file }: Announced): void {
  const { kind, size } = noun;
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
  const image = source.sizeBytes === null ? 'what the pipe holds' : size(source.sizeBytes);
  const lines = [
    existing === null
      ? `Would make ${kind} ${printable(name)}, ${size(sizeBytes)}, and write ${printable(file)} to it, ${image}.`
      : `Would write ${printable(file)}, ${image}, over ${kind} ${printable(name)}, ${size(sizeBytes)}.`,
    ...(has === '' ? [] : [`Needs --force: the ${kind} ${has}; snapshots stay as they are.`]),
    ...(connections > 0 ? [`Needs --force: ${clients(connections)} have it open.`] : []),
    ...(restBytes === null
      ? [`What is left of the ${kind} behind the image would be zeroed.`]
      : restBytes > 0n
        ? [`The rest of the ${kind}, ${size(restBytes)}, would be zeroed.`]
        : []),
  ];
  terminal.result(value, () => `${lines.join('\n')}\n`);
}

function checkFits(wanted: { noun: Noun; name: string; sizeBytes: bigint; source: ImageSource }): void {
  const { noun, name, sizeBytes, source } = wanted;
  if (source.sizeBytes === null || source.sizeBytes <= sizeBytes) return;
  const { kind, size } = noun;
  throw tooLarge(`The image has ${size(source.sizeBytes)}, ${kind} ${name} ${size(sizeBytes)}.`, noun);
}

function tooLarge(message: string, { kind }: Noun): CommandError {
  const hint = `Resize the ${kind}, or give a larger --size.`;
  return new CommandError('invalid', 'image-too-large', message, hint);
}

interface Filling {
  noun: Noun;
  name: string;
  source: ImageSource;
  fresh: boolean;
  hash: Hash | undefined;
}

async function fill(context: Context, { noun, name, source, fresh, hash }: Filling): Promise<bigint> {
  const progress = await context.terminal.progress(`import ${printable(name)}`);
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
    await takeBack(context, { noun, name, fresh, began: client !== undefined });
    if (context.signal.aborted) context.signal.throwIfAborted();
    throw error instanceof SourceTooLarge
      ? tooLarge(`The input is larger than ${noun.kind} ${name}.`, noun)
      : error;
  }
}

/** Without the signal: it may be what brought us here. */
async function takeBack(
  { api, terminal }: Context,
  { noun, name, fresh, began }: { noun: Noun; name: string; fresh: boolean; began: boolean },
): Promise<void> {
  const { title, kind } = noun;
  if (!fresh) {
    terminal.error(
      began
        ? `${title} ${name} holds part of the image now; import it again.`
        : `Nothing was written to ${kind} ${name}.`,
    );
    return;
  }
  try {
    const path = apiPath([noun.collection, name], { disconnect: 'true' });
    await api.change({ method: 'DELETE', path, look: noun.look });
    terminal.error(`The import did not end; ${kind} ${name}, made for it, is deleted again.`);
  } catch {
    terminal.error(
      `The import did not end, and ${kind} ${name}, made for it, could not be deleted: delete it by hand.`,
    );
  }
}

interface Imported {
  noun: Noun;
  name: string;
  sizeBytes: bigint;
  fresh: boolean;
  bytes: bigint;
  hash: Hash | undefined;
  algorithm: string | undefined;
}

function report({ terminal }: Context, imported: Imported): void {
  const { noun, name, sizeBytes, fresh, bytes, hash, algorithm } = imported;
  const { title, size } = noun;
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
    const rest = zeroedBytes > 0n ? `; the rest of it, ${size(zeroedBytes)}, is zeros` : '';
    const sum = digest === undefined ? '' : `${algorithm} ${digest}\n`;
    return `${title} ${printable(name)} holds the image, ${size(bytes)}${rest}.\n${sum}`;
  });
}
