// What a guest's own system knows itself by: machine id, host name and SSH host keys, as files of an ext file system on its boot disk.
// And where that system names file systems by ids that a sync has kept from its target: fstab, crypttab, the kernel command line, and what
// a boot loader on an EFI system partition reads.
//
// Contents never leave this module but into the disk: what is answered are paths and digests.
// Invariant: a file system is made clean before a file in it is changed; what cannot be changed is said with the reason.

import { createHash } from 'node:crypto';

import { CellblockError } from '../base/errors.js';
import type { DiskIdentity, DiskPart } from './disk.js';
import { ext } from './ext/ext.js';
import { type ExtFiles, type InodeTime, openFiles, type Refused } from './ext/files.js';
import { type FatFiles, openFatFiles } from './fat/files.js';
import { fat } from './fat.js';
import { type Reading, type Writing, within } from './steps.js';

const NAMED = ['/etc/machine-id', '/etc/hostname'];
const SSH = '/etc/ssh';
const HOST_KEY = /^ssh_host_[a-z0-9]+_key(\.pub)?$/;
/** Files that name file systems and partitions by their ids. */
const NAMING = [
  '/etc/fstab',
  '/etc/crypttab',
  '/etc/default/grub',
  '/etc/kernel/cmdline',
  '/boot/grub/grub.cfg',
  '/boot/grub2/grub.cfg',
  '/grub/grub.cfg',
  '/grub2/grub.cfg',
  '/etc/initramfs-tools/conf.d/resume',
];
/** Of a FAT file system that a boot loader reads: an ESP, or /boot. Besides these, grub.cfg of every system below /EFI. */
const NAMING_ON_FAT = ['/grub/grub.cfg', '/grub2/grub.cfg', '/refind_linux.conf', '/cmdline.txt'];
const LOADER_ENTRIES = ['/boot/loader/entries', '/loader/entries'];
const MAX_FILE_BYTES = 1 << 20;

/** Of one disk; contents are secrets. */
export interface GuestIdentity {
  readonly files: ReadonlyMap<string, Buffer>;
}

export interface GuestFile {
  readonly path: string;
  /** SHA-256 of what it holds. */
  readonly digest: string;
}

export interface GuestReport {
  /** Given back the target's content. */
  restored: GuestFile[];
  same: GuestFile[];
  /** Of the source, which the target had not: they stay. */
  foreign: string[];
  /** In which ids were replaced. */
  rewritten: string[];
  unsupported: { path: string; reason: string }[];
}

/** An id of the source that reads otherwise now. */
export interface ReplacedId {
  readonly source: string;
  readonly now: string;
}

/** Null: no such system is on the disk. It is to be run over a copy in memory: a journal is replayed before files are read. */
export function* captureGuest({ parts }: DiskIdentity): Writing<GuestIdentity | null> {
  for (const part of rootCandidates(parts)) {
    yield* makeClean(part);
    const files = yield* within(part, readIdentity(part.bytes));
    if (files.size > 0) return { files };
  }
  return null;
}

/** The largest first: a small one before it is a separate /boot. */
function rootCandidates(parts: readonly DiskPart[]): DiskPart[] {
  const found = parts.filter(({ family }) => family === ext.name);
  return found.sort((a, b) => (a.bytes < b.bytes ? 1 : -1));
}

/** Writing its own label replays a journal and changes nothing else. */
function* makeClean({ found, ...area }: DiskPart): Writing<string | null> {
  const label = found.fields.find(({ name }) => name === 'label')?.value;
  if (label === undefined) return 'Its label is no text, so its journal is left alone.';
  const { unsupported } = yield* within(area, ext.restore(area.bytes, new Map([['label', label]])));
  return unsupported[0]?.reason ?? null;
}

function* readIdentity(bytes: bigint): Reading<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const files = yield* openFiles(bytes);
  if (!files) return found;
  for (const path of [...NAMED, ...(yield* hostKeys(files))]) {
    const content = yield* files.readFile(path);
    if (Buffer.isBuffer(content) && content.length <= MAX_FILE_BYTES) found.set(path, content);
  }
  return found;
}

function* hostKeys(files: ExtFiles): Reading<string[]> {
  const names = yield* files.listDirectory(SSH);
  if (!Array.isArray(names)) return [];
  return names.filter((name) => HOST_KEY.test(name)).map((name) => `${SSH}/${name}`);
}

/** Into the content that is there now. `replaced`: ids on all disks of the sync that are not the source's any more. */
export function* restoreGuest(
  { parts }: DiskIdentity,
  guest: GuestIdentity | null,
  { replaced, time }: { replaced: readonly ReplacedId[]; time: InodeTime },
): Writing<GuestReport> {
  const report: GuestReport = { restored: [], same: [], foreign: [], rewritten: [], unsupported: [] };
  let isFound = false;
  for (const part of rootCandidates(parts)) {
    const dirty = yield* makeClean(part);
    const theirs = yield* within(part, readIdentity(part.bytes));
    const isRoot: boolean = !isFound && theirs.size > 0;
    isFound ||= isRoot;
    if (dirty !== null) report.unsupported.push({ path: '/', reason: dirty });
    if (dirty !== null) continue;
    if (isRoot && guest) yield* within(part, putBack(part.bytes, guest, { theirs, report, time }));
    if (replaced.length > 0) yield* within(part, rewriteIds(part.bytes, replaced, { report, time }));
  }
  for (const part of parts)
    if (part.family === fat.name && replaced.length > 0)
      yield* within(part, rewriteIdsOnFat(part.bytes, replaced, report));
  if (!isFound && guest)
    report.unsupported.push({
      path: '/etc',
      reason: 'The content has no ext file system with such a system.',
    });
  return report;
}

