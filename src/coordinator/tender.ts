// What is to be done about volumes that nobody waits for: moves, deletes to be confirmed, seals to be accepted, copies to be given up, replicas
// to be brought up. All of it follows from the route, so a leader that takes over finds it there.
//
// Invariant: one step of one volume at a time, while the volume is held; so operations of people come between the steps of a move.

import { backoffMs } from './backoff.js';
import type { Locks } from './locks.js';
import type { Ports } from './ports.js';
import type { Term } from './term.js';
import { type Troubles, type Why, whyOf } from './troubles.js';

/** `wait`: for that time, or for one of these hosts, or until something happens to the volume. `why`: what stands in the way; null: nothing does. */
export type Next =
  | { do: 'again' }
  | { do: 'wait'; milliseconds: number; hosts: readonly string[]; why: Why | null }
  /** Something did not go as it should: later, and later each time. */
  | { do: 'retry'; hosts: readonly string[]; why: Why }
  | { do: 'rest'; why: Why | null };

export const AGAIN: Next = { do: 'again' };
export const REST: Next = { do: 'rest', why: null };

export type TenderParts = Pick<Ports, 'clock' | 'random' | 'settings' | 'log'> & {
  locks: Locks;
  term: Term;
  troubles: Troubles;
  step: (volume: string) => Promise<Next>;
};

interface Tended {
  /** Woken since its last step began. */
  woken: boolean;
  /** Whom it waits for. */
  hosts: readonly string[];
  wake: (() => void) | null;
}

export class Tender {
  readonly #parts: TenderParts;
  readonly #tended = new Map<string, Tended>();

  constructor(parts: TenderParts) {
    this.#parts = parts;
  }

  wake(volume: string): void {
    if (this.#parts.term.isOver) return;
    const tended = this.#tended.get(volume);
    if (tended) {
      tended.woken = true;
      tended.wake?.();
      return;
    }
    const begun: Tended = { woken: true, hosts: [], wake: null };
    this.#tended.set(volume, begun);
    void this.#tend(volume, begun).finally(() => this.#tended.delete(volume));
  }

  /** A host is there again. */
  joined(host: string): void {
    for (const [volume, { hosts }] of this.#tended) if (hosts.includes(host)) this.wake(volume);
  }

  async #tend(volume: string, tended: Tended): Promise<void> {
    const { term, random, settings } = this.#parts;
    let tries = 0;
    while (tended.woken && !term.isOver) {
      tended.woken = false;
      const next = await this.#step(volume);
      tries = next.do === 'retry' ? tries + 1 : 0;
      if (next.do === 'again') tended.woken = true;
      if (next.do === 'again' || next.do === 'rest') continue;
      tended.hosts = next.hosts;
      // What goes wrong again and again has its pause, even if it wakes itself.
      if (next.do === 'retry') tended.woken = false;
      await this.#pause(tended, next.do === 'wait' ? next.milliseconds : backoffMs(settings, tries, random));
      tended.woken = true;
    }
  }

  async #step(volume: string): Promise<Next> {
    const next = await this.#tried(volume);
    this.#parts.troubles.note(volume, null, next.do === 'again' ? null : next.why);
    return next;
  }

  async #tried(volume: string): Promise<Next> {
    const { locks, term, log, step } = this.#parts;
    try {
      return await locks.run(volume, async () => (term.isOver ? REST : step(volume)));
    } catch (error) {
      if (!term.isOver)
        log.warn(
          { event: 'volume-not-tended', volume, err: error },
          'a volume could not be looked after yet',
        );
      return { do: 'retry', hosts: [], why: whyOf(error) };
    }
  }

  async #pause(tended: Tended, milliseconds: number): Promise<void> {
    if (tended.woken) return;
    await new Promise<void>((resolve) => {
      tended.wake = resolve;
      void this.#parts.term.sleep(milliseconds).then(resolve);
    });
    tended.wake = null;
  }
}

/** Of several things that are to be done about a volume, when the next one is. */
export function soonest(all: readonly Next[]): Next {
  if (all.some((next) => next.do === 'again')) return AGAIN;
  const hosts = all.flatMap((next) => ('hosts' in next ? next.hosts : []));
  const retry = all.find((next) => next.do === 'retry');
  if (retry) return { ...retry, hosts };
  const why = all.flatMap((next) => ('why' in next && next.why ? [next.why] : []))[0] ?? null;
  const waits = all.flatMap((next) => (next.do === 'wait' ? [next.milliseconds] : []));
  return waits.length === 0
    ? { do: 'rest', why }
    : { do: 'wait', milliseconds: Math.min(...waits), hosts, why };
}
