// Which coordinator an agent dials next, and when: round its list, to the leader where one is named, later and later while none takes it.

import { CellblockError } from '../base/errors.js';
import type { Refused } from './messages.js';

export const DIALING = {
  /** The longest wait before the first dial; it doubles with every round that found nobody. */
  firstMs: 500,
  longestMs: 30_000,
  /** Leaders that are followed in a row; then it goes round the list again. */
  redirects: 3,
} as const;

export interface Dial {
  address: string;
  delayMs: number;
}

export class Dialer {
  readonly #coordinators: readonly string[];
  readonly #random: () => number;
  #tried = 0;
  #last = '';
  #leader: string | null = null;
  #redirects = 0;
  /** Took it last time. */
  #preferred: string | null = null;
  /** Said nothing when it was dialled, or for too long: who hangs costs a whole time-out each time. */
  #silent: string | null = null;
  #notBeforeMs = 0;

  /** `random` gives numbers in [0, 1). Throws `coordinator-address-invalid`. */
  constructor(coordinators: readonly string[], random: () => number) {
    if (coordinators.length === 0 || !coordinators.every(isAddress))
      throw new CellblockError('coordinator-address-invalid', 'The list of coordinators cannot be dialled.', {
        hint: 'Write each as wss://HOST:PORT.',
      });
    this.#coordinators = coordinators;
    this.#random = random;
  }

  next(): Dial {
    const [leader, waitMs] = [this.#leader, this.#notBeforeMs];
    this.#leader = null;
    this.#notBeforeMs = 0;
    if (leader !== null) return this.#dial(leader, 0);
    const round = this.#round();
    const address = round[this.#tried % round.length]!;
    const delayMs = this.#tried % round.length === 0 ? this.#backoffMs(this.#tried / round.length) : 0;
    this.#tried++;
    return this.#dial(address, Math.max(delayMs, waitMs));
  }

  /** The one dialled last has taken the host. */
  welcomed(): void {
    this.#preferred = this.#last;
    if (this.#silent === this.#last) this.#silent = null;
    this.#tried = 0;
    this.#redirects = 0;
  }

  /** Nothing was heard of the one dialled last: the others come before it. */
  silent(): void {
    this.#silent = this.#last;
    if (this.#preferred === this.#last) this.#preferred = null;
  }

  refused({ leader, retryAfterMs }: Refused): void {
    if (leader && this.#redirects < DIALING.redirects && isAsSafe(leader.address, this.#last)) {
      this.#redirects++;
      this.#leader = leader.address;
      return;
    }
    // Spread, so that those who were refused together do not come back together.
    if (retryAfterMs !== null)
      this.#notBeforeMs = Math.min(retryAfterMs, DIALING.longestMs) * (1 + this.#random());
  }

  #dial(address: string, delayMs: number): Dial {
    this.#last = address;
    return { address, delayMs: Math.round(delayMs) };
  }

  #round(): readonly string[] {
    const [first, last] = [this.#preferred, this.#silent];
    const others = this.#coordinators.filter((other) => other !== first && other !== last);
    return [...(first === null ? [] : [first]), ...others, ...(last === null ? [] : [last])];
  }

  #backoffMs(round: number): number {
    const ceilingMs = Math.min(DIALING.longestMs, DIALING.firstMs * 2 ** Math.min(round, 16));
    // The first wait may be none at all; later ones are half of the ceiling at least.
    return round === 0 ? ceilingMs * this.#random() : ceilingMs * (0.5 + this.#random() / 2);
  }
}

function isAddress(text: string): boolean {
  return URL.canParse(text) && /^wss?:$/.test(new URL(text).protocol);
}

/** Nobody sends a host from TLS into the clear. */
function isAsSafe(to: string, from: string): boolean {
  return isAddress(to) && (new URL(to).protocol === 'wss:' || new URL(from).protocol === 'ws:');
}
