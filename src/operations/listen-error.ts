// Why nobody can listen on an address, in one sentence with what to do; of the data plane's, the control API's and the metrics' sockets.

import { CellblockError, systemCode } from '../base/errors.js';

/** sockaddr_un holds this many bytes and a final NUL. */
const MAX_PATH_BYTES = 107;

/** `address`: `unix:PATH` or `tcp:HOST:PORT`. */
export function listenError(address: string, error: unknown): CellblockError {
  if (error instanceof CellblockError) return error;
  const path = address.startsWith('unix:') ? address.slice('unix:'.length) : null;
  const place = path ?? address;
  const refusal =
    (code: 'address-in-use' | 'address-invalid' | 'permission-denied' | 'listen-failed') =>
    (message: string, hint: string) =>
      new CellblockError(code, message, { hint, facts: { address, errno: systemCode(error) }, cause: error });
  switch (systemCode(error)) {
    case 'EADDRINUSE':
      return path === null
        ? refusal('address-in-use')(`Another process listens on ${place}.`, 'Stop it or choose another port.')
        : refusal('address-in-use')(
            `Another process answers on ${place}.`,
            'Stop it or choose another path.',
          );
    case 'EEXIST':
      return refusal('address-in-use')(
        `${place} is there and is no socket.`,
        'Move it away or choose another path.',
      );
    case 'EACCES':
    case 'EPERM':
      return refusal('permission-denied')(
        `Cannot listen on ${place}: permission denied.`,
        'Choose another address, or run the agent as a user that may listen there.',
      );
    case 'ENAMETOOLONG':
    case 'EINVAL':
      if (path !== null) checkSocketPath(path);
      return refusal('address-invalid')(
        `${JSON.stringify(address)} is no address to listen on.`,
        ADDRESS_HINT,
      );
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EADDRNOTAVAIL':
      return refusal('address-invalid')(
        `This machine does not have the address ${place}.`,
        'Choose one of its own.',
      );
    default:
      return refusal('listen-failed')(
        `Cannot listen on ${place}: ${systemCode(error) || String(error)}.`,
        'Check the address; of a socket, that its directory exists and that this user may write to it.',
      );
  }
}

/** Of a socket the process was started with: the data plane says which, and what is wrong with it. */
export function descriptorError(error: unknown): CellblockError {
  if (error instanceof CellblockError) return error;
  const said = error instanceof Error ? error.message : String(error);
  return activationError(`A socket passed at the start cannot be used: ${said}.`);
}

export function activationError(message: string): CellblockError {
  return new CellblockError('socket-activation-invalid', message, {
    hint: 'Pass listening stream sockets named nbd or api (FileDescriptorName= of a systemd socket unit); see docs/systemd.md.',
  });
}

const ADDRESS_HINT = 'Write unix:PATH or tcp:HOST:PORT.';

/** Throws `address-invalid`. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return;
  throw new CellblockError(
    'address-invalid',
    `The socket path ${path} has ${bytes} bytes; ${MAX_PATH_BYTES} are allowed.`,
    {
      hint: 'Choose a shorter path.',
    },
  );
}
