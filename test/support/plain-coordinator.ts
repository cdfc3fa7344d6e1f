// The coordinator's end of the protocol on a loopback port, in real time: it admits whom the test says, keeps what it is told, and asks.

import { writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { HostAnswer } from '../../src/model/cell/answer.js';
import type { HostCommand } from '../../src/model/cell/host-record.js';
import type { CommandOutcome } from '../../src/model/cell/resolution.js';
import type { Head } from '../../src/model/cell/route.js';
import type { HostEvent, PerformedOperation } from '../../src/protocol/exchange.js';
import { byCertificate, byToken, makeListener } from '../../src/protocol/listener.js';
import type { Hello, Welcome } from '../../src/protocol/messages.js';
import { CoordinatorServer } from '../../src/protocol/server.js';
import { Tokens } from '../../src/protocol/token-file.js';
import type { Certificates } from './certificates.js';
import type { Teardown } from './daemon.js';
import { quiet } from './store-harness.js';
import { until } from './waiting.js';

export const HOST = 'h1';
const TOKEN = 'the-token-of-host-h1';
const ASK_MS = 30_000;

export class PlainCoordinator {
  readonly hellos: Hello[] = [];
  readonly events: HostEvent[] = [];
  /** What the next welcomes say. */
  said: Pick<Welcome, 'regressed' | 'highest'> = {
    regressed: false,
    highest: [],
  };
  readonly server: CoordinatorServer;
  readonly #listener: Server;
  readonly #directory: string;
  readonly #certificates: Certificates | null;

  private constructor(directory: string, certificates: Certificates | null) {
    this.#directory = directory;
    this.#certificates = certificates;
    const tokens = path.join(directory, 'tokens');
    writeFileSync(tokens, `${HOST} east ${TOKEN}\n`, { mode: 0o600 });
    writeFileSync(path.join(directory, 'token'), `${TOKEN}\n`, { mode: 0o600 });
    const read = Tokens.read(tokens);
    this.#listener = makeListener(
      certificates && {
        certificate: certificates.read('server-cert.pem'),
        key: certificates.read('server-key.pem'),
        clientCa: certificates.read('ca-cert.pem'),
      },
    );
    this.server = new CoordinatorServer({
      coordinator: 'c1',
      identify: certificates ? byCertificate : byToken(() => read),
      log: quiet,
      application: {
        admit: async () => ({ admit: true, leader: null, ...this.said }),
        call: async () => null,
        joined: (hello) => void this.hellos.push(hello),
        lost: () => undefined,
        left: () => undefined,
        event: (_host, event) => void this.events.push(event),
        progress: () => undefined,
      },
    });
    this.server.attach(this.#listener);
  }

  /** In clear with a token, or in mutual TLS. */
  static async start(
    t: Teardown,
    directory: string,
    certificates: Certificates | null = null,
  ): Promise<PlainCoordinator> {
    const coordinator = new PlainCoordinator(directory, certificates);
    await new Promise<void>((resolve) => coordinator.#listener.listen(0, '127.0.0.1', resolve));
    t.teardown(() => coordinator.stop());
    return coordinator;
  }

  stop(): void {
    this.server.stop();
    this.#listener.close();
    this.#listener.closeAllConnections();
  }

  /** The section of an agent's configuration that leads here. */
  configuration(more: Record<string, unknown> = {}): Record<string, unknown> {
    const { port } = this.#listener.address() as AddressInfo;
    const certificates = this.#certificates;
    const proof = certificates
      ? {
          tls: {
            ca: certificates.file('ca-cert.pem'),
            certificate: certificates.file(`${HOST}-cert.pem`),
            key: certificates.file(`${HOST}-key.pem`),
          },
        }
      : { token_file: path.join(this.#directory, 'token') };
    return {
      addresses: [`${certificates ? 'wss' : 'ws'}://127.0.0.1:${port}`],
      host: HOST,
      cell: 'east',
      ...proof,
      serve_alone_after: 'never',
      ...more,
    };
  }

  /** Until it has joined so many times in all. */
  async joined(times: number): Promise<Hello> {
    await until(`hello number ${times}`, () => this.hellos.length >= times && this.server.isConnected(HOST));
    return this.hellos.at(-1)!;
  }

  async probe(volume: string): Promise<HostAnswer> {
    const answer = await this.server.probe(HOST, { volume, seqs: [] }, ASK_MS);
    if (!answer) throw new Error('no answer');
    return answer;
  }

  command(volume: string, command: HostCommand): Promise<CommandOutcome> {
    return this.server.command(HOST, { volume, command }, ASK_MS);
  }

  perform(
    volume: string,
    operation: PerformedOperation,
    { epoch, parent }: { epoch: number; parent: Head | null },
  ): Promise<CommandOutcome> {
    return this.server.perform(HOST, { volume, epoch, parent, operation }, ASK_MS);
  }
}
