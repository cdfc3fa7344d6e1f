// The extents files of containers: made before they are written, unlinked when nothing can name them any more.
// Invariant: a file's record is durable before the data plane may write it, and says `dropping` durably before it is unlinked.

import type { Catalog, Change } from '../catalog/catalog.js';
import type { ExtentsFileRecord } from '../model/entities.js';
import { extentsPath } from '../model/entities.js';
import { ALL_WINDOWS } from '../model/keys.js';
import { fileOfSlot } from '../model/slot.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient } from './plane-client.js';
import type { Logger } from './types.js';

/** Looking for files nobody names reads all records: so long after there may be one. */
const RELEASE_AFTER_MS = 60_000;

export class Files {
  readonly #catalog: Catalog;
  readonly #client: PlaneClient;
  readonly #devices: Devices;
  readonly #log: Logger;
  /** Devices a file is being made for: the data plane asks again while it waits, and wants one all the same. */
  readonly #adding = new Set<Device>();
  /** Their files whose group could not be written yet. It stays in the queue, so the next try waits for it, not for another. */
  readonly #pending = new WeakMap<Device, number>();
  readonly #blocksPerWindow: number;
  #timer: NodeJS.Timeout | null = null;
  #releasing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(
    catalog: Catalog,
    client: PlaneClient,
    devices: Devices,
    log: Logger,
    options: { blocksPerWindow: number },
  ) {
    this.#catalog = catalog;
    this.#client = client;
    this.#devices = devices;
    this.#log = log;
    this.#blocksPerWindow = options.blocksPerWindow;
  }

  /** A new file of a container, in the caller's group. */
  add(container: number, change: Change): ExtentsFileRecord {
    const file: ExtentsFileRecord = {
      number: change.take('file'),
      container,
      state: 'live',
      movedOut: false,
    };
    change.file(file);
    this.#client.plane.knowFile({ number: file.number, path: extentsPath(file.number) });
    return file;
  }

  /** The data plane's current file of a device is nearly full. Asked again while it fails. */
  async addTo(device: Device): Promise<void> {
    if (this.#adding.has(device)) return;
    this.#adding.add(device);
    try {
      const change = this.#catalog.change();
      const number = this.#pending.get(device) ?? this.add(device.container, change).number;
      this.#pending.set(device, number);
      await change.commit(); // an empty group waits for all handed in before
      this.#pending.delete(device);
      if (this.#devices.byHandle(device.handle) === device) {
        this.#client.plane.addFile(device.handle, { number, path: extentsPath(number) });
      }
    } finally {
      this.#adding.delete(device);
    }
  }

  /** Files that will be unlinked with this container: it is being deleted and nobody else can name their places. */
  goingWith(container: number): Set<number> {
    if (this.#catalog.containers.get(container)?.state !== 'deleting' || this.#isContinued(container))
      return new Set();
    return new Set(
      this.#catalog.filesOf(container).filter((number) => !this.#catalog.files.get(number)!.movedOut),
    );
  }

  #isContinued(container: number): boolean {
    return this.#catalog.linesOf(container).some((line) => this.#catalog.basesIn(line.id).size > 0);
  }

  /** The last line of the container is gone with this group: so is the container. Answers the files to unlink after it. */
  containerGone(container: number, change: Change): ExtentsFileRecord[] | null {
    if (this.#catalog.linesOf(container).length > 0) return null;
    const record = this.#catalog.containers.get(container);
    if (record) change.removeContainer(record);
    this.#devices.forget(container);
    const files = this.#catalog.filesOf(container).map((number) => this.#catalog.files.get(number)!);
    const going = files.filter((file) => !file.movedOut);
    for (const file of going) {
      file.state = 'dropping';
      change.file(file);
    }
    return going;
  }

  /** Unlinks files that are durably `dropping`. */
  async unlink(files: readonly ExtentsFileRecord[]): Promise<void> {
    if (files.length === 0) return;
    await this.#client.grace();
    for (const file of files) {
      await this.#client.dropFile(file.number);
      await this.#catalog.change().removeFile(file).commit();
    }
  }

  /** A file no record names any more, of a container that is gone. */
  async release(number: number): Promise<void> {
    const file = this.#catalog.files.get(number);
    if (file?.state !== 'live' || this.#catalog.containers.has(file.container)) return;
    file.state = 'dropping';
    await this.#catalog.change().file(file).commit();
    await this.unlink([file]);
  }

  /** Files that outlived their container are looked at in a while: something was deleted that may have been the last to name them. */
  releaseLater(): void {
    if (this.#timer || this.#stopped || this.#orphans().size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#releasing = this.releaseUnnamed().catch((error: unknown) =>
        this.#log.warn(
          { err: error },
          'files of deleted volumes could not be removed; the next delete tries again',
        ),
      );
    }, RELEASE_AFTER_MS);
    this.#timer.unref();
  }

  /**
   * Removes files of containers that are gone and that no record names. Nobody will name them again: places of such a file only move
   * from one record to another, in one batch.
   */
  async releaseUnnamed(): Promise<void> {
    const unnamed = await this.#catalog.queue.readSnapshot(async (level, snapshot) => {
      const unseen = this.#orphans();
      for await (const page of level.scan(ALL_WINDOWS, { snapshot })) {
        for (const [, stored] of page) {
          const { ownSlot, runs } = decodeWindowRecord(stored, this.#blocksPerWindow);
          for (const slot of [ownSlot, ...runs.map((run) => run.slot)])
            if (slot !== null) unseen.delete(fileOfSlot(slot));
        }
        if (unseen.size === 0 || this.#stopped) return new Set<number>();
      }
      return unseen;
    });
    for (const number of unnamed) await this.release(number);
  }

  #orphans(): Set<number> {
    const { files, containers } = this.#catalog;
    const orphans = [...files.values()].filter(({ state, container }) => {
      return state === 'live' && !containers.has(container);
    });
    return new Set(orphans.map(({ number }) => number));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#releasing;
  }

  /** At start: what an earlier run did not finish. */
  async finish(): Promise<void> {
    const dropping = [...this.#catalog.files.values()].filter(({ state }) => state === 'dropping');
    try {
      await this.unlink(dropping);
    } catch (error) {
      this.#log.warn(
        { err: error },
        'an extents file could not be removed; it is tried again at the next start',
      );
    }
  }
}
