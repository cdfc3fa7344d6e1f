// Sync: containers take the state of snapshots in constant time, by new empty lines that continue these, and keep their identity.
// IDENTITY.md "One sync"; HAZARDS 15, 17 to 20, J14; docs/decisions/0013.
//
// Invariants: until the record says `done` the old lines are as they were, and any failure, stop or crash goes back to them; no
// client reads or writes between the hold and its release, so nobody sees the new content before its identity is back; a phase is
// recorded after what it says is stable; while clients are connected the hold has a limit, and what takes longer is undone.
// `done` is handed in last, when the identity reads back, and clients are let go only when it is durable: what they write afterwards is
// in the lines a start will find. Where it cannot be known, they are disconnected and nobody comes in until it is.

import { setTimeout as aWhile } from 'node:timers/promises';
import { asCellblockError, CellblockError } from '../base/errors.js';
import { runWithAll } from '../base/mutex.js';
import type { Catalog, Change } from '../catalog/catalog.js';
import type { Container, Line, Snapshot } from '../model/entities.js';
import { endLine } from '../model/entities.js';
import { modifiedNow } from '../model/file-attributes.js';
import { isUnfinished, type SyncMember, type SyncRecord } from '../model/sync.js';
import type { Device, Devices } from './devices.js';
import { DeviceDisk } from './disk-io.js';
import { Hold } from './hold.js';
import type { PlaneClient } from './plane-client.js';
import type { Reclaim } from './reclaim.js';
import type { Rounds } from './rounds.js';
import { failedVolume } from './rounds.js';
import { baseOf, newId, newLine } from './snapshots.js';
import type { Space } from './space.js';
import type { SyncIdentity, SyncOptions, SyncPair, SyncResult } from './sync-types.js';
import type { Logger } from './types.js';

/** Ended ones that are still shown. */
const RECORDS_KEPT = 200;
/** For connections that are ending: a second in all. */
const LOOK_AGAIN_MS = 10;
const LOOKS = 100;
const AGAIN_MS = 1000;

interface RunOptions extends SyncOptions {
  /** Answers whoever asked, while the work goes on. */
  giveUp: (error: unknown) => void;
}

interface Member extends SyncPair {
  device: Device;
}

export class Syncs {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #rounds: Rounds;
  readonly #reclaim: Reclaim;
  readonly #space: Space;
  readonly #log: Logger;
  readonly #holdLimitMs: number;
  readonly #running = new Set<Promise<unknown>>();
  #stopping = false;
  /** Since the start. */
  readonly counts = { done: 0, refused: 0, heldMs: 0 };

  constructor(
    collaborators: {
      catalog: Catalog;
      devices: Devices;
      client: PlaneClient;
      rounds: Rounds;
      reclaim: Reclaim;
      space: Space;
      log: Logger;
    },
    options: { holdLimitMs: number },
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#client = collaborators.client;
    this.#rounds = collaborators.rounds;
    this.#reclaim = collaborators.reclaim;
    this.#space = collaborators.space;
    this.#log = collaborators.log;
    this.#holdLimitMs = options.holdLimitMs;
  }

