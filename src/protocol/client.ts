// The agent's end over real sockets: finds the coordinator that leads, stays connected, and carries out what HostMachine wants.
//
// Invariant: it never gives up by itself, and nothing the agent does otherwise waits for it.

import { WebSocket } from 'ws';
import type { HostAnswer } from '../model/cell/answer.js';
import type { HostCommand } from '../model/cell/host-record.js';
import type { CommandOutcome } from '../model/cell/resolution.js';
import type { Head } from '../model/cell/route.js';
import { Dialer } from './dialer.js';
import { log as logged } from './effects.js';
import {
  type Call,
  type Digest,
  failureOf,
  freshId,
  type GroupOutcome,
  type GroupStep,
  type HostEvent,
  type PerformedOperation,
  type Progress,
  type ProgressReport,
  type Pull,
  type VolumeDescription,
  type VolumeLoad,
} from './exchange.js';
import { FAULTS } from './faults.js';
import { type HelloFacts, type HostEffect, HostMachine } from './host-machine.js';
import { LIMITS, TIMES } from './limits.js';
import { type Log, writeTo } from './log.js';
import type { Reply, ReplyBody, Request, Welcome } from './messages.js';
import { Socket, type Wire } from './socket.js';
import { type Clock, systemClock } from './timing.js';
import { SPOKEN_VERSIONS, subprotocolOf } from './version.js';

export type SaidOutcome = Exclude<CommandOutcome, { kind: 'silent' }>;

/** What the agent does behind the protocol. What it throws is told as a failure, with the code and the hint of a CellblockError. */
export interface AgentApplication {
  /** What stands in a hello, as it is now. */
  facts(): HelloFacts | Promise<HelloFacts>;
  probe(volume: string, seqs: readonly number[]): Promise<HostAnswer>;
  command(volume: string, command: HostCommand): Promise<SaidOutcome>;
  perform(asked: Performed, progress: (report: ProgressReport) => void): Promise<SaidOutcome>;
  /** A volume of this name, which no cell knows, gets this id, and the snapshots it has a lineage. */
  claim(volume: string, name: string): Promise<{ volume: string; answer: HostAnswer }>;
  /** Its snapshots behind `after`, oldest first. */
  describe(volume: string, after: string | null): Promise<VolumeDescription>;
  /** Resolves when the copy is begun, or goes on as this says; how far it is comes as progress, its end as an event. */
  pull(volume: string, pull: Pull): Promise<SaidOutcome>;
  /** Of what the snapshot changed since another one of its lineage. */
  digest(volume: string, of: { snapshot: string; since: string | null }): Promise<Digest>;
  /** A step of a snapshot of several volumes in one instant. */
  group(group: string, step: GroupStep): Promise<GroupOutcome>;
  /** How much was written to each volume since this agent began. */
  load(): Promise<VolumeLoad[]>;
  welcomed(welcome: Welcome): void;
  /** The session is over: calls under way are settled, and it may have to serve alone. */
  ended(because: string): void;
}

export interface Performed {
  volume: string;
  epoch: number;
  parent: Head | null;
  operation: PerformedOperation;
}

/** How the agent says who it is. Read anew for every connection: files may have been replaced. */
export type Credentials = () => { ca?: Buffer; cert?: Buffer; key?: Buffer; token?: string };

/** Begins a connection to a coordinator; it tells by events what becomes of it. Throws for credentials that cannot be used. */
export type DialWire = (address: string, credentials: ReturnType<Credentials>) => Wire;

export interface AgentClientOptions {
  /** Addresses, wss://HOST:PORT each. */
  coordinators: readonly string[];
  credentials: Credentials;
  application: AgentApplication;
  log: Log;
  clock?: Clock;
  random?: () => number;
  times?: Partial<typeof TIMES>;
  /** Instead of a WebSocket. */
  dial?: DialWire;
}

export type CallOutcome =
  | { kind: 'done'; value: unknown }
  | { kind: 'failed'; code: string; message: string; hint: string }
  /** It may have been done; asking again with the same id does it once. */
  | { kind: 'silent' };

