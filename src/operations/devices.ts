// What the data plane has open: current maps of volumes and read-only views of snapshots, who uses them, which versions are pinned.
//
// Invariants: a device is opened only when everything its chain says is in LevelDB (older versions of open lines are settled by
// a round first) and its own line is durable; it is closed only without users and after a round, so a volume that is not open has
// nothing in the journal that LevelDB lacks. Opening, closing, rounds and cuts of a container hold its mutex.

import { setTimeout as aWhile } from 'node:timers/promises';
import { CellblockError } from '../base/errors.js';
import { Mutex } from '../base/mutex.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Link } from '../model/chain.js';
import { chainOf } from '../model/chain.js';
import type { Container, Snapshot } from '../model/entities.js';
import { extentsPath } from '../model/entities.js';
import { LayerTable } from '../model/layers.js';
import { mayHaveRecords } from '../model/region-set.js';
import type { ExtentsFile } from '../plane/treaty.js';
import type { PlaneClient } from './plane-client.js';
import type { Logger } from './types.js';

export interface Device {
  readonly handle: number;
  readonly container: number;
  /** A sync gives an open device another, and other layers. */
  line: number;
  /** The version being written, or viewed. */
  version: number;
  /** A view of a snapshot; else the current map of its container. */
  readonly view: boolean;
  layers: LayerTable;
  /** Versions of its line below this one are completely in LevelDB. */
  settledBelow: number;
  /** Write-back failed since it was opened: nothing of it is dirty any more, it is read-only for good. */
  failed: boolean;
  connections: number;
  users: number;
  idle: NodeJS.Timeout | null;
}

export interface Rounding {
  /** A round of an open device whose container's mutex the caller holds. Throws when it did not pass. */
  run(device: Device): Promise<void>;
}

export interface DevicesOptions {
  idleCloseMs: number;
  /** After an unclean start: every file of a container counts as written until a device of it was closed in order. */
  unclean: ReadonlySet<number>;
}

/** For connections that are ending: a second in all. */
const LOOK_AGAIN_MS = 10;
const LOOKS = 100;

const ALL_WINDOWS = Number.MAX_SAFE_INTEGER;

export class Devices {
  readonly #catalog: Catalog;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #options: DevicesOptions;
  readonly #byHandle = new Map<number, Device>();
  readonly #current = new Map<number, Device>();
  readonly #views = new Map<string, Device>();
  readonly #mutexes = new Map<number, Mutex>();
  readonly #pins = new Map<string, number>();
  readonly #unclean: Set<number>;
  #lastHandle = 0;
  #stopping = false;
  rounding!: Rounding;
  onUnpin: () => void = () => undefined;
  /** Called when a current map has been opened, before anybody uses it; never throws. */
  onOpened: (device: Device, container: Container) => Promise<void> = async () => undefined;
  /** Called before one is closed that nobody uses; its counters end with it. */
  onClosing: (device: Device) => void = () => undefined;

  constructor(catalog: Catalog, client: PlaneClient, log: Logger, options: DevicesOptions) {
    this.#catalog = catalog;
    this.#client = client;
    this.#log = log;
    this.#options = options;
    this.#unclean = new Set(options.unclean);
  }

  /** Containers whose files may hold data nobody has synced since the unclean start. */
  get unclean(): ReadonlySet<number> {
    return this.#unclean;
  }

  get count(): number {
    return this.#byHandle.size;
  }

