// Who may open an export: a list of `uid:NUMBER` (the user who connected over a unix socket) and `tls:IDENTITY` (as TLS proved
// it; a `*` at the end stands for anything). An empty list lets in everybody who reaches the socket.

import { CellblockError } from '../base/errors.js';

/** What is known of who asks. */
export interface Asker {
  /** Negative: not known. */
  uid: number;
  /** Empty: none was proved. */
  identity: string;
}

const MAX_UID = 2 ** 32 - 2;
const MAX_IDENTITY_BYTES = 1024;
export const MAX_ALLOWED = 256;
export const MAX_DESCRIPTION_BYTES = 1024;

const RULE = 'Write `uid:NUMBER`, or `tls:IDENTITY` with a `*` at the end at most.';

/** The list without what stands in it twice. Throws one sentence for what names nobody. */
export function checkAllowed(entries: readonly string[]): string[] {
  for (const entry of entries) checkEntry(entry);
  const allowed = [...new Set(entries)];
  if (allowed.length <= MAX_ALLOWED) return allowed;
  throw bad(
    `The access list has ${allowed.length} entries; ${MAX_ALLOWED} are allowed.`,
    'Let a `*` stand for many TLS identities.',
  );
}

function checkEntry(entry: string): void {
  const shown = JSON.stringify(entry);
  if (entry.startsWith('uid:')) {
    if (/^uid:(0|[1-9]\d{0,9})$/.test(entry) && Number(entry.slice(4)) <= MAX_UID) return;
    throw bad(`${shown} is not the number of a user.`, RULE);
  }
  if (!entry.startsWith('tls:')) throw bad(`${shown} names nobody who could be let in.`, RULE);
  const identity = entry.slice(4);
  if (identity === '') throw bad(`${shown} lacks the identity.`, RULE);
  if (Buffer.byteLength(identity) > MAX_IDENTITY_BYTES) {
    throw bad(
      `An identity of the access list has ${Buffer.byteLength(identity)} bytes; ${MAX_IDENTITY_BYTES} are allowed.`,
      RULE,
    );
  }
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(identity)) throw bad(`${shown} contains a control character.`, RULE);
  if (identity.slice(0, -1).includes('*')) throw bad(`${shown} has a \`*\` that is not its end.`, RULE);
}

export function mayUse(allowed: readonly string[], asker: Asker): boolean {
  return allowed.length === 0 || allowed.some((entry) => matches(entry, asker));
}

function matches(entry: string, { uid, identity }: Asker): boolean {
  if (entry.startsWith('uid:')) return uid >= 0 && entry === `uid:${uid}`;
  const wanted = entry.slice('tls:'.length);
  if (identity === '') return false;
  return wanted.endsWith('*') ? identity.startsWith(wanted.slice(0, -1)) : identity === wanted;
}

/** Throws one sentence for a text that NBD clients cannot be shown. */
export function checkDescription(text: string): void {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_DESCRIPTION_BYTES) {
    throw badDescription(`The description has ${bytes} bytes; ${MAX_DESCRIPTION_BYTES} are allowed.`);
  }
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)) {
    throw badDescription('The description contains a control character or is no valid UTF-8.');
  }
}

function bad(message: string, hint: string): CellblockError {
  return new CellblockError('access-entry-malformed', message, { hint });
}

function badDescription(message: string): CellblockError {
  return new CellblockError('description-invalid', message, { hint: 'Give one short line of text.' });
}
