// The coordinator's end over real sockets: carries out what CoordinatorMachine wants, and gives its owner promises instead of effects.

import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { HostAnswer } from '../model/cell/answer.js';
import type { HostCommand } from '../model/cell/host-record.js';
import type { CommandOutcome } from '../model/cell/resolution.js';
import type { Head } from '../model/cell/route.js';
import type { Admission, ConnectionId, CoordinatorEffect } from './coordinator-effects.js';
import { CoordinatorMachine } from './coordinator-machine.js';
import { log as logged } from './effects.js';
import {
  type Call,
  failureOf,
  freshId,
  type GroupStep,
  type HostEvent,
  type PerformedOperation,
  type Progress,
  type ProgressReport,
  type Pull,
} from './exchange.js';
import { fault } from './faults.js';
import { LIMITS, TIMES } from './limits.js';
import { type Identify, offered, refuseUpgrade, whyNotUpgraded } from './listener.js';
import { type Log, writeTo } from './log.js';
import type { Body, Hello, MessageOf, Reply, ReplyBody, RequestBody } from './messages.js';
import { Socket, type Wire } from './socket.js';
import { type Clock, systemClock } from './timing.js';

/** What decides behind the protocol. */
export interface CoordinatorApplication {
  /** May this host join? Asked anew for every connection. */
  admit(hello: Hello, resuming: boolean): Promise<Admission>;
  /** A verb of a command line. What it gives is the result; a CellblockError is told with its code and hint. */
  call(host: string, call: Call, progress: (report: ProgressReport) => void): Promise<unknown>;
  joined(hello: Hello, resumed: boolean): void;
  /** The connection is gone; what is asked meanwhile waits for the next one, or for its deadline. */
  lost(host: string): void;
  left(host: string, because: string): void;
  event(host: string, event: HostEvent): void;
  /** Of a copy that goes on by itself. */
  progress(host: string, progress: Progress): void;
}

export interface CoordinatorServerOptions {
  /** What this coordinator is called. */
  coordinator: string;
  identify: Identify;
  application: CoordinatorApplication;
  log: Log;
  clock?: Clock;
  times?: Partial<typeof TIMES>;
  /** What a socket may owe before its host counts as not reading. */
  bufferedBytes?: number;
}

/** What a host made of a request. `silent`: it may have been done. */
export type Asked<T extends Reply['type']> =
  | { kind: 'done'; reply: Extract<Reply, { type: T }> }
  | { kind: 'failed'; code: string; message: string; hint: string }
  | { kind: 'silent' };

interface Pending {
  settle: (reply: Reply | null) => void;
  progress: ((report: Progress) => void) | undefined;
}