  all(): Device[] {
    return [...this.#byHandle.values()];
  }

  byHandle(handle: number): Device | undefined {
    return this.#byHandle.get(handle);
  }

  /** The open current map of a container. */
  current(container: number): Device | undefined {
    return this.#current.get(container);
  }

  view(line: number, version: number): Device | undefined {
    return this.#views.get(placeOf(line, version));
  }

  mutexOf(container: number): Mutex {
    let mutex = this.#mutexes.get(container);
    if (!mutex) {
      mutex = new Mutex();
      this.#mutexes.set(container, mutex);
    }
    return mutex;
  }

  /** Forgets a container that is gone. */
  forget(container: number): void {
    this.#mutexes.delete(container);
    this.#unclean.delete(container);
  }

  /** From now on nothing is opened any more. */
  stop(): void {
    this.#stopping = true;
    for (const device of this.#byHandle.values()) if (device.idle) clearTimeout(device.idle);
  }

  /** Opens the current map when it is not and counts the caller as a user of it: call `release`. */
  async acquire(container: Container): Promise<Device> {
    await this.settleBases(container.line);
    return this.mutexOf(container.id).run(() => this.acquireLocked(container));
  }

  /** As acquire, by someone who holds the mutex and has called settleBases. */
  async acquireLocked(container: Container): Promise<Device> {
    const device = await this.#openCurrent(container);
    this.#use(device);
    return device;
  }

  /** Opens a view of a snapshot and counts the caller as a user of it: call `release`. */
  async acquireView(snapshot: Snapshot): Promise<Device> {
    this.pin(snapshot.line, snapshot.version);
    try {
      await this.settle(snapshot.line, snapshot.version);
      const device = await this.mutexOf(snapshot.container).run(() => this.#openView(snapshot));
      this.#use(device);
      return device;
    } finally {
      this.unpin(snapshot.line, snapshot.version);
    }
  }

  release(device: Device): void {
    device.users -= 1;
    if (device.view) this.unpin(device.line, device.version);
    if (device.users > 0 || this.#stopping || !this.#byHandle.has(device.handle)) return;
    device.idle = setTimeout(() => void this.#closeIdle(device), this.#options.idleCloseMs);
    device.idle.unref();
  }

  #use(device: Device): void {
    device.users += 1;
    if (device.view) this.pin(device.line, device.version);
    if (device.idle) clearTimeout(device.idle);
    device.idle = null;
  }

  pin(line: number, version: number): void {
    const place = placeOf(line, version);
    this.#pins.set(place, (this.#pins.get(place) ?? 0) + 1);
  }

  unpin(line: number, version: number): void {
    const place = placeOf(line, version);
    const count = this.#pins.get(place)! - 1;
    if (count > 0) {
      this.#pins.set(place, count);
      return;
    }
    this.#pins.delete(place);
    this.onUnpin();
  }

  isPinned(line: number, version: number): boolean {
    return this.#pins.has(placeOf(line, version));
  }

  /** Everything (line, version) and what is below it says is in LevelDB afterwards. */
  async settle(line: number, version: number): Promise<void> {
    for (const link of chainOf(this.#catalog.lines, { line, version })) await this.#settleLink(link);
  }

  /** The same for what the current version of a line continues. */
  async settleBases(line: number): Promise<void> {
    const base = this.#catalog.lines.get(line)?.base;
    if (base) await this.settle(base.line, base.version);
  }

  isSettled(line: number, version: number): boolean {
    const container = this.#catalog.lines.get(line)?.container;
    const device = container === undefined ? undefined : this.#current.get(container);
    return !device || device.line !== line || version < device.settledBelow;
  }

  /** A round LevelDB gave back is taken once more when it has been reopened: who only reads the line is not told of it. */
  async #settleLink(link: Link): Promise<void> {
    for (let isFirst = true; !this.isSettled(link.line.id, link.upTo); isFirst = false) {
      try {
        await this.#passRound(link);
      } catch (error) {
        if (!isFirst || !(error instanceof CellblockError) || error.code !== 'catalog-write-failed')
          throw error;
        await this.#catalog.barrier();
      }
    }
  }

  async #passRound({ line, upTo }: Link): Promise<void> {
    await this.mutexOf(line.container).run(async () => {
      const device = this.#current.get(line.container);
      if (device && !this.isSettled(line.id, upTo)) await this.rounding.run(device);
    });
  }

  async #openCurrent(container: Container): Promise<Device> {
    const open = this.#current.get(container.id);
    if (open) return open;
    if (this.#stopping) throw stopping();
    if (container.state !== 'live') throw gone(container.name);
    await this.#catalog.barrier();
    const line = this.#catalog.lines.get(container.line)!;
    const version = line.versions[line.versions.length - 1]!.version;
    const device = this.#newDevice(
      container.id,
      chainOf(this.#catalog.lines, { line: line.id, version }),
      false,
    );
    this.#client.plane.openDevice({
      handle: device.handle,
      container: container.id,
      line: line.id,
      version,
      sizeBytes: container.sizeBytes,
      readOnly: container.failure !== null,
      layers: device.layers.initial(),
      files: this.filesOf(container.id),
      empty: this.#isEmpty(line.id, version),
      unclean: this.#unclean.has(container.id),
    });
    this.#current.set(container.id, device);
    this.#byHandle.set(device.handle, device);
    await this.onOpened(device, container);
    return device;
  }

  async #openView(snapshot: Snapshot): Promise<Device> {
    const place = placeOf(snapshot.line, snapshot.version);
    const open = this.#views.get(place);
    if (open) return open;
    if (this.#stopping) throw stopping();
    await this.#catalog.barrier();
    const chain = chainOf(this.#catalog.lines, snapshot);
    const device = this.#newDevice(snapshot.container, chain, true);
    this.#client.plane.openDevice({
      handle: device.handle,
      container: snapshot.container,
      line: snapshot.line,
      version: snapshot.version,
      sizeBytes: snapshot.sizeBytes,
      readOnly: true,
      layers: device.layers.initial(),
      files: [],
      empty: this.#isEmpty(snapshot.line, snapshot.version),
      unclean: false,
    });
    this.#views.set(place, device);
    this.#byHandle.set(device.handle, device);
    return device;
  }

  #newDevice(container: number, chain: Link[], view: boolean): Device {
    const { line, upTo } = chain[0]!;
    return {
      handle: ++this.#lastHandle,
      container,
      line: line.id,
      version: upTo,
      view,
      layers: new LayerTable(chain),
      settledBelow: upTo,
      failed: false,
      connections: 0,
      users: 0,
      idle: null,
    };
  }

