// Volumes and files: made, renamed, resized, deleted, repaired. Their data is the same; a file has attributes besides.
//
// Invariants: a shrink is durable as an intention before the data plane begins it, and finished at start (D6); the delete of a
// volume begins after a round has passed everything of it, is one durable group, and is never undone.

import { CellblockError } from '../base/errors.js';
import type { Catalog, Change } from '../catalog/catalog.js';
import { checkAllowed, checkDescription } from '../model/access.js';
import type { Container, ContainerKind, Failure } from '../model/entities.js';
import { type FileAttributes, laterOf } from '../model/file-attributes.js';
import { checkName } from '../model/names.js';
import { checkSize } from '../model/sizes.js';
import type { Limits } from '../model/volume-settings.js';
import type { Device, Devices } from './devices.js';
import type { Files } from './files.js';
import { requireKind } from './lookup.js';
import type { PlaneClient } from './plane-client.js';
import type { Reclaim } from './reclaim.js';
import { failedVolume } from './rounds.js';
import { newContainer, refuseTaken } from './snapshots.js';
import type { Space } from './space.js';
import type { Access, Logger } from './types.js';
import { inVm } from './vms.js';

/** What a new one may be given besides a name and a size. */
export interface NewVolume extends Partial<Access> {
  attributes?: FileAttributes | null;
  limits?: Limits | null;
}

export class Volumes {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #reclaim: Reclaim;
  readonly #files: Files;
  readonly #space: Space;
  readonly #log: Logger;

  constructor(collaborators: {
    catalog: Catalog;
    devices: Devices;
    client: PlaneClient;
    reclaim: Reclaim;
    files: Files;
    space: Space;
    log: Logger;
  }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#reclaim = collaborators.reclaim;
    this.#files = collaborators.files;
    this.#space = collaborators.space;
    this.#log = collaborators.log;
  }

