// Where agents reach a coordinator: HTTP with an upgrade to WebSocket, in TLS with a certificate of each host, or with tokens. Who is nobody
// gets no WebSocket at all.

import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { FAULTS, type FaultCode } from './faults.js';
import { type Identity, identityOf } from './identity.js';
import { bearerOf, type Tokens } from './token-file.js';
import { chooseSubprotocol, SPOKEN_VERSIONS } from './version.js';

const HANDSHAKE_MS = 10_000;

export interface TlsFiles {
  certificate: Buffer;
  key: Buffer;
  /** Who signs the certificates of hosts; null: hosts come with tokens. */
  clientCa: Buffer | null;
}

/** Says who sent a request; null: nobody that is known. */
export type Identify = (request: IncomingMessage) => Identity | null;

/** An HTTP server for `CoordinatorServer.attach`. `tls` null: in clear, for a loopback address. */
export function makeListener(tls: TlsFiles | null): Server {
  const answer = (_request: IncomingMessage, response: import('node:http').ServerResponse) => {
    response.writeHead(426, {
      'content-type': 'application/json',
      upgrade: 'websocket',
      connection: 'close',
    });
    response.end(refusalBody('version-unsupported'));
  };
  const limits = { headersTimeout: HANDSHAKE_MS, requestTimeout: HANDSHAKE_MS, maxHeaderSize: 8192 };
  if (!tls) return createServer(limits, answer);
  const { certificate, key, clientCa } = tls;
  return createTlsServer(
    {
      ...limits,
      handshakeTimeout: HANDSHAKE_MS,
      minVersion: 'TLSv1.3',
      cert: certificate,
      key,
      ...(clientCa ? { ca: clientCa, requestCert: true, rejectUnauthorized: true } : {}),
    },
    answer,
  );
}

/** By the certificate, which TLS has found to be signed by the CA of hosts. */
export const byCertificate: Identify = ({ socket }) => {
  const { authorized, getPeerX509Certificate } = socket as TLSSocket;
  if (authorized !== true) return null;
  return identityOf(getPeerX509Certificate.call(socket)?.subjectAltName);
};

/** By `Authorization: Bearer TOKEN`. `tokens` is called each time: the file may have been read again. */
export function byToken(tokens: () => Tokens): Identify {
  return ({ headers }) => {
    const token = bearerOf(headers.authorization);
    return token === undefined ? null : tokens().identify(token);
  };
}

/** What an upgrade is refused with; undefined: nothing is wrong with it. */
export function whyNotUpgraded(
  request: IncomingMessage,
  identity: Identity | null,
): UpgradeRefusal | undefined {
  // A page in a browser that happens to have a certificate is no agent.
  if (request.headers.origin !== undefined) return { status: 403, code: 'not-admitted' };
  if (request.url !== '/') return { status: 404, code: 'not-admitted' };
  if (!identity) return { status: 401, code: 'unauthenticated' };
  if (offered(request) === undefined) return { status: 426, code: 'version-unsupported' };
  return undefined;
}

export interface UpgradeRefusal {
  status: 401 | 403 | 404 | 426;
  code: FaultCode;
}

const STATUS_WORDS = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  426: 'Upgrade Required',
} as const;

export function refuseUpgrade(socket: Duplex, { status, code }: UpgradeRefusal): void {
  const body = refusalBody(code);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_WORDS[status]}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(status === 401 ? ['WWW-Authenticate: Bearer'] : []),
    ...(status === 426
      ? [
          'Upgrade: websocket',
          `Sec-WebSocket-Protocol: ${SPOKEN_VERSIONS.map((v) => `cellblock.v${v}`).join(', ')}`,
        ]
      : []),
  ];
  socket.on('error', () => socket.destroy());
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/** The best of the versions a request offers. */
export function offered({ headers }: IncomingMessage): string | undefined {
  return chooseSubprotocol((headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim()));
}

function refusalBody(code: FaultCode): string {
  return JSON.stringify({ code, message: FAULTS[code].meaning, versions: SPOKEN_VERSIONS });
}
