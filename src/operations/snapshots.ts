// Snapshots: taking them (of several volumes in one instant), deleting them, and clones of them.
//
// Invariants: a snapshot is answered when its cut is durable in the journal; the LevelDB group is handed in in the same turn, so
// whatever is asked of the snapshot afterwards is ordered behind it. A snapshot of volumes none of which is open, or has been written
// before an unclean stop, is a LevelDB group alone: nothing of theirs is dirty or unsynced, and the last round before closing passed
// everything the journal had of them.
// Line and version a snapshot names are live as long as it is listed.

import { randomBytes } from 'node:crypto';

import { CellblockError } from '../base/errors.js';
import { runWithAll } from '../base/mutex.js';
import type { Catalog, Change } from '../catalog/catalog.js';
import { countUpTo, liveNumbers } from '../model/chain.js';
import type { Base, Container, ContainerKind, Line, Snapshot } from '../model/entities.js';
import { endVersion } from '../model/entities.js';
import { bornNow, type FileAttributes } from '../model/file-attributes.js';
import { checkName, hiddenName, isHiddenName } from '../model/names.js';
import { RegionSet } from '../model/region-set.js';
import type { Limits } from '../model/volume-settings.js';
import type { Device, Devices } from './devices.js';
import type { Files } from './files.js';
import { requireContainer, requireSnapshot } from './lookup.js';
import type { PlaneClient } from './plane-client.js';
import { errnoName, planeError } from './plane-client.js';
import type { Reclaim } from './reclaim.js';
import { failedVolume } from './rounds.js';
import type { Space } from './space.js';
import type { Logger } from './types.js';

// A cut in the journal, as native/store/journal.cc writes it.
const CELL_BYTES = 64;
const MAX_ENTRY_CELLS = 8192;
const CUT_MEMBER_BYTES = 40; // and its name

const ID_BYTES = 16;
const IDS_AT_ONCE = 256;

const DURABLE = Promise.resolve();

interface Wanted {
  container: Container;
  name: string;
  id: Buffer;
  created: string | undefined;
  expires: string | null;
}

export interface SnapshotWish {
  volume: string;
  snapshot: string;
  /** 32 hexadecimal digits that somebody else has chosen; a new one if not given. */
  id?: string;
  /** ISO 8601: when it was made where it comes from. */
  created?: string;
}

export interface TakeOptions {
  expires?: string | null;
  /** Asked when the mutexes are held, before anything is cut: what may have changed while they were waited for. Throws. */
  check?: () => void;
  /** Adds to the group that makes them durable in the metadata; they are answered after it then. False: it has added nothing. */
  alongside?: (change: Change, snapshots: readonly Snapshot[]) => boolean | undefined | void;
}

export class Snapshots {
  readonly #ids: Buffer[] = [];
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

  /**
   * 16 random bytes, the id of a snapshot. Taken from the system for many at a time: one call each would be a good part of a snapshot's cost. Kept by
   * the store, not by the process: in a simulation a run must not depend on what the one before it has left.
   */
  newId(): Buffer {
    if (this.#ids.length === 0) {
      const bytes = randomBytes(ID_BYTES * IDS_AT_ONCE);
      for (let at = 0; at < bytes.length; at += ID_BYTES) this.#ids.push(bytes.subarray(at, at + ID_BYTES));
    }
    return this.#ids.pop()!;
  }

