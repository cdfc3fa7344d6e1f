// TLS of a connection to an NBD server: begun by STARTTLS, before anything else is said that matters.
//
// Invariant: whoever wishes TLS says and hears nothing in clear behind the server's consent; a server that does not offer it, or cannot
// prove who it is, is left.

import type { Socket } from 'node:net';
import { isIP } from 'node:net';
import { checkServerIdentity, connect, type TLSSocket } from 'node:tls';
import { ConnectionLost } from './byte-stream.js';

/** How a server has to prove who it is, and how this client does. Certificates and keys are PEM. */
export interface TlsWish {
  /** Who may have signed the certificate of the server. */
  ca: Buffer;
  certificate?: Buffer;
  key?: Buffer;
  /** The DNS name or IP address that has to stand in the server's certificate; null: being signed is enough. */
  serverName: string | null;
  /** Looks at its subjectAltName besides; answers why this is the wrong server, or null. */
  whyWrong?: (subjectAltName: string | undefined) => string | null;
}

/** The server and this client could not agree on TLS; the message is one sentence. */
export class TlsRefused extends Error {
  override name = 'TlsRefused';
}

/** Shakes hands over a socket on which the server has agreed to. The socket is the answer's from then on. */
export function secure(socket: Socket, wish: TlsWish): Promise<TLSSocket> {
  const { ca, certificate, key, serverName } = wish;
  return new Promise((resolve, reject) => {
    const secured = connect({
      socket,
      ca,
      ...(certificate ? { cert: certificate } : {}),
      ...(key ? { key } : {}),
      ...(serverName !== null && isIP(serverName) === 0 ? { servername: serverName } : {}),
      minVersion: 'TLSv1.2',
      checkServerIdentity: (_host, shown) => {
        if (serverName !== null) {
          const error = checkServerIdentity(serverName, shown);
          if (error) return error;
        }
        const why = wish.whyWrong?.(shown.subjectaltname) ?? null;
        return why === null ? undefined : new Error(why);
      },
    });
    const fail = (error: Error) => {
      secured.destroy();
      socket.destroy();
      reject(error);
    };
    const failed = (cause: NodeJS.ErrnoException) => {
      const message = `TLS with the NBD server could not be begun: ${cause.message}`;
      // A connection that breaks says nothing of what the two would have agreed to.
      const isBreak = /^E[A-Z]+$/.test(cause.code ?? '');
      fail(isBreak ? new ConnectionLost(message, { cause }) : new TlsRefused(message, { cause }));
    };
    const closed = () =>
      fail(new ConnectionLost('the NBD server closed the connection in the middle of the handshake of TLS'));
    secured.once('error', failed);
    secured.once('close', closed);
    secured.once('secureConnect', () => {
      secured.off('error', failed);
      secured.off('close', closed);
      resolve(secured);
    });
  });
}
