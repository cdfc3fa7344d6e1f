// An established session of either side: order, requests and their replies, heartbeats. A machine: events in, effects out. It lives on while
// there is no connection, and goes on with the next one.
//
// Invariants: after a `break` nothing of that connection is looked at. Time is the monotonic one of whoever drives it; the time of day is
// only watched.

import { type Clocks, ClockWatch } from './clock-watch.js';
import { encode, encodeBody } from './codec.js';
import { type ConversationEffect, log } from './effects.js';
import { type Fault, type FaultCode, fault } from './faults.js';
import { LIMITS } from './limits.js';
import { Link } from './link.js';
import {
  isNumbered,
  isReply,
  isRequest,
  type Message,
  type MessageOf,
  mayCome,
  type NumberedMessage,
  REPLIES,
  type Reply,
  type ReplyBody,
  type Request,
  type RequestBody,
  type Side,
  type TellBody,
} from './messages.js';
import { type Answered, Asked } from './requests.js';

/**
 * What was received may wait so long, and be so much, before it is acknowledged by itself: what is said meanwhile acknowledges it too. It is a small
 * part of what a peer may keep, and of the time it may be silent.
 */
const UNTOLD = { messages: 64, bytes: 1 << 20, milliseconds: 1_000 };

/** A message that came, and how long its text is. */
export interface Incoming<M extends Message = Message> {
  message: M;
  bytes: number;
}

export interface ConversationOptions {
  side: Side;
  /** What the peer asked in this session and those before it. */
  answered: Answered;
  heartbeatMs: number;
  silenceMs: number;
  /** Whether a reply speaks for whom it may; undefined: it does. */
  checkReply: (reply: Reply) => Fault | undefined;
}

export class Conversation {
  readonly #options: ConversationOptions;
  readonly #link = new Link();
  readonly #asked = new Asked();
  #connected = false;
  #heardMs = 0;
  /** When the first message came that is not acknowledged. */
  #untoldMs = 0;
  #pings = { sent: 0, answered: 0, sentMs: 0 };
  #peersClock = new ClockWatch();

  constructor(options: ConversationOptions) {
    this.#options = options;
  }

  /** The last numbered message that was received. */
  get received(): number {
    return this.#link.received;
  }

  get unsettled(): number {
    return this.#asked.size;
  }

  canResumeFrom(received: number): boolean {
    return this.#link.canResumeFrom(received);
  }

  /** There is a connection, and the peer has received so much. */
  connected(peerReceived: number, now: Clocks): ConversationEffect[] {
    this.#connected = true;
    this.#heardMs = now.uptimeMs;
    this.#pings.sentMs = now.uptimeMs;
    this.#peersClock = new ClockWatch();
    return this.#link.lacking(peerReceived).map((text) => ({ do: 'send', text }));
  }

  disconnected(): void {
    this.#connected = false;
  }

  /** The session is over: what was asked is not answered any more. */
  end(): ConversationEffect[] {
    this.#connected = false;
    return this.#silence(this.#asked.takeDue());
  }

  /** Asks the peer. Settled as silent after `timeoutMs`. Throws for a request that its schema refuses. */
  request(request: RequestBody, timeoutMs: number, now: Clocks): ConversationEffect[] {
    const text = encodeBody(request);
    this.#asked.add(request, now.uptimeMs + timeoutMs);
    return this.#number(text);
  }

  /** Answers a request of the peer; one that it did not ask, or that was answered, is left. */
  reply(reply: ReplyBody): ConversationEffect[] {
    const text = encodeBody(reply);
    return this.#options.answered.reply(reply, text.length) ? this.#number(text) : [];
  }

  tell(told: TellBody): ConversationEffect[] {
    return this.#number(encodeBody(told));
  }

  receive({ message, bytes }: Incoming, now: Clocks): ConversationEffect[] {
    this.#heardMs = now.uptimeMs;
    const peer = this.#options.side === 'host' ? 'coordinator' : 'host';
    if (!mayCome(message, peer)) return breaks('wrong-direction', `A ${peer} sends no \`${message.type}\`.`);
    if ('ack' in message) {
      const wrong = this.#link.acknowledge(message.ack);
      if (wrong) return [{ do: 'break', fault: wrong }];
    }
    if (isNumbered(message)) return this.#numbered({ message, bytes }, now);
    switch (message.type) {
      case 'hello':
      case 'welcome':
      case 'refused':
        return breaks('hello-repeated', `A second \`${message.type}\` came in one connection.`);
      case 'error':
        return [log('warn', 'peer-complained', { code: message.code, id: message.id })];
      case 'goodbye':
        return [{ do: 'goodbye', reason: message.reason }];
      case 'ping':
        return [
          ...this.#watch(message),
          ...this.#send({ type: 'pong', number: message.number, ack: this.#link.tell(), ...rounded(now) }),
        ];
      case 'pong':
        return this.#pong(message);
      case 'ack':
        return [];
    }
  }

