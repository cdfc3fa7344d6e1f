// One window of one version while a journal is replayed into it: the stored record, what entries make of it, what is left over.
// Invariant: idempotent; replaying the same entries over the result gives the same result.

import type { BlockRange } from './punch.js';
import { droppedPlaces, overlay, slotSet } from './runs.js';
import type { Run, WindowRecord } from './window-record.js';
import { isEmpty } from './window-record.js';

export class WindowReplay {
  #ownSlot: bigint | null;
  #runs: Run[];
  /** Everything that was named before or on the way. */
  readonly #named: Run[][] = [];

  constructor(stored: WindowRecord | null) {
    this.#ownSlot = stored?.ownSlot ?? null;
    this.#runs = stored?.runs ?? [];
    this.#named.push(this.#runs);
  }

  own(start: number, count: number, slot: bigint): void {
    this.#ownSlot = slot;
    this.#put({ start, count, slot });
  }

  zero(start: number, count: number): void {
    this.#put({ start, count, slot: null });
  }

  cutOff(): void {
    this.#ownSlot = null;
    this.#runs = [];
  }

  #put(run: Run): void {
    this.#runs = overlay(this.#runs, [run]);
    if (run.slot !== null) this.#named.push([run]);
  }

  /** The record to store; null: nothing is said any more. */
  get record(): WindowRecord | null {
    const record = { ownSlot: this.#ownSlot, runs: this.#runs };
    return isEmpty(record) ? null : record;
  }

  /** Places nothing of this record names any more; its own slot is never among them (it may be written again at any time). */
  dropped(): BlockRange[] {
    const kept = slotSet(this.record?.ownSlot);
    const seen = new Set<string>();
    return this.#named
      .flatMap((runs) => droppedPlaces(runs, this.#runs, kept))
      .filter(({ slot, start, count }) => {
        const key = `${slot} ${start} ${count}`;
        return !seen.has(key) && seen.add(key);
      });
  }
}