interface Work {
  readonly report: GuestReport;
  readonly time: InodeTime;
}

function* putBack(
  bytes: bigint,
  { files: mine }: GuestIdentity,
  { theirs, report, time }: Work & { theirs: ReadonlyMap<string, Buffer> },
): Writing<void> {
  report.foreign.push(...[...theirs.keys()].filter((path) => !mine.has(path)));
  for (const [path, content] of mine) {
    const file = { path, digest: digestOf(content) };
    if (theirs.get(path)?.equals(content)) {
      report.same.push(file);
      continue;
    }
    const result = yield* put(bytes, path, { content, exists: theirs.has(path), time });
    if (result === 'written') report.restored.push(file);
    else report.unsupported.push({ path, reason: result.unsupported });
  }
}

function* put(
  bytes: bigint,
  path: string,
  { content, exists, time }: { content: Buffer; exists: boolean; time: InodeTime },
): Writing<'written' | Refused> {
  // Opened anew each time: what was written before has changed the superblock.
  const files = (yield* openFiles(bytes))!;
  if (exists) return yield* files.replaceFile(path, content, time);
  const slash = path.lastIndexOf('/');
  const mode = path.endsWith('_key') ? 0o600 : 0o644;
  return yield* files.createFile(path.slice(0, slash), path.slice(slash + 1), content, { mode, time });
}

function* rewriteIds(bytes: bigint, replaced: readonly ReplacedId[], work: Work): Writing<void> {
  for (const path of yield* namingFiles(bytes)) {
    const files = (yield* openFiles(bytes))!;
    const content = yield* files.readFile(path);
    if (!Buffer.isBuffer(content) || content.length > MAX_FILE_BYTES) continue;
    const text = content.toString('latin1');
    const changed = withIds(text, replaced);
    if (changed === text) continue;
    const result = yield* files.replaceFile(path, Buffer.from(changed, 'latin1'), work.time);
    if (result === 'written') work.report.rewritten.push(path);
    else work.report.unsupported.push({ path, reason: result.unsupported });
  }
}

function* namingFiles(bytes: bigint): Reading<string[]> {
  const files = yield* openFiles(bytes);
  if (!files) return [];
  const found = [...NAMING];
  for (const directory of LOADER_ENTRIES) {
    const names = yield* files.listDirectory(directory);
    if (!Array.isArray(names)) continue;
    found.push(...names.filter((name) => name.endsWith('.conf')).map((name) => `${directory}/${name}`));
  }
  return found;
}

/** In place: an id and what it is replaced by are of one length. */
function* rewriteIdsOnFat(
  bytes: bigint,
  replaced: readonly ReplacedId[],
  report: GuestReport,
): Writing<void> {
  try {
    const files = yield* openFatFiles(bytes);
    if (!files) return;
    for (const path of yield* namingFilesOnFat(files)) yield* rewriteOnFat(files, path, { replaced, report });
  } catch (error) {
    if (!(error instanceof CellblockError && error.code === 'identity-damaged')) throw error;
    report.unsupported.push({ path: '/EFI', reason: error.message });
  }
}

function* rewriteOnFat(
  files: FatFiles,
  path: string,
  { replaced, report }: { replaced: readonly ReplacedId[]; report: GuestReport },
): Writing<void> {
  const content = yield* files.readFile(path);
  if (content === null) return;
  const text = content.toString('latin1');
  const changed = withIds(text, replaced);
  if (changed === text) return;
  if (yield* files.overwriteFile(path, Buffer.from(changed, 'latin1'))) report.rewritten.push(path);
  else report.unsupported.push({ path, reason: 'The ids in it would be of another length.' });
}

function* namingFilesOnFat(files: FatFiles): Reading<string[]> {
  const found = [...NAMING_ON_FAT];
  for (const system of yield* files.listDirectory('/EFI')) found.push(`/EFI/${system}/grub.cfg`);
  for (const directory of LOADER_ENTRIES) {
    const names = yield* files.listDirectory(directory);
    found.push(...names.filter((name) => /\.conf$/i.test(name)).map((name) => `${directory}/${name}`));
  }
  return found;
}

/** All at once: an id that is put in is never taken for one to replace. */
function withIds(text: string, replaced: readonly ReplacedId[]): string {
  const now = new Map(replaced.map(({ source, now }) => [source.toLowerCase(), now]));
  const any = [...now.keys()].map((id) => id.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
  return text.replace(new RegExp(`(?<![0-9A-Za-z])(?:${any})(?![0-9A-Za-z])`, 'gi'), (id) => {
    const value = now.get(id.toLowerCase())!;
    return id === id.toLowerCase() ? value.toLowerCase() : value;
  });
}

/** Whether the files hold what they were given. Answers those that do not. */
export function* wrongGuestFiles({ parts }: DiskIdentity, wanted: readonly GuestFile[]): Reading<string[]> {
  for (const part of rootCandidates(parts)) {
    const files = yield* within(part, readIdentity(part.bytes));
    if (files.size === 0) continue;
    return wanted
      .filter(({ path, digest }) => {
        const content = files.get(path);
        return content === undefined || digestOf(content) !== digest;
      })
      .map(({ path }) => path);
  }
  return wanted.map(({ path }) => path);
}

function digestOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
