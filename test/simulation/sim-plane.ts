// The fake data plane on simulated time: what it answers takes a little, and snapshots are told of in the instant in which they are cut.

import type { PlaneRecord } from '../../src/plane/treaty.js';
import type { FakeDisk } from '../support/fake-disk.js';
import { FakePlane } from '../support/fake-plane.js';
import type { Chance } from './chance.js';
import type { Process, Scheduler } from './scheduler.js';

export interface Cut {
  handle: number;
  id: string;
}

const ANSWER_MS = 2;

export class SimPlane extends FakePlane {
  onCut: (cut: Cut) => void = () => undefined;
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  readonly #process: Process;
  readonly #purpose: string;
  #lastMs = 0;

  constructor(
    disk: FakeDisk,
    {
      scheduler,
      chance,
      process,
      name,
    }: { scheduler: Scheduler; chance: Chance; process: Process; name: string },
  ) {
    super(disk);
    this.#scheduler = scheduler;
    this.#chance = chance;
    this.#process = process;
    this.#purpose = `plane ${name}`;
  }

  /** In order, as from one stream. */
  override emit(...records: PlaneRecord[]): void {
    const { nowMs } = this.#scheduler;
    this.#lastMs = Math.max(this.#lastMs, nowMs + this.#chance.next(this.#purpose) * ANSWER_MS);
    this.#scheduler.after(this.#lastMs - nowMs, () => super.emit(...records), this.#process);
  }

  override cut(ticket: number, members: { handle: number; snapshotId: Uint8Array; name: string }[]): void {
    if (!this.dead)
      for (const { handle, snapshotId } of members)
        this.onCut({ handle, id: Buffer.from(snapshotId).toString('hex') });
    super.cut(ticket, members);
  }
}
