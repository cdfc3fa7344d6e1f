// The coordinator's side of all its connections: who is admitted, who is who, and the sessions of hosts. A machine: events in, effects out.
//
// Invariants: before its hello is admitted a connection gets nothing but a refusal. One host has one connection at most; a second one of
// the same name is refused while the first lives, unless it proves to be the same host, come again. What one connection does is never
// felt by another.

import { type Clocks, ClockWatch } from './clock-watch.js';
import { asText, decode, encode } from './codec.js';
import { Conversation, endsSession, type Incoming } from './conversation.js';
import {
  type Admission,
  type ConnectionId,
  type CoordinatorEffect,
  closing,
  refusal,
  speaksForItself,
} from './coordinator-effects.js';
import { carried, isTakenUpBy, type Session } from './coordinator-session.js';
import { type ConversationEffect, log } from './effects.js';
import { FAULTS, type Fault, fault } from './faults.js';
import type { Identity } from './identity.js';
import { TIMES } from './limits.js';
import type { Hello, Refused, ReplyBody, RequestBody, TellBody } from './messages.js';
import { Answered } from './requests.js';
import { PROTOCOL_VERSION } from './version.js';
import { VolumeHolders } from './volume-holders.js';

interface Connection {
  id: ConnectionId;
  identity: Identity;
  phase: 'hello' | 'admission' | 'live';
  sinceMs: number;
  hello: Hello | null;
}

export interface CoordinatorMachineOptions {
  /** What this coordinator is called. */
  coordinator: string;
  /** 32 hexadecimal digits that nobody guesses. */
  freshId: () => string;
  times?: Partial<typeof TIMES>;
}

export class CoordinatorMachine {
  readonly #options: CoordinatorMachineOptions;
  readonly #times: typeof TIMES;
  readonly #connections = new Map<ConnectionId, Connection>();
  readonly #sessions = new Map<string, Session>();
  /** By the hellos of all sessions. */
  readonly #holders = new VolumeHolders();
  /** What hosts have asked, of each the store it is in: kept beyond their sessions. */
  readonly #answered = new Map<string, { storeId: string; answered: Answered }>();
  readonly #ownClock = new ClockWatch();
  #tickedMs: number | undefined;

