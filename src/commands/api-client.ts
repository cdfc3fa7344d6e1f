// HTTP over the agent's unix socket. Every answer is JSON or a stream of JSON lines; every failure is a CommandError that says
// what is wrong and what to do.

import { existsSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { EXIT_CODES, type FailureKind } from '../agent/exit-codes.js';
import { CommandError } from './command-error.js';

export interface ApiRequest {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** With names percent-encoded, see apiPath(). */
  path: string;
  body?: unknown;
  signal?: AbortSignal;
}

/** Joins segments and a query; every part is percent-encoded. */
export function apiPath(segments: readonly string[], query: Record<string, string | undefined> = {}): string {
  const path = `/v1/${segments.map(encodeURIComponent).join('/')}`;
  const given = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${encodeURIComponent(key)}=${encodeURIComponent(value)}`],
  );
  return given.length === 0 ? path : `${path}?${given.join('&')}`;
}

const LOCAL_SOCKET = './data/api.sock';
const SYSTEM_SOCKET = '/run/cellblock/api.sock';

/** The socket to talk to when none is named. */
export function defaultApiSocket(environment: NodeJS.ProcessEnv = process.env): string {
  const named = environment.CELLBLOCK_API;
  if (named !== undefined && named !== '') return named;
  return existsSync(LOCAL_SOCKET) ? LOCAL_SOCKET : SYSTEM_SOCKET;
}

export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** The answer's body; undefined when there is none. */
  async call<Answer>(options: ApiRequest): Promise<Answer> {
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
    response.setEncoding('utf8');
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield parseJson(line) as Line;
    }
    if (rest !== '') throw brokeOff('in the middle of an answer');
  }

  #send({ method, path, body, signal }: ApiRequest): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          socketPath: this.#socketPath,
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
      outgoing.on('error', (error: NodeJS.ErrnoException) => reject(this.#unreachable(error)));
      outgoing.end(payload);
    });
  }

  #unreachable(error: NodeJS.ErrnoException): Error {
    if (error.name === 'AbortError') return error;
    const socket = this.#socketPath;
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
        return brokeOff(error.message);
    }
  }
}

function unreachable(message: string, hint: string): CommandError {
  return new CommandError('unreachable', 'agent-unreachable', message, hint);
}

function brokeOff(how: string): CommandError {
  return unreachable(`The agent broke off: ${how}.`, 'See the log of cellblockd.');
}

function isSuccess(response: IncomingMessage): boolean {
  return response.statusCode !== undefined && response.statusCode >= 200 && response.statusCode < 300;
}

async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response as AsyncIterable<string>) text += chunk;
  return text;
}

/** Byte quantities become bigint, whatever their size: JSON.parse alone would round those above 2^53. */
export function parseJson(text: string): unknown {
  const marked = text.replaceAll(
    /("(?:[^"\\]|\\.)*")|(-?\d{16,})(?![\d.eE])/g,
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
