// A host's side of its connection to a coordinator: hello, welcome, and the session, which outlives connections. A machine: events in,
// effects out.
//
// Invariant: nothing the coordinator asks is taken before the welcome. A session that the coordinator does not know any more ends what was
// asked in it as silence: it may have been done.

import { type Clocks, ClockWatch } from './clock-watch.js';
import { decode, encode } from './codec.js';
import { Conversation, endsSession, type Incoming } from './conversation.js';
import { type ConversationEffect, type LogEvent, log, type Told } from './effects.js';
import { FAULTS, type Fault, type FaultCode, fault } from './faults.js';
import { TIMES } from './limits.js';
import type {
  Hello,
  Message,
  Refused,
  Reply,
  ReplyBody,
  Request,
  RequestBody,
  TellBody,
  Welcome,
} from './messages.js';
import { Answered } from './requests.js';
import { SPOKEN_VERSIONS } from './version.js';

/** What a host says of itself; the machine adds what belongs to the protocol. */
export type HelloFacts = Omit<Hello, 'type' | 'versions' | 'resume'>;

export type HostEffect =
  | { do: 'send'; text: string }
  | { do: 'close'; code: number; reason: FaultCode }
  | { do: 'welcomed'; welcome: Welcome }
  | { do: 'refused'; refused: Refused }
  /** There is no session any more. */
  | { do: 'ended'; because: string }
  | { do: 'request'; request: Request }
  | { do: 'settle'; id: string; reply: Reply | null }
  | { do: 'told'; told: Told }
  | LogEvent;

interface Session {
  id: string;
  conversation: Conversation;
}

export class HostMachine {
  readonly #times: typeof TIMES;
  readonly #answered = new Answered();
  readonly #ownClock = new ClockWatch();
  #phase: 'down' | 'hello' | 'live' = 'down';
  #session: Session | null = null;
  #openedMs = 0;
  #tickedMs: number | undefined;
  #clockDifferenceMs: number | null = null;

  constructor(times: Partial<typeof TIMES> = {}) {
    this.#times = { ...TIMES, ...times } as typeof TIMES;
  }

  get isLive(): boolean {
    return this.#phase === 'live';
  }

  /**
   * Time of day of the coordinator less that of this host, as of its last heartbeat; how long that was on its way is in it. Null: none has
   * come. Only told: nothing goes by it.
   */
  get clockDifferenceMs(): number | null {
    return this.#clockDifferenceMs;
  }

