// Requests of one side to the other: those that wait for a reply, and those that were answered.
//
// Invariants: a request is settled once. A request that comes again is not carried out again: it gets the reply it got, or waits with the
// first one.

import { createHash } from 'node:crypto';
import { LIMITS } from './limits.js';
import type { ReplyBody, RequestBody } from './messages.js';

interface Waiting {
  request: RequestBody;
  /** By the monotonic clock. */
  dueMs: number;
}

/** Ours, not settled yet. */
export class Asked {
  readonly #waiting = new Map<string, Waiting>();

  get size(): number {
    return this.#waiting.size;
  }

  add(request: RequestBody, dueMs: number): void {
    this.#waiting.set(request.id, { request, dueMs });
  }

  get(id: string): RequestBody | undefined {
    return this.#waiting.get(id)?.request;
  }

  /** Takes it out; false: nobody waits for it. */
  settle(id: string): boolean {
    return this.#waiting.delete(id);
  }

  /** Takes out those whose time is over; all of them without a time. */
  takeDue(nowMs = Number.POSITIVE_INFINITY): string[] {
    const due = [...this.#waiting].filter(([, { dueMs }]) => dueMs <= nowMs).map(([id]) => id);
    for (const id of due) this.#waiting.delete(id);
    return due;
  }
}

interface Taken {
  digest: string;
  /** Null: it is being worked on. */
  reply: ReplyBody | null;
  bytes: number;
}

export type Verdict =
  | { take: 'new' }
  | { take: 'again'; reply: ReplyBody }
  | { take: 'in-progress' }
  | { take: 'id-reused' }
  | { take: 'too-many' };

/** The peer's. Outlives a session: whoever asks again after it was lost gets the reply of then. */
export class Answered {
  readonly #taken = new Map<string, Taken>();
  #inProgress = 0;
  #bytes = 0;

  take(request: RequestBody): Verdict {
    const digest = digestOf(request);
    const before = this.#taken.get(request.id);
    if (before) {
      if (before.digest !== digest) return { take: 'id-reused' };
      return before.reply ? { take: 'again', reply: before.reply } : { take: 'in-progress' };
    }
    if (this.#inProgress >= LIMITS.requestsInProgress) return { take: 'too-many' };
    this.#inProgress++;
    this.#taken.set(request.id, { digest, reply: null, bytes: 0 });
    return { take: 'new' };
  }

  /** False: it is not being worked on. */
  reply(reply: ReplyBody, bytes: number): boolean {
    const taken = this.#taken.get(reply.id);
    if (!taken || taken.reply) return false;
    this.#inProgress--;
    this.#taken.delete(reply.id);
    // The latest reply is the last to be let go.
    this.#taken.set(reply.id, { ...taken, reply, bytes });
    this.#bytes += bytes;
    this.#letGo();
    return true;
  }

  #letGo(): void {
    for (const [id, { reply, bytes }] of this.#taken) {
      const kept = this.#taken.size - this.#inProgress;
      if (kept <= LIMITS.repliesKept && this.#bytes <= LIMITS.repliesKeptBytes) return;
      if (!reply) continue;
      this.#taken.delete(id);
      this.#bytes -= bytes;
    }
  }
}

function digestOf({ ...request }: RequestBody): string {
  const { seq: _seq, ack: _ack, ...body } = request as RequestBody & { seq?: number; ack?: number };
  return createHash('sha256').update(JSON.stringify(body)).digest('base64');
}
