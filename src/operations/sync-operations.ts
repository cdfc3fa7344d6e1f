// Syncs as the control API and the CLI call them: names to containers, checks that need no waiting, results as plain values.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { IdentityReport } from '../identity/report.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { SyncRecord } from '../model/sync.js';
import type { Devices } from './devices.js';
import { type FoundIdentity, findIdentity, type RecordedDisk } from './disk-identity.js';
import { DeviceDisk, OverlaidDisk } from './disk-io.js';
import { requireSnapshot, requireVolume } from './lookup.js';
import type { PlaneClient } from './plane-client.js';
import type { DiskIo, IdentityFactory, IdentityOptions, SyncIdentity, SyncOptions } from './sync-types.js';
import type { Syncs } from './syncs.js';
import type { Volumes } from './volumes.js';

const HOUR_MS = 3_600_000;
export const SAFETY_HOURS = 24;

export interface SyncRequest extends Omit<IdentityOptions, 'own'> {
  online: boolean;
  force: boolean;
  grow: boolean;
  /** The undo point: on by default. */
  safety: boolean;
}

export interface SnapshotName {
  volume: string;
  snapshot: string;
}

/** What became, or would become, of one disk. */
export interface SyncedDisk {
  target: string;
  /** `VOLUME@SNAPSHOT` */
  from: string;
  /** Null: it was undone before. */
  identity: IdentityReport | null;
}

export interface SyncInfo {
  /** Null: a dry run. */
  id: number | null;
  kind: SyncRecord['kind'];
  phase: SyncRecord['phase'] | 'planned';
  target: string;
  disks: SyncedDisk[];
  created: string;
  ended: string | null;
  /** `VOLUME@SNAPSHOT` of undo points that are still there. */
  safety: string[];
  error: string | null;
  /** How long clients were held; of a sync that has just run. */
  heldMs: number | null;
}

export class SyncOperations {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #volumes: Volumes;
  readonly #syncs: Syncs;
  readonly #identity: IdentityFactory;
  /** Throws when the store takes no changes. */
  requireWritable: () => void = () => undefined;

  constructor(
    collaborators: {
      catalog: Catalog;
      devices: Devices;
      client: PlaneClient;
      volumes: Volumes;
      syncs: Syncs;
    },
    identity: IdentityFactory,
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#volumes = collaborators.volumes;
    this.#syncs = collaborators.syncs;
    this.#identity = identity;
  }

