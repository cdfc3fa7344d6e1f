// cellblock support-bundle: what whoever is to help needs to know, in one file, without secrets. Changes nothing but that it writes the file.

import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { CheckReport, CheckWatcher } from '../../agent/inspection.js';
import { apiPath } from '../api-client.js';
import type { OfflineCheck } from '../check-command.js';
import { CommandError } from '../command-error.js';
import type { Context, ContextOf } from '../context.js';
import type { PlaceOptions, SourcesOf } from '../doctor/doctor-command.js';
import { type Facts, isUnknown } from '../doctor/facts.js';
import { gatherFacts } from '../doctor/gather.js';
import type { Sources } from '../doctor/sources.js';
import { formatBytes } from '../format.js';
import { printable, table } from '../table.js';
import { toJson } from '../terminal.js';
import { type ArchiveFile, exists, writeArchive } from './archive.js';
import { type CheckStore, contentText, gatherParts, type Part } from './parts.js';
import { Pseudonyms } from './pseudonyms.js';

interface BundleOptions extends PlaceOptions {
  output?: string;
  anonymise?: boolean;
  check?: boolean;
}

interface Surroundings {
  sourcesOf: SourcesOf;
  offlineCheck: OfflineCheck;
}

export function addSupportBundleCommand(
  program: Command,
  contextOf: ContextOf,
  surroundings: Surroundings,
): void {
  program
    .command('support-bundle')
    .description(
      'write what whoever helps needs to know into one file: findings of `doctor`, lists, metrics, configuration, logs of a day; no data of volumes and no secrets; works without an agent',
    )
    .option('--output <file>', 'the file, a tar.gz (default: cellblock-support-TIME.tar.gz here)')
    .option('--anonymise', 'names of volumes, snapshots, hosts and clients become volume-1, snapshot-1, ...')
    .option('--check', 'check the store too, which reads all its metadata')
    .option('--store <directory>', 'where the store is, if no agent tells')
    .option('--config <file>', 'the configuration of the agent, if it does not tell')
    .action((options: BundleOptions, command: Command) => bundle(contextOf(command), options, surroundings));
}

interface Contents {
  file: string;
  sizeBytes: bigint;
  parts: { name: string; sizeBytes: bigint | null; missing: string | null }[];
}

async function bundle(context: Context, options: BundleOptions, surroundings: Surroundings): Promise<void> {
  const { terminal, signal } = context;
  const sources = surroundings.sourcesOf(context, options);
  const time = new Date(sources.nowMs()).toISOString().replace(/[-:]|\.\d+/g, '');
  const folder = `cellblock-support-${time}`;
  const path = resolve(options.output ?? `${folder}.tar.gz`);
  // Said before the work; made sure of when it is written.
  if (existsSync(path)) throw exists(path);
  const facts = await gatherFacts(sources);
  const check = options.check ? checker(sources, facts, surroundings.offlineCheck) : undefined;
  const parts = await gatherParts(sources, facts, check);
  const names = options.anonymise ? pseudonymsFor(parts) : null;
  const files = parts.flatMap(({ name, content }): ArchiveFile[] =>
    'missing' in content ? [] : [{ name, text: contentText(content, names) }],
  );
  const contents = contentsOf(parts, files, names);
  const manifest = {
    made: new Date(sources.nowMs()).toISOString(),
    version: sources.version,
    anonymised: names !== null,
    parts: contents,
  };
  const size = await writeArchive(path, {
    folder,
    files: [{ name: 'manifest.json', text: `${toJson(manifest)}\n` }, ...files],
    signal,
  });
  const result: Contents = { file: path, sizeBytes: BigInt(size), parts: contents };
  terminal.result(result, () => resultText(result));
}

function contentsOf(
  parts: readonly Part[],
  files: readonly ArchiveFile[],
  names: Pseudonyms | null,
): Contents['parts'] {
  return parts.map(({ name, content }) => {
    const file = files.find((one) => one.name === name);
    const missing = 'missing' in content ? content.missing : null;
    return {
      name,
      sizeBytes: file === undefined ? null : BigInt(Buffer.byteLength(file.text)),
      missing: missing !== null && names ? names.text(missing) : missing,
    };
  });
}

/** Names turn up in any part, and in all of them they are to be known. */
function pseudonymsFor(parts: readonly Part[]): Pseudonyms {
  const names = new Pseudonyms();
  names.of('host', hostname());
  for (const { content } of parts) if (!('missing' in content)) contentText(content, names);
  return names;
}

function checker({ api, signal }: Sources, facts: Facts, offline: OfflineCheck): CheckStore {
  const watcher: CheckWatcher = { signal, onProblem: () => undefined, onProgress: () => undefined };
  return async () => {
    if (!isUnknown(facts.agent))
      return api.call<CheckReport>({ method: 'GET', path: apiPath(['store', 'check']), signal });
    if (isUnknown(facts.store))
      throw new CommandError(
        'not-found',
        'store-not-known',
        'It is not known where the store is.',
        'Say it with --store.',
      );
    return offline(facts.store.directory, watcher);
  };
}

function resultText({ file, sizeBytes, parts }: Contents): string {
  const rows = table(
    [
      { title: 'PART', cell: (part) => part.name },
      {
        title: 'SIZE',
        cell: (part) => (part.sizeBytes === null ? '-' : formatBytes(part.sizeBytes)),
        align: 'right',
      },
      { title: '', cell: (part) => (part.missing === null ? '' : `not there because ${part.missing}`) },
    ],
    parts,
  );
  return `${rows}\nWritten to ${printable(file)} (${formatBytes(sizeBytes)}), readable by you alone.\nKeys, tokens and passwords are left out; look through it all the same before you pass it on.\n`;
}
