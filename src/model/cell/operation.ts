// What is asked of a volume through the resolver: it is generic over this (claim 5: an operation on a resource, performed at a location).

import type { Head } from './route.js';

export type Operation =
  /** The id is chosen once, before the first try: asking again is the same snapshot. */
  | { kind: 'snapshot'; id: string; name: string }
  | { kind: 'resize'; sizeBytes: string }
  | { kind: 'delete' }
  /** Of a visible snapshot, at the owner; what other hosts have of it goes afterwards. */
  | { kind: 'snapshot-delete'; id: string; name: string }
  /** Where it is, and that it is whole: attach and describe need no more. */
  | { kind: 'locate' }
  /** Only to finish or undo what a move has left. */
  | { kind: 'settle' };

/** What became of it. */
export type Performed = { ok: true; head: Head | null } | { ok: false; code: string; message: string };
