// Limits and transaction logs of volumes: kept in their records, in force whenever they are open, changed while clients go on.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Container } from '../model/entities.js';
import {
  checkLimits,
  checkLogFile,
  type Limits,
  NO_LIMITS,
  type TransactionLogSetting,
} from '../model/volume-settings.js';
import type { Device, Devices } from './devices.js';
import { requireKind } from './lookup.js';
import type { PlaneClient } from './plane-client.js';
import type { TransactionLogs } from './transaction-logs.js';
import { requireSame } from './volumes.js';

/** What is not there stays; null: none. */
export interface SettingChanges {
  limits?: Limits | null;
  transactionLog?: TransactionLogSetting | null;
}

export class VolumeSettings {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #logs: TransactionLogs;

  constructor(collaborators: {
    catalog: Catalog;
    devices: Devices;
    client: PlaneClient;
    logs: TransactionLogs;
  }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#logs = collaborators.logs;
  }

  /** Of a current map that was just opened. */
  async opened(device: Device, container: Container): Promise<void> {
    if (container.limits) this.#client.plane.limit(device.handle, container.limits);
    if (container.transactionLog) await this.#logs.opened(device, container);
  }

  async set(name: string, changes: SettingChanges): Promise<Container> {
    const container = requireKind(this.#catalog, name, 'volume');
    const limits = changes.limits && checkLimits(changes.limits);
    const log = changes.transactionLog;
    if (log) {
      checkLogFile(log.file);
      this.#refuseTaken(container, log.file);
      await this.#logs.prepare(log.file);
    }
    await this.#devices.mutexOf(container.id).run(async () => {
      requireSame(this.#catalog, container);
      if (log) this.#refuseTaken(container, log.file);
      if (limits !== undefined) container.limits = limits;
      if (log !== undefined) container.transactionLog = log;
      await this.#catalog.change().container(container).commit();
      const device = this.#devices.current(container.id);
      if (!device) return;
      if (limits !== undefined) this.#client.plane.limit(device.handle, limits ?? NO_LIMITS);
      if (log === undefined) return;
      // Ended first also where it is the same file: the new one begins behind what the old one wrote.
      await this.#logs.end(device);
      if (log) await this.#logs.start(device, container);
    });
    return container;
  }

  /** Two volumes in one log could not be told apart. */
  #refuseTaken(container: Container, file: string): void {
    for (const other of this.#catalog.containers.values()) {
      if (other === container || other.state !== 'live' || other.transactionLog?.file !== file) continue;
      throw new CellblockError(
        'transaction-log-name-taken',
        `The transaction log ${JSON.stringify(file)} is that of the volume ${JSON.stringify(other.name)}.`,
        { hint: 'Name another file.' },
      );
    }
  }
}
