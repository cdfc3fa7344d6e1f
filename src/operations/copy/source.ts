// Where a snapshot is copied from: connections to its read-only export at another host, over whichever of its addresses answers.
//
// Invariant: what the source says is checked against what the coordinator described; an answer that cannot be is told as `copy-source-wrong` and
// nothing of it is used. Errors say whether it is worth trying again: `copy-source-unreachable` alone is.

import { CellblockError } from '../../base/errors.js';
import { ConnectionLost } from '../../nbd-client/byte-stream.js';
import { OptionRefused, ProtocolViolation } from '../../nbd-client/handshake.js';
import { type NbdClient, RequestFailed } from '../../nbd-client/nbd-client.js';
import { TlsRefused, type TlsWish } from '../../nbd-client/tls.js';
import type { Pull } from '../../protocol/exchange.js';
import { identityOf } from '../../protocol/identity.js';
import { stopped } from './rate-limit.js';

export const ALLOCATION = 'base:allocation';
const CHANGED = 'qemu:dirty-bitmap:';
const SERVER_STOPS = 0x80000007;

/** How this host proves who it is, and whom it believes; PEM. Null: it goes in clear. */
export interface CopyCredentials {
  ca: Buffer;
  certificate: Buffer;
  key: Buffer;
}

/** A connection to an export, as far as copies use it. */
export type SourceClient = Pick<
  NbdClient,
  'sizeBytes' | 'readOnly' | 'contexts' | 'blockStatus' | 'readInto' | 'destroy'
>;

export type ConnectSource = (options: Parameters<typeof NbdClient.connect>[0]) => Promise<SourceClient>;

export interface SourceOptions {
  credentials: CopyCredentials | null;
  /** From dialling to the open export. */
  connectMs: number;
  /** A reply that is owed and does not come for so long ends the connection. */
  silenceMs: number;
  connections: number;
  connect: ConnectSource;
}

export interface Wanted {
  exportName: string;
  sizeBytes: bigint;
  /** Behind `qemu:dirty-bitmap:`; null: everything is copied. */
  since: string | null;
}

export class SourceExport {
  readonly #from: Pull['from'];
  readonly #wanted: Wanted;
  readonly #options: SourceOptions;
  readonly #signal: AbortSignal;
  readonly #clients: Promise<SourceClient>[] = [];
  /** Of the address that answered. */
  #answers = 0;

  private constructor(from: Pull['from'], wanted: Wanted, options: SourceOptions, signal: AbortSignal) {
    this.#from = from;
    this.#wanted = wanted;
    this.#options = options;
    this.#signal = signal;
    signal.addEventListener('abort', this.#abort);
  }

  /** Null: it cannot tell what has changed since that. */
  static async open(
    from: Pull['from'],
    wanted: Wanted,
    { options, signal }: { options: SourceOptions; signal: AbortSignal },
  ): Promise<SourceExport | null> {
    const source = new SourceExport(from, wanted, options, signal);
    try {
      const first = await source.client(0);
      if (source.contexts.every((context) => [...first.contexts.values()].includes(context))) return source;
    } catch (error) {
      source.end();
      throw error;
    }
    source.end();
    return null;
  }

  get contexts(): string[] {
    const { since } = this.#wanted;
    return since === null ? [ALLOCATION] : [ALLOCATION, `${CHANGED}${since}`];
  }

  /** The n-th connection, which is made when it is first asked for. */
  client(index: number): Promise<SourceClient> {
    const number = index % this.#options.connections;
    this.#clients[number] ??= this.#dial();
    return this.#clients[number];
  }

  /** Requests in flight fail. */
  end(): void {
    this.#signal.removeEventListener('abort', this.#abort);
    this.#abort();
  }

  readonly #abort = (): void => {
    for (const client of this.#clients) {
      client.then(
        (made) => made.destroy(),
        () => undefined,
      );
    }
  };

