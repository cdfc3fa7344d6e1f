// cellblock volume export, cellblock file export: a container or snapshot of it into a file, which appears when it is whole.

import type { Hash } from 'node:crypto';
import type { Command } from 'commander';
import type { File } from '../agent/api-schema.js';
import { checkName, parseSnapshotReference } from '../model/names.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { applyAttributes } from './file-attributes.js';
import { connectExport } from './find-export.js';
import { formatBytes } from './format.js';
import { hashZeros } from './hash-zeros.js';
import { type ImageTarget, openTarget } from './image-target.js';
import { makeHash } from './import-volume.js';
import { volumeOf } from './names.js';
import type { Noun } from './noun.js';
import { type ImagePiece, readImage } from './read-image.js';
import { printable } from './table.js';

export interface ExportOptions {
  hash?: string;
  force?: boolean;
}

export function addExportCommand(command: Command, contextOf: ContextOf, noun: Noun): void {
  command
    .command('export')
    .description(
      noun.kind === 'file'
        ? 'write a file or snapshot of one to a file, with its attributes where that is permitted; holes are kept'
        : 'write a volume or snapshot to a raw image; holes are kept',
    )
    .argument('<name[@snap]>')
    .argument('<file>', 'file or device to write; - for a pipe')
    .option('--hash <algorithm>', 'print a hash of the image, such as sha256')
    .option('--force', 'replace a file that is there')
    .action((name: string, file: string, options: ExportOptions, command: Command) =>
      exportVolume(contextOf(command), { noun, name, file, ...options }),
    );
}

export async function exportVolume(
  context: Context,
  options: ExportOptions & { noun: Noun; name: string; file: string },
): Promise<void> {
  const { noun, name, file } = options;
  if (name.includes('@')) parseSnapshotReference(name);
  else checkName(name, noun.kind);
  const hash = makeHash(options.hash);
  const dress = await attributesFor(context, { noun, name });
  const client = await connectExport(context, name);
  try {
    const { stdout } = context.streams;
    const target = await openTarget({
      path: file,
      sizeBytes: client.sizeBytes,
      force: options.force === true,
      stdout,
      signal: context.signal,
      dress,
    });
    const pieces = readImage(client, context.signal);
    const dataBytes = await copy(context, { name, pieces, target, hash, sizeBytes: client.sizeBytes });
    await client.disconnect();
    report(context, {
      noun,
      name,
      file,
      sizeBytes: client.sizeBytes,
      dataBytes,
      hash,
      algorithm: options.hash,
    });
  } catch (error) {
    client.destroy();
    context.signal.throwIfAborted();
    throw error;
  }
}

/** What gives the new file its attributes; undefined: a volume has none. Throws `container-kind-wrong`. */
async function attributesFor(
  { api, terminal, signal }: Context,
  { noun, name }: { noun: Noun; name: string },
): Promise<((path: string) => Promise<void>) | undefined> {
  const path = apiPath([noun.collection, volumeOf(name)]);
  try {
    const { attributes = null } = await api.call<Partial<File>>({ method: 'GET', path, signal });
    return attributes
      ? (file) => applyAttributes(file, attributes, (text) => terminal.note(text))
      : undefined;
  } catch (error) {
    // Of what is not there the agent says as much when it is opened.
    if (error instanceof CommandError && error.code === 'volume-not-found') return undefined;
    throw error;
  }
}

interface Copy {
  name: string;
  pieces: AsyncIterable<ImagePiece>;
  target: ImageTarget;
  hash: Hash | undefined;
  sizeBytes: bigint;
}

/** Returns the bytes that were data. */
async function copy({ terminal }: Context, { name, pieces, target, hash, sizeBytes }: Copy): Promise<bigint> {
  const progress = await terminal.progress(`export ${printable(name)}`);
  let dataBytes = 0n;
  try {
    for await (const piece of pieces) {
      await target.write(piece);
      if (piece.data === undefined) {
        if (hash !== undefined) await hashZeros(hash, piece.lengthBytes);
      } else {
        hash?.update(piece.data);
        dataBytes += piece.lengthBytes;
      }
      progress.update(piece.offset + piece.lengthBytes, sizeBytes);
    }
    await target.finish();
    return dataBytes;
  } catch (error) {
    const left = await target.discard();
    if (left !== '') terminal.error(left);
    throw error;
  } finally {
    progress.end();
  }
}

interface Exported {
  noun: Noun;
  name: string;
  file: string;
  sizeBytes: bigint;
  dataBytes: bigint;
  hash: Hash | undefined;
  algorithm: string | undefined;
}

/** Of an export to a pipe the words go to stderr: stdout is the image. */
function report(
  { terminal }: Context,
  { noun, name, file, sizeBytes, dataBytes, hash, algorithm }: Exported,
): void {
  const digest = hash?.digest('hex');
  const value = {
    source: name,
    file,
    sizeBytes,
    dataBytes,
    ...(digest === undefined ? {} : { hash: { algorithm, digest } }),
  };
  const sum = digest === undefined ? '' : `${algorithm} ${digest}\n`;
  const text = `${printable(file)} holds ${printable(name)}, ${noun.size(sizeBytes)} with ${formatBytes(dataBytes)} of data.\n${sum}`;
  if (file === '-') terminal.aside(value, () => text);
  else terminal.result(value, () => text);
}
