// Tokens instead of certificates, for tests and single machines: a file with lines `HOST CELL TOKEN`. Empty lines and `#` are left out.
//
// Invariants: a token is in no error and no log; how long a look-up takes says nothing of any token. Only digests are kept.

import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { CellblockError, systemCode } from '../base/errors.js';
import { isPlaceName } from '../model/cell/names.js';
import type { Identity } from './identity.js';

const TOKEN = /^[A-Za-z0-9._~+/=-]{16,256}$/;
const OTHERS_MAY_READ = 0o007;

interface Entry extends Identity {
  digest: Buffer;
}

export class Tokens {
  readonly #entries: readonly Entry[];
  /** Said of the file when it was read. */
  readonly warnings: readonly string[];

  private constructor(entries: readonly Entry[], warnings: readonly string[]) {
    this.#entries = entries;
    this.warnings = warnings;
  }

  /** Throws `token-file-invalid`. */
  static read(path: string): Tokens {
    try {
      const open = (statSync(path).mode & OTHERS_MAY_READ) !== 0;
      const warnings = open ? [`everybody on this machine may use ${path}: take that right away`] : [];
      return new Tokens(entriesOf(readFileSync(path, 'utf8'), path), warnings);
    } catch (error) {
      if (error instanceof CellblockError) throw error;
      const errno = systemCode(error);
      throw invalid(`The file ${path} cannot be read: ${errno}.`, { path, errno });
    }
  }

  /** Whose token it is. Every entry is compared, whichever fits. */
  identify(token: string): Identity | null {
    const given = digestOf(token);
    let found: Identity | null = null;
    for (const { digest, host, cell } of this.#entries)
      if (timingSafeEqual(digest, given)) found = { host, cell };
    return found;
  }
}

/** The token of `Authorization: Bearer TOKEN`. */
export function bearerOf(authorization: string | undefined): string | undefined {
  return /^Bearer ([^\s]{1,256})$/i.exec(authorization ?? '')?.[1];
}

/** A token as the agent reads it: the only line of its file. Throws `token-file-invalid`. */
export function readToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    const errno = systemCode(error);
    throw invalid(`The file ${path} cannot be read: ${errno}.`, { path, errno });
  }
  if (!TOKEN.test(text)) throw invalid(`The file ${path} does not hold one token.`, { path });
  return text;
}

function entriesOf(text: string, path: string): Entry[] {
  const entries: Entry[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/);
    if (words[0] === '' || words[0]!.startsWith('#')) continue;
    const why = wrongWith(words, entries);
    if (why !== undefined) throw invalid(`Line ${index + 1} of ${path} ${why}.`, { path, line: index + 1 });
    const [host, cell, token] = words as [string, string, string];
    entries.push({ host, cell, digest: digestOf(token) });
  }
  return entries;
}

function wrongWith(words: readonly string[], before: readonly Entry[]): string | undefined {
  const [host, cell, token] = words;
  if (words.length !== 3) return 'is not HOST CELL TOKEN';
  if (!isPlaceName(host!)) return 'begins with what is no name of a host';
  if (!isPlaceName(cell!)) return 'names what is no name of a cell';
  if (!TOKEN.test(token!))
    return 'holds a token that has not 16 to 256 of the characters A-Z a-z 0-9 . _ ~ + / = -';
  if (before.some((entry) => entry.host === host)) return 'names a host a second time';
  if (before.some(({ digest }) => digest.equals(digestOf(token!)))) return 'holds the token of another host';
  return undefined;
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function invalid(message: string, facts: Record<string, string | number>): CellblockError {
  return new CellblockError('token-file-invalid', message, {
    hint: 'See docs/coordinator-protocol.md for what a file of tokens holds.',
    facts,
  });
}
