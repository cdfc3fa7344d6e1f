// An error as the command line shows it: one sentence on what is wrong, one on what to do, and a kind that decides the exit code.

import type { FailureKind } from '../agent/exit-codes.js';
import { asCellblockError, CellblockError } from '../base/errors.js';
import { ConnectionLost } from '../nbd-client/byte-stream.js';
import { OptionRefused, ProtocolViolation } from '../nbd-client/handshake.js';
import { RequestFailed } from '../nbd-client/nbd-client.js';
import { OPTION_REPLY_UNKNOWN } from '../nbd-client/wire.js';

export class CommandError extends Error {
  override name = 'CommandError';
  constructor(
    readonly kind: FailureKind,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

const READ_THE_LOG = 'See the log of cellblockd.';

/** Makes anything thrown a CommandError. */
export function asCommandError(error: unknown): CommandError {
  if (error instanceof CommandError) return error;
  if (error instanceof RequestFailed) return ofRequest(error);
  if (error instanceof OptionRefused) return ofRefusal(error);
  if (error instanceof ConnectionLost || error instanceof ProtocolViolation) {
    return new CommandError('unreachable', 'nbd-connection-lost', sentence(error.message), READ_THE_LOG);
  }
  if (error instanceof Error && error.name === 'AbortError') return interrupted();
  if (!(error instanceof CellblockError) && error instanceof Error && 'syscall' in error) {
    return ofSystem(error as NodeJS.ErrnoException);
  }
  const { kind, code, message, hint } = asCellblockError(error);
  return new CommandError(kind, code, message, hint);
}

/** What was under way says itself what it leaves behind. */
export function interrupted(): CommandError {
  return new CommandError('cancelled', 'interrupted', 'Interrupted.', 'Start again when you like.');
}

function ofRefusal({ type, message }: OptionRefused): CommandError {
  if (type === OPTION_REPLY_UNKNOWN) {
    const hint = 'See `cellblock volume list` and `cellblock snapshot list`.';
    return new CommandError('not-found', 'export-not-found', sentence(message), hint);
  }
  return new CommandError(
    'refused',
    'export-refused',
    `The agent does not serve it: ${sentence(message)}`,
    READ_THE_LOG,
  );
}

function ofRequest(error: RequestFailed): CommandError {
  if (error.code === 'ENOSPC') {
    return new CommandError(
      'no-space',
      'no-space',
      'The store has no space left.',
      'Delete volumes or snapshots, or enlarge its file system.',
    );
  }
  if (error.code === 'EPERM') {
    return new CommandError(
      'refused',
      'read-only',
      'The volume is read-only.',
      'See `cellblock volume show`; a failed volume needs `cellblock volume repair`.',
    );
  }
  return new CommandError(
    'io',
    'request-failed',
    `The agent answered ${sentence(error.message)}`,
    READ_THE_LOG,
  );
}

/** Of what the words of a command could not be written to. */
export function explainOutputFailure(error: NodeJS.ErrnoException): CommandError {
  return asCommandError(Object.assign(error, { path: 'standard output' }));
}

/** Files of the caller: the message names call and path already. */
function ofSystem(error: NodeJS.ErrnoException): CommandError {
  const path = error.path ?? 'the file';
  switch (error.code) {
    case 'ENOENT':
      return new CommandError('not-found', 'file-not-found', `${path} does not exist.`, 'Check the path.');
    case 'EACCES':
    case 'EPERM':
      return new CommandError(
        'refused',
        'permission-denied',
        `Permission denied on ${path}.`,
        'Check its owner and mode.',
      );
    case 'EISDIR':
      return new CommandError(
        'invalid',
        'not-a-file',
        `${path} is a directory.`,
        'Name a file, or - for a pipe.',
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new CommandError(
        'no-space',
        'no-space',
        `No space left for ${path}.`,
        'Free some, or write somewhere else.',
      );
    case 'EROFS':
      return new CommandError(
        'refused',
        'read-only',
        `${path} is read-only or lies on a read-only file system.`,
        'Make it writable, or write somewhere else.',
      );
    case 'EPIPE':
      return new CommandError(
        'io',
        'reader-gone',
        `The reader of ${path} went away.`,
        'Start both again when you like.',
      );
    default:
      return new CommandError(
        'io',
        'file-failed',
        `${path}: ${sentence(error.message)}`,
        'Check the disk and the path.',
      );
  }
}

function sentence(text: string): string {
  return text.endsWith('.') ? text : `${text}.`;
}
