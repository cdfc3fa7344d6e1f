// The JSON records of the store: containers, their lines of versions, snapshots, extents files. Runtime values, and the two
// functions per record that bring them to LevelDB and back.
// Invariant: a line's `versions` are sorted, the live ones, the last being the current one while the container lives; `cutOffs`
// are sorted by first window and name live versions only.

import { CellblockError } from '../base/errors.js';
import { decodeAttributes, type FileAttributes } from './file-attributes.js';
import type { RegionSet } from './region-set.js';
import { decodeRegions, encodeRegions } from './region-set.js';
import {
  decodeLimits,
  decodeTransactionLog,
  encodeLimits,
  type Limits,
  type TransactionLogSetting,
} from './volume-settings.js';

/** Where a map continues: a version of another line. */
export interface Base {
  line: number;
  version: number;
}

/** `current`: being written. `listed`: a snapshot. `deleted`: its name is gone; it lives until nothing but one reads it. */
export type VersionState = 'current' | 'listed' | 'deleted';

export interface Version {
  version: number;
  state: VersionState;
  /** Id of the snapshot of a listed version. */
  snapshot: string | null;
}

/** For readers at `version` or later nothing older than `version` is asked in windows [first, end); end null: open. */
export interface CutOff {
  first: bigint;
  end: bigint | null;
  version: number;
}

export interface Line {
  id: number;
  container: number;
  base: Base | null;
  versions: Version[];
  cutOffs: CutOff[];
  /** Regions of 64 windows, modulo 4096, that may have records; see region-set.ts. Never too few. */
  regions: RegionSet;
}

export interface Failure {
  at: string;
  /** errno name. */
  error: string;
  /** The last position that counts. */
  after: bigint;
}

/** `deleting`: the name is free, what it holds is being freed. */
export type ContainerState = 'live' | 'deleting';

/** A `volume` is a virtual disk; a `file` has an exact length in bytes and attributes. */
export type ContainerKind = 'volume' | 'file';

export interface Container {
  id: number;
  name: string;
  kind: ContainerKind;
  state: ContainerState;
  sizeBytes: bigint;
  created: string;
  line: number;
  /** `VOLUME@SNAPSHOT` as it was called when the clone was made. */
  clonedFrom: string | null;
  /** ISO 8601: a throw-away clone is deleted by itself then. Null: never. */
  expires: string | null;
  /** A shrink that has begun and has to be finished at start. */
  shrinkingTo: bigint | null;
  failure: Failure | null;
  /** Of a file; null: it is none. */
  attributes: FileAttributes | null;
  /** Who may open its exports, see access.ts; empty: everybody. */
  allow: string[];
  /** Shown to NBD clients; empty: none was given. */
  description: string;
  /** Null: none. */
  limits: Limits | null;
  transactionLog: TransactionLogSetting | null;
}

export interface Snapshot {
  /** 32 hexadecimal digits. */
  id: string;
  name: string;
  container: number;
  line: number;
  version: number;
  sizeBytes: bigint;
  created: string;
  /** ISO 8601: it is deleted by itself then. Null: never. */
  expires: string | null;
}

/** `dropping`: nothing names it, it is being unlinked. */
export type FileState = 'live' | 'dropping';

export interface ExtentsFileRecord {
  number: number;
  /** The container that writes it; it may be gone. */
  container: number;
  state: FileState;
  /** Records of other containers may name places in it. */
  movedOut: boolean;
}

/** Path of an extents file, relative to the store directory. */
export function extentsPath(file: number): string {
  return `extents/${file}`;
}

type Json = Record<string, unknown>;

export function encodeContainer(value: Container): string {
  return JSON.stringify({
    ...value,
    sizeBytes: value.sizeBytes.toString(),
    shrinkingTo: value.shrinkingTo?.toString() ?? null,
    failure: value.failure && { ...value.failure, after: value.failure.after.toString() },
    limits: encodeLimits(value.limits),
  });
}

export function decodeContainer(text: string): Container {
  return decode('container', text, (json) => {
    const failure = json['failure'] as Json | null;
    return {
      id: natural(json['id']),
      name: string(json['name']),
      kind: oneOf(json['kind'], ['volume', 'file']),
      state: oneOf(json['state'], ['live', 'deleting']),
      sizeBytes: BigInt(string(json['sizeBytes'])),
      created: string(json['created']),
      line: natural(json['line']),
      clonedFrom: nullable(json['clonedFrom'], string),
      expires: nullable(json['expires'] ?? null, string),
      shrinkingTo: nullable(json['shrinkingTo'], (value) => BigInt(string(value))),
      failure: failure && {
        at: string(failure['at']),
        error: string(failure['error']),
        after: BigInt(string(failure['after'])),
      },
      attributes: nullable(json['attributes'] ?? null, decodeAttributes),
      allow: list(json['allow'] ?? []).map(string),
      description: string(json['description'] ?? ''),
      limits: nullable(json['limits'] ?? null, decodeLimits),
      transactionLog: nullable(json['transactionLog'] ?? null, decodeTransactionLog),
    };
  });
}

