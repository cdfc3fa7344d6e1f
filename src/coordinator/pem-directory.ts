// A directory with certificates: ca.pem, cert.pem and key.pem, read whole or not at all, at the start and whenever it is to be read again.
//
// Invariant: a set that cannot serve is refused, and nothing of a key is told.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { CellblockError, systemCode } from '../base/errors.js';

export interface PemFiles {
  /** Null where none is needed. */
  ca: Buffer | null;
  certificate: Buffer;
  key: Buffer;
  /** Said of them when they were read. */
  warnings: string[];
}

const OTHERS_MAY_READ = 0o004;
/** A certificate that ends within this is warned about. */
const WARN_BEFORE_MS = 14 * 86_400_000;

/** Throws `tls-invalid`. */
export function readPemDirectory(directory: string, { needsCa }: { needsCa: boolean }): PemFiles {
  const missing: string[] = [];
  const read = (name: string): Buffer => {
    try {
      return readFileSync(path.join(directory, name));
    } catch (error) {
      const errno = systemCode(error);
      if (errno !== 'ENOENT') throw invalid(`${path.join(directory, name)} cannot be read: ${errno}`, error);
      missing.push(name);
      return Buffer.alloc(0);
    }
  };
  const [ca, certificate, key] = [needsCa ? read('ca.pem') : null, read('cert.pem'), read('key.pem')];
  if (missing.length > 0) throw invalid(`The directory ${directory} lacks ${missing.join(', ')}`);
  const leaf = certificateIn(directory, 'cert.pem', certificate);
  if (ca) certificateIn(directory, 'ca.pem', ca);
  requirePair(directory, leaf, key);
  const warnings = warningsOf(directory, leaf);
  return { ca, certificate, key, warnings };
}

function certificateIn(directory: string, name: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw invalid(`${path.join(directory, name)} holds no certificate`, error);
  }
}

function requirePair(directory: string, leaf: X509Certificate, key: Buffer): void {
  let isPair: boolean;
  try {
    isPair = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    throw invalid(
      `${path.join(directory, 'key.pem')} holds no key that can be read without a password`,
      error,
    );
  }
  if (!isPair) throw invalid(`The key.pem of ${directory} is not the key of its cert.pem`);
}

function warningsOf(directory: string, { validFrom, validTo }: X509Certificate): string[] {
  const warnings: string[] = [];
  const file = path.join(directory, 'cert.pem');
  const key = path.join(directory, 'key.pem');
  const now = Date.now();
  if ((statSync(key).mode & OTHERS_MAY_READ) !== 0)
    warnings.push(`everybody on this machine may read ${key}: take that right away`);
  if (Date.parse(validTo) <= now) warnings.push(`the certificate ${file} has expired (${validTo})`);
  else if (Date.parse(validTo) - now < WARN_BEFORE_MS)
    warnings.push(`the certificate ${file} expires soon (${validTo})`);
  if (Date.parse(validFrom) > now) warnings.push(`the certificate ${file} is not valid yet (${validFrom})`);
  return warnings;
}

function invalid(message: string, cause?: unknown): CellblockError {
  return new CellblockError('tls-invalid', `${message}.`, {
    hint: 'Put ca.pem, cert.pem and key.pem there, readable for the coordinator; see docs/coordinator-state.md.',
    ...(cause === undefined ? {} : { cause }),
  });
}
