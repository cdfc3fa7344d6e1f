// Writes of a leader to etcd: each is carried out once at most, and none after somebody else leads.
//
// Every transaction compares two keys besides its own: that of leadership, which has to be the one this leader made (its create revision), and a slot,
// which it changes. A slot belongs to one write at a time, so a copy of a transaction that comes late, after the write was given up or was sent again,
// finds its slot changed and does nothing. Slots hang on the lease of leadership and go with it.
//
// Invariant: what is answered is what happened. A write whose answer is lost is sent again, as it was; when that cannot be answered either in time, it is
// unsettled: settle() ends it, as stored or as never to be stored, before anything else of its keys is read or written.

import { randomBytes } from 'node:crypto';
import { type Answered, type EtcdClient, EtcdFailure } from './etcd-client.js';
import type { Compare, EtcdKeys, KeyValue, Request, Txn, TxnAnswer } from './etcd-keys.js';
import { textOf } from './etcd-keys.js';
import { notLeader, stateError, tooLarge, uncertain, unreachable } from './state-errors.js';

/** What makes a leader one: its key, as it was made with this lease. */
export interface Fence {
  path: string;
  createRevision: string;
  lease: string;
}

export interface FencedWrite {
  /** Beside those of every write. */
  compare: Compare[];
  requests: Request[];
  /** Looked at when a comparison does not hold. */
  look: string[];
}

export type Written =
  /** At this revision. */
  | { stored: true; revision: string }
  /** A comparison of the write's own did not hold; what was looked at, null where there is nothing. */
  | { stored: false; found: (KeyValue | null)[] };

/** A write that may be stored, or be stored yet. */
export interface Unsettled {
  slot: Slot;
  id: string;
}

interface Slot {
  path: string;
  /** Last changed at. '0': never. */
  revision: string;
}

/** etcd takes 128 requests in a transaction; those within one count apart, so two levels take 64 times 64. */
const MOST_REQUESTS = 100;
const PER_PART = 60;

export class UnsettledWrite extends Error {
  readonly unsettled: Unsettled;

  constructor(unsettled: Unsettled, cause: EtcdFailure) {
    super(cause.message, { cause });
    this.unsettled = unsettled;
  }
}

export class FencedWriter {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly fence: Fence;
  readonly #free: Slot[] = [];
  #slots = 0;

  constructor(client: EtcdClient, keys: EtcdKeys, fence: Fence) {
    this.#client = client;
    this.#keys = keys;
    this.fence = fence;
  }

