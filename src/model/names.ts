// Names of volumes and snapshots. A name is 1 to 128 bytes of UTF-8 without `/`, `@` and control characters; it neither begins
// with `-` (it would look like an option) nor with or ends in white space, and is not `.` or `..`. Names of snapshots that begin with
// `.carry-` are those of hidden ones, which nobody can name but the cells' own traffic.

import { CellblockError } from '../base/errors.js';

export const MAX_NAME_BYTES = 128;

/** Of snapshots nobody sees: they carry a delta of a move, hold what was written before a seal, or are provisional. */
const HIDDEN_PREFIX = '.carry-';

export function hiddenName(id: string): string {
  return `${HIDDEN_PREFIX}${id.slice(0, 16)}`;
}

export function isHiddenName(name: string): boolean {
  return name.startsWith(HIDDEN_PREFIX);
}

const RULE =
  'Names have 1 to 128 bytes of UTF-8 without `/`, `@` and control characters, and do not begin with `-`.';

/** Throws one sentence when `name` cannot name a volume or a snapshot. */
export function checkName(name: string, what: 'volume' | 'file' | 'snapshot'): void {
  if (name.length === 0) throw bad('name-empty', `The name of the ${what} is empty.`);
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw bad(
      'name-too-long',
      `The name of the ${what} has ${Buffer.byteLength(name)} bytes; 128 are allowed.`,
    );
  }
  const shown = JSON.stringify(name);
  if (/\p{Cs}/u.test(name)) throw bad('name-bad-character', `The ${what} name ${shown} is not valid UTF-8.`);
  const found = /[\p{Cc}\p{Zl}\p{Zp}/@]/u.exec(name);
  if (found) {
    const which = found[0] === '/' || found[0] === '@' ? `a \`${found[0]}\`` : 'a control character';
    throw bad('name-bad-character', `The ${what} name ${shown} contains ${which}.`);
  }
  if (name.startsWith('-')) throw bad('name-bad-character', `The ${what} name ${shown} begins with \`-\`.`);
  if (name.trim() !== name)
    throw bad('name-bad-character', `The ${what} name ${shown} begins or ends with white space.`);
  if (what === 'snapshot' && isHiddenName(name))
    throw bad('name-reserved', `${shown} is a name that hidden snapshots have.`);
  if (name === '.' || name === '..') throw bad('name-reserved', `${shown} cannot name a ${what}.`);
}

export interface SnapshotReference {
  volume: string;
  snapshot: string;
}

/** Reads `VOLUME@SNAPSHOT`. */
export function parseSnapshotReference(text: string): SnapshotReference {
  const parts = text.split('@');
  if (parts.length !== 2) {
    throw new CellblockError('snapshot-reference-malformed', `${JSON.stringify(text)} is not a snapshot.`, {
      hint: 'Write it as VOLUME@SNAPSHOT.',
    });
  }
  const [volume, snapshot] = parts as [string, string];
  checkName(volume, 'volume');
  checkName(snapshot, 'snapshot');
  return { volume, snapshot };
}

/** Throws one sentence for what can name neither a volume nor a snapshot. */
export function checkExportName(name: string): void {
  if (name.includes('@')) parseSnapshotReference(name);
  else checkName(name, 'volume');
}

function bad(
  code: 'name-empty' | 'name-too-long' | 'name-bad-character' | 'name-reserved',
  message: string,
): CellblockError {
  return new CellblockError(code, message, { hint: RULE });
}