  /** All of the group in one instant and one batch, or none. Durable when it resolves. */
  async run(pairs: readonly SyncPair[], identity: SyncIdentity, options: SyncOptions): Promise<SyncResult> {
    let giveUp: (error: unknown) => void = () => undefined;
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = reject;
    });
    const work = this.#run(pairs, identity, { ...options, giveUp });
    const settled = work.then(
      ({ heldMs }) => {
        this.counts.done++;
        this.counts.heldMs += heldMs;
      },
      () => void this.counts.refused++,
    );
    this.#running.add(settled);
    void settled.then(() => this.#running.delete(settled));
    return Promise.race([work, givenUp]);
  }

  /** Resolves when none is under way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #run(pairs: readonly SyncPair[], identity: SyncIdentity, options: RunOptions): Promise<SyncResult> {
    for (const pair of pairs) this.check(pair, options);
    await this.#space.check();
    const ordered = [...pairs].sort((a, b) => a.container.id - b.container.id);
    // Whoever reads these versions by name keeps them from being merged; and what they say is in LevelDB before mutexes are held.
    for (const { snapshot } of ordered) this.#devices.pin(snapshot.line, snapshot.version);
    try {
      for (const { container, snapshot } of ordered) {
        await this.#devices.settle(snapshot.line, snapshot.version);
        await this.#devices.settleBases(container.line);
      }
      return await runWithAll(
        ordered.map(({ container }) => this.#devices.mutexOf(container.id)),
        () => this.#withDevices(ordered, identity, options),
      );
    } finally {
      for (const { snapshot } of ordered) this.#devices.unpin(snapshot.line, snapshot.version);
    }
  }

  async #withDevices(
    pairs: readonly SyncPair[],
    identity: SyncIdentity,
    options: RunOptions,
  ): Promise<SyncResult> {
    for (const pair of pairs) this.check(pair, options);
    const members: Member[] = [];
    try {
      for (const pair of pairs)
        members.push({ ...pair, device: await this.#devices.acquireLocked(pair.container) });
      if (options.force) for (const { device } of members) await this.#sendAway(device);
      for (const pair of pairs) this.check(pair, { ...options, force: false });
      // What is left for the round under the hold is little then.
      for (const { device } of members) await this.#rounds.run(device);
      return await this.#held(members, identity, options);
    } finally {
      for (const { device } of members) this.#devices.release(device);
    }
  }

  /** A connection that was ending by itself is told of a little later than the plane answers; who comes back meanwhile counts. */
  async #sendAway(device: Device): Promise<void> {
    await this.#client.disconnect(device.handle);
    for (let look = 0; look < LOOKS && device.connections > 0; look++) await aWhile(LOOK_AGAIN_MS);
  }

  async #held(members: readonly Member[], identity: SyncIdentity, options: RunOptions): Promise<SyncResult> {
    const devices = members.map(({ device }) => device);
    const limitMs = devices.some(({ connections }) => connections > 0) ? this.#holdLimitMs : null;
    const hold = new Hold(this.#client, devices, { limitMs });
    try {
      await hold.begin();
      const record = await this.#underHold(members, identity, { options, hold });
      return { record, heldMs: hold.heldMs };
    } finally {
      hold.end();
    }
  }

  async #underHold(
    members: readonly Member[],
    identity: SyncIdentity,
    { options, hold }: { options: RunOptions; hold: Hold },
  ): Promise<SyncRecord> {
    for (const { device } of members) await hold.during(this.#rounds.run(device));
    const { captured, restore } = await hold.during(identity.capture(this.#disksOf(members)));
    const record = this.#newRecord(members, options);
    const disks: DeviceDisk[] = [];
    try {
      await hold.during(this.#note(record, { identity: { captured } }));
      await hold.during(this.#rebase(record, members));
      disks.push(...this.#disksOf(members));
      const restored = await hold.during(restore(disks));
      for (const { device } of members) await hold.during(this.#client.flush(device.handle));
      await hold.during(this.#note(record, { phase: 'restored', identity: { captured, restored } }));
      await hold.during(identity.verify(disks, restored));
    } catch (error) {
      for (const disk of disks) disk.revoke();
      await hold.settled();
      await this.#undo(record, error, { members, hold });
      throw error;
    }
    try {
      await hold.during(this.#finish(record));
    } catch (error) {
      await this.#untilKnown(members, error, options);
    }
    return record;
  }

  /** `done` was handed in and may be durable or not: nobody is let in before it is. Whoever asked for the sync is told at once. */
  async #untilKnown(members: readonly Member[], error: unknown, { giveUp }: RunOptions): Promise<void> {
    giveUp(notKnown(error));
    const names = members.map(({ container }) => container.name);
    this.#log.error(
      { err: error, volumes: names },
      'a sync waits for the metadata; its volumes wait with it',
    );
    for (const { device } of members) await this.#client.disconnect(device.handle);
    for (;;) {
      if (this.#stopping) throw error;
      try {
        await this.#catalog.barrier();
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  /** Why it cannot be done. Asked twice: before anything is waited for, and when the mutexes are held. */
  check({ container, snapshot, from }: SyncPair, options: SyncOptions): void {
    const name = JSON.stringify(container.name);
    if (this.#catalog.containers.get(container.id) !== container || container.state !== 'live')
      throw new CellblockError('volume-not-found', `The volume ${name} is being deleted.`, {
        hint: 'See `cellblock volume list`.',
      });
    if (container.failure || this.#devices.current(container.id)?.failed) throw failedVolume(container);
    if (this.#catalog.snapshots.get(snapshot.id) !== snapshot)
      throw new CellblockError(
        'snapshot-not-found',
        `The snapshot ${JSON.stringify(from)} is being deleted.`,
        {
          hint: 'See `cellblock snapshot list`.',
        },
      );
    refuseKind(container, this.#catalog.containers.get(snapshot.container)!, from);
    refuseSize(container, snapshot, { from, grow: options.grow });
    const connections = this.#devices.current(container.id)?.connections ?? 0;
    if (connections > 0 && !options.online && !options.force) throw inUse(container, connections);
  }

  #disksOf(members: readonly Member[]): DeviceDisk[] {
    return members.map(({ container, device }) => new DeviceDisk(this.#client, device, container));
  }

  #newRecord(members: readonly Member[], options: SyncOptions): SyncRecord {
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
      members: members.map(({ container, snapshot, from }): SyncMember => {
        return {
          container: container.id,
          from,
          base: baseOf(this.#catalog, this.#devices, snapshot),
          oldLine: container.line,
          newLine: change.take('line'),
          oldSizeBytes: container.sizeBytes,
          newSizeBytes:
            options.grow && snapshot.sizeBytes > container.sizeBytes
              ? snapshot.sizeBytes
              : container.sizeBytes,
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
    return { id: newId().toString('hex'), name, expires: new Date(expires).toISOString() };
  }

  /** One batch for all of the group, then the maps in memory. */
  async #rebase(record: SyncRecord, members: readonly Member[]): Promise<void> {
    const change = this.#catalog.change();
    for (const [index, { container, snapshot }] of members.entries()) {
      const member = record.members[index]!;
      const { newLine: id, newSizeBytes } = member;
      // As it is in this turn: what the snapshot continues may have been merged into it since it was asked last.
      member.base = baseOf(this.#catalog, this.#devices, snapshot);
      change.line(newLine({ id, container: container.id, base: member.base }));
      container.line = id;
      container.sizeBytes = newSizeBytes;
      change.container(container);
    }
    record.phase = 'rebased';
    this.#configure(record, 'after', change);
    await change.sync(record).commit();
    // Undone while this waited for the metadata: the maps are to stay.
    if (record.phase !== 'rebased') return;
    for (const { container, device } of members)
      await this.#devices.rebase(device, container, { discard: false });
  }

  /** The configuration that goes with the disks. */
  #configure({ config }: SyncRecord, which: 'before' | 'after', change: Change): void {
    const vm = config && this.#catalog.vms.get(config.vm);
    if (!vm) return;
    vm.config = config[which];
    change.vm(vm);
  }

  #note(record: SyncRecord, what: Partial<SyncRecord>): Promise<void> {
    Object.assign(record, what);
    return this.#catalog.change().sync(record).commit();
  }

  /** The old lines end, as the undo point or for good. */
  async #finish(record: SyncRecord): Promise<void> {
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

  /** The old lines count again; what was written into the new ones is given back. */
  async #undo(
    record: SyncRecord,
    error: unknown,
    { members, hold }: { members: readonly Member[]; hold: Hold },
  ): Promise<void> {
    this.#goBack(record);
    for (const { container, device } of members) await this.#rebaseBack(container, device);
    // Not made before: a volume may be renamed at any time, and a new line that is ended be gone in a moment.
    const durable = this.#takeBack(record, asCellblockError(error).message).commit();
    hold.end();
    try {
      await durable;
      void this.#reclaim.kick();
    } catch (failure) {
      this.#log.error({ err: failure, sync: record.id }, 'a sync was undone in memory only, for now');
    }
  }

  #goBack(record: SyncRecord): void {
    record.phase = 'undone';
    for (const member of record.members) {
      const container = this.#catalog.containers.get(member.container);
      if (!container || !this.#catalog.lines.has(member.newLine)) continue;
      container.line = member.oldLine;
      container.sizeBytes = member.oldSizeBytes;
    }
  }

  /** After #goBack. */
  #takeBack(record: SyncRecord, why: string): Change {
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
    return change;
  }

  /** A device that cannot go back reads what nobody may see: its clients are sent away and it is closed. */
  async #rebaseBack(container: Container, device: Device): Promise<void> {
    if (device.line === container.line) return;
    try {
      await this.#rounds.run(device);
    } catch (error) {
      this.#log.warn({ err: error, volume: container.name }, 'what an undone sync wrote is given up');
    }
    try {
      await this.#devices.rebase(device, container, { discard: true });
    } catch (error) {
      this.#log.error(
        { err: error, volume: container.name },
        'an undone sync ends the connections of its volume',
      );
      await this.#devices.expel(device);
    }
  }

  #forgetOldest(change: Change): void {
    const ended = [...this.#catalog.syncs.values()].filter((record) => !isUnfinished(record));
    for (const record of ended.slice(0, Math.max(0, ended.length - RECORDS_KEPT))) change.removeSync(record);
  }

  /** At start: what a stop interrupted before it was done is undone. Nothing is served before. */
  async finishUnfinished(): Promise<void> {
    for (const record of [...this.#catalog.syncs.values()].filter(isUnfinished)) {
      const facts = { sync: record.id, target: record.target, phase: record.phase };
      this.#goBack(record);
      await this.#takeBack(record, 'The agent was stopped in the middle of it.').commit();
      this.#log.warn(facts, 'a sync that a stop had interrupted was undone');
    }
  }
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

function notKnown(cause: unknown): CellblockError {
  return new CellblockError(
    'catalog-write-failed',
    'The sync waits for the metadata: whether it is done is known when that can be written again.',
    { hint: 'Check the disk, and see `cellblock sync list`; its volumes are served again then.', cause },
  );
}

/** What is identity follows from the kind, so both are of one. */
function refuseKind(container: Container, source: Container, from: string): void {
  if (container.kind === source.kind) return;
  const name = JSON.stringify(container.name);
  throw new CellblockError(
    'container-kind-wrong',
    `${name} is a ${container.kind}, and ${JSON.stringify(from)} is of a ${source.kind}.`,
    {
      hint: `Name a snapshot of a ${container.kind}; \`cellblock clone\` makes another ${source.kind} of it.`,
    },
  );
}

function refuseSize(
  container: Container,
  snapshot: Snapshot,
  { from, grow }: { from: string; grow: boolean },
): void {
  if (snapshot.sizeBytes <= container.sizeBytes || grow) return;
  throw new CellblockError(
    'sync-source-larger',
    `${JSON.stringify(from)} has ${snapshot.sizeBytes} bytes, ${JSON.stringify(container.name)} only ${container.sizeBytes}.`,
    { hint: 'Give --grow to let it take that size.' },
  );
}

function inUse(container: Container, connections: number): CellblockError {
  const clients = `${connections} connection${connections > 1 ? 's' : ''}`;
  return new CellblockError(
    'volume-in-use',
    `The volume ${JSON.stringify(container.name)} is in use by ${clients}.`,
    {
      hint: 'End them, or give --force to end them, or --online if these clients cache nothing of it.',
      facts: { connections },
    },
  );
}