  async create(references: readonly SnapshotWish[], options: TakeOptions = {}): Promise<Snapshot[]> {
    await this.#admit(references);
    // One order for everyone who takes several mutexes.
    const ordered = this.#containersOf(references).sort((a, b) => a.id - b.id);
    // One that is open makes the others be opened, and any may be closed or opened until the mutexes are ours.
    for (const { line } of ordered) await this.#devices.settleBases(line);
    const { snapshots, durable } = await runWithAll(
      ordered.map(({ id }) => this.#devices.mutexOf(id)),
      () => {
        options.check?.();
        return this.#take(references, options);
      },
    );
    await durable;
    return snapshots;
  }

  /** As create, by someone who holds the mutexes of all the containers and has called settleBases for each. */
  async createLocked(
    references: readonly SnapshotWish[],
    options: Omit<TakeOptions, 'check'> = {},
  ): Promise<Snapshot[]> {
    await this.#admit(references);
    const { snapshots, durable } = await this.#take(references, options);
    await durable;
    return snapshots;
  }

  #containersOf(references: readonly SnapshotWish[]): Container[] {
    return references.map(({ volume }) => requireContainer(this.#catalog, volume));
  }

  async #admit(references: readonly SnapshotWish[]): Promise<void> {
    if (references.length === 0) {
      throw new CellblockError('option-invalid', 'No snapshot is named.', {
        hint: 'Name at least one VOLUME@SNAPSHOT.',
      });
    }
    for (const wish of references) checkWishedName(wish);
    refuseTooMany(references.map(({ snapshot }) => snapshot));
    if (new Set(this.#containersOf(references)).size < references.length) {
      throw new CellblockError('option-invalid', 'A volume is named twice for one instant.', {
        hint: 'Name every volume once; take a second snapshot afterwards.',
      });
    }
    await this.#space.check();
  }

  async #take(
    references: readonly SnapshotWish[],
    options: TakeOptions,
  ): Promise<{ snapshots: Snapshot[]; durable: Promise<void> }> {
    const { expires = null } = options;
    const wanted = references.map(({ volume, snapshot, id, created }): Wanted => {
      const container = this.#free(volume, snapshot);
      if (id !== undefined && this.#catalog.snapshots.has(id)) throw idTaken(id);
      return { container, name: snapshot, id: id ? Buffer.from(id, 'hex') : this.newId(), created, expires };
    });
    return wanted.some(({ container }) => this.#mayHaveData(container))
      ? { snapshots: await this.#cut(wanted, options), durable: DURABLE }
      : this.#withoutData(wanted, options);
  }

  /** It is open, or its files have not been synced since the unclean stop of the agent: overwrites of then are in the page cache only. */
  #mayHaveData({ id }: Container): boolean {
    return this.#devices.current(id) !== undefined || this.#devices.unclean.has(id);
  }

  /** The volume, when it can get a snapshot of this name. */
  #free(volume: string, name: string): Container {
    const container = requireContainer(this.#catalog, volume);
    if (container.failure || this.#devices.current(container.id)?.failed) throw failedVolume(container);
    if (this.#catalog.snapshotNamed(container, name)) {
      throw new CellblockError(
        'snapshot-exists',
        `The ${container.kind} ${JSON.stringify(volume)} already has a snapshot ${JSON.stringify(name)}.`,
        {
          hint: 'Take another name, or delete that snapshot first.',
        },
      );
    }
    return container;
  }

  /** The next one need not wait until this one is durable: it comes behind, and may share the batch. */
  #withoutData(
    wanted: readonly Wanted[],
    { alongside }: TakeOptions,
  ): { snapshots: Snapshot[]; durable: Promise<void> } {
    const change = this.#catalog.change();
    const snapshots = wanted.map((one) => this.#endVersion(one, change, 'listed')!);
    alongside?.(change, snapshots);
    return { snapshots, durable: change.commit() };
  }

  /** At least one is open: all are opened, and end their version in one instant. */
  async #cut(wanted: readonly Wanted[], options: TakeOptions): Promise<Snapshot[]> {
    const devices: Device[] = [];
    try {
      for (const { container } of wanted) devices.push(await this.#devices.acquireLocked(container));
      const answer = await this.#client.cut(
        wanted.map(({ id, name }, index) => ({ handle: devices[index]!.handle, snapshotId: id, name })),
      );
      if (answer.error !== 0 && answer.errors.length === 0)
        throw planeError('taking a snapshot', answer.error);
      return await this.#cutDone(wanted, devices, { errors: answer.errors, options });
    } finally {
      for (const device of devices) this.#devices.release(device);
    }
  }

  /** Every member's version has ended. All are listed, or none is: what cannot be listed is merged away. */
  async #cutDone(
    wanted: readonly Wanted[],
    devices: readonly Device[],
    { errors, options: { alongside } }: { errors: readonly number[]; options: TakeOptions },
  ): Promise<Snapshot[]> {
    const failed = errors.findIndex((error) => error !== 0);
    const change = this.#catalog.change();
    const snapshots = wanted.map((one, index) => {
      const snapshot = this.#endVersion(one, change, failed < 0 ? 'listed' : 'deleted');
      const device = devices[index]!;
      device.version += 1;
      device.layers.raise(device.version);
      return snapshot;
    });
    const waits = failed < 0 && alongside && alongside(change, snapshots as Snapshot[]) !== false;
    const durable = change.commit();
    if (waits) await durable;
    if (failed < 0) {
      durable.catch((error: unknown) =>
        this.#log.warn({ err: error }, 'a snapshot stands in the journal only, for now'),
      );
      return snapshots as Snapshot[];
    }
    await durable;
    for (const { container } of wanted) this.#reclaim.note(container.line);
    void this.#reclaim.kick();
    const { name } = wanted[failed]!.container;
    throw new CellblockError(
      'snapshot-failed',
      `The volume ${JSON.stringify(name)} could not be made stable (${errnoName(errors[failed]!)}); no snapshot was taken.`,
      {
        hint: 'Check the disk and `cellblock volume show`, then try again.',
        facts: { volume: name },
      },
    );
  }

  #endVersion(wanted: Wanted, change: Change, state: 'listed' | 'deleted'): Snapshot | null {
    const { container } = wanted;
    const line = this.#catalog.lines.get(container.line)!;
    const { version } = line.versions[line.versions.length - 1]!;
    const snapshot: Snapshot = {
      id: wanted.id.toString('hex'),
      name: wanted.name,
      container: container.id,
      line: line.id,
      version,
      sizeBytes: container.sizeBytes,
      created: wanted.created ?? new Date().toISOString(),
      expires: wanted.expires,
    };
    endVersion(line, state === 'listed' ? snapshot.id : null);
    change.line(line);
    if (state === 'deleted') return null;
    change.snapshot(snapshot);
    return snapshot;
  }

  /** All or none; durable when it resolves. Answers the lines to reclaim in. */
  async delete(
    references: readonly { volume: string; snapshot: string }[],
    options: { alongside?: (change: Change) => void } = {},
  ): Promise<Snapshot[]> {
    const named = references.map(({ volume, snapshot }) => requireSnapshot(this.#catalog, volume, snapshot));
    return this.remove(named, options);
  }

  /** The same for snapshots that nobody can name. */
  async remove(
    those: readonly Snapshot[],
    options: { alongside?: (change: Change) => void } = {},
  ): Promise<Snapshot[]> {
    const snapshots = new Set(those);
    const change = this.#catalog.change();
    const lines = new Set([...snapshots].map(({ line }) => line));
    for (const line of lines) unlist(this.#catalog.lines.get(line)!, snapshots, change);
    options.alongside?.(change);
    await change.commit();
    for (const line of lines) this.#reclaim.note(line);
    return [...snapshots];
  }

  async clone(
    reference: { volume: string; snapshot: string },
    name: string,
    { expires = null }: { expires?: string | null } = {},
  ): Promise<Container> {
    checkName(name, 'volume');
    requireSnapshot(this.#catalog, reference.volume, reference.snapshot);
    await this.#space.check();
    // Nothing is awaited from here to the change: the snapshot stays listed, the name free.
    const snapshot = requireSnapshot(this.#catalog, reference.volume, reference.snapshot);
    refuseTaken(this.#catalog, name);
    const change = this.#catalog.change();
    const from = `${reference.volume}@${reference.snapshot}`;
    const base = baseOf(this.#catalog, this.#devices, snapshot);
    const { sizeBytes } = snapshot;
    // What not everybody may read stays so in its clones.
    const { kind, attributes, allow } = this.#catalog.containers.get(snapshot.container)!;
    const what = { name, kind, attributes: attributes && bornNow(attributes), allow, sizeBytes, base };
    const container = newContainer({ ...what, clonedFrom: from, expires }, change);
    this.#files.add(container.id, change);
    await change.commit();
    return container;
  }
}

/**
 * A new line of a snapshot whose own line says nothing continues where that one does; but not in a version that is deleted, which may
 * be on its way into this line at the moment. It holds in this turn: whoever makes the line does so in it.
 */
export function baseOf(catalog: Catalog, devices: Devices, { line: id, version }: Snapshot): Base {
  const line = catalog.lines.get(id)!;
  const says = line.regions.size > 0 || line.cutOffs.length > 0 || !devices.isSettled(id, version);
  return line.base && !says && isListed(catalog, line.base) ? line.base : { line: id, version };
}

function idTaken(id: string): CellblockError {
  return new CellblockError('snapshot-exists', `There is already a snapshot with the id ${id}.`, {
    hint: 'Ask again with another id.',
  });
}

/** One that begins as hidden ones do has to be that of its id, which nobody outside can choose. */
function checkWishedName({ snapshot, id }: SnapshotWish): void {
  if (!isHiddenName(snapshot) || id === undefined || snapshot !== hiddenName(id))
    checkName(snapshot, 'snapshot');
}

function isListed(catalog: Catalog, { line: id, version }: Base): boolean {
  const line = catalog.lines.get(id)!;
  const index = countUpTo(liveNumbers(line), version) - 1;
  return line.versions[index]?.version === version && line.versions[index].state === 'listed';
}

/** A cut is one entry of the journal, and an entry has at most so many bytes: see docs/architecture.md, "Journal". */
function refuseTooMany(names: readonly string[]): void {
  const bytes = names.reduce((sum, name) => sum + CUT_MEMBER_BYTES + Buffer.byteLength(name), CELL_BYTES);
  if (bytes <= MAX_ENTRY_CELLS * CELL_BYTES) return;
  throw new CellblockError(
    'group-too-large',
    `Snapshots of ${names.length} volumes are more than can be taken in one instant.`,
    { hint: 'Take them in several groups, or with shorter names.' },
  );
}

/** The names of those of the line are gone; their versions live until they are freed or merged. One put of the line for all. */
function unlist(line: Line, snapshots: Iterable<Snapshot>, change: Change): void {
  const ended = new Set<number>();
  for (const snapshot of snapshots) {
    if (snapshot.line !== line.id) continue;
    ended.add(snapshot.version);
    change.removeSnapshot(snapshot);
  }
  line.versions = line.versions.map((live) => {
    return ended.has(live.version) ? { version: live.version, state: 'deleted', snapshot: null } : live;
  });
  change.line(line);
}

/** Volumes, files and VMs have one name space. */
export function refuseTaken(catalog: Catalog, name: string): void {
  const what = catalog.containerNamed(name)?.kind ?? (catalog.vmNamed(name) && 'virtual machine');
  if (!what) return;
  throw new CellblockError('volume-exists', `There is already a ${what} ${JSON.stringify(name)}.`, {
    hint: `Take another name; see \`cellblock ${what === 'file' ? 'file' : what === 'volume' ? 'volume' : 'vm'} list\`.`,
  });
}

/** An empty map that continues a snapshot, or nothing. */
export function newLine(what: { id: number; container: number; base: Base | null }): Line {
  return {
    ...what,
    versions: [{ version: 1, state: 'current', snapshot: null }],
    cutOffs: [],
    regions: new RegionSet(),
  };
}

/** A container with one empty line, in the caller's group. */
export function newContainer(
  what: {
    name: string;
    sizeBytes: bigint;
    base: Base | null;
    clonedFrom: string | null;
    expires?: string | null;
    kind?: ContainerKind;
    attributes?: FileAttributes | null;
    allow?: readonly string[];
    description?: string;
    limits?: Limits | null;
  },
  change: Change,
): Container {
  const id = change.take('container');
  const line = newLine({ id: change.take('line'), container: id, base: what.base });
  const container: Container = {
    id,
    name: what.name,
    kind: what.kind ?? 'volume',
    state: 'live',
    sizeBytes: what.sizeBytes,
    created: new Date().toISOString(),
    line: line.id,
    clonedFrom: what.clonedFrom,
    expires: what.expires ?? null,
    shrinkingTo: null,
    failure: null,
    attributes: what.attributes ?? null,
    allow: [...(what.allow ?? [])],
    description: what.description ?? '',
    limits: what.limits ?? null,
    transactionLog: null,
  };
  change.container(container).line(line);
  return container;
}
