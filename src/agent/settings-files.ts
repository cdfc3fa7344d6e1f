// The files that settings name for TLS and the coordinator: whether they are there, who may read them, and until when certificates hold.
//
// Invariant: a file that holds a secret is never opened: only its owner and its permissions are looked at.

import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { systemCode } from '../base/errors.js';
import type { Settings } from './settings.js';

export interface SettingsFile {
  /** The key of the configuration that names it. */
  key: string;
  path: string;
  holds: 'certificates' | 'secret';
  /** errno of what kept it from being looked at. */
  error: string | null;
  uid: number | null;
  mode: number | null;
  /** Of `certificates`: the first one; null: there is none in it. */
  certificate: CertificateDates | null;
}

export interface CertificateDates {
  subject: string;
  /** ISO 8601. */
  from: string;
  expires: string;
}

type Named = Pick<SettingsFile, 'key' | 'holds'> & { path: string | null | undefined };

/** Never throws. */
export function settingsFiles({
  nbd,
  coordinator,
}: Pick<Settings, 'coordinator'> & { nbd: Pick<Settings['nbd'], 'tls'> }): Promise<SettingsFile[]> {
  const { tls } = nbd;
  const ofTls: Named[] =
    tls.mode === 'off'
      ? []
      : [
          { key: 'nbd.tls.certificate', holds: 'certificates', path: tls.certificate },
          { key: 'nbd.tls.client_ca', holds: 'certificates', path: tls.clientCa },
          { key: 'nbd.tls.key', holds: 'secret', path: tls.key },
          { key: 'nbd.tls.psk', holds: 'secret', path: tls.psk },
        ];
  const ofCoordinator: Named[] = [
    { key: 'coordinator.tls.certificate', holds: 'certificates', path: coordinator?.tls.certificate },
    { key: 'coordinator.tls.ca', holds: 'certificates', path: coordinator?.tls.ca },
    { key: 'coordinator.tls.key', holds: 'secret', path: coordinator?.tls.key },
    { key: 'coordinator.token_file', holds: 'secret', path: coordinator?.tokenFile },
  ];
  const named = [...ofTls, ...ofCoordinator].flatMap(({ path, ...rest }) =>
    path === null || path === undefined ? [] : [{ ...rest, path }],
  );
  return Promise.all(named.map(look));
}

async function look(named: Pick<SettingsFile, 'key' | 'holds' | 'path'>): Promise<SettingsFile> {
  try {
    const { uid, mode } = await stat(named.path);
    const certificate = named.holds === 'certificates' ? datesOf(await readFile(named.path)) : null;
    return { ...named, error: null, uid, mode: mode & 0o7777, certificate };
  } catch (error) {
    return { ...named, error: systemCode(error) || 'unknown', uid: null, mode: null, certificate: null };
  }
}

function datesOf(pem: Buffer): CertificateDates | null {
  try {
    const { subject, validFrom, validTo } = new X509Certificate(pem);
    const iso = (text: string) => new Date(text).toISOString();
    return { subject: subject.split('\n').reverse().join(','), from: iso(validFrom), expires: iso(validTo) };
  } catch {
    return null;
  }
}
