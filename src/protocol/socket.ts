// One WebSocket of either side: text in and out, with a bound on what it owes and on what it may bring between two ticks.
//
// Invariant: a peer that does not read costs its own connection, never more memory than the bound.

import { type RawData, WebSocket } from 'ws';
import { type Fault, fault } from './faults.js';
import { LIMITS, TIMES } from './limits.js';
import type { Clock } from './timing.js';

/** What is used of a WebSocket: one that is simulated has no more. */
export type Wire = Pick<
  WebSocket,
  | 'on'
  | 'send'
  | 'pong'
  | 'close'
  | 'terminate'
  | 'pause'
  | 'resume'
  | 'isPaused'
  | 'bufferedAmount'
  | 'readyState'
>;

export interface SocketEvents {
  text(text: string): void;
  broken(wrong: Fault): void;
  closed(code: number): void;
}

export class Socket {
  readonly #ws: Wire;
  readonly #clock: Clock;
  readonly #bufferedBytes: number;
  #messages = 0;
  #bytes = 0;
  #cancelTermination: (() => void) | undefined;

  constructor(ws: Wire, clock: Clock, events: SocketEvents, bufferedBytes: number = LIMITS.bufferedBytes) {
    this.#ws = ws;
    this.#clock = clock;
    this.#bufferedBytes = bufferedBytes;
    ws.on('message', (data, isBinary) => {
      if (isBinary) return events.broken(fault('binary-frame', 'A binary frame came.'));
      const text = asString(data);
      this.#count(text.length);
      events.text(text);
    });
    // Heartbeats are the protocol's own. Others' are answered while what was answered before has left.
    ws.on('ping', (data) => {
      this.#count(data.length);
      if (ws.bufferedAmount === 0 && ws.readyState === WebSocket.OPEN) ws.pong(data);
    });
    ws.on('error', (error: NodeJS.ErrnoException) => {
      const wrong = faultOf(error);
      if (wrong) events.broken(wrong);
    });
    ws.on('close', (code) => {
      this.#cancelTermination?.();
      events.closed(code);
    });
  }

  /** False: the peer does not read, and this connection has to end. */
  send(text: string): boolean {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(text);
    return this.#ws.bufferedAmount <= this.#bufferedBytes;
  }

  /** Ends it in order, or by force when the peer does not play along. */
  close(code: number, reason: string): void {
    this.#ws.close(code, reason);
    this.#ws.resume();
    this.#cancelTermination ??= this.#clock.after(TIMES.closeMs, () => this.#ws.terminate());
  }

  terminate(): void {
    this.#ws.terminate();
  }

  /** What waited in the socket may come. */
  tick(): void {
    this.#messages = 0;
    this.#bytes = 0;
    if (this.#ws.isPaused) this.#ws.resume();
  }

  #count(bytes: number): void {
    this.#messages++;
    this.#bytes += bytes;
    if (this.#messages > LIMITS.messagesPerTick || this.#bytes > LIMITS.bytesPerTick) this.#ws.pause();
  }
}

function asString(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return Buffer.isBuffer(data) ? data.toString() : Buffer.from(data).toString();
}

/** Undefined: nothing the peer has sent; the close that follows says it all. */
function faultOf({ code }: NodeJS.ErrnoException): Fault | undefined {
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' || code === 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH')
    return fault('too-large', `A message has more than ${LIMITS.messageBytes} bytes.`);
  if (code?.startsWith('WS_ERR_')) return fault('frame-invalid', 'A frame breaks the rules of WebSocket.');
  return undefined;
}