  /** `volume-not-found`, `snapshot-not-found`, `sync-source-larger`, `volume-in-use`, `hold-expired`, `identity-damaged`, ... */
  async sync(target: string, from: SnapshotName, request: SyncRequest): Promise<SyncInfo> {
    this.requireWritable();
    const container = requireVolume(this.#catalog, target);
    const snapshot = requireSnapshot(this.#catalog, from.volume, from.snapshot);
    const kind = snapshot.container === container.id ? 'restore' : 'sync';
    return this.#run(container, snapshot, { ...request, kind, target });
  }

  /** What a sync would do, worked out over the snapshot in memory; nothing changes. */
  async plan(target: string, from: SnapshotName, request: SyncRequest): Promise<SyncInfo> {
    const container = requireVolume(this.#catalog, target);
    const snapshot = requireSnapshot(this.#catalog, from.volume, from.snapshot);
    const own = snapshot.container === container.id;
    const options = this.#options({ ...request, kind: own ? 'restore' : 'sync', target });
    const pair = { container, snapshot, from: `${from.volume}@${from.snapshot}` };
    this.#syncs.check(pair, { ...options, online: true });
    const { rules, takeKeys } = request;
    const planned = await this.#planned(pair, this.#identity({ rules, takeKeys, own }), request.grow);
    return {
      id: null,
      kind: options.kind,
      phase: 'planned',
      target,
      disks: [{ target, from: pair.from, identity: reportsOf(planned)[0] ?? null }],
      created: new Date().toISOString(),
      ended: null,
      safety: [],
      error: null,
      heldMs: null,
    };
  }

  async #planned(
    { container, snapshot }: { container: Container; snapshot: Snapshot },
    identity: SyncIdentity,
    grow: boolean,
  ): Promise<unknown> {
    const { sizeBytes } = container;
    const bytes = grow && snapshot.sizeBytes > sizeBytes ? snapshot.sizeBytes : sizeBytes;
    const device = await this.#devices.acquire(container);
    try {
      const disk = new DeviceDisk(this.#client, { handle: device.handle, sizeBytes });
      const { restore } = await identity.capture([disk]);
      return await this.#overSnapshot(snapshot, bytes, (content) => restore([content]));
    } finally {
      this.#devices.release(device);
    }
  }

  async #overSnapshot<T>(
    snapshot: Snapshot,
    bytes: bigint,
    work: (content: DiskIo) => Promise<T>,
  ): Promise<T> {
    const view = await this.#devices.acquireView(snapshot);
    try {
      const { sizeBytes } = snapshot;
      const disk = new DeviceDisk(this.#client, { handle: view.handle, sizeBytes });
      return await work(new OverlaidDisk(disk, bytes));
    } finally {
      this.#devices.release(view);
    }
  }

  /** What is found on `VOLUME` or `VOLUME@SNAPSHOT`. */
  async identity(name: string): Promise<FoundIdentity> {
    const at = name.indexOf('@');
    if (at >= 0) {
      const snapshot = requireSnapshot(this.#catalog, name.slice(0, at), name.slice(at + 1));
      return this.#overSnapshot(snapshot, snapshot.sizeBytes, findIdentity);
    }
    const container = requireVolume(this.#catalog, name);
    const device = await this.#devices.acquire(container);
    try {
      const { sizeBytes } = container;
      return await findIdentity(new DeviceDisk(this.#client, { handle: device.handle, sizeBytes }));
    } finally {
      this.#devices.release(device);
    }
  }

  /** A new volume that continues the snapshot and has ids of its own. */
  async cloneWithNewIdentity(from: SnapshotName, name: string): Promise<Container> {
    this.requireWritable();
    const { sizeBytes } = requireSnapshot(this.#catalog, from.volume, from.snapshot);
    const container = await this.#volumes.create(name, sizeBytes);
    const rules = [{ field: 'all', policy: 'new' as const }];
    const request = { rules, takeKeys: true, online: false, force: false, grow: false, safety: false };
    try {
      await this.sync(name, from, request);
      container.clonedFrom = `${from.volume}@${from.snapshot}`;
      await this.#catalog.change().container(container).commit();
      return container;
    } catch (error) {
      await this.#volumes.delete(name, { withSnapshots: true, disconnect: true });
      throw error;
    }
  }

  /** To the state before its last sync, which is an undo point for it in turn. `sync-nothing-to-undo`. */
  async undo(target: string, request: SyncRequest): Promise<SyncInfo> {
    this.requireWritable();
    const container = requireVolume(this.#catalog, target);
    const last = this.#lastWithSafety(container);
    if (!last)
      throw new CellblockError(
        'sync-nothing-to-undo',
        `There is no undo point of ${JSON.stringify(target)}: it was never synced, or the point has expired or was deleted.`,
        { hint: 'See `cellblock sync list` and `cellblock snapshot list`.' },
      );
    return this.#run(container, last, { ...request, kind: 'undo', target });
  }

  async #run(
    container: Container,
    snapshot: Snapshot,
    request: SyncRequest & { kind: SyncRecord['kind']; target: string },
  ): Promise<SyncInfo> {
    const { rules, takeKeys } = request;
    const options = this.#options(request);
    const from = `${this.#catalog.containers.get(snapshot.container)!.name}@${snapshot.name}`;
    const pair = { container, snapshot, from };
    const own = snapshot.container === container.id;
    const identity = this.#identity({ rules, takeKeys, own });
    const { record, heldMs } = await this.#syncs.run([pair], identity, options);
    return this.#info(record, heldMs);
  }

  #options(request: SyncRequest & { kind: SyncRecord['kind']; target: string }): SyncOptions {
    const { kind, target, online, force, grow, safety } = request;
    return { kind, target, online, force, grow, safetyMs: safety ? SAFETY_HOURS * HOUR_MS : null };
  }

  /** The undo point of the newest sync that has one. */
  #lastWithSafety(container: Container): Snapshot | null {
    for (const { phase, members } of [...this.#catalog.syncs.values()].reverse()) {
      const member = members.find((one) => one.container === container.id);
      if (phase !== 'done' || !member) continue;
      const safety = member.safety && this.#catalog.snapshots.get(member.safety.id);
      return safety ?? null;
    }
    return null;
  }

  /** For what a start finds unfinished: it only verifies what is recorded. */
  plainIdentity(): SyncIdentity {
    return this.#identity({ rules: [], takeKeys: false, own: true });
  }

  /** Under way and ended lately, oldest first. */
  list(): SyncInfo[] {
    return [...this.#catalog.syncs.values()].map((record) => this.#info(record, null));
  }

  /** `sync-not-found`. */
  show(id: number): SyncInfo {
    const record = this.#catalog.syncs.get(id);
    if (record) return this.#info(record, null);
    throw new CellblockError('sync-not-found', `There is no sync ${id}.`, {
      hint: 'See `cellblock sync list`; the last two hundred are kept.',
    });
  }

  #info(record: SyncRecord, heldMs: number | null): SyncInfo {
    const { id, kind, phase, target, created, ended, error } = record;
    const reports = reportsOf((record.identity as { restored?: unknown } | null)?.restored);
    return {
      id,
      kind,
      phase,
      target,
      disks: record.members.map(({ container, from }, index) => ({
        target: this.#catalog.containers.get(container)?.name ?? `volume ${container}`,
        from,
        identity: reports[index] ?? null,
      })),
      created,
      ended,
      safety: record.members.flatMap(({ container, safety }) => {
        const name = this.#catalog.containers.get(container)?.name;
        return safety && name !== undefined && this.#catalog.snapshots.has(safety.id)
          ? [`${name}@${safety.name}`]
          : [];
      }),
      error,
      heldMs,
    };
  }
}

function reportsOf(restored: unknown): (IdentityReport | undefined)[] {
  return Array.isArray(restored) ? restored.map(({ report }: RecordedDisk) => report) : [];
}
