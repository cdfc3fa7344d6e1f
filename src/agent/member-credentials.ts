// What a member of a cell shows to its coordinator and to the hosts it copies from.
//
// Invariant: nothing of a key or a token is kept or told; both are read anew for every connection, so replaced files are in force with the
// next one.

import { readFileSync } from 'node:fs';
import { CellblockError, systemCode } from '../base/errors.js';
import type { CopyCredentials } from '../operations/copy/source.js';
import type { Credentials } from '../protocol/client.js';
import { readToken } from '../protocol/token-file.js';
import type { CoordinatorSettings } from './coordinator-settings.js';

/** What it gives throws `credentials-invalid`, `token-file-invalid`. */
export function credentialsOf({ tls, tokenFile }: CoordinatorSettings): Credentials {
  return () => ({
    ...(tls.ca === undefined ? {} : { ca: readPem(tls.ca) }),
    ...(tls.certificate === undefined ? {} : { cert: readPem(tls.certificate) }),
    ...(tls.key === undefined ? {} : { key: readPem(tls.key) }),
    ...(tokenFile === null ? {} : { token: readToken(tokenFile) }),
  });
}

/** Null without a certificate: copies from other hosts go in clear then. `credentials-invalid`. */
export function copyCredentialsOf({ tls }: CoordinatorSettings): CopyCredentials | null {
  const { ca, certificate, key } = tls;
  if (certificate === undefined || key === undefined) return null;
  // Hosts are named by addresses: whoever has a certificate of any public authority could pass for one.
  if (ca === undefined)
    throw new CellblockError('credentials-invalid', 'Nothing says who signs the certificates of hosts.', {
      hint: 'Set coordinator.tls.ca in the configuration.',
    });
  return { ca: readPem(ca), certificate: readPem(certificate), key: readPem(key) };
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new CellblockError(
      'credentials-invalid',
      `The file ${path} for the connection to the coordinator cannot be read: ${systemCode(cause)}.`,
      { hint: 'Check coordinator.tls in the configuration.', cause },
    );
  }
}