export class CoordinatorServer {
  readonly #options: CoordinatorServerOptions;
  readonly #clock: Clock;
  readonly #machine: CoordinatorMachine;
  readonly #sockets = new Map<ConnectionId, Socket>();
  readonly #pending = new Map<string, Pending>();
  readonly #upgrades = new WebSocketServer({
    noServer: true,
    maxPayload: LIMITS.messageBytes,
    perMessageDeflate: false,
    clientTracking: false,
    autoPong: false,
    handleProtocols: (_protocols, request) => offered(request) ?? false,
  });
  readonly #endTicks: () => void;
  #connections = 0;
  #stopped = false;

  constructor(options: CoordinatorServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#machine = new CoordinatorMachine({
      coordinator: options.coordinator,
      freshId,
      ...(options.times ? { times: options.times } : {}),
    });
    this.#endTicks = this.#clock.every(options.times?.tickMs ?? TIMES.tickMs, () => this.#tick());
  }

  /** Takes the upgrades of a listener. */
  attach(listener: Server): void {
    listener.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    listener.on('tlsClientError', (error: NodeJS.ErrnoException) =>
      writeTo(this.#options.log, logged('warn', 'tls-refused', { code: error.code ?? '' })),
    );
  }

  /** The hosts that are connected, as they said hello. */
  get hosts(): Hello[] {
    return this.#machine.hosts;
  }

  /** Those of them that have said there to hold a part of a volume. */
  holdersOf(volume: string): string[] {
    return this.#machine.holdersOf(volume);
  }

  isConnected(host: string): boolean {
    return this.#machine.isConnected(host);
  }

  /** Null: no answer in time. */
  async probe(
    host: string,
    ask: { volume: string; seqs: number[] },
    timeoutMs: number,
  ): Promise<HostAnswer | null> {
    const reply = await this.#request(host, { type: 'probe', id: freshId(), ...ask }, timeoutMs);
    return reply?.type === 'answer' ? reply.answer : null;
  }

  command(
    host: string,
    { volume, command }: { volume: string; command: HostCommand },
    timeoutMs: number,
  ): Promise<CommandOutcome> {
    return this.#outcome(host, { type: 'command', id: freshId(), volume, command }, timeoutMs);
  }

  perform(
    host: string,
    asked: { volume: string; epoch: number; parent: Head | null; operation: PerformedOperation },
    timeoutMs: number,
    progress?: (report: Progress) => void,
  ): Promise<CommandOutcome> {
    return this.#outcome(host, { type: 'perform', id: freshId(), ...asked }, timeoutMs, progress);
  }

  claim(host: string, asked: { volume: string; name: string }, timeoutMs: number): Promise<Asked<'answer'>> {
    return this.#asked(host, { type: 'claim', id: freshId(), ...asked }, 'answer', timeoutMs);
  }

  describe(
    host: string,
    asked: { volume: string; after: string | null },
    timeoutMs: number,
  ): Promise<Asked<'description'>> {
    return this.#asked(host, { type: 'describe', id: freshId(), ...asked }, 'description', timeoutMs);
  }

  pull(host: string, asked: { volume: string; pull: Pull }, timeoutMs: number): Promise<CommandOutcome> {
    return this.#outcome(host, { type: 'pull', id: freshId(), ...asked }, timeoutMs);
  }

  digest(
    host: string,
    asked: { volume: string; snapshot: string; since: string | null },
    timeoutMs: number,
  ): Promise<Asked<'digested'>> {
    return this.#asked(host, { type: 'digest', id: freshId(), ...asked }, 'digested', timeoutMs);
  }

  group(
    host: string,
    asked: { group: string; step: GroupStep },
    timeoutMs: number,
  ): Promise<Asked<'grouped'>> {
    return this.#asked(host, { type: 'group', id: freshId(), ...asked }, 'grouped', timeoutMs);
  }

  load(host: string, timeoutMs: number): Promise<Asked<'loads'>> {
    return this.#asked(host, { type: 'load', id: freshId() }, 'loads', timeoutMs);
  }

  /** Another coordinator leads now: all hosts are sent there. */
  dismiss(): void {
    this.#run(this.#machine.dismiss());
  }

  /** Everybody is told and let go. The listener is its owner's to close. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#endTicks();
    this.#run(this.#machine.stop());
  }

  async #outcome(
    host: string,
    request: RequestBody,
    timeoutMs: number,
    progress?: (report: Progress) => void,
  ): Promise<CommandOutcome> {
    const reply = await this.#request(host, request, timeoutMs, progress);
    if (reply?.type === 'outcome') return reply.outcome;
    if (reply?.type === 'failed') return { kind: 'failed', code: reply.code, message: reply.message };
    return { kind: 'silent' };
  }

  async #asked<T extends Reply['type']>(
    host: string,
    request: RequestBody,
    type: T,
    timeoutMs: number,
  ): Promise<Asked<T>> {
    const reply = await this.#request(host, request, timeoutMs);
    if (reply?.type === type) return { kind: 'done', reply: reply as Extract<Reply, { type: T }> };
    if (reply?.type !== 'failed') return { kind: 'silent' };
    return { kind: 'failed', code: reply.code, message: reply.message, hint: reply.hint };
  }

  #request(
    host: string,
    request: RequestBody,
    timeoutMs: number,
    progress?: (report: Progress) => void,
  ): Promise<Reply | null> {
    return new Promise((settle, reject) => {
      this.#pending.set(request.id, { settle, progress });
      try {
        this.#run(this.#machine.request(host, request, timeoutMs, this.#clock.now()));
      } catch (error) {
        this.#pending.delete(request.id);
        reject(error);
      }
    });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const identity = this.#options.identify(request);
    const refusal = this.#stopped
      ? ({ status: 404, code: 'stopping' } as const)
      : whyNotUpgraded(request, identity);
    if (refusal) {
      const from = request.socket.remoteAddress ?? '';
      writeTo(this.#options.log, logged('warn', refusal.code, { from, status: refusal.status }));
      refuseUpgrade(socket, refusal);
      return;
    }
    this.#upgrades.handleUpgrade(request, socket, head, (ws) => this.accept(ws, identity!));
  }

  /** A connection that is open, of whoever has proved to be this host. */
  accept(ws: Wire, identity: { host: string; cell: string }): void {
    const id = ++this.#connections;
    const socket = new Socket(
      ws,
      this.#clock,
      {
        text: (text) => this.#run(this.#machine.text(id, text, this.#clock.now())),
        broken: (wrong) => this.#run(this.#machine.broken(id, wrong, this.#clock.now())),
        closed: () => {
          this.#sockets.delete(id);
          this.#run(this.#machine.closed(id, this.#clock.now()));
        },
      },
      this.#options.bufferedBytes,
    );
    this.#sockets.set(id, socket);
    this.#run(this.#machine.opened(id, identity, this.#clock.now()));
  }

  #tick(): void {
    for (const socket of this.#sockets.values()) socket.tick();
    this.#run(this.#machine.tick(this.#clock.now()));
  }

  #run(effects: readonly CoordinatorEffect[]): void {
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: CoordinatorEffect): void {
    const { application, log } = this.#options;
    switch (effect.do) {
      case 'send':
        this.#send(effect.connection, effect.text);
        break;
      case 'close':
        this.#sockets.get(effect.connection)?.close(effect.code, effect.reason);
        break;
      case 'admit':
        void this.#admit(effect);
        break;
      case 'joined':
        application.joined(effect.hello, effect.resumed);
        break;
      case 'lost':
        application.lost(effect.host);
        break;
      case 'left':
        application.left(effect.host, effect.because);
        break;
      case 'request':
        void this.#serve(effect.host, effect.request as MessageOf<'call'>);
        break;
      case 'settle':
        this.#settle(effect);
        break;
      case 'told':
        if (effect.told.type === 'event') application.event(effect.host, effect.told);
        else this.#progress(effect.host, effect.told);
        break;
      case 'log':
        writeTo(log, effect);
        break;
    }
  }

  #settle({ id, reply }: { id: string; reply: Reply | null }): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.settle(reply);
  }

  #send(connection: ConnectionId, text: string): void {
    const socket = this.#sockets.get(connection);
    if (!socket || socket.send(text)) return;
    const wrong = fault('slow-reader', 'The peer does not read what it is sent.');
    this.#sockets.delete(connection);
    socket.terminate();
    this.#run(this.#machine.broken(connection, wrong, this.#clock.now()));
  }

  #progress(host: string, progress: Progress): void {
    if (progress.of === null) this.#options.application.progress(host, progress);
    else this.#pending.get(progress.of)?.progress?.(progress);
  }

  async #admit({ connection, hello, resuming }: CoordinatorEffect & { do: 'admit' }): Promise<void> {
    let admission: Admission;
    try {
      admission = await this.#options.application.admit(hello, resuming);
    } catch (error) {
      this.#options.log.error({ host: hello.host, err: error }, 'a hello could not be looked at');
      admission = {
        admit: false,
        code: 'busy',
        message: 'Try again later.',
        leader: null,
        retryAfterMs: null,
      };
    }
    this.#run(this.#machine.admitted(connection, admission, this.#clock.now()));
  }

  async #serve(host: string, { id, call }: MessageOf<'call'>): Promise<void> {
    const progress = (report: ProgressReport) =>
      this.#run(this.#machine.tell(host, { type: 'progress', of: id, ...report }, this.#clock.now()));
    try {
      this.#reply(host, {
        type: 'result',
        id,
        value: (await this.#options.application.call(host, call, progress)) ?? null,
      });
    } catch (error) {
      this.#reply(host, failureOf(id, error));
    }
  }

  #reply(host: string, reply: ReplyBody & Body): void {
    this.#run(this.#machine.reply(host, reply, this.#clock.now()));
  }
}
