// etcd over its HTTP/JSON gateway: one request to one member after the other until one answers. No client library stands between
// (docs/decisions/0024).
//
// Invariants: nothing waits longer than its deadline. A request that was given up may still be carried out, now or much later: whoever sends one that
// must not be done twice, or late, sees to that by what it compares. A failure tells whether any copy of the request can have been carried out.

import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

export interface EtcdOptions {
  /** `http://HOST:PORT` or `https://HOST:PORT` of every member. */
  endpoints: readonly string[];
  tls?: { ca: Buffer; certificate: Buffer; key: Buffer } | null;
  user?: { name: string; password: string } | null;
  /** Of one request to one member, then the next one is asked. */
  attemptMs?: number;
  /** Of all attempts together, where the caller says nothing. */
  deadlineMs?: number;
}

const ATTEMPT_MS = 1_500;
const DEADLINE_MS = 6_000;
/** Between two rounds over all members. */
const ROUND_MS = 100;
const MOST_SOCKETS = 64;
const MOST_ANSWER_BYTES = 64 << 20;

/** What etcd's answers say why: those codes of gRPC after which it is certain that the request was not carried out. */
const REFUSALS = new Set([3, 5, 6, 7, 9, 11, 12, 16]);
const RESOURCE_EXHAUSTED = 8;
const UNAUTHENTICATED = 16;

export class EtcdFailure extends Error {
  /** A copy of the request may have been carried out, or may be yet. */
  readonly mayBeDone: boolean;
  /** `refused`: etcd does not want it. `full`: it has no space left. `silent`: nobody answered in time. */
  readonly kind: 'refused' | 'full' | 'silent';
  /** Of gRPC; 0: etcd did not answer. */
  readonly code: number;

  constructor(
    kind: EtcdFailure['kind'],
    message: string,
    more: { mayBeDone: boolean; code?: number; cause?: unknown },
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.kind = kind;
    this.mayBeDone = more.mayBeDone;
    this.code = more.code ?? 0;
  }
}

export interface Answered<T> {
  answer: T;
  /** An attempt before this one was given up: the same request may have been carried out before, or may be again. */
  repeated: boolean;
}

interface Reply {
  status: number;
  text: string;
}

/** Of one attempt. */
type Attempt = { kind: 'answered'; answer: object } | { kind: 'failed'; failure: EtcdFailure; goOn: boolean };

