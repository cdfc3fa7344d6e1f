// The agent as a member of a cell: its connection to the coordinator, made from the settings, with the operations behind it.

import type { Operations } from '../operations/operations.js';
import {
  type AgentApplication,
  AgentClient,
  type CallOptions,
  type CallOutcome,
  type DialWire,
} from '../protocol/client.js';
import type { Call } from '../protocol/exchange.js';
import type { HelloFacts } from '../protocol/host-machine.js';
import { LIMITS } from '../protocol/limits.js';
import type { Log } from '../protocol/log.js';
import type { Welcome } from '../protocol/messages.js';
import type { CoordinatorCalls, MembershipStatus } from './coordinator-calls.js';
import type { CoordinatorSettings } from './coordinator-settings.js';
import { credentialsOf } from './member-credentials.js';

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
      groups: cells.openGroups(),
    };
  }
}
