// Attributes of files of the caller's: captured by an import, put back by an export where that is permitted.
//
// Owner, group, mode and times by Node. It has no call for extended attributes: those of `user.` are captured and put back with the tools
// getfattr and setfattr where these are installed. A birth cannot be set on any file; it is only captured.
// Invariant: what could not be captured or put back is told, in one sentence each.

import { spawn } from 'node:child_process';
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { Attributes } from '../agent/api-schema.js';
import { MODE_BITS } from '../model/file-attributes.js';

const NEW_FILE_MODE = 0o666;
/** An owner or group who is not the one it was must not get its rights. */
const SET_ID_BITS = 0o6000;

export interface CaptureSource {
  path: string;
  /** Takes sentences for people. */
  note: (text: string) => void;
}

/** Of a file that the caller makes now. */
export function newAttributes(): Attributes {
  const now = new Date().toISOString();
  return {
    owner: process.getuid?.() ?? 0,
    group: process.getgid?.() ?? 0,
    mode: NEW_FILE_MODE & ~process.umask(),
    xattrs: {},
    birth: now,
    modified: now,
  };
}

/** A pipe or a device has none of its own: what is made of it belongs to the caller. */
export async function captureAttributes({ path, note }: CaptureSource): Promise<Attributes> {
  const fresh = newAttributes();
  const found = path === '-' ? undefined : await stat(path);
  if (!found?.isFile()) return fresh;
  const { uid: owner, gid: group, mode, birthtimeMs } = found;
  // Where the file system does not know it, it is 0 or behind the last change.
  const isKnown = birthtimeMs > 0 && birthtimeMs <= Date.now();
  return {
    owner,
    group,
    mode: mode & MODE_BITS,
    xattrs: await captureXattrs(path, note),
    birth: isKnown ? new Date(birthtimeMs).toISOString() : fresh.birth,
    modified: fresh.modified,
  };
}

async function captureXattrs(path: string, note: (text: string) => void): Promise<Record<string, string>> {
  const words = ['--absolute-names', '--dump', '--encoding=base64', '--match=^user\\.', '--', path];
  const outcome = await tool('getfattr', words);
  if (outcome === null) note('Extended attributes are not captured: getfattr is not installed.');
  else if (outcome.code === 0) return parseDump(outcome.stdout);
  else note(`Extended attributes are not captured: ${outcome.stderr.trim()}`);
  return {};
}

/** `name=0sBASE64` or `name` or `name=""` a line, behind a comment with the path. */
export function parseDump(dump: string): Record<string, string> {
  const pairs = dump.split('\n').flatMap((line): [string, string][] => {
    const [, name, value] = /^(user\.[^=]*)(?:=(?:0s([A-Za-z0-9+/=]*)|""))?$/.exec(line) ?? [];
    return name === undefined ? [] : [[unescaped(name), value ?? '']];
  });
  return Object.fromEntries(pairs);
}

/** getfattr writes `=`, `\\` and line breaks in names as three octal digits. */
function unescaped(name: string): string {
  const bytes = name.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return name === bytes ? name : Buffer.from(bytes, 'latin1').toString('utf8');
}

/** Onto a file that nobody uses yet. What is not permitted is told, and the rest done. */
export async function applyAttributes(
  path: string,
  attributes: Attributes,
  note: (text: string) => void,
): Promise<void> {
  const { owner, group, mode, xattrs, modified } = attributes;
  const file = await open(path, 'r+');
  try {
    const isOwned = await changeOwner(file, { owner, group }, note);
    // Before the mode, which may be one that lets nobody write.
    for (const [name, value] of Object.entries(xattrs)) await applyXattr(path, { name, value }, note);
    await file.chmod(isOwned ? mode : mode & ~SET_ID_BITS);
    if (!isOwned && (mode & SET_ID_BITS) !== 0)
      note('It is not set-user-id or set-group-id, as it has another owner.');
    await file.utimes(new Date(), new Date(modified));
  } finally {
    await file.close();
  }
}

async function changeOwner(
  file: FileHandle,
  { owner, group }: { owner: number; group: number },
  note: (text: string) => void,
): Promise<boolean> {
  try {
    await file.chown(owner, group);
    return true;
  } catch {
    note(`It belongs to you: owner and group, ${owner}:${group}, are not yours to give.`);
    return false;
  }
}

async function applyXattr(
  path: string,
  { name, value }: { name: string; value: string },
  note: (text: string) => void,
): Promise<void> {
  const outcome = await tool('setfattr', ['-n', name, '-v', `0s${value}`, '--', path]);
  if (outcome?.code === 0) return;
  const why = outcome === null ? 'setfattr is not installed' : outcome.stderr.trim();
  note(`The extended attribute ${name} is not set: ${why}.`);
}

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Null: there is no such program. */
function tool(program: string, words: readonly string[]): Promise<Outcome | null> {
  return new Promise((resolve) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.stderr += text;
    });
    child.on('error', () => resolve(null));
    child.on('close', (code) => resolve({ code, ...said }));
  });
}
