// What the agent runs with: the configuration file with its defaults filled in, the command line on top, everything parsed and
// absolute. Nothing past this file reads the configuration.

import { resolve } from 'node:path';
import { CellblockError } from '../base/errors.js';
import { checkExportName } from '../model/names.js';
import { checkSocketPath } from '../operations/listen-error.js';
import { bytesOfSize, type ConfigurationFile, ConfigurationSchema } from './configuration-schema.js';
import { type CoordinatorSettings, coordinatorSettings } from './coordinator-settings.js';
import type { LogLevel } from './logger.js';

export interface ListenerSettings {
  /** `unix:` with an absolute path, or `tcp:HOST:PORT`. */
  address: string;
  /** Of a unix socket. */
  mode: number;
}

export interface TlsSettings {
  mode: 'off' | 'selective' | 'forced';
  /** Absolute paths. */
  certificate?: string;
  key?: string;
  clientCa?: string;
  psk?: string;
  clients: 'none' | 'optional' | 'required';
  /** Names of volumes, `*` for anything, that are served in TLS only. */
  only: string[];
}

export interface Settings {
  store: {
    directory: string;
    /** Of a store that has to be made; not there: not configured. */
    windowBytes?: number;
    journalBytes?: bigint;
    cacheBytes: bigint;
    reserveBytes: bigint;
    direct: boolean;
    rotational: boolean;
    roundAfterMs: number;
  };
  engine: { kind: 'automatic' | 'io_uring' | 'workers'; reactors: number };
  nbd: {
    listeners: ListenerSettings[];
    /** Listening sockets that were passed at the start. */
    descriptors: readonly number[];
    allowRemote: boolean;
    maxConnections: number;
    maxConnectionsPerClient: number;
    defaultExport: string | null;
    handshakeTimeoutMs: number;
    tls: TlsSettings;
    /** Absolute; not there: no transaction logs. */
    transactionLogs?: string;
  };
  /** `descriptor`: a listening socket that was passed at the start; it has its path, mode and owners already. */
  api: { path: string; mode: number; group: string; descriptor: number | null };
  metrics: { address: string | undefined };
  log: { level: LogLevel };
  limits: { stopDeadlineMs: number; holdMs: number; requestBodyBytes: number };
  /** Null: the host is in no cell. */
  coordinator: CoordinatorSettings | null;
}

/** What stands on the command line; wins over the file. */
export interface CommandLine {
  store: string;
  nbd: readonly string[];
  api: string | undefined;
  defaultExport?: string | undefined;
  allowRemote?: boolean;
}

/** `passed`: sockets in place of those of the configuration; what the command line says is served besides. */
export function makeSettings(
  file: ConfigurationFile,
  line: CommandLine,
  passed: { nbd: readonly number[]; api: { descriptor: number; path: string } | null } = NOTHING_PASSED,
): Settings {
  const { nbd, api, metrics, log, store, engine, limits } = withDefaults(file);
  const listeners = line.nbd.length > 0 || passed.nbd.length > 0 ? line.nbd : nbd.listen;
  const tls = tlsSettings(file.nbd?.tls ?? {});
  const allowRemote = line.allowRemote === true || nbd.allow_remote || tls.mode === 'forced';
  const defaultExport = line.defaultExport ?? nbd.default_export ?? null;
  if (defaultExport !== null) checkExportName(defaultExport);
  return {
    store: {
      directory: resolve(line.store),
      ...(file.store?.window === undefined ? {} : { windowBytes: Number(bytesOfSize(store.window)) }),
      ...(file.store?.journal === undefined ? {} : { journalBytes: bytesOfSize(store.journal) }),
      cacheBytes: bytesOfSize(store.cache),
      reserveBytes: bytesOfSize(store.reserve),
      direct: store.direct,
      rotational: store.rotational,
      roundAfterMs: store.round_after_ms,
    },
    engine,
    nbd: {
      listeners: listeners.map((listener) => listenerSettings(listener, allowRemote)),
      descriptors: passed.nbd,
      allowRemote,
      defaultExport,
      maxConnections: nbd.max_connections,
      maxConnectionsPerClient: nbd.max_connections_per_client,
      handshakeTimeoutMs: nbd.handshake_timeout_ms,
      tls,
      ...(nbd.transaction_logs === undefined ? {} : { transactionLogs: resolve(nbd.transaction_logs) }),
    },
    api: {
      path: passed.api?.path ?? resolve(line.api ?? api.path),
      mode: mode(api.mode),
      group: api.group,
      descriptor: passed.api?.descriptor ?? null,
    },
    metrics: { address: metrics.listen },
    log,
    limits: {
      stopDeadlineMs: limits.stop_deadline_ms,
      holdMs: limits.hold_ms,
      requestBodyBytes: Number(bytesOfSize(limits.request_body)),
    },
    coordinator: coordinatorSettings(file.coordinator ?? {}),
  };
}