  /** `attributes`: those of a file; without them a volume is made. */
  async create(
    name: string,
    sizeBytes: bigint,
    { attributes = null, allow = [], description = '', limits = null }: NewVolume = {},
  ): Promise<Container> {
    const kind = attributes ? 'file' : 'volume';
    checkName(name, kind);
    checkSize(sizeBytes);
    checkDescription(description);
    const access = { allow: checkAllowed(allow), description };
    refuseTaken(this.#catalog, name);
    await this.#space.check();
    refuseTaken(this.#catalog, name);
    const change = this.#catalog.change();
    const what = {
      name,
      kind,
      attributes,
      ...access,
      limits,
      sizeBytes,
      base: null,
      clonedFrom: null,
    } as const;
    const container = newContainer(what, change);
    this.#files.add(container.id, change);
    await change.commit();
    return container;
  }

  async rename(name: string, newName: string, kind: ContainerKind = 'volume'): Promise<Container> {
    const container = requireKind(this.#catalog, name, kind);
    checkName(newName, kind);
    if (newName === name) return container;
    refuseTaken(this.#catalog, newName);
    await this.#catalog.change().rename(container, newName).commit();
    return container;
  }

  async resize(
    name: string,
    options: { sizeBytes: bigint; force: boolean },
    kind: ContainerKind = 'volume',
  ): Promise<Container> {
    const { sizeBytes } = options;
    checkSize(sizeBytes);
    const container = requireKind(this.#catalog, name, kind);
    refuseShrink(container, options);
    if (sizeBytes < container.sizeBytes) {
      const device = await this.#devices.acquire(container);
      try {
        await this.#devices.mutexOf(container.id).run(() => this.#resizeLocked(container, options));
      } finally {
        this.#devices.release(device);
      }
    } else {
      await this.#devices.mutexOf(container.id).run(() => this.#resizeLocked(container, options));
    }
    return container;
  }

  async #resizeLocked(container: Container, options: { sizeBytes: bigint; force: boolean }): Promise<void> {
    requireSame(this.#catalog, container);
    if (container.failure || this.#devices.current(container.id)?.failed) throw failedVolume(container);
    refuseShrink(container, options);
    if (options.sizeBytes > container.sizeBytes) await this.#grow(container, options.sizeBytes);
    else if (options.sizeBytes < container.sizeBytes) await this.#shrink(container, options.sizeBytes);
  }

  async #grow(container: Container, sizeBytes: bigint): Promise<void> {
    container.sizeBytes = sizeBytes;
    container.shrinkingTo = null;
    await this.#catalog.change().container(container).commit();
    const device = this.#devices.current(container.id);
    if (device) await this.#client.resize(device.handle, sizeBytes);
  }

  /** The caller holds the mutex and a use of the open device. */
  async #shrink(container: Container, sizeBytes: bigint): Promise<void> {
    const device = this.#devices.current(container.id);
    if (!device) throw new Error('a volume that is shrunk is open');
    await this.#devices.rounding.run(device);
    container.shrinkingTo = sizeBytes;
    await this.#catalog.change().container(container).commit();
    try {
      await this.#client.resize(device.handle, sizeBytes);
    } catch (error) {
      // The volume has its old size and clients go on with it: the next start may not finish what was refused.
      container.shrinkingTo = null;
      await this.#catalog.change().container(container).commit();
      throw error;
    }
    container.sizeBytes = sizeBytes;
    container.shrinkingTo = null;
    await this.#catalog.change().container(container).commit();
  }

  /**
   * At start: shrinks that had begun, and whose answer nobody got. One that cannot be finished is undone, before its volume is served:
   * clients go on with the old size, which a later start may not take from them. It keeps no other volume from its turn.
   */
  async finishShrinks(): Promise<void> {
    for (const container of [...this.#catalog.containers.values()]) {
      if (container.shrinkingTo === null || container.state !== 'live' || container.failure) continue;
      try {
        await this.#finishShrink(container, container.shrinkingTo);
      } catch (error) {
        this.#log.error(
          { err: error, volume: container.name },
          'a shrink that a stop had interrupted could not be finished; the volume keeps its size',
        );
        container.shrinkingTo = null;
        await this.#catalog.change().container(container).commit();
      }
    }
  }

  async #finishShrink(container: Container, sizeBytes: bigint): Promise<void> {
    const device = await this.#devices.acquire(container);
    try {
      await this.#devices.mutexOf(container.id).run(() => this.#shrink(container, sizeBytes));
    } finally {
      this.#devices.release(device);
    }
  }

  /** Durable when it resolves; what it held is reclaimed afterwards. */
  async delete(
    name: string,
    options: { withSnapshots: boolean; disconnect: boolean; alongside?: (change: Change) => void },
    kind: ContainerKind = 'volume',
  ): Promise<Container> {
    const container = requireKind(this.#catalog, name, kind);
    if (!options.disconnect) await this.#devices.untilLeft(container.id);
    this.#refuseDelete(container, options);
    await this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      this.#refuseDelete(container, options);
      if (options.disconnect) await this.#disconnect(container);
      await this.#closeForGood(container);
      this.#refuseDelete(container, options);
      const change = this.#catalog.change();
      for (const snapshot of this.#catalog.snapshotsOf(container)) change.removeSnapshot(snapshot);
      for (const line of this.#catalog.linesOf(container.id)) {
        line.versions = line.versions.map(({ version }) => ({ version, state: 'deleted', snapshot: null }));
        change.line(line);
        this.#reclaim.note(line.id);
      }
      container.state = 'deleting';
      this.#catalog.forgetName(container.name);
      change.container(container);
      options.alongside?.(change);
      await change.commit();
    });
    return container;
  }

  #refuseDelete(container: Container, options: { withSnapshots: boolean; disconnect: boolean }): void {
    const vm = this.#catalog.vmOf(container.id);
    if (vm) throw inVm(container.name, vm.name);
    const snapshots = this.#catalog.visibleSnapshotCount(container);
    const name = `${container.kind} ${JSON.stringify(container.name)}`;
    if (snapshots > 0 && !options.withSnapshots) {
      throw new CellblockError(
        'volume-has-snapshots',
        `The ${name} has ${snapshots} snapshot${snapshots > 1 ? 's' : ''}.`,
        {
          hint: 'Delete them first, or give --with-snapshots; clones of them stay as they are.',
        },
      );
    }
    const connections = this.#devices.current(container.id)?.connections ?? 0;
    if (connections > 0 && !options.disconnect) {
      throw new CellblockError(
        'volume-in-use',
        `The ${name} is in use by ${connections} connection${connections > 1 ? 's' : ''}.`,
        {
          hint: 'Disconnect the clients first.',
          facts: { connections },
        },
      );
    }
  }

  async #disconnect(container: Container): Promise<void> {
    for (const device of this.#devices.all()) {
      if (device.container === container.id) await this.#client.disconnect(device.handle);
    }
  }

  /** A round passes everything the data plane has of it, then it is closed. */
  async #closeForGood(container: Container): Promise<void> {
    const device = this.#devices.current(container.id);
    if (!device) return;
    await this.#devices.closeLocked(device, { withoutRound: device.failed });
    if (this.#devices.current(container.id)) {
      throw new CellblockError(
        'volume-busy',
        `The ${container.kind} ${JSON.stringify(container.name)} is being worked on.`,
        {
          hint: 'Try again in a moment.',
        },
      );
    }
  }

