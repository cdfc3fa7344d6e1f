// A coordinator on a loopback port with its log, its hosts, and strangers who send what they like. Time is the test's.

import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { WebSocket } from 'ws';
import type { HostAnswer } from '../../src/model/cell/answer.js';
import { type AgentApplication, AgentClient, type Credentials } from '../../src/protocol/client.js';
import { encode } from '../../src/protocol/codec.js';
import type { Admission } from '../../src/protocol/coordinator-effects.js';
import type { HelloFacts } from '../../src/protocol/host-machine.js';
import { byCertificate, byToken, makeListener, type TlsFiles } from '../../src/protocol/listener.js';
import type { Log } from '../../src/protocol/log.js';
import type { Hello, Message } from '../../src/protocol/messages.js';
import { type CoordinatorApplication, CoordinatorServer } from '../../src/protocol/server.js';
import { Tokens } from '../../src/protocol/token-file.js';
import { subprotocolOf } from '../../src/protocol/version.js';
import { HandClock } from './hand-clock.js';
import { answerOf, factsOf, SAMPLES } from './protocol-samples.js';
import { ADMITTED } from './protocol-world.js';
import { until } from './waiting.js';

export interface Line {
  level: string;
  event?: string;
  message: string;
  [fact: string]: unknown;
}

/** A log that is kept. */
export class KeptLog implements Log {
  readonly lines: Line[] = [];
  debug = (facts: object, message: string) => this.#keep('debug', facts, message);
  info = (facts: object, message: string) => this.#keep('info', facts, message);
  warn = (facts: object, message: string) => this.#keep('warn', facts, message);
  error = (facts: object, message: string) => this.#keep('error', facts, message);

  events(): (string | undefined)[] {
    return this.lines.map(({ event }) => event);
  }

  #keep(level: string, facts: object, message: string): void {
    this.lines.push({ ...facts, level, message });
  }
}

export interface SceneOptions {
  /** In clear with tokens, unless there are certificates. */
  tls?: TlsFiles;
  application?: Partial<CoordinatorApplication>;
  name?: string;
  bufferedBytes?: number;
}

const TOKENS = [
  'web-1 east token-of-web-1-0001',
  'web-2 east token-of-web-2-0002',
  'db-1 west token-of-db-1-00003',
];

export const tokenOf = (host: string) =>
  TOKENS.find((line) => line.startsWith(`${host} `))?.split(' ')[2] ?? 'token-of-nobody-0000';

export class CoordinatorScene {
  readonly clock = new HandClock();
  readonly log = new KeptLog();
  readonly server: CoordinatorServer;
  /** What the coordinator was told, in order. */
  readonly comings: string[] = [];
  readonly hellos: Hello[] = [];
  admission: Admission = ADMITTED;
  readonly #listener: Server;
  readonly #secure: boolean;

