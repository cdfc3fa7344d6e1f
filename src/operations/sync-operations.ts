// Syncs as the control API and the CLI call them: names to containers, checks that need no waiting, results as plain values.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { SyncRecord } from '../model/sync.js';
import { requireSnapshot, requireVolume } from './lookup.js';
import type { IdentityFactory, IdentityOptions, SyncIdentity, SyncOptions } from './sync-types.js';
import type { Syncs } from './syncs.js';

const HOUR_MS = 3_600_000;
export const SAFETY_HOURS = 24;

export interface SyncRequest extends IdentityOptions {
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

export interface SyncInfo {
  id: number;
  kind: SyncRecord['kind'];
  phase: SyncRecord['phase'];
  target: string;
  from: string[];
  created: string;
  ended: string | null;
  /** `VOLUME@SNAPSHOT` of undo points that are still there. */
  safety: string[];
  error: string | null;
  /** How long clients were held; of a sync that has just run. */
  heldMs: number | null;
  identity: unknown;
}

export class SyncOperations {
  readonly #catalog: Catalog;
  readonly #syncs: Syncs;
  readonly #identity: IdentityFactory;
  /** Throws when the store takes no changes. */
  requireWritable: () => void = () => undefined;

  constructor(catalog: Catalog, syncs: Syncs, identity: IdentityFactory) {
    this.#catalog = catalog;
    this.#syncs = syncs;
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
    const options: SyncOptions = {
      kind: request.kind,
      target: request.target,
      online: request.online,
      force: request.force,
      grow: request.grow,
      safetyMs: request.safety ? SAFETY_HOURS * HOUR_MS : null,
    };
    const from = `${this.#catalog.containers.get(snapshot.container)!.name}@${snapshot.name}`;
    const pair = { container, snapshot, from };
    const { record, heldMs } = await this.#syncs.run([pair], this.#identity({ rules, takeKeys }), options);
    return this.#info(record, heldMs);
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
    return this.#identity({ rules: [], takeKeys: false });
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
    const { id, kind, phase, target, created, ended, error, identity } = record;
    return {
      id,
      kind,
      phase,
      target,
      from: record.members.map(({ from }) => from),
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
      identity,
    };
  }
}
