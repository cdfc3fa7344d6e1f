// Files of an ext2, ext3 or ext4 file system without a mount: read, list, replace, create. For the few small files that are a guest's
// identity.
// Invariant: only a clean file system is written (an identity that was restored leaves it so), and afterwards e2fsck finds nothing wrong.

import { invalidValue } from '../kind.js';
import { type Reading, type Writing, writeAt } from '../steps.js';
import { findFreeInode, takeInode } from './bitmaps.js';
import { MAX_CONTENT_BYTES, readContent } from './content.js';
import { type DirectoryBlock, eachBlock, eachEntry, insertEntry, lookUp } from './directory.js';
import { INCOMPAT, RO_COMPAT } from './features.js';
import { groupOf, planBlocks, type Refused, replaceInline, writeBlocks } from './file-writer.js';
import { readDescriptor } from './groups.js';
import { INODE_FLAG, Inode, type InodeTime, inodeTable, readInode, writeInode } from './inode.js';
import { readSuperblock, SUPERBLOCK_AT, type Superblock } from './superblock.js';

export type { Refused } from './file-writer.js';
export type { InodeTime } from './inode.js';

const ROOT = 2;
const MAX_SYMLINKS = 40;
const MAX_PATH_BYTES = 4096;
const MAX_NAMES = 1 << 16;
const MAX_NAME_BYTES = 255;
/** Of a symlink that is inside its inode without being marked so. */
const FAST_SYMLINK_BYTES = 60;

export interface NewFile {
  /** Permission bits: 0o600. */
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly time: InodeTime;
}

/** Null: there is no such file system. Throws `identity-damaged`. */
export function* openFiles(bytes: bigint): Reading<ExtFiles | null> {
  const superblock = yield* readSuperblock(bytes);
  return superblock === null || superblock.isJournalDevice ? null : new ExtFiles(superblock);
}

export class ExtFiles {
  readonly #superblock: Superblock;

  constructor(superblock: Superblock) {
    this.#superblock = superblock;
  }