  private constructor(t: Test, { tls, application, name = 'c1', bufferedBytes }: SceneOptions) {
    const file = `${t.testdir({ tokens: `${TOKENS.join('\n')}\n` })}/tokens`;
    const tokens = Tokens.read(file);
    this.#secure = tls !== undefined;
    this.#listener = makeListener(tls ?? null);
    this.server = new CoordinatorServer({
      coordinator: name,
      identify: tls?.clientCa ? byCertificate : byToken(() => tokens),
      log: this.log,
      clock: this.clock,
      ...(bufferedBytes === undefined ? {} : { bufferedBytes }),
      application: {
        admit: async (hello) => {
          this.hellos.push(hello);
          return this.admission;
        },
        call: async () => null,
        joined: ({ host }, resumed) => void this.comings.push(`${host} ${resumed ? 'resumed' : 'joined'}`),
        lost: (host) => void this.comings.push(`${host} lost`),
        left: (host) => void this.comings.push(`${host} left`),
        event: (host, { name }) => void this.comings.push(`${host} says ${name}`),
        progress: () => undefined,
        ...application,
      },
    });
    this.server.attach(this.#listener);
    t.teardown(() => this.stop());
  }

  static async begin(t: Test, options: SceneOptions = {}): Promise<CoordinatorScene> {
    const scene = new CoordinatorScene(t, options);
    await new Promise<void>((resolve) => scene.#listener.listen(0, '127.0.0.1', resolve));
    return scene;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  get address(): string {
    return this.#secure ? `wss://localhost:${this.port}` : `ws://127.0.0.1:${this.port}`;
  }

  /** The coordinator and its port are gone. */
  stop(): void {
    this.server.stop();
    this.#listener.close();
    this.#listener.closeAllConnections();
  }

  /** An agent that stays connected, and answers every probe. */
  agent(t: Test, host: string, more: AgentOptions = {}): Agent {
    const {
      coordinators = [this.address],
      application,
      facts,
      credentials = () => ({ token: tokenOf(host) }),
    } = more;
    const log = new KeptLog();
    const ended: string[] = [];
    const client = new AgentClient({
      coordinators,
      credentials,
      log,
      clock: this.clock,
      random: () => 0,
      application: {
        facts: () => factsOf(host, facts),
        probe: async () => answerOf(host) as HostAnswer,
        command: async () => ({ kind: 'done' }),
        perform: async () => ({ kind: 'done', head: null }),
        claim: async (volume) => ({ volume, answer: answerOf(host) as HostAnswer }),
        describe: async () => SAMPLES.description.description,
        pull: async () => ({ kind: 'done' }),
        digest: async () => ({ sha256: SAMPLES.digested.sha256, bytes: SAMPLES.digested.bytes }),
        group: async () => SAMPLES.grouped.outcome,
        load: async () => SAMPLES.loads.volumes,
        welcomed: () => undefined,
        ended: (because) => void ended.push(because),
        ...application,
      },
    });
    t.teardown(() => client.stop());
    client.start();
    return { client, log, ended };
  }

  /** An agent that is connected. */
  async joined(t: Test, host: string, more: AgentOptions = {}): Promise<Agent> {
    const agent = this.agent(t, host, more);
    this.clock.pass(0);
    await until(`${host} to join`, () => agent.client.isConnected);
    return agent;
  }

  /** A WebSocket that sends what the test wants. */
  stranger(t: Test, token: string | null, protocols = [subprotocolOf(1)]): Promise<Stranger> {
    const headers = token === null ? {} : { headers: { authorization: `Bearer ${token}` } };
    return Stranger.connect(t, new WebSocket(this.address, protocols, headers));
  }
}

export interface AgentOptions {
  coordinators?: string[];
  application?: Partial<AgentApplication>;
  facts?: Partial<HelloFacts>;
  credentials?: Credentials;
}

export interface Agent {
  client: AgentClient;
  log: KeptLog;
  ended: string[];
}

/** What became of an upgrade that was refused. */
export interface RefusedUpgrade {
  status: number;
  body: { code?: string; versions?: number[] };
}

export class Stranger {
  readonly ws: WebSocket;
  readonly got: (Message & { code?: string })[] = [];
  /** The close code; null: it is open. */
  closed: number | null = null;
  refused: RefusedUpgrade | null = null;

  private constructor(ws: WebSocket) {
    this.ws = ws;
    ws.on('message', (data) => this.got.push(JSON.parse(String(data)) as Message));
    ws.on('close', (code) => {
      this.closed = code;
    });
    ws.on('error', () => undefined);
    ws.on('unexpected-response', (_request, response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('end', () => {
        this.refused = {
          status: response.statusCode ?? 0,
          body: JSON.parse(Buffer.concat(pieces).toString()),
        };
      });
    });
  }

  /** Until it is open, or was refused. */
  static async connect(t: Test, ws: WebSocket): Promise<Stranger> {
    const stranger = new Stranger(ws);
    t.teardown(() => ws.terminate());
    await until(
      'an answer to the upgrade',
      () => ws.readyState === WebSocket.OPEN || stranger.refused || stranger.closed,
    );
    return stranger;
  }

  send(message: Message): void {
    this.ws.send(encode(message));
  }

  /** What it got of a type. */
  async next<T extends Message['type']>(type: T): Promise<Message & { type: T; code?: string }> {
    const found = await until(`a ${type}`, () => this.got.find((message) => message.type === type));
    return found as Message & { type: T };
  }

  async closedBy(): Promise<number> {
    return until('the connection to end', () => this.closed);
  }
}