  /** Of a file; what is not given stays. Its time of modification only advances. */
  async setAttributes(name: string, changes: Partial<FileAttributes>): Promise<Container> {
    const container = requireKind(this.#catalog, name, 'file');
    // Not in the middle of a sync, which looks whether they are as before.
    await this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      const before = container.attributes!;
      const modified = laterOf(before.modified, changes.modified ?? before.modified);
      container.attributes = { ...before, ...changes, modified };
      await this.#catalog.change().container(container).commit();
    });
    return container;
  }

  /** What is not given stays. Connections that are open stay too, unless `disconnect`: then all of them end. */
  async setAccess(
    name: string,
    { allow, description, disconnect = false }: Partial<Access> & { disconnect?: boolean },
    kind: ContainerKind = 'volume',
  ): Promise<Container> {
    const container = requireKind(this.#catalog, name, kind);
    const allowed = allow && checkAllowed(allow);
    if (description !== undefined) checkDescription(description);
    await this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      container.allow = allowed ?? container.allow;
      container.description = description ?? container.description;
      await this.#catalog.change().container(container).commit();
    });
    if (disconnect) await this.#disconnect(container);
    return container;
  }

  async repair(name: string, kind: ContainerKind = 'volume'): Promise<Failure> {
    const container = requireKind(this.#catalog, name, kind);
    if (container.failure) await this.#devices.untilLeft(container.id);
    return this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      const { failure } = container;
      if (!failure) {
        throw new CellblockError('volume-not-failed', `The ${kind} ${JSON.stringify(name)} has not failed.`, {
          hint: 'Nothing is to be done.',
        });
      }
      const device = this.#devices.current(container.id);
      if (device?.failed) await this.#closeFailed(container, device);
      this.#client.plane.syncFiles(this.#devices.filesOf(container.id));
      container.failure = null;
      await this.#catalog.change().container(container).commit();
      const open = this.#devices.current(container.id);
      if (open) this.#client.plane.setReadOnly(open.handle, false);
      return failure;
    });
  }

  /** What counts of a failed volume is in LevelDB already; its device is of no use any more. */
  async #closeFailed(container: Container, device: Device): Promise<void> {
    if (device.connections > 0) {
      throw new CellblockError(
        'volume-in-use',
        `The ${container.kind} ${JSON.stringify(container.name)} is in use by ${device.connections} connections.`,
        {
          hint: 'Disconnect the clients, then run the repair again.',
          facts: { connections: device.connections },
        },
      );
    }
    await this.#devices.closeLocked(device, { withoutRound: true });
  }
}

function refuseShrink(container: Container, options: { sizeBytes: bigint; force: boolean }): void {
  if (options.sizeBytes >= container.sizeBytes || options.force) return;
  throw new CellblockError(
    'shrink-needs-force',
    `The ${container.kind} ${JSON.stringify(container.name)} has ${container.sizeBytes} bytes; shrinking it loses what lies behind the new end.`,
    {
      hint: 'Give --force if that is meant; snapshots keep what they hold.',
    },
  );
}

/** Between asking and having the mutex the volume may have been deleted. */
export function requireSame(catalog: Catalog, container: Container): void {
  if (catalog.containers.get(container.id) === container && container.state === 'live') return;
  throw new CellblockError(
    'volume-not-found',
    `The ${container.kind} ${JSON.stringify(container.name)} is being deleted.`,
    {
      hint: `See \`cellblock ${container.kind} list\`.`,
    },
  );
}