  /** Throws `not-leader`, `coordinator-state-…`, and UnsettledWrite. */
  async write({ compare, requests, look }: FencedWrite): Promise<Written> {
    const slot = this.#free.pop() ?? this.#newSlot();
    const id = randomBytes(12).toString('hex');
    const txn = this.#fenced(slot, id, {
      compare,
      success: nested(requests),
      failure: look.map((path) => this.#keys.range(path)),
    });
    let answered: Answered<TxnAnswer>;
    try {
      answered = await this.#client.ask<TxnAnswer>('/v3/kv/txn', txn);
    } catch (error) {
      if (!(error instanceof EtcdFailure)) throw error;
      if (error.mayBeDone) throw new UnsettledWrite({ slot, id }, error);
      this.#free.push(slot);
      throw definite(error);
    }
    const seen = this.#judge({ slot, id }, answered.answer);
    if (seen === 'deposed' && answered.repeated)
      throw uncertain('the answer was lost, and then this coordinator led no more');
    if (seen === 'deposed') throw notLeader();
    if (seen !== 'other') return this.#end(slot, seen);
    // A copy that is under way could hold its comparisons some day: it must not be.
    if (answered.repeated) {
      const settled = await this.settle({ slot, id });
      if (settled.stored) return settled;
    } else {
      this.#free.push(slot);
    }
    return { stored: false, found: foundIn(answered.answer).slice(2) };
  }

  /**
   * Whether it was stored; if not, it never will be. Throws `not-leader`, and UnsettledWrite when that cannot be found out now: it is to be called
   * again then.
   */
  async settle(unsettled: Unsettled): Promise<{ stored: true; revision: string } | { stored: false }> {
    const { slot } = unsettled;
    const id = randomBytes(12).toString('hex');
    const txn = this.#fenced(slot, id, { compare: [], success: [], failure: [] });
    let answered: Answered<TxnAnswer>;
    try {
      answered = await this.#client.ask<TxnAnswer>('/v3/kv/txn', txn);
    } catch (error) {
      if (error instanceof EtcdFailure) throw new UnsettledWrite(unsettled, error);
      throw error;
    }
    const ended = this.#judge({ slot, id }, answered.answer);
    if (ended === 'deposed') throw notLeader();
    if (ended !== 'other') {
      this.#end(slot, ended);
      return { stored: false };
    }
    // The slot has changed already: by the write itself, or by a settling whose answer was lost. Late copies of either do nothing any more.
    const there = foundIn(answered.answer)[1]!;
    this.#end(slot, there.mod_revision);
    return textOf(there) === unsettled.id
      ? { stored: true, revision: there.mod_revision }
      : { stored: false };
  }

  #fenced(slot: Slot, id: string, { compare, success, failure }: Txn): Txn {
    const { path, createRevision, lease } = this.fence;
    return {
      compare: [
        this.#keys.madeAt(path, createRevision),
        this.#keys.unchanged(slot.path, slot.revision),
        ...compare,
      ],
      success: [this.#keys.put(slot.path, id, lease), ...success],
      failure: [this.#keys.range(path), this.#keys.range(slot.path), ...failure],
    };
  }

  /** The revision it was stored at, by this copy or by one before. `other`: a comparison did not hold. `deposed`: that of leadership. */
  #judge({ slot, id }: Unsettled, answer: TxnAnswer): string | 'other' | 'deposed' {
    if (answer.succeeded) return answer.header.revision;
    const [leader, there] = foundIn(answer);
    if (there && textOf(there) === id) return there.mod_revision;
    if (leader?.create_revision !== this.fence.createRevision) return 'deposed';
    return there || slot.revision === '0' ? 'other' : 'deposed';
  }

  #end(slot: Slot, revision: string): Written {
    slot.revision = revision;
    this.#free.push(slot);
    return { stored: true, revision };
  }

  #newSlot(): Slot {
    return { path: `writer/${this.fence.createRevision}/${this.#slots++}`, revision: '0' };
  }
}

/** Whatever their number, they are one transaction. */
function nested(requests: Request[]): Request[] {
  if (requests.length <= MOST_REQUESTS) return requests;
  const parts: Request[] = [];
  for (let start = 0; start < requests.length; start += PER_PART)
    parts.push({ request_txn: { success: requests.slice(start, start + PER_PART) } });
  return parts;
}

function foundIn({ responses = [] }: TxnAnswer): (KeyValue | null)[] {
  return responses.map(({ response_range }) => response_range?.kvs?.[0] ?? null);
}

/** An error after which it is certain that nothing was, or will be, stored. */
export function definite(error: EtcdFailure): Error {
  switch (error.kind) {
    case 'full':
      return stateError(
        'coordinator-state-full',
        `etcd takes nothing more: ${error.message}.`,
        'Compact and defragment it, then disarm its alarm; see docs/coordinator-state.md.',
        error,
      );
    case 'refused':
      if (/request is too large|too many operations/.test(error.message))
        return tooLarge(`etcd says: ${error.message}`);
      // It goes with leadership.
      if (/lease not found/.test(error.message)) return notLeader();
      return stateError(
        'coordinator-state-refused',
        `etcd does not want what the coordinator asked: ${error.message}.`,
        'Check the user, its role and the options of etcd; see docs/coordinator-state.md.',
        error,
      );
    default:
      return unreachable(error.message, error);
  }
}
