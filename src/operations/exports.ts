// Answers clients: which exports there are, what one looks like, and leases on devices for those who open one.
// Exports that are for TLS only are neither listed nor described in clear.
// A lease pins the versions its connection reads by name: the snapshot itself, and those of its changed-since contexts.

import { asCellblockError, CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { chainOf } from '../model/chain.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { ChangedContext, ExportDescription, Peer, Plane } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { EIO, ENOENT, ENOKEY } from './plane-client.js';
import type { Logger } from './types.js';

type Found = { container: Container; snapshot: Snapshot | null };

interface Lease {
  device: Device;
  pins: readonly Snapshot[];
}

/** As the data plane is told of it. */
type OpenedLease = NonNullable<Parameters<Plane['openReply']>[1]>;

export class Exports {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #needsTls: (name: string) => boolean;
  readonly #leases = new Map<number, Lease>();
  #lastLease = 0;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    { log, needsTls }: { log: Logger; needsTls: (name: string) => boolean },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
    this.#needsTls = needsTls;
  }

  list({ ticket, peer }: RecordOf<'list'>): void {
    const exports: { name: string; description: string }[] = [];
    for (const container of this.#catalog.containers.values()) {
      if (container.state !== 'live' || this.#isHidden(container, peer)) continue;
      exports.push({ name: container.name, description: describe({ container, snapshot: null }) });
      for (const snapshot of this.#catalog.snapshotsOf(container)) {
        exports.push({
          name: `${container.name}@${snapshot.name}`,
          description: describe({ container, snapshot }),
        });
      }
    }
    exports.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#client.plane.listReply(ticket, exports);
  }

  describe({ ticket, peer, name }: RecordOf<'describe'>): void {
    const { plane } = this.#client;
    const found = this.#find(name);
    if (!found) return plane.describeReply(ticket, null, unknown(name), ENOENT);
    if (this.#isHidden(found.container, peer)) return plane.describeReply(ticket, null, tlsOnly(name), ENOKEY);
    const { container, snapshot } = found;
    const description: ExportDescription = {
      sizeBytes: snapshot?.sizeBytes ?? container.sizeBytes,
      readOnly: snapshot !== null || container.failure !== null,
      rotational: false,
      description: describe(found),
      snapshots: this.#older(found).map((older) => older.name),
    };
    plane.describeReply(ticket, description, '', 0);
  }

  async open({ ticket, peer, name, changedSince }: RecordOf<'open'>): Promise<void> {
    const { plane } = this.#client;
    try {
      const found = this.#find(name);
      if (!found) return plane.openReply(ticket, null, ENOENT, unknown(name));
      if (this.#isHidden(found.container, peer)) return plane.openReply(ticket, null, ENOKEY, tlsOnly(name));
      const older = this.#older(found);
      const since = changedSince.map((wanted) => older.find((snapshot) => snapshot.name === wanted));
      if (since.includes(undefined)) return plane.openReply(ticket, null, ENOENT, noSuchSnapshot().message);
      plane.openReply(ticket, await this.#lease(found, since as Snapshot[]), 0, '');
    } catch (error) {
      const { code, kind, message } = asCellblockError(error);
      const why = kind === 'internal' ? { err: error } : { code, reason: message };
      this.#log.warn({ ...why, export: name }, 'an export could not be opened');
      plane.openReply(ticket, null, code.endsWith('-not-found') ? ENOENT : EIO, message);
    }
  }

  /** Counts the connection, or nothing when it throws. */
  async #lease(found: Found, since: readonly Snapshot[]): Promise<OpenedLease> {
    for (const { line, version } of since) this.#devices.pin(line, version);
    let device: Device | null = null;
    try {
      device = await (found.snapshot
        ? this.#devices.acquireView(found.snapshot)
        : this.#devices.acquire(found.container));
      // A sync may have come in between: the volume does not continue these snapshots any more.
      const contexts = contextsOf(device, since);
      device.connections += 1;
      const lease = ++this.#lastLease;
      this.#leases.set(lease, { device, pins: since });
      return { lease, handle: device.handle, contexts };
    } catch (error) {
      if (device) this.#devices.release(device);
      for (const { line, version } of since) this.#devices.unpin(line, version);
      throw error;
    }
  }

  closed({ lease: id }: RecordOf<'closed'>): void {
    const lease = this.#leases.get(id);
    if (!lease) return;
    this.#leases.delete(id);
    lease.device.connections -= 1;
    this.#devices.release(lease.device);
    for (const { line, version } of lease.pins) this.#devices.unpin(line, version);
  }

  #isHidden(container: Container, peer: Peer): boolean {
    return !peer.tls && this.#needsTls(container.name);
  }

  #find(name: string): Found | null {
    const at = name.indexOf('@');
    const container = this.#catalog.containerNamed(at < 0 ? name : name.slice(0, at));
    if (!container) return null;
    if (at < 0) return { container, snapshot: null };
    const snapshot = this.#catalog.snapshotNamed(container, name.slice(at + 1));
    return snapshot ? { container, snapshot } : null;
  }

  /** Snapshots of the container an export can tell the changes since: those it continues. */
  #older({ container, snapshot }: Found): Snapshot[] {
    const at = snapshot ?? { line: container.line, version: Number.MAX_SAFE_INTEGER };
    const upTo = new Map(chainOf(this.#catalog.lines, at).map((link) => [link.line.id, link.upTo]));
    return this.#catalog
      .snapshotsOf(container)
      .filter((other) => other !== snapshot && other.version <= (upTo.get(other.line) ?? -1));
  }
}

function contextsOf({ layers }: Device, since: readonly Snapshot[]): ChangedContext[] {
  return since.map(({ line, version }) => {
    const sinceLayer = layers.layerOf(line, version);
    if (sinceLayer === undefined) throw noSuchSnapshot();
    return { sinceLayer, alsoChanged: new BigUint64Array(0) };
  });
}

function noSuchSnapshot(): CellblockError {
  return new CellblockError('snapshot-not-found', 'No such snapshot of this export.', {
    hint: 'See `cellblock snapshot list`.',
  });
}

function describe({ container, snapshot }: Found): string {
  return snapshot ? `snapshot of ${container.name}` : container.kind;
}

function unknown(name: string): string {
  return `There is no export named ${JSON.stringify(name)}.`;
}

function tlsOnly(name: string): string {
  return `the export ${JSON.stringify(name)} is served in TLS only`;
}
