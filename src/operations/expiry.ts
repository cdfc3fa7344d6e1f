// What is kept for some time only: undo points of syncs, snapshots somebody took with a date, throw-away clones. Deleted when it has
// passed, as by hand, a clone with the connections it still has; a delete that fails is tried again with the next look.

import type { Catalog } from '../catalog/catalog.js';
import type { LocalVerbs } from './cells/local-verbs.js';
import type { Snapshots } from './snapshots.js';
import type { Logger } from './types.js';
import type { Vms } from './vms.js';
import type { Volumes } from './volumes.js';

const LOOK_MS = 30_000;

export class Expiry {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #volumes: Volumes;
  readonly #vms: Vms;
  readonly #localVerbs: LocalVerbs;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();

  constructor(collaborators: {
    catalog: Catalog;
    snapshots: Snapshots;
    volumes: Volumes;
    vms: Vms;
    localVerbs: LocalVerbs;
    log: Logger;
  }) {
    this.#catalog = collaborators.catalog;
    this.#snapshots = collaborators.snapshots;
    this.#volumes = collaborators.volumes;
    this.#vms = collaborators.vms;
    this.#localVerbs = collaborators.localVerbs;
    this.#log = collaborators.log;
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
    // Before the snapshots of their disks, which go with them: none is left that lacks its disks.
    for (const { vm, name } of [...this.#catalog.vmSnapshots.values()].filter(isOver)) {
      const machine = this.#catalog.vms.get(vm)?.name;
      if (machine !== undefined)
        await this.#end(`${machine}@${name}`, () => this.#vms.deleteSnapshot(machine, name));
    }
    for (const snapshot of [...this.#catalog.snapshots.values()].filter(isOver)) {
      // With a later look, when the move is over.
      if (this.#localVerbs.pinOf(snapshot) !== null) continue;
      const volume = this.#catalog.containers.get(snapshot.container)?.name;
      if (volume === undefined) continue;
      const reference = { volume, snapshot: snapshot.name };
      await this.#end(`${volume}@${snapshot.name}`, () => this.#snapshots.delete([reference]));
    }
    for (const container of [...this.#catalog.containers.values()].filter(isOver)) {
      const { name, state, kind } = container;
      if (state !== 'live' || this.#localVerbs.isRouted(container)) continue;
      const whole = { withSnapshots: true, disconnect: true };
      await this.#end(name, () => this.#volumes.delete(name, whole, kind));
    }
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
