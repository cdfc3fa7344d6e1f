// Syncs as the control API and the CLI call them: names to containers, checks that need no waiting, results as plain values.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { GuestReport } from '../identity/guest.js';
import type { IdentityReport } from '../identity/report.js';
import type { Container, Snapshot } from '../model/entities.js';
import { bornNow } from '../model/file-attributes.js';
import type { SyncRecord } from '../model/sync.js';
import type { Device, Devices } from './devices.js';
import type { FoundIdentity, RecordedDisk } from './disk-identity.js';
import { DeviceDisk, OverlaidDisk } from './disk-io.js';
import { attributeFields, withAttributes } from './file-identity.js';
import { requireContainer, requireSnapshot } from './lookup.js';
import type { PlaneClient } from './plane-client.js';
import { type ResolvedSync, type SnapshotName, SyncTargets } from './sync-targets.js';
import type {
  DiskIo,
  IdentityFactory,
  IdentityOptions,
  SyncIdentity,
  SyncOptions,
  SyncPair,
} from './sync-types.js';
import type { Syncs } from './syncs.js';
import type { ConfigReport } from './vm-config-sync.js';
import type { PairingRequest } from './vm-pairing.js';
import type { Vms } from './vms.js';
import type { Volumes } from './volumes.js';

const HOUR_MS = 3_600_000;
export const SAFETY_HOURS = 24;

export interface SyncRequest extends Omit<IdentityOptions, 'own' | 'boots'> {
  online: boolean;
  force: boolean;
  grow: boolean;
  /** The undo point: on by default. */
  safety: boolean;
  /** Of VMs: pairs of slots; all when there is no list. */
  disks?: readonly { source: string; target: string }[];
  boot?: string;
  files?: boolean;
}

/** What became, or would become, of one disk. */
export interface SyncedDisk {
  target: string;
  /** `VOLUME@SNAPSHOT` */
  from: string;
  /** Null: it was undone before. */
  identity: IdentityReport | null;
  /** Null: it was not asked for. */
  guest: GuestReport | null;
}

