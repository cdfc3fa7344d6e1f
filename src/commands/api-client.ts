// HTTP over the agent's unix socket. Every answer is JSON or a stream of JSON lines; every failure is a CommandError that says
// what is wrong and what to do. Invariant: a change that was sent is not forgotten: either its answer comes, or the error says that it
// may have been done and where to look.

import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { EXIT_CODES, type FailureKind } from '../agent/exit-codes.js';
import { CommandError } from './command-error.js';

export interface ApiRequest {
  method: 'GET';
  /** With names percent-encoded, see apiPath(). */
  path: string;
  signal?: AbortSignal;
}

export interface ApiChange {
  method: 'POST' | 'PATCH' | 'DELETE';
  path: string;
  body?: unknown;
  /** Ends the wait for the answer, though not at once: see change(). */
  signal?: AbortSignal;
  /** The command that shows whether it was done. */
  look: string;
}

type Sent = (ApiRequest | Omit<ApiChange, 'look'>) & { body?: unknown };

export interface ApiClientOptions {
  /** How long the agent may say nothing before it is asked whether it is there, and how long it has to answer that. */
  patienceMs?: number;
  /** Tells whoever waits what for. */
  note?: (text: string) => void;
}

/** Joins segments and a query; every part is percent-encoded. */
export function apiPath(segments: readonly string[], query: Record<string, string | undefined> = {}): string {
  const path = `/v1/${segments.map(encodeURIComponent).join('/')}`;
  const given = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${encodeURIComponent(key)}=${encodeURIComponent(value)}`],
  );
  return given.length === 0 ? path : `${path}?${given.join('&')}`;
}

const PATIENCE_MS = 15_000;

export class ApiClient {
  readonly socketPath: string;
  readonly #patienceMs: number;
  readonly #note: (text: string) => void;

  constructor(socketPath: string, options: ApiClientOptions = {}) {
    this.socketPath = socketPath;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.#note = options.note ?? (() => undefined);
  }

  /** Asks what changes nothing. */
  async call<Answer>(options: ApiRequest): Promise<Answer> {
    return this.#answer(options);
  }

  /** Asks what is answered in words, not in JSON. */
  async text(options: ApiRequest): Promise<string> {
    const response = await this.#send(options);
    const text = await textOf(response);
    if (!isSuccess(response)) throw errorOf(response, text);
    return text;
  }

  /**
   * Asks for a change. An interrupt does not take back what was sent, so the answer is waited for all the same, within bounds; a
   * caller that has more to do looks at its signal afterwards.
   */
  async change<Answer>({ look, signal, ...sent }: ApiChange): Promise<Answer> {
    signal?.throwIfAborted();
    const wait = new AbortController();
    let bound: NodeJS.Timeout | undefined;
    const interrupt = () => {
      this.#note('Interrupted; waiting for the agent to say what it did. Once more ends at once.');
      bound = setTimeout(() => wait.abort(), this.#patienceMs);
    };
    signal?.addEventListener('abort', interrupt, { once: true });
    try {
      return await this.#answer({ ...sent, signal: wait.signal });
    } catch (error) {
      throw mayBeDone(error, look);
    } finally {
      clearTimeout(bound);
      signal?.removeEventListener('abort', interrupt);
    }
  }

  /** The answer's body; undefined when there is none. */
  async #answer<Answer>(options: Sent): Promise<Answer> {
    const response = await this.#send(options);
    const text = await textOf(response);
    if (!isSuccess(response)) throw errorOf(response, text);
    return (text === '' ? undefined : parseJson(text)) as Answer;
  }

  /** Yields one value a line, until the agent ends the stream. */
  async *stream<Line>(options: ApiRequest): AsyncGenerator<Line> {
    const response = await this.#send(options);
    if (!isSuccess(response)) throw errorOf(response, await textOf(response));
    let rest = '';
    for await (const chunk of chunksOf(response)) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield parseJson(line) as Line;
    }
    if (rest !== '') throw brokeOff('in the middle of an answer');
  }

  #send({ method, path, body, signal }: Sent): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const outgoing: ClientRequest = request(
        {
          socketPath: this.socketPath,
          method,
          path,
          headers:
            payload === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': payload.length },
          ...(signal === undefined ? {} : { signal }),
        },
        resolve,
      );
      const watch = this.#watchSilence(outgoing);
      outgoing.on('error', (error: NodeJS.ErrnoException) => reject(this.#unreachable(error)));
      outgoing.once('close', () => clearInterval(watch));
      outgoing.once('response', () => clearInterval(watch));
      outgoing.end(payload);
    });
  }

  /** Some work takes long, and an agent at work answers other questions meanwhile; one that answers none is not there. */
  #watchSilence(outgoing: ClientRequest): NodeJS.Timeout {
    return setInterval(async () => {
      if (!(await this.#isThere())) outgoing.destroy(silent(this.socketPath));
    }, this.#patienceMs);
  }

  #isThere(): Promise<boolean> {
    return new Promise((resolve) => {
      const question = request({ socketPath: this.socketPath, path: apiPath(['status']), agent: false });
      question.setTimeout(this.#patienceMs, () => question.destroy());
      question.once('response', (response) => {
        resolve(true);
        response.destroy();
      });
      question.once('error', () => resolve(false));
      question.once('close', () => resolve(false));
      question.end();
    });
  }

  #unreachable(error: NodeJS.ErrnoException & { rawPacket?: Buffer }): Error {
    if (error.name === 'AbortError' || error instanceof CommandError) return error;
    const socket = this.socketPath;
    switch (error.code) {
      case 'ENOENT':
        return unreachable(
          `No agent: the socket ${socket} does not exist.`,
          'Start cellblockd (or npm start), or name its socket with --api PATH or CELLBLOCK_API.',
        );
      case 'ECONNREFUSED':
        return unreachable(
          `No agent answers on ${socket}, though the file is there.`,
          'Start cellblockd; if it runs, name its socket with --api PATH or CELLBLOCK_API.',
        );
      case 'EACCES':
      case 'EPERM':
        return unreachable(
          `Permission denied on ${socket}.`,
          'Run as root or join the group that owns the socket (usually cellblock).',
        );
      case 'ENOTSOCK':
        return unreachable(
          `${socket} is no socket.`,
          'Name the socket of the agent with --api PATH or CELLBLOCK_API.',
        );
      default:
        return error.code?.startsWith('HPE_') === true
          ? notTheApi(socket, error.rawPacket)
          : brokeOff(error.message);
    }
  }
}

function unreachable(message: string, hint: string): CommandError {
  return new CommandError('unreachable', 'agent-unreachable', message, hint);
}

function brokeOff(how: string): CommandError {
  return new CommandError(
    'unreachable',
    'agent-broke-off',
    `The agent broke off: ${how}.`,
    'See the log of cellblockd.',
  );
}

function silent(socket: string): CommandError {
  return new CommandError(
    'unreachable',
    'agent-silent',
    `What listens on ${socket} takes connections but does not answer.`,
    'If it is cellblockd, see its log; else name its socket with --api PATH or CELLBLOCK_API.',
  );
}

/** What answered is no HTTP; an NBD server says so in its first bytes. */
function notTheApi(socket: string, answer: Buffer | undefined): CommandError {
  const hint = 'Name the socket of the control API (--api of cellblockd) with --api PATH or CELLBLOCK_API.';
  return answer?.subarray(0, 8).toString('latin1') === 'NBDMAGIC'
    ? unreachable(`${socket} is an NBD socket, not that of the control API.`, hint)
    : unreachable(`What answers on ${socket} is not cellblockd.`, hint);
}

/** Adds to what went wrong after a change was sent that it may have been done all the same. */
function mayBeDone(error: unknown, look: string): unknown {
  if (error instanceof Error && error.name === 'AbortError') {
    return new CommandError(
      'cancelled',
      'interrupted',
      'Interrupted, and the agent has not answered: what it was asked for may be done, now or later.',
      `See ${look}.`,
    );
  }
  if (!(error instanceof CommandError)) return error;
  const { kind, code, message, hint } = error;
  if (code !== 'agent-broke-off' && code !== 'agent-silent') return error;
  return new CommandError(kind, code, message, `What it was asked for may be done: see ${look}. ${hint}`);
}

function isSuccess(response: IncomingMessage): boolean {
  return response.statusCode !== undefined && response.statusCode >= 200 && response.statusCode < 300;
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of chunksOf(response)) text += chunk;
  return text;
}

async function* chunksOf(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding('utf8');
  try {
    yield* response as AsyncIterable<string>;
  } catch (error) {
    throw error instanceof Error && error.name === 'AbortError'
      ? error
      : brokeOff('in the middle of an answer');
  }
}

/** Byte quantities become bigint, whatever their size: JSON.parse alone would round those above 2^53. */
export function parseJson(text: string): unknown {
  const marked = text.replaceAll(
    /("(?:[^"\\]|\\.)*")|(?<![\d.])(-?\d{16,})(?![\d.eE])/g,
    (_all, quoted: string | undefined, digits: string) =>
      quoted === undefined ? `"\\u0001${digits}"` : quoted,
  );
  try {
    return JSON.parse(marked, (key, value: unknown) => {
      if (typeof value === 'string' && value.startsWith('\u0001')) return BigInt(value.slice(1));
      return typeof value === 'number' && BYTE_KEYS.test(key) ? BigInt(value) : value;
    });
  } catch {
    throw unreachable('What answers on the API socket is not cellblockd.', 'Check --api and CELLBLOCK_API.');
  }
}

/** The keys whose schema is Bytes. */
const BYTE_KEYS = /(Bytes|^offset|^done|^total|^recordsSeen|^next)$/;

function errorOf(response: IncomingMessage, text: string): CommandError {
  const body = parseJson(text) as {
    error?: { kind?: string; code?: string; message?: string; hint?: string };
  };
  const { kind = '', code = 'unknown', message, hint = '' } = body.error ?? {};
  if (message === undefined) {
    return new CommandError(
      'internal',
      'unknown',
      `The agent answered with status ${response.statusCode}.`,
      'See the log of cellblockd.',
    );
  }
  return new CommandError(kind in EXIT_CODES ? (kind as FailureKind) : 'internal', code, message, hint);
}