const NOTHING_PASSED = { nbd: [], api: null } as const;

type Sections = typeof ConfigurationSchema.properties;
type Filled = { [Name in keyof Sections]-?: Required<NonNullable<ConfigurationFile[Name]>> };

function withDefaults(file: ConfigurationFile): Filled {
  const sections = Object.entries(ConfigurationSchema.properties).map(([name, section]) => {
    const given = (file as Record<string, object | undefined>)[name] ?? {};
    const keys = (section as unknown as { properties: Record<string, { default?: unknown }> }).properties;
    const defaults = Object.fromEntries(Object.entries(keys).map(([key, schema]) => [key, schema.default]));
    return [name, { ...defaults, ...given }];
  });
  return Object.fromEntries(sections) as Filled;
}

type TlsFile = NonNullable<NonNullable<ConfigurationFile['nbd']>['tls']>;

/** Throws when what is said of TLS does not fit together. */
function tlsSettings(given: TlsFile): TlsSettings {
  const { mode = 'off', clients = 'none', only = [], certificate, key, client_ca: clientCa, psk } = given;
  const refuse = (message: string, hint: string) =>
    new CellblockError('configuration-invalid', `nbd.tls: ${message}.`, { hint });
  if (mode !== 'off') {
    if (certificate === undefined && psk === undefined)
      throw refuse(
        'there is neither a certificate nor a file of pre-shared keys',
        'Set certificate and key, or psk.',
      );
    if ((certificate === undefined) !== (key === undefined))
      throw refuse('certificate and key belong together', 'Set both.');
    if (clients !== 'none' && clientCa === undefined)
      throw refuse(`clients is ${clients}, and nothing says who signs their certificates`, 'Set client_ca.');
    if (clients === 'none' && clientCa !== undefined)
      throw refuse(
        'client_ca is set, and clients are asked for no certificate',
        'Set clients to optional or required.',
      );
  }
  if (only.length > 0 && mode === 'off')
    throw refuse('volumes are for TLS only, and there is none', 'Set mode to selective or forced.');
  const path = (name: string, file: string | undefined) =>
    file === undefined ? {} : { [name]: resolve(file) };
  return {
    mode,
    clients,
    only,
    ...path('certificate', certificate),
    ...path('key', key),
    ...path('clientCa', clientCa),
    ...path('psk', psk),
  };
}

/** An address as on the command line or in the file. Throws when nobody could listen there. */
function listenerSettings(
  given: string | { address?: string; mode?: string },
  allowRemote: boolean,
): ListenerSettings {
  const address = (typeof given === 'string' ? given : given.address) ?? '';
  const modeText = typeof given === 'string' ? undefined : given.mode;
  if (address.startsWith('unix:') && address.length > 5) {
    checkSocketPath(resolve(address.slice(5)));
    return { address: `unix:${resolve(address.slice(5))}`, mode: mode(modeText ?? '0660') };
  }
  const { host } = parseTcp(address);
  if (!allowRemote && !isLoopback(host)) {
    throw new CellblockError(
      'address-invalid',
      `${address} is reachable from other machines, and clients may use it in clear.`,
      {
        hint: 'Require TLS (nbd.tls.mode: forced), listen on 127.0.0.1, or say --allow-remote-without-tls (nbd.allow_remote: true in the configuration).',
      },
    );
  }
  return { address, mode: 0 };
}

/** Host and port of `tcp:HOST:PORT`; IPv6 in brackets. */
export function parseTcp(address: string): { host: string; port: number } {
  const match = /^tcp:(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new CellblockError('address-invalid', `${JSON.stringify(address)} is no address to listen on.`, {
      hint: 'Write unix:PATH or tcp:HOST:PORT.',
    });
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function mode(text: string): number {
  return Number.parseInt(text, 8);
}