export interface SyncInfo {
  /** Null: a dry run. */
  id: number | null;
  kind: SyncRecord['kind'];
  phase: SyncRecord['phase'] | 'planned';
  target: string;
  disks: SyncedDisk[];
  /** Of a VM whose configuration is synced too. */
  config: ConfigReport | null;
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
  readonly #targets: SyncTargets;
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
      vms: Vms;
    },
    identity: IdentityFactory,
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#volumes = collaborators.volumes;
    this.#syncs = collaborators.syncs;
    this.#targets = new SyncTargets(collaborators.catalog, collaborators.vms);
    this.#identity = identity;
  }

  /** `volume-not-found`, `snapshot-not-found`, `sync-source-larger`, `volume-in-use`, `hold-expired`, `identity-damaged`, ... */
  async sync(target: string, from: SnapshotName, request: SyncRequest): Promise<SyncInfo> {
    this.requireWritable();
    return this.#run(target, this.#targets.resolve(target, from, pairingOf(request)), request);
  }

  /** To the state before its last sync, which is an undo point for it in turn. `sync-nothing-to-undo`. */
  async undo(target: string, request: SyncRequest): Promise<SyncInfo> {
    this.requireWritable();
    const resolved = this.#targets.resolveUndo(target);
    return this.#run(target, resolved, { ...request, rules: undoRules(resolved.record, request) });
  }

  async #run(target: string, resolved: ResolvedSync, request: SyncRequest): Promise<SyncInfo> {
    const options = optionsOf(target, resolved, request);
    const identity = await this.#identityOf(resolved, request);
    const { record, heldMs } = await this.#syncs.run(resolved.pairs, identity, options);
    return this.#info(record, { heldMs, config: resolved.configReport });
  }

  async #identityOf({ pairs }: ResolvedSync, { rules, takeKeys, guest }: SyncRequest): Promise<SyncIdentity> {
    const own = pairs.every(({ container, snapshot }) => snapshot.container === container.id);
    const boots = pairs.map(({ boot }) => boot);
    const identity = await this.#identity({ rules, takeKeys, own, boots, guest });
    return withAttributes(
      identity,
      pairs.map(({ container }) => container),
    );
  }

  /** What a sync would do, worked out over the snapshots in memory; nothing changes. */
  async plan(target: string, from: SnapshotName, request: SyncRequest): Promise<SyncInfo> {
    const resolved = this.#targets.resolve(target, from, pairingOf(request));
    const options = optionsOf(target, resolved, request);
    for (const pair of resolved.pairs) this.#syncs.check(pair, { ...options, online: true });
    const recorded = await this.#planned(resolved.pairs, await this.#identityOf(resolved, request), request);
    return {
      id: null,
      kind: resolved.kind,
      phase: 'planned',
      target,
      disks: resolved.pairs.map(({ container, from }, index) => {
        return { target: container.name, from, ...reportsOn(recorded[index]) };
      }),
      config: resolved.configReport,
      created: new Date().toISOString(),
      ended: null,
      safety: [],
      error: null,
      heldMs: null,
    };
  }

  async #planned(
    pairs: readonly SyncPair[],
    identity: SyncIdentity,
    { grow }: { grow: boolean },
  ): Promise<RecordedDisk[]> {
    const open: Device[] = [];
    try {
      const targets: DiskIo[] = [];
      const contents: DiskIo[] = [];
      for (const { container, snapshot } of pairs) {
        const device = await this.#devices.acquire(container);
        open.push(device);
        targets.push(new DeviceDisk(this.#client, device, container));
        const { sizeBytes, kind } = container;
        const view = await this.#devices.acquireView(snapshot);
        open.push(view);
        const bytes = grow && snapshot.sizeBytes > sizeBytes ? snapshot.sizeBytes : sizeBytes;
        const content = new DeviceDisk(this.#client, view, { sizeBytes: snapshot.sizeBytes, kind });
        contents.push(new OverlaidDisk(content, bytes));
      }
      const { restore } = await identity.capture(targets);
      return recordedIn(await restore(contents));
    } finally {
      for (const device of open) this.#devices.release(device);
    }
  }

  async #overSnapshot<T>(snapshot: Snapshot, work: (content: DiskIo) => Promise<T>): Promise<T> {
    const view = await this.#devices.acquireView(snapshot);
    try {
      const { kind } = this.#catalog.containers.get(snapshot.container)!;
      return await work(new DeviceDisk(this.#client, view, { sizeBytes: snapshot.sizeBytes, kind }));
    } finally {
      this.#devices.release(view);
    }
  }

  /** What is found on `VOLUME` or `VOLUME@SNAPSHOT`. */
  async identity(name: string): Promise<FoundIdentity> {
    const { findIdentity } = await import('./disk-identity.js');
    const at = name.indexOf('@');
    if (at >= 0) {
      const snapshot = requireSnapshot(this.#catalog, name.slice(0, at), name.slice(at + 1));
      return this.#overSnapshot(snapshot, findIdentity);
    }
    const container = requireContainer(this.#catalog, name);
    const device = await this.#devices.acquire(container);
    try {
      const found = await findIdentity(new DeviceDisk(this.#client, device, container));
      return { ...found, fields: [...attributeFields(container), ...found.fields] };
    } finally {
      this.#devices.release(device);
    }
  }

  /** A new volume that continues the snapshot and has ids of its own. */
  async cloneWithNewIdentity(from: SnapshotName, name: string): Promise<Container> {
    this.requireWritable();
    const { sizeBytes, container: id } = requireSnapshot(this.#catalog, from.volume, from.snapshot);
    const { kind, attributes, allow } = this.#catalog.containers.get(id)!;
    const container = await this.#volumes.create(name, sizeBytes, {
      attributes: attributes && bornNow(attributes),
      allow,
    });
    const rules = [{ field: 'all', policy: 'new' as const }];
    const plain = { online: false, force: false, grow: false, safety: false, guest: false };
    const request = { ...plain, rules, takeKeys: true };
    try {
      await this.sync(name, from, request);
      container.clonedFrom = `${from.volume}@${from.snapshot}`;
      await this.#catalog.change().container(container).commit();
      return container;
    } catch (error) {
      await this.#volumes.delete(name, { withSnapshots: true, disconnect: true }, kind);
      throw error;
    }
  }

  /** Under way and ended lately, oldest first. */
  list(): SyncInfo[] {
    return [...this.#catalog.syncs.values()].map((record) =>
      this.#info(record, { heldMs: null, config: null }),
    );
  }

  /** `sync-not-found`. */
  show(id: number): SyncInfo {
    const record = this.#catalog.syncs.get(id);
    if (record) return this.#info(record, { heldMs: null, config: null });
    throw new CellblockError('sync-not-found', `There is no sync ${id}.`, {
      hint: 'See `cellblock sync list`; the last two hundred are kept.',
    });
  }

  #info(
    record: SyncRecord,
    { heldMs, config }: { heldMs: number | null; config: ConfigReport | null },
  ): SyncInfo {
    const { id, kind, phase, target, created, ended, error } = record;
    const recorded = recordedIn((record.identity as { restored?: unknown } | null)?.restored);
    return {
      id,
      kind,
      phase,
      target,
      disks: record.members.map(({ container, from }, index) => ({
        target: this.#catalog.containers.get(container)?.name ?? `volume ${container}`,
        from,
        ...reportsOn(recorded[index]),
      })),
      config: config ?? (record.config?.report as ConfigReport | undefined) ?? null,
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

function pairingOf({ disks, boot, files }: SyncRequest): PairingRequest {
  return { disks: disks ?? null, boot: boot ?? null, files: files ?? false };
}

function optionsOf(target: string, { kind, config }: ResolvedSync, request: SyncRequest): SyncOptions {
  const { online, force, grow, safety, rules } = request;
  const safetyMs = safety ? SAFETY_HOURS * HOUR_MS : null;
  return { kind, target, online, force, grow, safetyMs, config, rules };
}

/** What the sync took or made anew comes back from the undo point; what it kept is kept. */
function undoRules(record: SyncRecord, { rules }: SyncRequest): SyncRequest['rules'] {
  const before = record.rules.map(({ field, policy }) => {
    return { field, policy: policy === 'new' ? ('take' as const) : policy };
  });
  return [...before, ...rules];
}

/** Of one that got so far. */
function recordedIn(restored: unknown): RecordedDisk[] {
  return Array.isArray(restored) ? (restored as RecordedDisk[]) : [];
}

function reportsOn(disk: RecordedDisk | undefined): Pick<SyncedDisk, 'identity' | 'guest'> {
  return { identity: disk?.report ?? null, guest: disk?.guest ?? null };
}
