// Long reading that someone may call off.

import { CellblockError } from '../base/errors.js';

/** What long work is given: a way to be stopped, and a way to say how far it is. */
export interface Watched {
  signal?: AbortSignal;
  /** Records looked at so far. */
  onProgress?: (records: bigint) => void;
}

/** Throws `task-cancelled` after the signal. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw new CellblockError('task-cancelled', 'The task was cancelled.', {
    hint: 'Nothing has to be undone.',
  });
}
