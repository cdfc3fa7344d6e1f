// The agent as a member of a cell: its connection to the coordinator, made from the settings, with the operations behind it.
//
// Invariant: nothing of a key or a token is kept or told; both are read anew for every connection, so replaced files are in force with the
// next one.

import { readFileSync } from 'node:fs';
import { CellblockError, systemCode } from '../base/errors.js';
import type { CopyCredentials } from '../operations/copy/source.js';
import type { Operations } from '../operations/operations.js';
import {
  type AgentApplication,
  AgentClient,
  type CallOptions,
  type CallOutcome,
  type Credentials,
  type DialWire,
} from '../protocol/client.js';
import type { Call } from '../protocol/exchange.js';
import type { HelloFacts } from '../protocol/host-machine.js';
import { LIMITS } from '../protocol/limits.js';
import type { Log } from '../protocol/log.js';
import type { Welcome } from '../protocol/messages.js';
import { readToken } from '../protocol/token-file.js';
import type { CoordinatorCalls, MembershipStatus } from './coordinator-calls.js';
import type { CoordinatorSettings } from './coordinator-settings.js';

export interface MembershipOptions {
  settings: CoordinatorSettings;
  operations: Operations;
  /** As they are bound. */
  listeners: readonly string[];
  version: string;
  log: Log;
  /** Instead of a WebSocket. */
  dial?: DialWire;
}

export class Membership implements CoordinatorCalls {
  readonly #options: MembershipOptions;
  readonly #client: AgentClient;
  #welcome: Welcome | null = null;

  /** Throws `credentials-invalid`, `token-file-invalid` when the files cannot be used now. */
  constructor(options: MembershipOptions) {
    this.#options = options;
    const { settings, operations, log, dial } = options;
    const credentials = credentialsOf(settings);
    credentials();
    this.#client = new AgentClient({
      coordinators: settings.addresses,
      credentials,
      application: this.#application(),
      log,
      ...(dial ? { dial } : {}),
    });
    operations.parts.cells.link.client = this.#client;
  }

  start(): void {
    this.#client.start();
  }

  stop(): void {
    this.#client.stop('stopping');
  }

  /** A verb of a command line, for the coordinator. */
  call(call: Call, options: CallOptions): Promise<CallOutcome> {
    return this.#client.call(call, options);
  }

  get status(): MembershipStatus {
    const { host, cell } = this.#options.settings;
    return {
      host,
      cell,
      connected: this.#client.isConnected,
      coordinator: this.#welcome?.coordinator ?? null,
      leader: this.#welcome?.leader?.coordinator ?? null,
      serving: this.#options.operations.parts.cells.isServing,
    };
  }

  /** Time of day of the coordinator less that of this host; null: it has told none. */
  get clockDifferenceMs(): number | null {
    return this.#client.clockDifferenceMs;
  }

  #application(): AgentApplication {
    const { cells } = this.#options.operations.parts;
    return {
      facts: () => this.#facts(),
      probe: (volume, seqs) => cells.probe(volume, seqs),
      command: (volume, command) => cells.command(volume, command),
      perform: (asked) => cells.perform(asked),
      claim: (volume, name) => cells.claim(volume, name),
      describe: (volume, after) => cells.describe(volume, after),
      pull: (volume, pull) => cells.pull(volume, pull),
      digest: (volume, of) => cells.digest(volume, of),
      group: (group, step) => cells.group(group, step),
      load: () => cells.load(),
      welcomed: (welcome) => {
        this.#welcome = welcome;
        cells.welcomed(welcome);
      },
      ended: (because) => cells.ended(because),
    };
  }

  async #facts(): Promise<HelloFacts> {
    const { settings, operations, listeners, version } = this.#options;
    const { meta, catalog, cells } = operations.parts;
    return {
      host: settings.host,
      cell: settings.cell,
      storeId: meta.storeId,
      boot: catalog.boots,
      nbd: [...(settings.announce ?? listeners)].slice(0, LIMITS.addresses),
      program: `cellblockd ${version}`,
      volumes: await cells.volumes(),
    };
  }
}

function credentialsOf({ tls, tokenFile }: CoordinatorSettings): Credentials {
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
