// What is on its way to a host, so that whatever is to continue it there only has to wait for it: brought along with other moves, or coming with the
// move of its own volume. Also what the moves of one call would begin, when it is only asked what they would.

import type { Bases } from './bases.js';
import type { RouteBook } from './route-book.js';
import type { BaseRecord } from './store.js';

export interface Source {
  host: string;
  cell: string;
}

interface Ahead {
  from: Source;
  toHost: string;
  /** Volumes it waits for. */
  awaits: readonly string[];
}

export class Coming {
  readonly #book: RouteBook;
  readonly #bases: Bases;
  readonly #moves = new Map<string, Ahead>();
  readonly #brought: Omit<BaseRecord, 'needed'>[] = [];

  constructor({ book, bases }: { book: RouteBook; bases: Bases }) {
    this.#book = book;
    this.#bases = bases;
  }

  /** A move that would begin, if it were not only asked for. */
  wouldBegin(
    volume: string,
    { from, toHost, records }: Omit<Ahead, 'awaits'> & { records: BaseAhead[] },
  ): void {
    this.#moves.set(volume, { from, toHost, awaits: records.map((record) => record.volume) });
    this.#brought.push(...records);
  }

  /** Where all of the volume comes from, if it is on the move to this host; null: it is not. */
  async withItsVolume(volume: string, host: string): Promise<Source | null> {
    const ahead = this.#moves.get(volume);
    if (ahead) return ahead.toHost === host ? ahead.from : null;
    const journal = (await this.#book.route(volume))?.journal;
    return journal?.direction === 'forward' && journal.toHost === host
      ? { host: journal.fromHost, cell: journal.from }
      : null;
  }

  /** Ids of the last snapshots through which the volume is being brought to this host for others. */
  broughtThrough(volume: string, host: string): string[] {
    return [...this.#brought, ...this.#bases.of(volume)]
      .filter((record) => record.volume === volume && record.host === host)
      .map(({ through }) => through.id);
  }

  /** Whether the move of a volume waits for the other one, directly or through moves it waits for. */
  async waitsFor(volume: string, other: string): Promise<boolean> {
    const seen = new Set<string>();
    const open = [volume];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      const awaited = await this.#awaitedBy(next);
      if (awaited.includes(other)) return true;
      open.push(...awaited);
    }
    return false;
  }

  async #awaitedBy(volume: string): Promise<readonly string[]> {
    const ahead = this.#moves.get(volume);
    if (ahead) return ahead.awaits;
    const move = (await this.#book.route(volume))?.journal?.move;
    return move === undefined ? [] : this.#bases.neededBy(move);
  }
}

type BaseAhead = Omit<BaseRecord, 'needed'>;