  constructor(options: CoordinatorMachineOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times } as typeof TIMES;
  }

  /** The hosts with a connection. */
  get hosts(): Hello[] {
    return [...this.#sessions.values()]
      .filter(({ connection }) => connection !== null)
      .map(({ hello }) => hello);
  }

  /** The hosts with a connection that have said in their hello to hold a part of a volume. */
  holdersOf(volume: string): string[] {
    return this.#holders.of(volume).filter((host) => this.isConnected(host));
  }

  isConnected(host: string): boolean {
    return (this.#sessions.get(host)?.connection ?? null) !== null;
  }

  /** A WebSocket is open. `identity` null: nothing says who it is. */
  opened(id: ConnectionId, identity: Identity | null, now: Clocks): CoordinatorEffect[] {
    if (!identity)
      return [...refusal(id, 'unauthenticated', 'Nothing says who this is.'), log('warn', 'unauthenticated')];
    this.#connections.set(id, { id, identity, phase: 'hello', sinceMs: now.uptimeMs, hello: null });
    return [];
  }

  text(id: ConnectionId, text: string, now: Clocks): CoordinatorEffect[] {
    const connection = this.#connections.get(id);
    if (!connection) return [];
    const decoded = decode(text);
    if ('fault' in decoded) return this.#break(connection, decoded.fault, now);
    const { message } = decoded;
    if (connection.phase === 'live') return this.#live(connection, { message, bytes: text.length }, now);
    if (connection.phase === 'hello' && message.type === 'hello')
      return this.#hello(connection, message, now);
    return this.#break(
      connection,
      fault('hello-expected', 'A hello comes first, and nothing until it is answered.'),
      now,
    );
  }

  /** The transport has found a frame that is none of the protocol. */
  broken(id: ConnectionId, wrong: Fault, now: Clocks): CoordinatorEffect[] {
    const connection = this.#connections.get(id);
    return connection ? this.#break(connection, wrong, now) : [];
  }

  closed(id: ConnectionId, now: Clocks): CoordinatorEffect[] {
    const connection = this.#connections.get(id);
    return connection ? this.#drop(connection, now) : [];
  }

  /** The coordinator has looked at a hello. */
  admitted(id: ConnectionId, admission: Admission, now: Clocks): CoordinatorEffect[] {
    const connection = this.#connections.get(id);
    if (connection?.phase !== 'admission') return [];
    if (admission.admit) return this.#welcome(connection, admission, now);
    const { code, message, leader, retryAfterMs } = admission;
    return [
      log('info', 'host-not-admitted', { ...named(connection), code }),
      ...this.#refuse(connection, { code, message: asText(message), leader, retryAfterMs }),
    ];
  }

  /** Asks a host; `settle` follows, once. Throws for a request that its schema refuses. */
  request(host: string, request: RequestBody, timeoutMs: number, now: Clocks): CoordinatorEffect[] {
    const session = this.#sessions.get(host);
    if (!session) return [{ do: 'settle', host, id: request.id, reply: null }];
    return this.#carry(session, session.conversation.request(request, timeoutMs, now), now);
  }

  reply(host: string, reply: ReplyBody, now: Clocks): CoordinatorEffect[] {
    const session = this.#sessions.get(host);
    return session ? this.#carry(session, session.conversation.reply(reply), now) : [];
  }

  tell(host: string, told: TellBody, now: Clocks): CoordinatorEffect[] {
    const session = this.#sessions.get(host);
    return session ? this.#carry(session, session.conversation.tell(told), now) : [];
  }

  /** Every TIMES.tickMs, or later when the program was held up. */
  tick(now: Clocks): CoordinatorEffect[] {
    const passedMs = now.uptimeMs - (this.#tickedMs ?? now.uptimeMs);
    this.#tickedMs = now.uptimeMs;
    const stalledMs = Math.max(0, passedMs - 2 * this.#times.tickMs);
    const jumpMs = this.#ownClock.look(now);
    const effects: CoordinatorEffect[] =
      jumpMs === undefined ? [] : [log('warn', 'own-clock-jumped', { jumpMs })];
    for (const connection of this.#connections.values()) {
      connection.sinceMs += stalledMs;
      effects.push(...this.#greetingDeadline(connection, now));
    }
    for (const session of this.#sessions.values()) {
      effects.push(...this.#carry(session, session.conversation.tick(now, stalledMs), now));
      if (session.connection === null && now.uptimeMs - session.lostMs >= this.#times.resumeMs)
        effects.push(...this.#end(session, 'it did not come back'));
    }
    return effects;
  }

  /** Everybody is let go, and will be told by the next hello who leads. */
  dismiss(): CoordinatorEffect[] {
    const wrong = fault('not-leader', 'Another coordinator leads now.');
    const effects = [...this.#connections.keys()].flatMap((id) => closing(id, wrong));
    this.#connections.clear();
    for (const session of this.#sessions.values())
      effects.push(...this.#end(session, 'another coordinator leads'));
    return effects;
  }

  /** Everybody is told and let go. */
  stop(): CoordinatorEffect[] {
    const goodbye = encode({ type: 'goodbye', reason: 'stopping' });
    const effects: CoordinatorEffect[] = [];
    for (const connection of this.#connections.values()) {
      if (connection.phase === 'live') effects.push({ do: 'send', connection: connection.id, text: goodbye });
      effects.push({
        do: 'close',
        connection: connection.id,
        code: FAULTS.stopping.close,
        reason: 'stopping',
      });
    }
    this.#connections.clear();
    for (const session of this.#sessions.values())
      effects.push(...this.#end(session, 'the coordinator stops'));
    return effects;
  }

  #hello(connection: Connection, hello: Hello, now: Clocks): CoordinatorEffect[] {
    const { host, cell } = connection.identity;
    if (hello.host !== host)
      return this.#break(connection, fault('wrong-host', 'The name is not its own.'), now);
    if (hello.cell !== cell)
      return this.#break(connection, fault('wrong-cell', 'The cell is not its own.'), now);
    if (new Set(hello.volumes.map(({ id }) => id)).size !== hello.volumes.length)
      return this.#break(connection, fault('malformed', 'A hello names a volume twice.'), now);
    const holder = this.#holderOf(host);
    const effects: CoordinatorEffect[] = [];
    if (holder) {
      if (!this.#isSameHostAgain(holder, hello)) {
        const wrong = { code: 'identity-in-use', message: 'A host of this name is connected.' } as const;
        return [
          log('warn', 'identity-in-use', { ...named(connection), since: holder.sinceMs }),
          ...this.#refuse(connection, { ...wrong, leader: null, retryAfterMs: this.#times.silenceMs }),
        ];
      }
      effects.push(...this.#supersede(holder, now));
    }
    connection.phase = 'admission';
    connection.sinceMs = now.uptimeMs;
    connection.hello = hello;
    effects.push({
      do: 'admit',
      connection: connection.id,
      hello,
      resuming: this.#resumable(hello) !== null,
    });
    return effects;
  }

  /** The connection of a host that has said hello. */
  #holderOf(host: string): Connection | undefined {
    return [...this.#connections.values()].find(
      ({ phase, hello }) => phase !== 'hello' && hello?.host === host,
    );
  }

  /** A later start of the same store, or the same run with the secret of its session: its old connection is a dead one. */
  #isSameHostAgain(holder: Connection, hello: Hello): boolean {
    const held = holder.hello!;
    if (held.storeId !== hello.storeId) return false;
    return hello.boot > held.boot || this.#resumable(hello) !== null;
  }

  #supersede(holder: Connection, now: Clocks): CoordinatorEffect[] {
    const wrong = fault('superseded', 'The same host has come again.');
    const session = this.#sessionOn(holder);
    const effects: CoordinatorEffect[] = [
      log('info', 'connection-superseded', named(holder)),
      ...closing(holder.id, wrong),
    ];
    this.#connections.delete(holder.id);
    if (session) effects.push(...this.#lose(session, now));
    return effects;
  }

  /** The session this hello takes up again. */
  #resumable(hello: Hello): Session | null {
    const session = this.#sessions.get(hello.host);
    return session && isTakenUpBy(session, hello) ? session : null;
  }

  #welcome(
    connection: Connection,
    { regressed, leader, highest }: Admission & { admit: true },
    now: Clocks,
  ): CoordinatorEffect[] {
    const hello = connection.hello!;
    const { host } = hello;
    const before = this.#resumable(hello);
    const effects: CoordinatorEffect[] = [];
    const old = this.#sessions.get(host);
    if (old && !before) effects.push(...this.#end(old, 'a new session has begun'));
    if (before) this.#holders.remove(before.hello);
    const session = before ?? this.#newSession(hello);
    this.#sessions.set(host, session);
    this.#holders.add(hello);
    Object.assign(connection, { phase: 'live' });
    Object.assign(session, { connection: connection.id, hello });
    const text = encode({
      type: 'welcome',
      version: PROTOCOL_VERSION,
      session: session.id,
      resumed: before !== null,
      received: session.conversation.received,
      coordinator: this.#options.coordinator,
      leader,
      heartbeatMs: this.#times.heartbeatMs,
      silenceMs: this.#times.silenceMs,
      resumeMs: this.#times.resumeMs,
      regressed,
      highest,
    });
    effects.push(
      log('info', 'host-joined', { ...named(connection), resumed: before !== null, boot: hello.boot }),
      { do: 'send', connection: connection.id, text },
      { do: 'joined', host, hello, resumed: before !== null },
      ...this.#carry(session, session.conversation.connected(before ? hello.resume!.received : 0, now), now),
    );
    return effects;
  }

  #newSession(hello: Hello): Session {
    const conversation = new Conversation({
      side: 'coordinator',
      answered: this.#answeredOf(hello),
      heartbeatMs: this.#times.heartbeatMs,
      silenceMs: this.#times.silenceMs,
      checkReply: (reply) => speaksForItself(reply, hello),
    });
    return {
      id: this.#options.freshId(),
      host: hello.host,
      hello,
      connection: null,
      lostMs: 0,
      conversation,
    };
  }

  #answeredOf({ host, storeId }: Hello): Answered {
    const before = this.#answered.get(host);
    if (before?.storeId === storeId) return before.answered;
    const answered = new Answered();
    this.#answered.set(host, { storeId, answered });
    return answered;
  }

  #live(connection: Connection, incoming: Incoming, now: Clocks): CoordinatorEffect[] {
    const session = this.#sessionOn(connection)!;
    return this.#carry(session, session.conversation.receive(incoming, now), now);
  }

  #sessionOn(connection: Connection): Session | undefined {
    const session = this.#sessions.get(connection.identity.host);
    return session?.connection === connection.id ? session : undefined;
  }

  /** What a session wants done, as what the coordinator has to do. */
  #carry(session: Session, wanted: readonly ConversationEffect[], now: Clocks): CoordinatorEffect[] {
    return wanted.flatMap((effect) => this.#carryOne(session, effect, now));
  }

  #carryOne(session: Session, effect: ConversationEffect, now: Clocks): CoordinatorEffect[] {
    if (effect.do === 'break') return this.#breakSession(session, effect.fault, now);
    if (effect.do !== 'goodbye') return carried(session, effect);
    return [
      ...this.#hangUp(session, fault('stopping', 'Goodbye.')),
      ...this.#end(session, `it said goodbye: ${effect.reason}`),
    ];
  }

  #breakSession(session: Session, wrong: Fault, now: Clocks): CoordinatorEffect[] {
    const connection = session.connection === null ? undefined : this.#connections.get(session.connection);
    if (connection) return this.#break(connection, wrong, now);
    return endsSession(wrong) ? this.#end(session, wrong.message) : [];
  }

  /** The end of a connection by a fault of its peer. */
  #break(connection: Connection, wrong: Fault, now: Clocks): CoordinatorEffect[] {
    const effects: CoordinatorEffect[] = [
      log('warn', wrong.code, { ...named(connection), detail: wrong.message }),
    ];
    if (connection.phase === 'live') {
      const session = this.#sessionOn(connection)!;
      this.#connections.delete(connection.id);
      effects.push(...closing(connection.id, wrong), ...this.#lose(session, now));
      if (endsSession(wrong)) effects.push(...this.#end(session, wrong.message));
      return effects;
    }
    return [...effects, ...this.#refuse(connection, { ...wrong, leader: null, retryAfterMs: null })];
  }

  #refuse(
    connection: Connection,
    { code, message, leader, retryAfterMs }: Fault & Pick<Refused, 'leader' | 'retryAfterMs'>,
  ): CoordinatorEffect[] {
    this.#connections.delete(connection.id);
    return refusal(connection.id, code, message, { leader, retryAfterMs });
  }

  #hangUp(session: Session, { code }: Fault): CoordinatorEffect[] {
    const { connection } = session;
    if (connection === null) return [];
    this.#connections.delete(connection);
    return [{ do: 'close', connection, code: FAULTS[code].close ?? FAULTS.internal.close, reason: code }];
  }

  #drop(connection: Connection, now: Clocks): CoordinatorEffect[] {
    const session = this.#sessionOn(connection);
    this.#connections.delete(connection.id);
    return session ? [log('info', 'connection-lost', named(connection)), ...this.#lose(session, now)] : [];
  }

  #lose(session: Session, now: Clocks): CoordinatorEffect[] {
    session.connection = null;
    session.lostMs = now.uptimeMs;
    session.conversation.disconnected();
    return [{ do: 'lost', host: session.host }];
  }

  #end(session: Session, because: string): CoordinatorEffect[] {
    const { host } = session;
    if (this.#sessions.get(host) === session) {
      this.#sessions.delete(host);
      this.#holders.remove(session.hello);
    }
    const settled = session.conversation
      .end()
      .flatMap((effect) => (effect.do === 'settle' ? carried(session, effect) : []));
    return [...settled, { do: 'left', host, because }, log('info', 'host-left', { host, because })];
  }

  #greetingDeadline(connection: Connection, now: Clocks): CoordinatorEffect[] {
    const waitedMs = now.uptimeMs - connection.sinceMs;
    if (connection.phase === 'hello' && waitedMs >= this.#times.helloMs)
      return this.#break(connection, fault('hello-late', `No hello for ${this.#times.helloMs} ms.`), now);
    if (connection.phase !== 'admission' || waitedMs < this.#times.admissionMs) return [];
    const late = { code: 'busy', message: 'The hello could not be looked at in time.' } as const;
    return [
      log('warn', 'admission-late', named(connection)),
      ...this.#refuse(connection, { ...late, leader: null, retryAfterMs: this.#times.admissionMs }),
    ];
  }
}

function named({ identity }: Connection): { host: string; cell: string } {
  return { host: identity.host, cell: identity.cell };
}
