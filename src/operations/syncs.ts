// Sync: containers take the state of snapshots in constant time, by new empty lines that continue these, and keep their identity.
// IDENTITY.md "One sync"; HAZARDS 15, 17 to 20, J14; docs/decisions/0013.
//
// Invariants: until the record says `done` the old lines are as they were, and any failure, stop or crash goes back to them; no
// client reads or writes between the hold and its release, so nobody sees the new content before its identity is back; a phase is
// recorded after what it says is stable; while clients are connected the hold has a limit, and what takes longer is undone.
// `done` is handed in last, when the identity reads back, and clients are let go only when it is durable: what they write afterwards is
// in the lines a start will find. Where it cannot be known, they are disconnected and nobody comes in until it is.

import { asCellblockError, CellblockError } from '../base/errors.js';
import { runWithAll } from '../base/mutex.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { SyncRecord } from '../model/sync.js';
import type { Gate } from './cells/gate.js';
import type { Device, Devices } from './devices.js';
import { DeviceDisk } from './disk-io.js';
import { Hold } from './hold.js';
import type { Attachments } from './kernel/attachments.js';
import type { PlaneClient } from './plane-client.js';
import type { Reclaim } from './reclaim.js';
import type { Rounds } from './rounds.js';
import { failedVolume } from './rounds.js';
import type { Snapshots } from './snapshots.js';
import type { Space } from './space.js';
import { SyncRecords } from './sync-records.js';
import type { SyncIdentity, SyncOptions, SyncPair, SyncResult } from './sync-types.js';
import type { Logger } from './types.js';

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
  readonly #attachments: Attachments;
  readonly #gate: Gate;
  readonly #records: SyncRecords;
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
      snapshots: Snapshots;
      reclaim: Reclaim;
      space: Space;
      attachments: Attachments;
      gate: Gate;
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
    this.#attachments = collaborators.attachments;
    this.#gate = collaborators.gate;
    this.#records = new SyncRecords(collaborators);
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

  /** Of devices of the kernel nobody has anything in the cache, and nobody mounts them until the sync has ended. */
  async #run(pairs: readonly SyncPair[], identity: SyncIdentity, options: RunOptions): Promise<SyncResult> {
    const ordered = [...pairs].sort((a, b) => a.container.id - b.container.id);
    const claim = await this.#attachments.claim(ordered.map(({ container }) => container));
    try {
      return await this.#claimed(ordered, identity, options);
    } finally {
      await claim.end();
    }
  }

  async #claimed(
    ordered: readonly SyncPair[],
    identity: SyncIdentity,
    options: RunOptions,
  ): Promise<SyncResult> {
    if (!options.online && !options.force) await this.#untilLeft(ordered);
    for (const pair of ordered) this.check(pair, options);
    await this.#space.check();
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

  /** Those of devices of the kernel stay. */
  async #untilLeft(pairs: readonly SyncPair[]): Promise<void> {
    const others = pairs.filter(({ container }) => this.#attachments.nodeOf(container) === null);
    await Promise.all(others.map(({ container }) => this.#devices.untilLeft(container.id)));
  }

  /** A connection that was ending by itself is told of a little later than the plane answers; who comes back meanwhile counts. */
  async #sendAway(device: Device): Promise<void> {
    await this.#client.disconnect(device.handle);
    await this.#devices.untilLeft(device.container);
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
    const before = this.#disksOf(members);
    const { captured, restore } = await hold.during(identity.capture(before));
    const record = this.#records.make(members, options);
    const disks: DeviceDisk[] = [];
    try {
      await hold.during(this.#records.note(record, { identity: { captured } }));
      await hold.during(this.#rebase(record, members));
      disks.push(...this.#disksOf(members));
      await hold.during(Promise.all(disks.map((disk, index) => disk.readAhead(before[index]!.looked))));
      const restored = await hold.during(restore(disks));
      for (const { device } of members) await hold.during(this.#client.flush(device.handle));
      await hold.during(this.#records.note(record, { phase: 'restored', identity: { captured, restored } }));
      await hold.during(identity.verify(disks, restored));
    } catch (error) {
      for (const disk of disks) disk.revoke();
      await hold.settled();
      await this.#undo(record, error, { members, hold });
      throw error;
    }
    try {
      await hold.during(this.#records.done(record));
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
    this.#gate.require(container);
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
    if (connections > 0 && !options.online && !options.force)
      throw inUse(container, { connections, node: this.#attachments.nodeOf(container) });
  }

  #disksOf(members: readonly Member[]): DeviceDisk[] {
    return members.map(({ container, device }) => new DeviceDisk(this.#client, device, container));
  }

  /** The metadata, then the maps in memory. */
  async #rebase(record: SyncRecord, members: readonly Member[]): Promise<void> {
    await this.#records.rebased(record, members);
    // Undone while this waited for the metadata: the maps are to stay.
    if (record.phase !== 'rebased') return;
    for (const { container, device } of members)
      await this.#devices.rebase(device, container, { discard: false });
  }

  /** The old lines count again; what was written into the new ones is given back. */
  async #undo(
    record: SyncRecord,
    error: unknown,
    { members, hold }: { members: readonly Member[]; hold: Hold },
  ): Promise<void> {
    this.#records.goBack(record);
    for (const { container, device } of members) await this.#rebaseBack(container, device);
    const durable = this.#records.undone(record, asCellblockError(error).message);
    hold.end();
    try {
      await durable;
      void this.#reclaim.kick();
    } catch (failure) {
      this.#log.error({ err: failure, sync: record.id }, 'a sync was undone in memory only, for now');
    }
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

  /** At start: what a stop interrupted before it was done is undone. Nothing is served before. */
  async finishUnfinished(): Promise<void> {
    for (const record of this.#records.unfinished()) {
      const facts = { sync: record.id, target: record.target, phase: record.phase };
      this.#records.goBack(record);
      await this.#records.undone(record, 'The agent was stopped in the middle of it.');
      this.#log.warn(facts, 'a sync that a stop had interrupted was undone');
    }
  }
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

function inUse(
  container: Container,
  { connections, node }: { connections: number; node: string | null },
): CellblockError {
  const attached = node === null ? '' : `, as ${node} among others`;
  const clients = `${connections} connection${connections > 1 ? 's' : ''}${attached}`;
  return new CellblockError(
    'volume-in-use',
    `The volume ${JSON.stringify(container.name)} is in use by ${clients}.`,
    {
      hint: 'End them, or give --force to end them, or --online if these clients cache nothing of it.',
      facts: { connections },
    },
  );
}
