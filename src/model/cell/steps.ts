// What a rule has done, in order. Every step is idempotent, is written down before it is sent, and may be met again after a crash.

import type { MovePhase } from './route.js';

/** The active cell of the route or its alternate, as they were when it was decided. */
export type Side = 'x' | 'y';

export function otherSide(side: Side): Side {
  return side === 'x' ? 'y' : 'x';
}

export type Step =
  /** The operation that was asked for (a snapshot, say), in the cell that owns the volume. */
  | { do: 'perform'; at: Side }
  /** Ends the cell's ownership for good: it records that the volume was released to `releasedTo`. */
  | { do: 'seal'; at: Side; releasedTo: number }
  | { do: 'release'; at: Side; epoch: number }
  | { do: 'activate'; at: Side; epoch: number }
  | { do: 'journal'; phase: MovePhase }
  /** The route's active place becomes this one, the other its alternate. */
  | { do: 'route'; active: Side; epoch: number }
  | { do: 'prune-alternate' }
  /** A finished copy is not complete any more: it receives up to the new head. */
  | { do: 'demote'; at: Side }
  | { do: 'extend'; at: Side }
  /** Somebody has to look after this cell's copy. */
  | { do: 'repair-ticket'; at: Side }
  /** The cell answers nothing now; it has to accept a seal before it serves again. */
  | { do: 'must-seal'; at: Side; releasedTo: number }
  /** Both are asked again, and the rule is looked up again. */
  | { do: 'probe-again' };