export class EtcdClient {
  readonly #endpoints: readonly URL[];
  readonly #options: EtcdOptions;
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: MOST_SOCKETS });
  readonly #https: HttpsAgent;
  /** Answered last: asked first. */
  #preferred = 0;
  #token: Promise<string> | null = null;
  #isClosed = false;
  readonly #closing = new AbortController();

  constructor(options: EtcdOptions) {
    this.#options = options;
    this.#endpoints = options.endpoints.map((endpoint) => new URL(endpoint));
    const { tls } = options;
    this.#https = new HttpsAgent({
      keepAlive: true,
      maxSockets: MOST_SOCKETS,
      minVersion: 'TLSv1.2',
      ...(tls ? { ca: tls.ca, cert: tls.certificate, key: tls.key } : {}),
    });
  }

  /** For sentences. */
  get where(): string {
    return `etcd at ${this.#endpoints.map(({ host }) => host).join(', ')}`;
  }

  /** Throws EtcdFailure. */
  async ask<T>(
    path: string,
    body: object,
    deadlineMs = this.#options.deadlineMs ?? DEADLINE_MS,
  ): Promise<Answered<T>> {
    const end = performance.now() + deadlineMs;
    const text = JSON.stringify(body);
    // One member that hangs does not take all the time there is.
    const most = Math.min(this.#options.attemptMs ?? ATTEMPT_MS, deadlineMs / 2);
    let mayBeDone = false;
    let last = new EtcdFailure('silent', 'no member was asked', { mayBeDone: false });
    for (let tried = 0; ; tried++) {
      const left = end - performance.now();
      if (left <= 0 || this.#isClosed) break;
      const at = this.#preferred;
      const attempt = await this.#attempt(this.#endpoints[at]!, path, text, Math.min(left, most));
      if (attempt.kind === 'answered') return { answer: attempt.answer as T, repeated: mayBeDone };
      last = attempt.failure;
      mayBeDone ||= last.mayBeDone;
      if (!attempt.goOn) break;
      // Others may have moved on meanwhile.
      if (this.#preferred === at) this.#preferred = (at + 1) % this.#endpoints.length;
      if ((tried + 1) % this.#endpoints.length === 0)
        await pause(Math.min(ROUND_MS, left), this.#closing.signal);
    }
    throw new EtcdFailure(last.kind, last.message, { mayBeDone, code: last.code, cause: last.cause });
  }

  close(): void {
    this.#isClosed = true;
    this.#closing.abort();
    this.#http.destroy();
    this.#https.destroy();
  }

  async #attempt(endpoint: URL, path: string, text: string, timeoutMs: number): Promise<Attempt> {
    try {
      const token = await this.#authenticated(endpoint, timeoutMs);
      return judge(await this.#send(endpoint, path, text, { token, timeoutMs }), () => {
        this.#token = null;
      });
    } catch (error) {
      // Nothing was sent where no request could be made.
      const failure =
        error instanceof EtcdFailure
          ? error
          : new EtcdFailure('silent', String(error), { mayBeDone: false, cause: error });
      return { kind: 'failed', failure, goOn: failure.kind === 'silent' };
    }
  }

  /** A token of etcd's own, where there is a user. */
  #authenticated(endpoint: URL, timeoutMs: number): Promise<string | null> {
    const { user } = this.#options;
    if (!user) return Promise.resolve(null);
    this.#token ??= this.#authenticate(endpoint, user, timeoutMs).catch((error: unknown) => {
      this.#token = null;
      // The request itself was not sent.
      if (error instanceof EtcdFailure)
        throw new EtcdFailure(error.kind, error.message, {
          mayBeDone: false,
          code: error.code,
          cause: error,
        });
      throw error;
    });
    return this.#token;
  }

  async #authenticate(
    endpoint: URL,
    user: { name: string; password: string },
    timeoutMs: number,
  ): Promise<string> {
    const reply = await this.#send(endpoint, '/v3/auth/authenticate', JSON.stringify(user), {
      token: null,
      timeoutMs,
    });
    const attempt = judge(reply, () => undefined);
    if (attempt.kind === 'failed') throw attempt.failure;
    return (attempt.answer as { token: string }).token;
  }

  #send(
    endpoint: URL,
    path: string,
    text: string,
    { token, timeoutMs }: { token: string | null; timeoutMs: number },
  ): Promise<Reply> {
    const isTls = endpoint.protocol === 'https:';
    return new Promise((resolve, reject) => {
      let wasSent = false;
      // Throws for certificates that cannot be used.
      const request = (isTls ? httpsRequest : httpRequest)(new URL(path, endpoint), {
        method: 'POST',
        agent: isTls ? this.#https : this.#http,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(text),
          ...(token === null ? {} : { authorization: token }),
        },
      });
      const fail = (why: string, cause?: unknown) => {
        clearTimeout(timer);
        const message = `${endpoint.host}: ${why}`;
        reject(new EtcdFailure('silent', message, { mayBeDone: wasSent, cause }));
        request.destroy();
      };
      const timer = setTimeout(() => fail(`no answer within ${Math.round(timeoutMs)} ms`), timeoutMs);
      request.on('error', (error) => fail(error.message, error));
      // Nothing leaves before the connection stands, in TLS before its handshake is done.
      request.on('socket', (socket) => {
        if (!socket.connecting && !isHandshaking(socket)) wasSent = true;
        else
          socket.once(isTls ? 'secureConnect' : 'connect', () => {
            wasSent = true;
          });
      });
      request.on('response', (response) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        response.on('data', (part: Buffer) => {
          parts.push(part);
          bytes += part.length;
          if (bytes > MOST_ANSWER_BYTES) fail('an answer is too long');
        });
        response.on('error', (error) => fail(error.message, error));
        response.on('aborted', () => fail('the answer was cut off'));
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() });
        });
      });
      request.end(text);
    });
  }
}

function isHandshaking(socket: object): boolean {
  return (socket as { secureConnecting?: boolean }).secureConnecting === true;
}

/** What an answer says; `tokenRefused` is called when etcd does not know the token (any more). */
function judge({ status, text }: Reply, tokenRefused: () => void): Attempt {
  const said = saidIn(text);
  const { code = 0, error, message } = said ?? {};
  if (status === 200 && said && typeof error !== 'object') return { kind: 'answered', answer: said };
  // Of a call that streams, when it fails behind the head of its answer.
  if (typeof error === 'object')
    return failed('silent', error.message ?? 'a stream failed', { mayBeDone: true, code: 0 }, true);
  const why = error ?? message ?? `HTTP status ${status}`;
  if (code === 0 && status === 404)
    return failed('refused', 'it has no HTTP/JSON gateway at /v3', { mayBeDone: false, code: 12 }, false);
  // Its tokens are forgotten when a member starts again, and when users change.
  if (code === UNAUTHENTICATED || /revision of auth store is old/.test(why)) {
    tokenRefused();
    return failed('silent', why, { mayBeDone: false, code }, true);
  }
  if (code === RESOURCE_EXHAUSTED && /space exceeded/.test(why))
    return failed('full', why, { mayBeDone: false, code }, false);
  if (REFUSALS.has(code)) return failed('refused', why, { mayBeDone: false, code }, false);
  return failed('silent', why, { mayBeDone: true, code }, true);
}

function failed(
  kind: EtcdFailure['kind'],
  message: string,
  more: { mayBeDone: boolean; code: number },
  goOn: boolean,
): Attempt {
  return { kind: 'failed', failure: new EtcdFailure(kind, message, more), goOn };
}

function saidIn(
  text: string,
): { code?: number; error?: string | { message?: string }; message?: string } | null {
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said === 'object' && said !== null) return said;
  } catch {
    // A proxy in between, or no etcd.
  }
  return null;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener('abort', end);
  });
}