/** The version being written, or null: its container is gone. */
export function currentVersion({ versions }: Line): number | null {
  const last = versions.at(-1);
  return last?.state === 'current' ? last.version : null;
}

/** By list of versions, which is replaced at a change: of thousands few are deleted, and every snapshot writes the record. */
const deletedOf = new WeakMap<Version[], readonly number[]>();

function deletedVersions(versions: Version[]): readonly number[] {
  let deleted = deletedOf.get(versions);
  if (!deleted) {
    deleted = versions.filter(({ state }) => state === 'deleted').map(({ version }) => version);
    deletedOf.set(versions, deleted);
  }
  return deleted;
}

/** The line is written to no more: its current version becomes a snapshot, or (null) is hidden and given back. */
export function endLine(line: Line, snapshot: string | null): void {
  const { version } = line.versions.at(-1)!;
  const state = snapshot === null ? 'deleted' : 'listed';
  line.versions = line.versions.with(-1, { version, state, snapshot });
}

/** The current version of a line ends; the next one begins. `snapshot` null: it is hidden and will be merged away. */
export function endVersion(line: Line, snapshot: string | null): void {
  const before = line.versions;
  const { version } = before.at(-1)!;
  line.versions = before.with(-1, { version, state: snapshot === null ? 'deleted' : 'listed', snapshot });
  line.versions.push({ version: version + 1, state: 'current', snapshot: null });
  if (snapshot !== null) deletedOf.set(line.versions, deletedVersions(before));
}

export function encodeLine(value: Line): string {
  return JSON.stringify({
    id: value.id,
    container: value.container,
    base: value.base,
    current: currentVersion(value),
    deleted: deletedVersions(value.versions),
    cutOffs: value.cutOffs.map(({ first, end, version }) => [
      first.toString(),
      end?.toString() ?? null,
      version,
    ]),
    regions: encodeRegions(value.regions),
  });
}

/** Listed versions are not in it: the snapshot records name them, and the catalog puts them in when it loads. */
export function decodeLine(text: string): Line {
  return decode('line', text, (json) => ({
    id: natural(json['id']),
    container: natural(json['container']),
    base: nullable(json['base'], (value) => {
      const base = value as Json;
      return { line: natural(base['line']), version: natural(base['version']) };
    }),
    versions: [
      ...list(json['deleted']).map(
        (value): Version => ({ version: natural(value), state: 'deleted', snapshot: null }),
      ),
      ...(json['current'] === null
        ? []
        : [{ version: natural(json['current']), state: 'current', snapshot: null } satisfies Version]),
    ],
    cutOffs: list(json['cutOffs']).map((value) => {
      const [first, end, version] = list(value);
      return {
        first: BigInt(string(first)),
        end: nullable(end, (text) => BigInt(string(text))),
        version: natural(version),
      };
    }),
    regions: decodeRegions(json['regions']),
  }));
}

export function encodeSnapshot(value: Snapshot): string {
  return JSON.stringify({ ...value, sizeBytes: value.sizeBytes.toString() });
}

export function decodeSnapshot(text: string): Snapshot {
  return decode('snapshot', text, (json) => ({
    id: string(json['id']),
    name: string(json['name']),
    container: natural(json['container']),
    line: natural(json['line']),
    version: natural(json['version']),
    sizeBytes: BigInt(string(json['sizeBytes'])),
    created: string(json['created']),
    expires: nullable(json['expires'] ?? null, string),
  }));
}

export function encodeFile(value: ExtentsFileRecord): string {
  return JSON.stringify(value);
}

export function decodeFile(text: string): ExtentsFileRecord {
  return decode('file', text, (json) => ({
    number: natural(json['number']),
    container: natural(json['container']),
    state: oneOf(json['state'], ['live', 'dropping']),
    movedOut: json['movedOut'] === true,
  }));
}

function decode<T>(what: string, text: string, read: (json: Json) => T): T {
  try {
    return read(JSON.parse(text) as Json);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CellblockError('catalog-corrupt', `A stored ${what} record is damaged: ${why}.`, {
      hint: 'Run `cellblock store check`, and restore the store from a copy.',
      cause,
    });
  }
}

function natural(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw new Error(`${JSON.stringify(value)} is no number`);
  return value as number;
}

function string(value: unknown): string {
  if (typeof value !== 'string') throw new Error(`${JSON.stringify(value)} is no string`);
  return value;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is no list`);
  return value;
}

function oneOf<const T extends string>(value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T))
    throw new Error(`${JSON.stringify(value)} is none of ${allowed.join(', ')}`);
  return value as T;
}

function nullable<T>(value: unknown, read: (value: unknown) => T): T | null {
  return value === null ? null : read(value);
}
