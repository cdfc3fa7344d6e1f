// What the metadata says of a sync at each of its phases: the record, the lines of its containers, the configuration of a VM. One batch a
// phase; memory is changed with it.
// Invariants: the old lines are left as they are until `done`; `goBack` undoes in memory all that a sync has done there, and what is
// written of it is made afterwards: a volume may be renamed at any time, and a new line that is ended be gone in a moment.

import type { Catalog, Change } from '../catalog/catalog.js';
import type { Container, Line, Snapshot } from '../model/entities.js';
import { endLine } from '../model/entities.js';
import { modifiedNow } from '../model/file-attributes.js';
import { isUnfinished, type SyncMember, type SyncRecord } from '../model/sync.js';
import type { Devices } from './devices.js';
import type { Reclaim } from './reclaim.js';
import { baseOf, newLine, type Snapshots } from './snapshots.js';
import type { SyncOptions, SyncPair } from './sync-types.js';

/** Ended ones that are still shown. */
const RECORDS_KEPT = 200;

export class SyncRecords {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #snapshots: Snapshots;
  readonly #reclaim: Reclaim;

  constructor(collaborators: {
    catalog: Catalog;
    devices: Devices;
    snapshots: Snapshots;
    reclaim: Reclaim;
  }) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#snapshots = collaborators.snapshots;
    this.#reclaim = collaborators.reclaim;
  }

  unfinished(): SyncRecord[] {
    return [...this.#catalog.syncs.values()].filter(isUnfinished);
  }

  /** Of a sync that begins; not in the metadata before it is noted. */
  make(pairs: readonly SyncPair[], options: SyncOptions): SyncRecord {
    const change = this.#catalog.change();
    const id = change.take('sync');
    const now = Date.now();
    return {
      id,
      kind: options.kind,
      phase: 'captured',
      target: options.target,
      created: new Date(now).toISOString(),
      ended: null,
      members: pairs.map(({ container, snapshot, from }): SyncMember => {
        return {
          container: container.id,
          from,
          base: baseOf(this.#catalog, this.#devices, snapshot),
          oldLine: container.line,
          newLine: change.take('line'),
          oldSizeBytes: container.sizeBytes,
          newSizeBytes: sizeAfter(container, snapshot, options),
          safety: options.safetyMs === null ? null : this.#safety(container, id, now + options.safetyMs),
        };
      }),
      config: options.config,
      rules: [...options.rules],
      error: null,
      identity: null,
    };
  }

  #safety(container: Container, sync: number, expires: number): SyncMember['safety'] {
    let name = `before-sync-${sync}`;
    for (let more = 2; this.#catalog.snapshotNamed(container, name); more++)
      name = `before-sync-${sync}-${more}`;
    return { id: this.#snapshots.newId().toString('hex'), name, expires: new Date(expires).toISOString() };
  }

  /** Resolves when it is durable. */
  note(record: SyncRecord, what: Partial<SyncRecord>): Promise<void> {
    Object.assign(record, what);
    return this.#catalog.change().sync(record).commit();
  }

  /** The containers use their new lines, all of the group in one batch. */
  async rebased(record: SyncRecord, pairs: readonly SyncPair[]): Promise<void> {
    const change = this.#catalog.change();
    for (const [index, { container, snapshot }] of pairs.entries()) {
      const member = record.members[index]!;
      // As it is in this turn: what the snapshot continues may have been merged into it since it was asked last.
      member.base = baseOf(this.#catalog, this.#devices, snapshot);
      change.line(newLine({ id: member.newLine, container: container.id, base: member.base }));
      container.line = member.newLine;
      container.sizeBytes = member.newSizeBytes;
      change.container(container);
    }
    record.phase = 'rebased';
    this.#configure(record, 'after', change);
    await change.sync(record).commit();
  }

  /** The configuration that goes with the disks. */
  #configure({ config }: SyncRecord, which: 'before' | 'after', change: Change): void {
    const vm = config && this.#catalog.vms.get(config.vm);
    if (!vm) return;
    vm.config = config[which];
    change.vm(vm);
  }

  /** The old lines end, as the undo point or for good. */
  async done(record: SyncRecord): Promise<void> {
    const change = this.#catalog.change();
    for (const member of record.members) {
      const line = this.#catalog.lines.get(member.oldLine)!;
      endLine(line, member.safety?.id ?? null);
      change.line(line);
      if (member.safety) change.snapshot(safetySnapshot(member, line));
      const container = this.#catalog.containers.get(member.container);
      if (container?.attributes) {
        container.attributes = modifiedNow(container.attributes);
        change.container(container);
      }
      this.#reclaim.note(line.id);
    }
    record.phase = 'done';
    record.ended = new Date().toISOString();
    this.#forgetOldest(change.sync(record));
    await change.commit();
    void this.#reclaim.kick();
  }

  /** In memory: the old lines count again. */
  goBack(record: SyncRecord): void {
    record.phase = 'undone';
    for (const member of record.members) {
      const container = this.#catalog.containers.get(member.container);
      if (!container || !this.#catalog.lines.has(member.newLine)) continue;
      container.line = member.oldLine;
      container.sizeBytes = member.oldSizeBytes;
    }
  }

  /** After goBack(): what was written into the new lines is given back. */
  async undone(record: SyncRecord, why: string): Promise<void> {
    const change = this.#catalog.change();
    for (const member of record.members) {
      const container = this.#catalog.containers.get(member.container);
      const line = this.#catalog.lines.get(member.newLine);
      if (!container || !line) continue;
      endLine(line, null);
      change.container(container).line(line);
      this.#reclaim.note(line.id);
    }
    this.#configure(record, 'before', change);
    record.ended = new Date().toISOString();
    record.error = why;
    this.#forgetOldest(change.sync(record));
    await change.commit();
  }

  #forgetOldest(change: Change): void {
    const ended = [...this.#catalog.syncs.values()].filter((record) => !isUnfinished(record));
    for (const record of ended.slice(0, Math.max(0, ended.length - RECORDS_KEPT))) change.removeSync(record);
  }
}

function sizeAfter({ sizeBytes }: Container, snapshot: Snapshot, { grow }: SyncOptions): bigint {
  return grow && snapshot.sizeBytes > sizeBytes ? snapshot.sizeBytes : sizeBytes;
}

function safetySnapshot(member: SyncMember, line: Line): Snapshot {
  const { id, name, expires } = member.safety!;
  return {
    id,
    name,
    container: member.container,
    line: line.id,
    version: line.versions.at(-1)!.version,
    sizeBytes: member.oldSizeBytes,
    created: new Date().toISOString(),
    expires,
  };
}