  /** Null: there is no such regular file. What a journal still has to say about it is not seen. Throws `identity-damaged`. */
  *readFile(path: string): Reading<Buffer | Refused | null> {
    const inode = yield* this.#find(path);
    if (!inode?.isFile) return null;
    const refused = unreadable(inode, path);
    return refused ?? (yield* readContent(this.#superblock, inode));
  }

  /** Names without `.` and `..`; null: there is no such directory. Throws `identity-damaged`. */
  *listDirectory(path: string): Reading<string[] | Refused | null> {
    const directory = yield* this.#find(path);
    if (!directory?.isDirectory) return null;
    if (directory.has(INODE_FLAG.encrypted)) return { unsupported: `${path} is encrypted.` };
    const names: string[] = [];
    const tooMany = yield* eachEntry(this.#superblock, directory, ({ name }) => {
      if (name !== '.' && name !== '..') names.push(name);
      return names.length > MAX_NAMES ? true : null;
    });
    return tooMany ? { unsupported: `${path} has more than ${MAX_NAMES} names.` } : names;
  }

  /** Of an existing regular file; owner, mode and attributes stay. Throws `identity-damaged`. */
  *replaceFile(path: string, content: Uint8Array, time: InodeTime): Writing<'written' | Refused> {
    const inode = yield* this.#find(path);
    if (!inode?.isFile) return { unsupported: `There is no regular file ${path}.` };
    const refused = this.#unwritable() ?? unchangeable(inode, path) ?? tooLarge(content, path);
    if (refused) return refused;
    const bytes = Buffer.from(content);
    if (inode.has(INODE_FLAG.inlineData))
      return (yield* replaceInline(this.#superblock, inode, bytes, time)) ?? 'written';
    const plan = yield* planBlocks(this.#superblock, inode, bytes.length);
    if ('unsupported' in plan) return plan;
    yield* writeBlocks(this.#superblock, inode, bytes, plan);
    inode.size = bytes.length;
    inode.touch(time);
    yield* writeInode(this.#superblock, inode);
    yield* this.#writeSuperblock();
    return 'written';
  }

  /** In an existing directory with room for the name. Throws `identity-damaged`, and `identity-invalid` for no name. */
  *createFile(path: string, name: string, content: Uint8Array, file: NewFile): Writing<'written' | Refused> {
    checkName(name);
    const directory = yield* this.#find(path);
    if (!directory?.isDirectory) return { unsupported: `There is no directory ${path}.` };
    const refused =
      this.#unwritable() ??
      unchangeable(directory, path) ??
      plainDirectory(directory, path) ??
      tooLarge(content, name);
    if (refused) return refused;
    if (this.#superblock.hasRoCompat(RO_COMPAT.quota))
      return { unsupported: 'No file is created where quotas are on.' };
    if ((yield* lookUp(this.#superblock, directory, name)) !== null)
      return { unsupported: `${path} has a ${name} already.` };
    return yield* this.#create({ directory, path, name }, Buffer.from(content), file);
  }

  *#create(
    { directory, path, name }: { directory: Inode; path: string; name: string },
    content: Buffer,
    file: NewFile,
  ): Writing<'written' | Refused> {
    const superblock = this.#superblock;
    const number = yield* findFreeInode(superblock, groupOf(superblock, directory));
    if (number === null) return { unsupported: 'There is no free inode.' };
    const block = yield* eachBlock(superblock, directory, (one) =>
      insertEntry(superblock, directory, one.data, { inode: number, name }) ? one : null,
    );
    if (block === null) return { unsupported: `${path} has no room for another name.` };
    const inode = yield* this.#newInode(number, file);
    const plan = yield* planBlocks(superblock, inode, content.length);
    if ('unsupported' in plan) return plan;
    yield* takeInode(superblock, number);
    yield* writeBlocks(superblock, inode, content, plan);
    inode.size = content.length;
    yield* writeInode(superblock, inode);
    yield* this.#writeEntry(directory, block, file.time);
    return 'written';
  }

  *#writeEntry(directory: Inode, block: DirectoryBlock, time: InodeTime): Writing<void> {
    yield* writeAt(block.at, block.data);
    directory.touch(time);
    yield* writeInode(this.#superblock, directory);
    yield* this.#writeSuperblock();
  }

  *#newInode(number: number, file: NewFile): Reading<Inode> {
    const { inodesPerGroup, inodeBytes } = this.#superblock;
    const group = Math.floor((number - 1) / inodesPerGroup);
    const table = inodeTable(this.#superblock, yield* readDescriptor(this.#superblock, group));
    const at = this.#superblock.blockAt(table) + BigInt(((number - 1) % inodesPerGroup) * inodeBytes);
    const inode = new Inode(number, at, Buffer.alloc(inodeBytes));
    inode.begin({ ...file, hasExtents: this.#superblock.hasIncompat(INCOMPAT.extents) });
    return inode;
  }

  *#writeSuperblock(): Writing<void> {
    this.#superblock.seal();
    yield* writeAt(SUPERBLOCK_AT, this.#superblock.raw);
  }

  #unwritable(): Refused | null {
    const { incompat, roCompat } = this.#superblock.unknownFeatures;
    if (incompat !== 0 || roCompat !== 0) return { unsupported: 'The file system has unknown features.' };
    if (this.#superblock.isReadOnly) return { unsupported: 'The file system is marked as read-only.' };
    if (!this.#superblock.isClean)
      return { unsupported: 'The file system was not unmounted, or has noted errors: it is not written.' };
    return null;
  }

  /** Follows symlinks, also the last one. Null: there is nothing. */
  *#find(path: string): Reading<Inode | null> {
    let rest = partsOf(path);
    let at = yield* readInode(this.#superblock, ROOT);
    for (let links = 0; rest.length > 0; ) {
      const [name, ...more] = rest;
      if (!at.isDirectory || at.has(INODE_FLAG.encrypted)) return null;
      const number = yield* lookUp(this.#superblock, at, name!);
      if (number === null) return null;
      const next = yield* readInode(this.#superblock, number);
      rest = more;
      if (!next.isSymlink) at = next;
      else {
        const target = ++links > MAX_SYMLINKS ? null : yield* this.#targetOf(next);
        if (target === null) return null;
        if (target.startsWith('/')) at = yield* readInode(this.#superblock, ROOT);
        rest = [...partsOf(target), ...more];
      }
    }
    return at;
  }

  *#targetOf(symlink: Inode): Reading<string | null> {
    if (symlink.size > MAX_PATH_BYTES || symlink.has(INODE_FLAG.encrypted)) return null;
    const isFast = symlink.size < FAST_SYMLINK_BYTES && !symlink.has(INODE_FLAG.inlineData);
    if (isFast) return symlink.blockArea.toString('utf8', 0, symlink.size);
    return (yield* readContent(this.#superblock, symlink)).toString('utf8');
  }
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '');

function unreadable(inode: Inode, path: string): Refused | null {
  if (inode.has(INODE_FLAG.encrypted)) return { unsupported: `${path} is encrypted.` };
  if (inode.size > MAX_CONTENT_BYTES)
    return { unsupported: `${path} has more than ${MAX_CONTENT_BYTES} bytes.` };
  return null;
}

function unchangeable(inode: Inode, path: string): Refused | null {
  const { encrypted, verity, immutable, append, eaInode } = INODE_FLAG;
  if (inode.has(encrypted)) return { unsupported: `${path} is encrypted.` };
  if (inode.has(verity | immutable | append | eaInode))
    return { unsupported: `${path} is marked as not to be changed.` };
  return null;
}

function tooLarge(content: Uint8Array, path: string): Refused | null {
  if (content.length <= MAX_CONTENT_BYTES) return null;
  return { unsupported: `The new content of ${path} has more than ${MAX_CONTENT_BYTES} bytes.` };
}

function plainDirectory(directory: Inode, path: string): Refused | null {
  const { index, inlineData, caseFold } = INODE_FLAG;
  if (!directory.has(index | inlineData | caseFold)) return null;
  return {
    unsupported: `${path} is no plain list of names (it has an index, lies in its inode, or folds case).`,
  };
}

function checkName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > MAX_NAME_BYTES || /[/\0]/.test(name) || name === '.' || name === '..')
    throw invalidValue('name', name, `a name of a file has 1 to ${MAX_NAME_BYTES} bytes and no slash`);
}
