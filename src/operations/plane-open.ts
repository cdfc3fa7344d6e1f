// Opening the data plane of a store: the journal is found, made, or refused with a sentence.
// Invariant: a journal is made only where nothing can be lost by it; one that is missed or damaged is left as it is.

import { CellblockError, systemCode } from '../base/errors.js';
import type { JournalScan, PlaneOptions } from '../plane/treaty.js';
import type { PlaneClient } from './plane-client.js';
import { directoryError } from './store-directory.js';

/** `mayMake`: nothing is lost when there is none. */
export function openPlane(client: PlaneClient, options: PlaneOptions, mayMake: boolean): JournalScan {
  let scan: JournalScan;
  try {
    scan = client.open(mayMake ? options : { ...options, journalBytes: 0n });
  } catch (error) {
    throw openError(options.directory, error);
  }
  if (scan.created && !mayMake) throw missing(options.directory);
  return scan;
}

function openError(directory: string, error: unknown): CellblockError {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENODATA':
      return missing(directory, error);
    case 'EUCLEAN':
      return damaged('journal-damaged', `The journal of the store ${directory} is damaged.`, error);
    case 'ESTALE':
      return damaged(
        'journal-damaged',
        `The journal in ${directory} belongs to another store than the metadata.`,
        error,
      );
    case 'EPROTONOSUPPORT':
      return new CellblockError('store-newer', `The journal of the store ${directory} has a newer format.`, {
        hint: 'Use a newer version of cellblock.',
        cause: error,
      });
    case 'ENOSYS':
      return new CellblockError('option-invalid', 'This kernel does not allow io_uring.', {
        hint: 'Set engine.kind to automatic or workers.',
        cause: error,
      });
    case 'EMFILE':
    case 'ENFILE':
      return new CellblockError(
        'data-plane-failed',
        'There are not enough file descriptors for the data plane.',
        {
          hint: 'Raise the limit of open files (LimitNOFILE, ulimit -n).',
          cause: error,
        },
      );
    case 'EIO':
      return new CellblockError(
        'data-plane-failed',
        `The journal of the store ${directory} cannot be read or written.`,
        {
          hint: 'Check the disk.',
          cause: error,
        },
      );
    default:
      return directoryError(directory, error);
  }
}

/** A journal that is gone takes answered writes with it. */
function missing(directory: string, cause?: unknown): CellblockError {
  return damaged(
    'journal-missing',
    `The journal of the store ${directory} is missing although the store was not stopped cleanly.`,
    cause,
  );
}

function damaged(
  code: 'journal-missing' | 'journal-damaged',
  message: string,
  cause: unknown,
): CellblockError {
  return new CellblockError(code, message, {
    hint: 'Put the right file `journal` back into the store directory, or restore the store from a copy.',
    cause,
  });
}