  /** A WebSocket to a coordinator is open. Throws for facts that the schema of a hello refuses. */
  opened(facts: HelloFacts, now: Clocks): HostEffect[] {
    const resume = this.#session && {
      session: this.#session.id,
      received: this.#session.conversation.received,
    };
    const text = encode({ type: 'hello', versions: [...SPOKEN_VERSIONS], ...facts, resume });
    this.#phase = 'hello';
    this.#openedMs = now.uptimeMs;
    return [{ do: 'send', text }];
  }

  text(text: string, now: Clocks): HostEffect[] {
    if (this.#phase === 'down') return [];
    const decoded = decode(text);
    if ('fault' in decoded) return this.broken(decoded.fault);
    const { message } = decoded;
    if (this.#phase !== 'live') return this.#greeted(message, now);
    return this.#receive({ message, bytes: text.length }, now);
  }

  /** The peer broke the rules: the connection ends. */
  broken(wrong: Fault): HostEffect[] {
    if (this.#phase === 'down') return [];
    const { code, message } = wrong;
    const effects: HostEffect[] = [
      log('warn', code, { detail: message }),
      { do: 'send', text: encode({ type: 'error', code, message, id: null }) },
      { do: 'close', code: FAULTS[code].close ?? FAULTS.internal.close, reason: code },
    ];
    this.#hangUp();
    return endsSession(wrong) ? [...effects, ...this.#end(message)] : effects;
  }

  closed(): HostEffect[] {
    if (this.#phase === 'down') return [];
    this.#hangUp();
    return [log('info', 'connection-lost')];
  }

  /** Asks the coordinator; `settle` follows, once. Without a session it is silence at once. Throws for what its schema refuses. */
  request(request: RequestBody, timeoutMs: number, now: Clocks): HostEffect[] {
    if (!this.#session) return [{ do: 'settle', id: request.id, reply: null }];
    return this.#carry(this.#session.conversation.request(request, timeoutMs, now));
  }

  /** Also what was asked in a session that has ended since: asked again, it gets this reply. */
  reply(reply: ReplyBody): HostEffect[] {
    return this.#session ? this.#carry(this.#session.conversation.reply(reply)) : this.#keep(reply);
  }

  /** Without a session nobody is told: the next hello says how things are then. */
  tell(told: TellBody): HostEffect[] {
    return this.#session ? this.#carry(this.#session.conversation.tell(told)) : [];
  }

  tick(now: Clocks): HostEffect[] {
    const passedMs = now.uptimeMs - (this.#tickedMs ?? now.uptimeMs);
    this.#tickedMs = now.uptimeMs;
    const stalledMs = Math.max(0, passedMs - 2 * this.#times.tickMs);
    const jumpMs = this.#ownClock.look(now);
    const effects: HostEffect[] = jumpMs === undefined ? [] : [log('warn', 'own-clock-jumped', { jumpMs })];
    if (this.#session) effects.push(...this.#carry(this.#session.conversation.tick(now, stalledMs)));
    this.#openedMs += stalledMs;
    if (this.#phase === 'hello' && now.uptimeMs - this.#openedMs >= this.#times.dialMs)
      effects.push(
        ...this.broken(fault('silent', `The hello was not answered for ${this.#times.dialMs} ms.`)),
      );
    return effects;
  }

  stop(reason: 'stopping' | 'restarting'): HostEffect[] {
    const effects: HostEffect[] = [];
    if (this.#phase === 'live') effects.push({ do: 'send', text: encode({ type: 'goodbye', reason }) });
    if (this.#phase !== 'down')
      effects.push({ do: 'close', code: FAULTS.stopping.close, reason: 'stopping' });
    this.#phase = 'down';
    return [...effects, ...this.#end('the host stops')];
  }

  #greeted(message: Message, now: Clocks): HostEffect[] {
    switch (message.type) {
      case 'welcome':
        return this.#welcome(message, now);
      case 'refused':
        this.#hangUp();
        return [
          log('warn', 'refused', { code: message.code, detail: message.message }),
          { do: 'refused', refused: message },
          { do: 'close', code: 1000, reason: 'not-admitted' },
        ];
      default:
        return this.broken(fault('hello-expected', 'A hello is answered by a welcome or a refusal.'));
    }
  }

  #welcome(welcome: Welcome, now: Clocks): HostEffect[] {
    if (!SPOKEN_VERSIONS.includes(welcome.version))
      return this.broken(fault('version-unsupported', `Version ${welcome.version} is not spoken here.`));
    const before = this.#session;
    if (welcome.resumed) {
      if (before?.id !== welcome.session || !before.conversation.canResumeFrom(welcome.received))
        return this.broken(fault('out-of-order', 'A session is taken up that is not the one of before.'));
    }
    const effects = welcome.resumed ? [] : this.#end('the coordinator has begun a new session');
    this.#phase = 'live';
    this.#session ??= { id: welcome.session, conversation: this.#converse(welcome) };
    return [
      ...effects,
      log('info', 'joined', { coordinator: welcome.coordinator, resumed: welcome.resumed }),
      { do: 'welcomed', welcome },
      ...this.#carry(this.#session.conversation.connected(welcome.resumed ? welcome.received : 0, now)),
    ];
  }

  #converse({ heartbeatMs, silenceMs }: Welcome): Conversation {
    return new Conversation({
      side: 'host',
      answered: this.#answered,
      heartbeatMs,
      silenceMs,
      checkReply: () => undefined,
    });
  }

  #receive(incoming: Incoming, now: Clocks): HostEffect[] {
    const { message } = incoming;
    if (message.type === 'ping') this.#clockDifferenceMs = message.clockMs - Math.round(now.clockMs);
    return this.#carry(this.#session!.conversation.receive(incoming, now));
  }

  #carry(wanted: readonly ConversationEffect[]): HostEffect[] {
    return wanted.flatMap((effect): HostEffect[] => {
      if (effect.do === 'break')
        return this.#phase === 'down' ? this.#end(effect.fault.message) : this.broken(effect.fault);
      if (effect.do === 'goodbye') {
        this.#hangUp();
        return [
          log('info', 'coordinator-stops', { reason: effect.reason }),
          { do: 'close', code: FAULTS.stopping.close, reason: 'stopping' },
          ...this.#end('the coordinator said goodbye'),
        ];
      }
      return [effect];
    });
  }

  #keep(reply: ReplyBody): HostEffect[] {
    this.#answered.reply(reply, JSON.stringify(reply).length);
    return [];
  }

  #hangUp(): void {
    this.#phase = 'down';
    this.#session?.conversation.disconnected();
  }

  #end(because: string): HostEffect[] {
    const session = this.#session;
    this.#session = null;
    if (!session) return [];
    const settled = session.conversation
      .end()
      .flatMap((effect): HostEffect[] => (effect.do === 'settle' ? [effect] : []));
    return [...settled, { do: 'ended', because }];
  }
}
