// What is kept for some time only: undo points of syncs, snapshots somebody took with a date, throw-away clones. Deleted when it has
// passed, as by hand, a clone with the connections it still has; a delete that fails is tried again with the next look.

import type { Catalog } from '../catalog/catalog.js';
import type { Snapshots } from './snapshots.js';
import type { Logger } from './types.js';
import type { Volumes } from './volumes.js';

const LOOK_MS = 30_000;

export class Expiry {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #volumes: Volumes;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();

  constructor(catalog: Catalog, snapshots: Snapshots, volumes: Volumes, log: Logger) {
    this.#catalog = catalog;
    this.#snapshots = snapshots;
    this.#volumes = volumes;
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
    const isOver = ({ expires }: { expires: string | null }): boolean =>
      expires !== null && Date.parse(expires) <= nowMs;
    for (const snapshot of [...this.#catalog.snapshots.values()].filter(isOver)) {
      const volume = this.#catalog.containers.get(snapshot.container)?.name;
      if (volume === undefined) continue;
      const reference = { volume, snapshot: snapshot.name };
      await this.#end(`${volume}@${snapshot.name}`, () => this.#snapshots.delete([reference]));
    }
    for (const { name, state, kind } of [...this.#catalog.containers.values()].filter(isOver))
      if (state === 'live')
        await this.#end(name, () =>
          this.#volumes.delete(name, { withSnapshots: true, disconnect: true }, kind),
        );
  }

  async #end(name: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
      this.#log.info({ name }, 'its time has passed: deleted');
    } catch (error) {
      this.#log.warn({ err: error, name }, 'its time has passed, and it could not be deleted');
    }
  }

  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
  }
}