export interface CallOptions {
  timeoutMs: number;
  /** 32 hexadecimal digits; the same for the same call. */
  id?: string;
  progress?: (report: Progress) => void;
}

interface Pending {
  settle: (reply: Reply | null) => void;
  progress: CallOptions['progress'];
}

const dialSocket: DialWire = (address, { token, ...tls }) =>
  new WebSocket(address, SPOKEN_VERSIONS.map(subprotocolOf), {
    ...tls,
    ...(token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
    minVersion: 'TLSv1.3',
    maxPayload: LIMITS.messageBytes,
    perMessageDeflate: false,
    followRedirects: false,
    autoPong: false,
  });

export class AgentClient {
  readonly #options: AgentClientOptions;
  readonly #clock: Clock;
  readonly #machine: HostMachine;
  readonly #dialer: Dialer;
  readonly #pending = new Map<string, Pending>();
  readonly #times: typeof TIMES;
  #socket: Socket | null = null;
  #cancelDial: () => void = () => undefined;
  #endTicks: () => void = () => undefined;
  #state: 'idle' | 'running' | 'stopped' = 'idle';

  /** Throws `coordinator-address-invalid`. */
  constructor(options: AgentClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#times = { ...TIMES, ...options.times } as typeof TIMES;
    this.#machine = new HostMachine(this.#times);
    this.#dialer = new Dialer(options.coordinators, options.random ?? Math.random);
  }

  get isConnected(): boolean {
    return this.#machine.isLive;
  }

  /** See HostMachine. */
  get clockDifferenceMs(): number | null {
    return this.#machine.clockDifferenceMs;
  }

  start(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'running';
    this.#endTicks = this.#clock.every(this.#times.tickMs, () => {
      this.#socket?.tick();
      this.#run(this.#machine.tick(this.#clock.now()));
    });
    this.#dialNext();
  }

  /** Says goodbye and lets go. */
  stop(reason: 'stopping' | 'restarting' = 'stopping'): void {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    this.#cancelDial();
    this.#endTicks();
    this.#run(this.#machine.stop(reason));
    this.#socket?.close(FAULTS.stopping.close, 'stopping');
  }

  /** A verb for the coordinator. */
  async call(call: Call, { timeoutMs, id = freshId(), progress }: CallOptions): Promise<CallOutcome> {
    const reply = await new Promise<Reply | null>((settle, reject) => {
      this.#pending.set(id, { settle, progress });
      try {
        this.#run(this.#machine.request({ type: 'call', id, call }, timeoutMs, this.#clock.now()));
      } catch (error) {
        this.#pending.delete(id);
        reject(error);
      }
    });
    if (reply?.type === 'result') return { kind: 'done', value: reply.value };
    if (reply?.type !== 'failed') return { kind: 'silent' };
    return { kind: 'failed', code: reply.code, message: reply.message, hint: reply.hint };
  }

  event(event: Omit<HostEvent, 'type' | 'seq' | 'ack'>): void {
    this.#run(this.#machine.tell({ type: 'event', ...event }));
  }

  /** Of a copy that goes on by itself. */
  progress(report: ProgressReport): void {
    this.#run(this.#machine.tell({ type: 'progress', of: null, ...report }));
  }

  #dialNext(): void {
    if (this.#state !== 'running') return;
    const { address, delayMs } = this.#dialer.next();
    this.#cancelDial = this.#clock.after(delayMs, () => this.#dial(address));
  }

  #dial(address: string): void {
    const { log } = this.#options;
    const ws = this.#connect(address);
    if (!ws) {
      this.#dialNext();
      return;
    }
    ws.on('unexpected-response', (_request, response) => {
      writeTo(log, logged('warn', 'upgrade-refused', { address, status: response.statusCode ?? 0 }));
      response.destroy();
      ws.terminate();
    });
    // Without a TCP connection, a TLS or an HTTP answer there is nobody whom a machine could time.
    this.#cancelDial = this.#clock.after(this.#times.dialMs, () => {
      this.#dialer.silent();
      ws.terminate();
    });
    const socket: Socket = new Socket(ws, this.#clock, {
      text: (text) => {
        if (socket === this.#socket) this.#run(this.#machine.text(text, this.#clock.now()));
      },
      broken: (wrong) => this.#run(this.#machine.broken(wrong)),
      closed: () => this.#closed(),
    });
    this.#socket = socket;
    ws.on('error', (error: NodeJS.ErrnoException) =>
      writeTo(log, logged('info', 'dial-failed', { address, code: error.code ?? '' })),
    );
    ws.on('open', () => {
      this.#cancelDial();
      void this.#opened(socket);
    });
  }

  /** Undefined: its credentials cannot be read, or used. */
  #connect(address: string): Wire | undefined {
    const { dial = dialSocket, credentials } = this.#options;
    try {
      return dial(address, credentials());
    } catch (error) {
      this.#options.log.error({ address, err: error }, 'the coordinator cannot be dialled');
      return undefined;
    }
  }

  async #opened(socket: Socket): Promise<void> {
    try {
      const facts = await this.#options.application.facts();
      if (socket === this.#socket && this.#state === 'running')
        this.#run(this.#machine.opened(facts, this.#clock.now()));
    } catch (error) {
      this.#options.log.error({ err: error }, 'this host cannot say hello');
      socket.close(FAULTS.internal.close, 'internal');
    }
  }

  #closed(): void {
    this.#cancelDial();
    this.#socket = null;
    this.#run(this.#machine.closed());
    this.#dialNext();
  }

  #run(effects: readonly HostEffect[]): void {
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: HostEffect): void {
    const { application, log } = this.#options;
    switch (effect.do) {
      case 'send':
        if (this.#socket && !this.#socket.send(effect.text)) this.#socket.terminate();
        break;
      case 'close':
        if (effect.code === FAULTS.silent.close) this.#dialer.silent();
        this.#socket?.close(effect.code, effect.reason);
        break;
      case 'welcomed':
        this.#dialer.welcomed();
        application.welcomed(effect.welcome);
        break;
      case 'refused':
        this.#dialer.refused(effect.refused);
        break;
      case 'ended':
        application.ended(effect.because);
        break;
      case 'request':
        void this.#serve(effect.request);
        break;
      case 'settle':
        this.#settle(effect);
        break;
      case 'told':
        if (effect.told.type === 'progress') this.#pending.get(effect.told.of ?? '')?.progress?.(effect.told);
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

  async #serve(request: Request): Promise<void> {
    try {
      this.#run(this.#machine.reply(await this.#answer(request)));
    } catch (error) {
      this.#run(this.#machine.reply(failureOf(request.id, error)));
    }
  }

  async #answer(request: Request): Promise<ReplyBody> {
    const { application } = this.#options;
    const { id } = request;
    switch (request.type) {
      case 'probe':
        return {
          type: 'answer',
          id,
          volume: request.volume,
          answer: await application.probe(request.volume, request.seqs),
        };
      case 'command':
        return { type: 'outcome', id, outcome: await application.command(request.volume, request.command) };
      case 'perform': {
        const progress = (report: ProgressReport) =>
          this.#run(this.#machine.tell({ type: 'progress', of: id, ...report }));
        return { type: 'outcome', id, outcome: await application.perform(request, progress) };
      }
      case 'claim':
        return {
          type: 'answer',
          id,
          ...(await application.claim(request.volume, request.name)),
        };
      case 'describe':
        return {
          type: 'description',
          id,
          description: await application.describe(request.volume, request.after),
        };
      case 'pull':
        return { type: 'outcome', id, outcome: await application.pull(request.volume, request.pull) };
      case 'digest':
        return { type: 'digested', id, ...(await application.digest(request.volume, request)) };
      case 'group':
        return { type: 'grouped', id, outcome: await application.group(request.group, request.step) };
      case 'load':
        return { type: 'loads', id, volumes: await application.load() };
      case 'call':
        throw new Error('a coordinator calls nobody');
    }
  }
}
