// Files of a FAT file system without a mount: list, read, and overwrite in place. For the few small files on an EFI system partition that
// name file systems by their ids.
// Invariant: a file is overwritten with as many bytes as it has, so neither the table nor a directory is ever written.

import { damaged } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { type DirectoryEntry, entriesOf } from './directory.js';
import { type DataArea, type Layout, readLayout } from './layout.js';

/** The format allows a directory no more. */
const MAX_DIRECTORY_BYTES = 1 << 21;
const MAX_FILE_BYTES = 1 << 20;

/** Null: there is no such file system. Throws `identity-damaged`. */
export function* openFatFiles(bytes: bigint): Reading<FatFiles | null> {
  const layout = yield* readLayout(bytes);
  return layout && new FatFiles(layout);
}

export class FatFiles {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Names, long ones where there are; empty: there is no such directory. Throws `identity-damaged`. */
  *listDirectory(path: string): Reading<string[]> {
    const entries = yield* this.#directory(parts(path));
    return (entries ?? []).map(({ name }) => name).filter((name) => name !== '.' && name !== '..');
  }

  /** Null: there is no such file, or it is larger than any that is meant here. Throws `identity-damaged`. */
  *readFile(path: string): Reading<Buffer | null> {
    const file = yield* this.#file(path);
    if (!file) return null;
    const clusters = yield* clustersFrom(this.#layout.data, file.first, file.size);
    const blocks: Buffer[] = [];
    for (const cluster of clusters) blocks.push(yield* readCluster(this.#layout.data, cluster));
    return Buffer.concat(blocks).subarray(0, file.size);
  }

  /** Of an existing file, with as many bytes as it has. Answers false, and writes nothing, where that is not so. Throws `identity-damaged`. */
  *overwriteFile(path: string, content: Buffer): Writing<boolean> {
    const file = yield* this.#file(path);
    if (file?.size !== content.length) return false;
    const { data } = this.#layout;
    const clusters = yield* clustersFrom(data, file.first, file.size);
    for (const [index, cluster] of clusters.entries()) {
      const part = content.subarray(index * data.clusterBytes, (index + 1) * data.clusterBytes);
      const before = yield* readAt(placeOf(data, cluster), part.length);
      if (!before.equals(part)) yield* writeAt(placeOf(data, cluster), part);
    }
    return true;
  }

  *#file(path: string): Reading<DirectoryEntry | null> {
    const names = parts(path);
    const name = names.pop() ?? '';
    const file = find(yield* this.#directory(names), name);
    return file && !file.isDirectory && file.size <= MAX_FILE_BYTES ? file : null;
  }

  *#directory(names: readonly string[]): Reading<DirectoryEntry[] | null> {
    let entries = yield* this.#root();
    for (const name of names) {
      const next = find(entries, name);
      if (!next?.isDirectory) return null;
      entries = entriesOf(yield* readChain(this.#layout.data, next.first));
    }
    return entries;
  }

  *#root(): Reading<DirectoryEntry[]> {
    const { root, data } = this.#layout;
    if (root.chained) return entriesOf(yield* readChain(data, root.first));
    return entriesOf(yield* readAt(root.area.at, Number(root.area.bytes)));
  }
}

function parts(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}

/** By the long or the short name; case means nothing. */
function find(entries: readonly DirectoryEntry[] | null, name: string): DirectoryEntry | null {
  const wanted = name.toLowerCase();
  const isIt = (one: DirectoryEntry) => [one.name, one.shortName].some((it) => it.toLowerCase() === wanted);
  return entries?.find(isIt) ?? null;
}

/** All of a directory, whose length no entry tells. */
function* readChain(data: DataArea, first: number): Reading<Buffer> {
  const blocks: Buffer[] = [];
  let cluster: number | null = first;
  while (cluster !== null) {
    if (blocks.length * data.clusterBytes >= MAX_DIRECTORY_BYTES)
      throw damaged(`a directory of the FAT file system has more than ${MAX_DIRECTORY_BYTES} bytes`);
    blocks.push(yield* readCluster(data, checked(data, cluster)));
    cluster = yield* nextCluster(data, cluster);
  }
  return Buffer.concat(blocks);
}

/** Those that hold the bytes of a file. */
function* clustersFrom(data: DataArea, first: number, bytes: number): Reading<number[]> {
  const clusters: number[] = [];
  let cluster: number | null = first;
  while (clusters.length * data.clusterBytes < bytes) {
    if (cluster === null) throw damaged('a file of the FAT file system is shorter than its entry says');
    clusters.push(checked(data, cluster));
    cluster = yield* nextCluster(data, cluster);
  }
  return clusters;
}

function checked({ clusters }: DataArea, cluster: number): number {
  if (cluster >= 2 && cluster - 2 < clusters) return cluster;
  throw damaged(`the FAT file system names cluster ${cluster}, which there is not`);
}

/** Null: it was the last one. */
function* nextCluster({ bits, tableAt }: DataArea, cluster: number): Reading<number | null> {
  const at = tableAt + BigInt(Math.floor((cluster * bits) / 8));
  const entry = yield* readAt(at, 4);
  // Of 12 bits, two entries share three bytes.
  const shift = bits === 12 && cluster % 2 === 1 ? 4 : 0;
  const mask = { 12: 0xfff, 16: 0xffff, 32: 0x0fffffff }[bits];
  const next = (entry.readUInt32LE(0) >>> shift) & mask;
  return next >= mask - 7 ? null : next;
}

function* readCluster(data: DataArea, cluster: number): Reading<Buffer> {
  return yield* readAt(placeOf(data, cluster), data.clusterBytes);
}

function placeOf({ dataAt, clusterBytes }: DataArea, cluster: number): bigint {
  return dataAt + BigInt(cluster - 2) * BigInt(clusterBytes);
}
