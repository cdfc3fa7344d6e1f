// Answers clients: which exports there are, what one looks like, and leases on devices for those who open one; to each only those it
// may use, and in clear none that is for TLS only. A lease pins the versions its connection reads by name: the snapshot itself, and those
// of its changed-since contexts.

import { asCellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { mayUse } from '../model/access.js';
import type { Container, Snapshot } from '../model/entities.js';
import { isHiddenName } from '../model/names.js';
import type { ExportDescription, Peer, Plane } from '../plane/treaty.js';
import type { Gate } from './cells/gate.js';
import { contextsOf, noSuchSnapshot, offeredSince } from './changed-contexts.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { EACCES, EIO, ENOENT, ENOKEY, ESHUTDOWN } from './plane-client.js';
import type { Logger } from './types.js';

type Found = { container: Container; snapshot: Snapshot | null };

interface Lease {
  device: Device;
  pins: readonly Snapshot[];
}

/** As the data plane is told of it. */
type OpenedLease = NonNullable<Parameters<Plane['openReply']>[1]>;

/** As the data plane is told of it. */
interface Described {
  description: ExportDescription | null;
  refusal: string;
  error: number;
}

export class Exports {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #defaultExport: string | null;
  readonly #rotational: boolean;
  readonly #needsTls: (name: string) => boolean;
  readonly #windowBytes: number;
  readonly #gate: Gate;
  readonly #leases = new Map<number, Lease>();
  #lastLease = 0;
  #refused = 0;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    {
      log,
      gate,
      defaultExport,
      rotational,
      needsTls,
      windowBytes,
    }: {
      log: Logger;
      gate: Gate;
      defaultExport: string | null;
      rotational: boolean;
      needsTls: (name: string) => boolean;
      windowBytes: number;
    },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
    this.#gate = gate;
    this.#defaultExport = defaultExport;
    this.#rotational = rotational;
    this.#needsTls = needsTls;
    this.#windowBytes = windowBytes;
    if (defaultExport !== null && !this.#find(defaultExport))
      log.warn({ export: defaultExport }, 'nbd.default_export names nothing there is (yet)');
  }

  /** Clients that asked for an export they may not use. */
  get refused(): number {
    return this.#refused;
  }

  list({ ticket, peer }: RecordOf<'list'>): void {
    const exports: { name: string; description: string }[] = [];
    for (const container of this.#catalog.containers.values()) {
      if (container.state !== 'live' || this.#isHidden(container, peer)) continue;
      if (!mayUse(container.allow, peer)) continue;
      if (this.#gate.whyNot(container) === null)
        exports.push({ name: container.name, description: describe({ container, snapshot: null }) });
      for (const snapshot of this.#catalog.snapshotsOf(container)) {
        if (isHiddenName(snapshot.name)) continue;
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
    const { description, refusal, error } = this.#described(name, peer);
    this.#client.plane.describeReply(ticket, description, refusal, error);
  }

  #described(name: string, peer: Peer): Described {
    const found = this.#find(name);
    if (!found) return refused(this.#unknown(name), ENOENT);
    const refusal = this.#refusal(found, peer);
    if (refusal !== null) return refused(refusal.sentence, refusal.error);
    const { container, snapshot } = found;
    try {
      const description: ExportDescription = {
        name: nameOf(found),
        sizeBytes: snapshot?.sizeBytes ?? container.sizeBytes,
        readOnly: snapshot !== null || container.failure !== null,
        rotational: this.#rotational,
        description: describe(found),
        snapshots: offeredSince(this.#catalog, found).map(({ name }) => name),
      };
      return { description, refusal: '', error: 0 };
    } catch (error) {
      // What it continues is damaged.
      this.#log.warn({ err: error, export: name }, 'an export could not be described');
      return refused(asCellblockError(error).message, EIO);
    }
  }

  async open({ ticket, peer, name, changedSince }: RecordOf<'open'>): Promise<void> {
    const { plane } = this.#client;
    try {
      const found = this.#find(name);
      if (!found) return plane.openReply(ticket, null, ENOENT, this.#unknown(name));
      const refusal = this.#refusal(found, peer);
      if (refusal !== null) return plane.openReply(ticket, null, refusal.error, refusal.sentence);
      const lease = await this.#lease(found, this.#since(found, changedSince));
      // The access list may have become another one meanwhile.
      const late = this.#refusal(found, peer);
      if (late === null) return plane.openReply(ticket, lease, 0, '');
      this.#end(lease.lease);
      plane.openReply(ticket, null, late.error, late.sentence);
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
      const parts = { catalog: this.#catalog, devices: this.#devices, windowBytes: this.#windowBytes };
      const contexts = await contextsOf(parts, device, { exported: found.snapshot, since });
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

  /** Leases on one device, for connections of the kernel: all or none. Who attaches it has decided who may. */
  async leaseForKernel(found: Found, count: number): Promise<{ handle: number; leases: number[] }> {
    const leases: OpenedLease[] = [];
    try {
      while (leases.length < count) leases.push(await this.#lease(found, []));
      // After the last wait: it may have been taken away meanwhile.
      if (!found.snapshot) this.#gate.require(found.container);
      return { handle: leases[0]!.handle, leases: leases.map(({ lease }) => lease) };
    } catch (error) {
      for (const { lease } of leases) this.#end(lease);
      throw error;
    }
  }

  closed({ lease }: RecordOf<'closed'>): void {
    this.#end(lease);
  }

  #end(id: number): void {
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

  /** Why the peer may not use it; null: it may. Who may not at all is logged and counted. */
  #refusal(found: Found, peer: Peer): { sentence: string; error: number } | null {
    const name = nameOf(found);
    if (this.#isHidden(found.container, peer)) return { sentence: tlsOnly(name), error: ENOKEY };
    if (mayUse(found.container.allow, peer)) return this.#notServed(found);
    this.#refused += 1;
    this.#log.warn({ export: name, peer: peer.name, who: who(peer) }, 'a client may not use this export');
    return { sentence: `The export ${JSON.stringify(name)} is not for ${who(peer)}.`, error: EACCES };
  }

  /** Its current map is another host's; snapshots are for whoever reads them. */
  #notServed({ container, snapshot }: Found): { sentence: string; error: number } | null {
    const sentence = snapshot ? null : this.#gate.whyNot(container);
    return sentence === null ? null : { sentence, error: ESHUTDOWN };
  }

  #unknown(name: string): string {
    if (name !== '') return `There is no export named ${JSON.stringify(name)}.`;
    if (this.#defaultExport === null) return 'There is no default export: ask for one by its name.';
    return `There is no export named ${JSON.stringify(this.#defaultExport)}, which is the default one.`;
  }

  /** The empty name is that of the default export. */
  #find(asked: string): Found | null {
    const name = asked === '' ? (this.#defaultExport ?? '') : asked;
    const at = name.indexOf('@');
    const container = this.#catalog.containerNamed(at < 0 ? name : name.slice(0, at));
    if (!container) return null;
    if (at < 0) return { container, snapshot: null };
    const snapshot = this.#catalog.snapshotNamed(container, name.slice(at + 1));
    return snapshot ? { container, snapshot } : null;
  }

  /** Throws when one of them is not offered. */
  #since(found: Found, names: readonly string[]): Snapshot[] {
    if (names.length === 0) return [];
    const offered = new Map(offeredSince(this.#catalog, found).map(({ name, snapshot }) => [name, snapshot]));
    return names.map((name) => {
      const snapshot = offered.get(name);
      if (!snapshot) throw noSuchSnapshot();
      return snapshot;
    });
  }
}

function refused(refusal: string, error: number): Described {
  return { description: null, refusal, error };
}

function describe({ container, snapshot }: Found): string {
  const { name, kind, description } = container;
  if (!snapshot) return description || kind;
  return description === '' ? `snapshot of ${name}` : `${description} (snapshot of ${name})`;
}

function nameOf({ container, snapshot }: Found): string {
  return snapshot ? `${container.name}@${snapshot.name}` : container.name;
}

function who({ uid, identity, tls }: Peer): string {
  if (identity !== '') return JSON.stringify(identity);
  if (uid >= 0) return `uid ${uid}`;
  return tls ? 'a TLS client without an identity' : 'a client that is not known';
}

function tlsOnly(name: string): string {
  return `the export ${JSON.stringify(name)} is served in TLS only`;
}
