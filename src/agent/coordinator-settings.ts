// What the configuration says of the coordinator, parsed and checked for what does not fit together.

import { resolve } from 'node:path';
import { CellblockError } from '../base/errors.js';
import { bytesOfSize, type ConfigurationFile } from './configuration-schema.js';

export interface CoordinatorSettings {
  addresses: readonly string[];
  host: string;
  cell: string;
  /** Absolute paths; `ca` alone with a token over TLS. */
  tls: { ca?: string; certificate?: string; key?: string };
  tokenFile: string | null;
  /** Null: never. */
  serveAloneAfterMs: number | null;
  /** NBD addresses other hosts are told; null: those it listens on. */
  announce: readonly string[] | null;
  /** Null: as many as there are. */
  copyBytesPerSecond: bigint | null;
}

type CoordinatorFile = NonNullable<ConfigurationFile['coordinator']>;

const DEFAULT_SERVE_ALONE_SECONDS = 30;

/** Null: nothing is said of it. Throws `configuration-invalid`. */
export function coordinatorSettings(given: CoordinatorFile): CoordinatorSettings | null {
  if (Object.keys(given).length === 0) return null;
  const { addresses, host, cell, announce, copy_rate: rate = 0 } = given;
  if (addresses === undefined || host === undefined || cell === undefined)
    throw refuse(
      'it is not said where coordinators are, or who this host is',
      'Set addresses, host and cell.',
    );
  for (const address of addresses) checkAddress(address);
  const alone = given.serve_alone_after ?? DEFAULT_SERVE_ALONE_SECONDS;
  const bytes = bytesOfSize(rate);
  return {
    addresses,
    host,
    cell,
    ...credentials(given, addresses),
    serveAloneAfterMs: alone === 'never' ? null : alone * 1000,
    announce: announce ?? null,
    copyBytesPerSecond: bytes === 0n ? null : bytes,
  };
}

function credentials(
  { tls = {}, token_file: tokenFile }: CoordinatorFile,
  addresses: readonly string[],
): Pick<CoordinatorSettings, 'tls' | 'tokenFile'> {
  const { ca, certificate, key } = tls;
  if ((certificate === undefined) !== (key === undefined))
    throw refuse('certificate and key belong together', 'Set both.');
  if ((certificate === undefined) === (tokenFile === undefined))
    throw refuse(
      'this host has to prove who it is, in one way',
      'Set tls.certificate and tls.key, or token_file.',
    );
  if (certificate !== undefined && addresses.some((address) => address.startsWith('ws://')))
    throw refuse('a certificate is shown over TLS only', 'Write the addresses as wss://HOST:PORT.');
  const paths = { ca, certificate, key };
  return {
    tls: Object.fromEntries(
      Object.entries(paths).flatMap(([name, path]) => (path === undefined ? [] : [[name, resolve(path)]])),
    ),
    tokenFile: tokenFile === undefined ? null : resolve(tokenFile),
  };
}

/** In clear only to this machine: whoever listens in between would have the token. */
function checkAddress(address: string): void {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url || url.port === '' || url.pathname.length > 1)
    throw refuse(`${JSON.stringify(address)} is no address of a coordinator`, 'Write wss://HOST:PORT.');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isLoopback = host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
  if (url.protocol === 'ws:' && !isLoopback)
    throw refuse(`${address} is on another machine, and nothing is encrypted`, 'Write wss://HOST:PORT.');
}

function refuse(message: string, hint: string): CellblockError {
  return new CellblockError('configuration-invalid', `coordinator: ${message}.`, { hint });
}