  /** Round the addresses, from the one that answered last; the last refusal is told when none does. */
  async #dial(): Promise<SourceClient> {
    const { addresses, host } = this.#from;
    let trouble: CellblockError | null = null;
    for (let tries = 0; tries < addresses.length; tries++) {
      const at = (this.#answers + tries) % addresses.length;
      if (this.#signal.aborted) throw stopped();
      try {
        const client = await this.#connect(addresses[at]!);
        this.#answers = at;
        return client;
      } catch (error) {
        trouble = sourceTrouble(error, host);
        if (trouble.code !== 'copy-source-unreachable') throw trouble;
      }
    }
    throw trouble ?? sourceTrouble(new ConnectionLost('it has no address'), host);
  }

  async #connect(address: string): Promise<SourceClient> {
    const { exportName, sizeBytes } = this.#wanted;
    const { connectMs, silenceMs, connect } = this.#options;
    const client = await connect({
      address,
      exportName,
      contexts: this.contexts,
      tls: this.#tls(),
      timeoutMs: connectMs,
      silenceMs,
    });
    const wrong = whyWrong(client, { exportName, sizeBytes });
    if (wrong === null && !this.#signal.aborted) return client;
    client.destroy();
    throw wrong === null ? stopped() : new ProtocolViolation(wrong);
  }

  #tls(): TlsWish | null {
    const { credentials } = this.#options;
    const { host, cell } = this.#from;
    if (credentials === null) return null;
    const whyWrong = (subjectAltName: string | undefined): string | null => {
      const shown = identityOf(subjectAltName);
      if (shown === null || (shown.host === host && shown.cell === cell)) return null;
      return `its certificate is that of ${shown.host} in the cell ${shown.cell}, not of ${host} in ${cell}`;
    };
    return { ...credentials, serverName: null, whyWrong };
  }
}

function whyWrong(
  client: SourceClient,
  { exportName, sizeBytes }: { exportName: string; sizeBytes: bigint },
): string | null {
  const name = JSON.stringify(exportName);
  if (!client.readOnly) return `the export ${name} is no snapshot: it can be written`;
  if (client.sizeBytes !== sizeBytes)
    return `the export ${name} has ${client.sizeBytes} bytes, and ${sizeBytes} were described`;
  return null;
}

/** What a failure of the source is told as. */
export function sourceTrouble(error: unknown, host: string): CellblockError {
  if (error instanceof CellblockError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const told = { facts: { host }, cause: error };
  if (isLie(error)) {
    return new CellblockError('copy-source-wrong', `The host ${host} answers what cannot be: ${message}.`, {
      hint: 'Check which program answers at its NBD address, and that the volume there was not replaced.',
      ...told,
    });
  }
  if (isRefusal(error)) {
    return new CellblockError(
      'copy-source-refuses',
      `The host ${host} does not give the snapshot: ${message}.`,
      {
        hint: 'Check that the snapshot is still there, and that this host may use its export there.',
        ...told,
      },
    );
  }
  return new CellblockError('copy-source-unreachable', `The host ${host} could not be read: ${message}.`, {
    hint: 'Check the network between the hosts and the NBD addresses of that one.',
    ...told,
  });
}

/** The connection ends at once when something comes that is no NBD: then it is the cause. */
function isLie(error: unknown): boolean {
  if (error instanceof ProtocolViolation) return true;
  if (error instanceof RequestFailed) return error.code === 'EINVAL' || error.code === 'EPERM';
  if (!(error instanceof ConnectionLost) || !(error.cause instanceof Error)) return false;
  return (error.cause as NodeJS.ErrnoException).code === undefined;
}

function systemWord(cause: unknown): string {
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
}

function isRefusal(error: unknown): boolean {
  if (error instanceof OptionRefused) return error.type !== SERVER_STOPS;
  // With TLS 1.3 a server says what it thinks of this host's certificate when the handshake is over for us.
  if (error instanceof ConnectionLost) return /^ERR_SSL_.*ALERT/.test(systemWord(error.cause));
  return error instanceof TlsRefused || error instanceof TypeError;
}