  /** Deadlines. `stalledMs`: for so long nothing could be received, through no fault of the peer's. */
  tick(now: Clocks, stalledMs: number): ConversationEffect[] {
    const effects = this.#silence(this.#asked.takeDue(now.uptimeMs));
    if (!this.#connected) return effects;
    this.#heardMs = Math.min(now.uptimeMs, this.#heardMs + stalledMs);
    const { side, heartbeatMs, silenceMs } = this.#options;
    if (now.uptimeMs - this.#heardMs >= silenceMs)
      return [...effects, ...breaks('silent', `Nothing was heard for ${silenceMs} ms.`)];
    if (side === 'coordinator' && now.uptimeMs - this.#pings.sentMs >= heartbeatMs) {
      this.#pings.sentMs = now.uptimeMs;
      const number = ++this.#pings.sent;
      effects.push(...this.#send({ type: 'ping', number, ack: this.#link.tell(), ...rounded(now) }));
    } else if (this.#link.untold > 0 && now.uptimeMs - this.#untoldMs >= UNTOLD.milliseconds)
      effects.push(...this.#send({ type: 'ack', ack: this.#link.tell() }));
    return effects;
  }

  /** Tells the peer that a message was not taken; the connection goes on. */
  complain(code: FaultCode, message: string, id: string | null = null): ConversationEffect[] {
    return [log('warn', code, { id }), ...this.#send({ type: 'error', code, message, id })];
  }

  #numbered({ message, bytes }: Incoming<NumberedMessage>, now: Clocks): ConversationEffect[] {
    if (this.#link.untold === 0) this.#untoldMs = now.uptimeMs;
    const received = this.#link.receive(message.seq, bytes);
    if (received === 'duplicate')
      return this.complain(
        'duplicate',
        `Message ${message.seq} came before.`,
        'id' in message ? (message.id as string) : null,
      );
    if (received !== 'deliver') return [{ do: 'break', fault: received }];
    const effects = this.#deliver(message);
    if (this.#link.untold >= UNTOLD.messages || this.#link.untoldBytes >= UNTOLD.bytes)
      effects.push(...this.#send({ type: 'ack', ack: this.#link.tell() }));
    return effects;
  }

  #deliver(message: NumberedMessage): ConversationEffect[] {
    if (isRequest(message)) return this.#take(message);
    if (isReply(message)) return this.#settle(message);
    return [{ do: 'told', told: message }];
  }

  #take(request: Request): ConversationEffect[] {
    const { id } = request;
    const verdict = this.#options.answered.take(request);
    switch (verdict.take) {
      case 'new':
        return [{ do: 'request', request }];
      case 'again':
        return [log('info', 'request-replayed', { id }), ...this.#number(encodeBody(verdict.reply))];
      case 'in-progress':
        return [log('info', 'request-replayed', { id })];
      case 'id-reused':
        return this.complain('request-id-reused', 'The id of this request belongs to another one.', id);
      case 'too-many':
        return [
          log('warn', 'too-many-requests', { id }),
          ...this.#number(
            encodeBody({
              type: 'failed',
              id,
              code: 'too-many-requests',
              message: `${LIMITS.requestsInProgress} requests are being worked on.`,
              hint: 'Try again later.',
            }),
          ),
        ];
    }
  }

  #settle(reply: Reply): ConversationEffect[] {
    const request = this.#asked.get(reply.id);
    // Its time is over, or it belongs to a session of before.
    if (!request) return [log('debug', 'reply-late', { id: reply.id })];
    const fitting: readonly string[] = REPLIES[request.type];
    if (!fitting.includes(reply.type))
      return breaks('reply-mismatch', `A \`${request.type}\` is not answered by \`${reply.type}\`.`);
    // What is claimed may have had an id before.
    if (reply.type === 'answer' && request.type === 'probe' && reply.volume !== request.volume)
      return breaks('reply-mismatch', 'An answer is about another volume than what it answers.');
    const wrong = this.#options.checkReply(reply);
    if (wrong) return [{ do: 'break', fault: wrong }];
    this.#asked.settle(reply.id);
    return [{ do: 'settle', id: reply.id, reply }];
  }

  #pong(message: MessageOf<'pong'>): ConversationEffect[] {
    const { sent, answered } = this.#pings;
    if (message.number > sent) return breaks('out-of-order', `Heartbeat ${message.number} was never sent.`);
    if (message.number <= answered)
      return this.complain('duplicate', `Heartbeat ${message.number} was answered before.`);
    this.#pings.answered = message.number;
    return this.#watch(message);
  }

  #watch({ clockMs, uptimeMs }: Clocks): ConversationEffect[] {
    const jumpMs = this.#peersClock.look({ clockMs, uptimeMs });
    return jumpMs === undefined ? [] : [log('warn', 'clock-jumped', { jumpMs })];
  }

  #silence(ids: readonly string[]): ConversationEffect[] {
    return ids.map((id) => ({ do: 'settle', id, reply: null }));
  }

  #number(body: string): ConversationEffect[] {
    const text = this.#link.number(body);
    if (this.#link.isOverrun) return breaks('slow-reader', 'Too much was sent that is not acknowledged.');
    return this.#connected ? [{ do: 'send', text }] : [];
  }

  #send(message: Message): ConversationEffect[] {
    return this.#connected ? [{ do: 'send', text: encode(message) }] : [];
  }
}

function breaks(code: FaultCode, message: string): ConversationEffect[] {
  return [{ do: 'break', fault: fault(code, message) }];
}

/** As they go over the wire. */
function rounded({ clockMs, uptimeMs }: Clocks): Clocks {
  return { clockMs: Math.max(0, Math.round(clockMs)), uptimeMs: Math.max(0, Math.round(uptimeMs)) };
}

/** Of a session that ends with this fault nothing can be taken up again: one side does not follow the protocol. */
export function endsSession({ code }: Fault): boolean {
  return code !== 'silent';
}
