// Snapshots that are kept for some time only: undo points of syncs, and those somebody took with a date. Deleted when it has
// passed, as by hand; one that is in use or whose delete fails is tried again with the next look.

import type { Catalog } from '../catalog/catalog.js';
import type { Snapshots } from './snapshots.js';
import type { Logger } from './types.js';

const LOOK_MS = 30_000;

export class Expiry {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();

  constructor(catalog: Catalog, snapshots: Snapshots, log: Logger) {
    this.#catalog = catalog;
    this.#snapshots = snapshots;
    this.#log = log;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.look(Date.now()));
    }, LOOK_MS);
    this.#timer.unref();
  }

  /** Deletes what has expired by then. */
  async look(nowMs: number): Promise<void> {
    for (const snapshot of [...this.#catalog.snapshots.values()]) {
      if (snapshot.expires === null || Date.parse(snapshot.expires) > nowMs) continue;
      const volume = this.#catalog.containers.get(snapshot.container)?.name;
      if (volume === undefined) continue;
      try {
        await this.#snapshots.delete([{ volume, snapshot: snapshot.name }]);
        this.#log.info({ snapshot: `${volume}@${snapshot.name}` }, 'a snapshot has expired');
      } catch (error) {
        this.#log.warn({ err: error, snapshot: snapshot.name }, 'an expired snapshot could not be deleted');
      }
    }
  }

  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
  }
}