  #isEmpty(line: number, version: number): boolean {
    return chainOf(this.#catalog.lines, { line, version }).every(
      (link) => !mayHaveRecords(link.line.regions, 0n, ALL_WINDOWS),
    );
  }

  /**
   * An open device continues with the current line of its container. It is quiet and everything of its old line is in LevelDB (or given
   * up: `discard`); what the new line continues is settled. Whoever calls holds the mutex.
   */
  async rebase(device: Device, container: Container, how: { discard: boolean }): Promise<void> {
    const line = this.#catalog.lines.get(container.line)!;
    const version = line.versions.at(-1)!.version;
    const layers = new LayerTable(
      chainOf(this.#catalog.lines, { line: line.id, version }),
      device.layers.current,
    );
    const before = { ...device };
    const asked = this.#client.rebase(device.handle, {
      line: line.id,
      version,
      sizeBytes: container.sizeBytes,
      layers: layers.initial(),
      empty: this.#isEmpty(line.id, version),
      discard: how.discard,
    });
    // In this turn: a version that leaves while this is answered has a layer of the new ones.
    Object.assign(device, { line: line.id, version, layers, settledBelow: version });
    try {
      await asked;
    } catch (error) {
      const { line, version, layers, settledBelow } = before;
      Object.assign(device, { line, version, layers, settledBelow });
      throw error;
    }
  }

  filesOf(container: number): ExtentsFile[] {
    return this.#catalog.filesOf(container).map((number) => ({ number, path: extentsPath(number) }));
  }

  async #closeIdle(device: Device): Promise<void> {
    try {
      await this.mutexOf(device.container).run(async () => {
        if (device.users === 0 && this.#byHandle.has(device.handle) && !this.#stopping)
          await this.closeLocked(device);
      });
    } catch (error) {
      this.#log.warn(
        { err: error, container: device.container },
        'an idle volume could not be closed; it stays open',
      );
      if (device.users === 0 && !this.#stopping) {
        device.idle = setTimeout(() => void this.#closeIdle(device), this.#options.idleCloseMs * 4);
        device.idle.unref();
      }
    }
  }

  /** Takes the last round and closes; the caller holds the mutex and knows that nobody uses it. */
  async closeLocked(device: Device, how: { withoutRound?: boolean } = {}): Promise<void> {
    if (!device.view && !how.withoutRound) await this.rounding.run(device);
    if (device.users > 0) return;
    if (!this.#stopping) this.onClosing(device);
    await this.#client.closeDevice(device.handle);
    this.#forget(device);
    if (!device.view && !how.withoutRound) this.#unclean.delete(device.container);
  }

  #forget(device: Device): void {
    if (device.idle) clearTimeout(device.idle);
    this.#byHandle.delete(device.handle);
    if (device.view) this.#views.delete(placeOf(device.line, device.version));
    else if (this.#current.get(device.container) === device) this.#current.delete(device.container);
  }

  /**
   * Resolves when a container has no connections, or after a second: a client that has left is told of a little later than it sees that
   * itself, and a command that comes right after it is not to be refused because of it.
   */
  async untilLeft(container: number): Promise<void> {
    const isUsed = (): boolean => (this.current(container)?.connections ?? 0) > 0;
    for (let look = 0; look < LOOKS && isUsed() && !this.#stopping; look++) await aWhile(LOOK_AGAIN_MS);
  }

  /** Its clients are sent away, and it is closed without a round: what it holds is of no use. The caller, who uses it, holds the mutex. */
  async expel(device: Device): Promise<void> {
    await this.#client.disconnect(device.handle);
    this.#forget(device);
    await this.#client
      .closeDevice(device.handle)
      .catch((error: unknown) =>
        this.#log.error({ err: error, container: device.container }, 'a volume could not be closed'),
      );
  }

  /** Closes a view nobody uses: its version is about to leave. */
  async closeUnusedView(line: number, version: number): Promise<void> {
    const device = this.view(line, version);
    if (!device) return;
    await this.mutexOf(device.container).run(async () => {
      if (this.#byHandle.has(device.handle) && device.users === 0) await this.closeLocked(device);
    });
  }

  /** A version left its line: devices that count it forget its layer. */
  removeLayer(line: number, version: number): void {
    for (const device of this.#byHandle.values()) {
      const layer = device.layers.layerOf(line, version);
      if (layer !== undefined) this.#client.plane.removeLayer(device.handle, layer);
    }
  }
}

function placeOf(line: number, version: number): string {
  return `${line}/${version}`;
}

function stopping(): CellblockError {
  return new CellblockError('store-stopping', 'The store is being stopped.', {
    hint: 'Try again when the agent runs again.',
  });
}

function gone(name: string): CellblockError {
  return new CellblockError('volume-not-found', `The volume ${JSON.stringify(name)} is not there any more.`, {
    hint: 'See `cellblock volume list`.',
  });
}
