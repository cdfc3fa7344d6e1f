// TLS of the NBD listeners: certificate, keys and CA are read from their files and handed to the data plane, at the start and
// again whenever they are to be reloaded.
// Invariant: a set that cannot serve is refused whole, and the one in force stays; nothing of a key is kept or told.

import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { CellblockError, systemCode } from '../base/errors.js';
import type { TlsOptions } from '../plane/treaty.js';
import type { TlsSettings } from './settings.js';

export interface TlsStatus {
  mode: TlsSettings['mode'];
  clients: TlsSettings['clients'];
  /** Clients may come with a pre-shared key. */
  psk: boolean;
  /** Of the certificate in force; null: there is none. */
  certificate: { subject: string; expires: string } | null;
}

interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** A certificate that ends within this is warned about. */
const WARN_BEFORE_MS = 14 * 86_400_000;

const OTHERS_MAY_READ = 0o004;

export class Tls {
  readonly #settings: TlsSettings;
  readonly #install: (options: TlsOptions) => void;
  readonly #log: Log;
  readonly #hostCa: string | undefined;
  #certificate: TlsStatus['certificate'] = null;

  /** `install` throws what the data plane says of options that cannot serve. `hostCa`: of the hosts of cells, which copy from this one. */
  constructor(
    settings: TlsSettings,
    install: (options: TlsOptions) => void,
    log: Log,
    { hostCa }: { hostCa?: string | undefined } = {},
  ) {
    this.#settings = settings;
    this.#install = install;
    this.#log = log;
    this.#hostCa = hostCa;
  }

  /** Throws `tls-invalid`; what was in force is in force then. */
  load(): void {
    const { mode, clients } = this.#settings;
    if (mode === 'off') return;
    const files = this.#read();
    try {
      this.#install({ mode, clients, ...files });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CellblockError('tls-invalid', `TLS cannot be set up: ${why}.`, {
        hint: `Check ${this.#paths().join(', ')}; see docs/tls.md.`,
        cause: error,
      });
    } finally {
      files.key?.fill(0);
      files.psk?.fill(0);
    }
    this.#certificate = files.certificate && this.#look(files.certificate);
  }

  /** As load(), but a set that cannot serve is only told of. True: the new one is in force. */
  reload(): boolean {
    if (this.#settings.mode === 'off') return true;
    try {
      this.load();
    } catch (error) {
      const { message, hint } = error as CellblockError;
      this.#log.error({ reason: message, hint }, 'TLS stays as it was: the new files cannot be used');
      return false;
    }
    this.#log.info({ ...this.#certificate }, 'TLS reloaded: connections that begin now use the new files');
    return true;
  }

  get status(): TlsStatus {
    const { mode, clients, psk } = this.#settings;
    return { mode, clients, psk: mode !== 'off' && psk !== undefined, certificate: this.#certificate };
  }

  #paths(): string[] {
    const { certificate, key, clientCa, psk } = this.#settings;
    return [certificate, key, clientCa, psk].filter((path) => path !== undefined);
  }

  #read() {
    const { certificate, key, clientCa, psk } = this.#settings;
    return {
      certificate: readFile('nbd.tls.certificate', certificate),
      key: this.#readSecret('key', key),
      clientCa: readFile('nbd.tls.client_ca', clientCa),
      hostCa: readFile('coordinator.tls.ca', this.#hostCa),
      psk: this.#readSecret('psk', psk),
    };
  }

  #readSecret(name: string, path: string | undefined): Buffer | null {
    const bytes = readFile(`nbd.tls.${name}`, path);
    if (path !== undefined && (statSync(path).mode & OTHERS_MAY_READ) !== 0)
      this.#log.warn({ path }, `everybody on this machine may read nbd.tls.${name}: take that right away`);
    return bytes;
  }

  /** What stands in a certificate the data plane took; an end that is near, or past, is told of. */
  #look(pem: Buffer): TlsStatus['certificate'] {
    const { subject, validFrom, validTo } = new X509Certificate(pem);
    const ends = Date.parse(validTo);
    const expires = new Date(ends).toISOString();
    const path = this.#settings.certificate;
    const now = Date.now();
    if (ends <= now) this.#log.warn({ path, expires }, 'the certificate has expired: clients will refuse it');
    else if (ends - now < WARN_BEFORE_MS) this.#log.warn({ path, expires }, 'the certificate expires soon');
    if (Date.parse(validFrom) > now)
      this.#log.warn({ path, from: validFrom }, 'the certificate is not valid yet: clients will refuse it');
    return { subject: subject.split('\n').reverse().join(','), expires };
  }
}

function readFile(name: string, path: string | undefined): Buffer | null {
  if (path === undefined) return null;
  try {
    return readFileSync(path);
  } catch (error) {
    const code = systemCode(error);
    const why =
      code === 'ENOENT'
        ? 'does not exist'
        : code === 'EACCES'
          ? 'may not be read'
          : `cannot be read: ${code}`;
    throw new CellblockError('tls-invalid', `The file ${path} (${name}) ${why}.`, {
      hint: 'Check the path and its permissions; the agent has to be allowed to read it.',
      facts: { path, errno: code },
      cause: error,
    });
  }
}
