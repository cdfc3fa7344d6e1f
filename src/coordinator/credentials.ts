// How hosts and this coordinator prove to each other who they are: the files of --tls and --token, read at the start and again whenever they
// are to be reloaded.
//
// Invariant: a set that cannot serve is refused whole, and the one in force stays; nothing of a key or a token is kept or told.

import { X509Certificate } from 'node:crypto';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { asCellblockError, CellblockError } from '../base/errors.js';
import { byCertificate, byToken, type Identify, makeListener, type TlsFiles } from '../protocol/listener.js';
import type { Log } from '../protocol/log.js';
import { Tokens } from '../protocol/token-file.js';
import type { CoordinatorSettings } from './command-line.js';
import { readPemDirectory } from './pem-directory.js';

interface Files {
  tls: TlsFiles | null;
  tokens: Tokens | null;
}

export class HostCredentials {
  readonly #settings: Pick<CoordinatorSettings, 'tls' | 'tokens'>;
  readonly #log: Log;
  #tokens: Tokens | null;
  /** Where hosts come in; not listening yet. */
  readonly listener: Server;

  /** Throws `tls-invalid`, `token-file-invalid`. */
  constructor(settings: Pick<CoordinatorSettings, 'tls' | 'tokens'>, log: Log) {
    this.#settings = settings;
    this.#log = log;
    const { tls, tokens } = this.#read();
    this.#tokens = tokens;
    this.listener = makeListener(tls);
  }

  /** With tokens a host is who its token says, else who its certificate says. */
  get identify(): Identify {
    return this.#tokens === null ? byCertificate : byToken(() => this.#tokens!);
  }

  /** A set that cannot serve is only told of. True: the new one is in force, for connections that begin now. */
  reload(): boolean {
    try {
      const { tls, tokens } = this.#read();
      if (tls) (this.listener as TlsServer).setSecureContext(secureContext(tls));
      this.#tokens = tokens;
    } catch (error) {
      const { message, hint } = asCellblockError(error);
      this.#log.error(
        { event: 'credentials-kept', reason: message, hint },
        'certificates and tokens stay as they were: the new files cannot be used',
      );
      return false;
    }
    this.#log.info({ event: 'credentials-reloaded' }, 'certificates and tokens have been read again');
    return true;
  }

  #read(): Files {
    const { tls, tokens } = this.#settings;
    return {
      tls: tls === null ? null : this.#readTls(tls, { needsCa: tokens === null }),
      tokens: tokens === null ? null : readTokens(tokens),
    };
  }

  #readTls(directory: string, needs: { needsCa: boolean }): TlsFiles {
    const { ca, certificate, key, warnings } = readPemDirectory(directory, needs);
    requireCurrent(directory, certificate);
    for (const warning of warnings) this.#log.warn({ event: 'credentials-warning' }, warning);
    return { certificate, key, clientCa: ca };
  }
}

/** What makeListener() has set for all connections has to be said again. */
function secureContext({ certificate, key, clientCa }: TlsFiles) {
  return { minVersion: 'TLSv1.3' as const, cert: certificate, key, ...(clientCa ? { ca: clientCa } : {}) };
}

/** No host would connect to it. */
function requireCurrent(directory: string, certificate: Buffer): void {
  const { validTo } = new X509Certificate(certificate);
  if (Date.parse(validTo) > Date.now()) return;
  throw new CellblockError('tls-invalid', `The certificate ${directory}/cert.pem has expired (${validTo}).`, {
    hint: 'Put a current one there, with its key; no host connects to an expired one.',
  });
}

/** Whoever can read it can be any host. */
function readTokens(path: string): Tokens {
  const tokens = Tokens.read(path);
  if (tokens.warnings.length === 0) return tokens;
  throw new CellblockError('token-file-invalid', `Everybody on this machine may use the tokens in ${path}.`, {
    hint: `Take that right away: chmod o= ${path}; then make new tokens.`,
    facts: { path },
  });
}
