// Leadership of a coordinator that is the only one: its state is locked by this process, so it leads until it stops.

import type { Leader, Leadership } from './store.js';

export class SoleLeadership implements Leadership {
  readonly #self: Leader;
  readonly #listeners: (() => void)[] = [];
  #leads = true;

  constructor(self: Leader) {
    this.#self = self;
  }

  get leader(): Leader | null {
    return this.#leads ? this.#self : null;
  }

  get isLeader(): boolean {
    return this.#leads;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    listener();
  }

  /** There is nobody else: it leads again at its next start. */
  async resign(): Promise<void> {
    if (!this.#leads) return;
    this.#leads = false;
    for (const listener of this.#listeners) listener();
  }

  close(): Promise<void> {
    return this.resign();
  }
}
