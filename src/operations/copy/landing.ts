// Where a snapshot arrives: the current version of the receiving container, made to read as its base does before anything is written.
//
// Invariants: a record says what that version is to become, durably, before the first byte of it is written; what is in it of anything else is dropped
// whole, by a new line that continues the base (as a sync makes one, and nothing is copied for it). The base is pinned as long as it is worked on.

import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import { checkAllowed } from '../../model/access.js';
import type { CopyRecord } from '../../model/copy.js';
import type { Base, Container, Snapshot } from '../../model/entities.js';
import { endLine } from '../../model/entities.js';
import { decodeAttributes, type FileAttributes } from '../../model/file-attributes.js';
import { checkName } from '../../model/names.js';
import { BLOCK_BYTES } from '../../model/units.js';
import type { Pull } from '../../protocol/exchange.js';
import type { Device, Devices } from '../devices.js';
import { type DiffSide, diff, diffPage } from '../diff.js';
import type { Files } from '../files.js';
import type { PlaneClient } from '../plane-client.js';
import type { Reclaim } from '../reclaim.js';
import type { Rounds } from '../rounds.js';
import { baseOf, newContainer, newLine, refuseTaken } from '../snapshots.js';
import type { Space } from '../space.js';
import type { Volumes } from '../volumes.js';
import { sideOf } from './digest.js';
import type { Range } from './transfer.js';
import type { CopyHost } from './treaty.js';

export interface LandingParts {
  catalog: Catalog;
  devices: Devices;
  client: PlaneClient;
  rounds: Rounds;
  reclaim: Reclaim;
  files: Files;
  space: Space;
  volumes: Volumes;
  meta: { windowBytes: number };
}

export interface Arrival {
  volume: string;
  description: Pull['description'];
  /** Id and size of the snapshot that arrives. */
  snapshot: string;
  sizeBytes: bigint;
  /** What its changes are told since; null: nothing. */
  base: Snapshot | null;
  /** What was copied of it before is not to be trusted. */
  anew: boolean;
}

/** A place that was made ready; call `end`. */
export interface Landed {
  container: Container;
  device: Device;
  /** What is written into, as a side of a comparison. */
  version: DiffSide;
  /** Nothing of the snapshot was copied before. */
  isFresh: boolean;
  end(): void;
}

export class Landing {
  readonly #parts: LandingParts;
  readonly #host: CopyHost;

  constructor(parts: LandingParts, host: CopyHost) {
    this.#parts = parts;
    this.#host = host;
  }

  async prepare(arrival: Arrival): Promise<Landed> {
    const { devices, space } = this.#parts;
    const { base } = arrival;
    await space.check();
    if (base) devices.pin(base.line, base.version);
    let device: Device | null = null;
    const end = () => {
      if (device) devices.release(device);
      if (base) devices.unpin(base.line, base.version);
    };
    try {
      if (base) await devices.settle(base.line, base.version);
      const before = this.#host.containerOf(arrival.volume);
      const container = before ?? (await this.#make(arrival));
      device = await devices.acquire(container);
      const isFresh = before === null || (await this.#makeReady(container, device, arrival));
      await this.#resize(container, arrival.sizeBytes);
      return { container, device, version: this.#current(container), isFresh, end };
    } catch (error) {
      end();
      throw error;
    }
  }

  /** What was written up to now is in LevelDB afterwards, and what it continues. */
  async settle(container: Container, device: Device): Promise<void> {
    const { devices, rounds } = this.#parts;
    await devices.settleBases(container.line);
    await devices.mutexOf(container.id).run(() => rounds.run(device));
  }

  /** What of the snapshot is in its version already. Blocks that the end of the snapshot cuts are left out: a shrink may have written them. */
  async *copied(
    { container, device, isFresh }: Landed,
    base: Snapshot | null,
  ): AsyncGenerator<readonly Range[]> {
    if (isFresh) return;
    const { catalog, meta } = this.#parts;
    const version = this.#current(container);
    await this.settle(container, device);
    const whole = version.sizeBytes - (version.sizeBytes % BigInt(BLOCK_BYTES));
    for await (const ranges of diff(catalog, base && sideOf(base), version, meta)) {
      yield ranges
        .filter(({ kind, offset }) => kind === 'data' && offset < whole)
        .map(({ offset, length }) => {
          return { offset, length: offset + length < whole ? length : whole - offset };
        });
    }
  }

  /** A container that holds nothing yet but its base. */
  async #make({ volume, description, snapshot, sizeBytes, base }: Arrival): Promise<Container> {
    const { catalog, devices, files } = this.#parts;
    const { name, kind } = description;
    refuseTaken(catalog, name);
    requireListed(catalog, base);
    const change = catalog.change();
    const container = newContainer(
      {
        name,
        kind,
        attributes: attributesOf(description),
        description: description.description,
        // What not everybody may read stays so where it goes.
        allow: checkAllowed(description.allow),
        sizeBytes: base?.sizeBytes ?? sizeBytes,
        base: base && baseOf(catalog, devices, base),
        clonedFrom: null,
      },
      change,
    );
    files.add(container.id, change);
    this.#host.adopt(volume, container, change);
    change.copy(this.#record(volume, container, { snapshot, base }));
    await change.commit();
    return container;
  }

  /** True: nothing of the snapshot is in it. */
  async #makeReady(container: Container, device: Device, arrival: Arrival): Promise<boolean> {
    const { catalog } = this.#parts;
    const { volume, snapshot, base, anew } = arrival;
    const record = this.#record(volume, container, { snapshot, base });
    const before = catalog.copies.get(volume);
    if (!anew && before && isSame(before, record)) return false;
    if (!anew && (await this.#readsAs(container, device, base))) {
      await catalog.change().copy(record).commit();
      return true;
    }
    await this.#swap(container, device, arrival);
    return true;
  }

  /** Whether the current version of the container is what `base` is: then it can become the next. */
  async #readsAs(container: Container, device: Device, base: Snapshot | null): Promise<boolean> {
    const { catalog, meta } = this.#parts;
    if (base && base.sizeBytes !== container.sizeBytes) return false;
    const current = this.#current(container);
    await this.settle(container, device);
    const options = { ...meta, offset: 0n, rangesAtOnce: 1 };
    const { ranges, next } = await diffPage(catalog, base && sideOf(base), current, options);
    return ranges.length === 0 && next === null;
  }

  /** The container continues the base by a new line; what its current version holds is given back. */
  async #swap(container: Container, device: Device, { volume, snapshot, sizeBytes, base }: Arrival) {
    const { catalog, devices, client, rounds, reclaim } = this.#parts;
    const old = catalog.lines.get(container.line)!;
    const { version } = old.versions.at(-1)!;
    devices.pin(old.id, version);
    try {
      await devices.mutexOf(container.id).run(async () => {
        await client.hold(device.handle);
        try {
          // So that what it has written is known, and given back.
          await rounds.run(device);
          requireListed(catalog, base);
          const change = catalog.change();
          const continued = base && baseOf(catalog, devices, base);
          const line = newLine({ id: change.take('line'), container: container.id, base: continued });
          container.line = line.id;
          container.sizeBytes = base?.sizeBytes ?? sizeBytes;
          endLine(old, null);
          change.line(line).line(old).container(container);
          change.copy(this.#record(volume, container, { snapshot, base }));
          await this.#continue(container, device, change.commit());
        } finally {
          client.plane.release(device.handle);
        }
      });
    } finally {
      reclaim.note(old.id);
      devices.unpin(old.id, version);
    }
    void reclaim.kick();
  }

  /** A device that cannot follow the metadata is closed: what it has is of a line that nobody names any more. */
  async #continue(container: Container, device: Device, durable: Promise<void>): Promise<void> {
    try {
      await durable;
      await this.#parts.devices.rebase(device, container, { discard: false });
    } catch (error) {
      await this.#parts.devices.expel(device);
      throw error;
    }
  }

  async #resize(container: Container, sizeBytes: bigint): Promise<void> {
    if (container.sizeBytes === sizeBytes) return;
    await this.#parts.volumes.resize(container.name, { sizeBytes, force: true }, container.kind);
  }

  #current({ line: id, sizeBytes }: Container): DiffSide {
    const { version } = this.#parts.catalog.lines.get(id)!.versions.at(-1)!;
    return { line: id, version, sizeBytes };
  }

  #record(
    volume: string,
    container: Container,
    { snapshot, base }: { snapshot: string; base: Snapshot | null },
  ): CopyRecord {
    const { line, version }: Base = this.#current(container);
    return { volume, container: container.id, line, version, snapshot, since: base?.id ?? null };
  }
}

/** Throws when such a container cannot be made, and says why. */
export function checkDescription(catalog: Catalog, description: Pull['description'], isHere: boolean): void {
  checkName(description.name, description.kind);
  attributesOf(description);
  checkAllowed(description.allow);
  if (!isHere) refuseTaken(catalog, description.name);
}

export function attributesOf({ kind, attributes }: Pull['description']): FileAttributes | null {
  if (kind === 'volume') return null;
  try {
    return decodeAttributes(attributes);
  } catch (cause) {
    throw new CellblockError('copy-invalid', 'A file was described without the attributes of a file.', {
      hint: 'Have the volume described anew.',
      cause,
    });
  }
}

function isSame(a: CopyRecord, b: CopyRecord): boolean {
  return (
    a.container === b.container &&
    a.line === b.line &&
    a.version === b.version &&
    a.snapshot === b.snapshot &&
    a.since === b.since
  );
}

/** Somebody may have deleted it since it was chosen. */
function requireListed(catalog: Catalog, base: Snapshot | null): void {
  if (base === null || catalog.snapshots.get(base.id) === base) return;
  throw new CellblockError(
    'snapshot-not-found',
    `The snapshot ${JSON.stringify(base.name)} is being deleted, and a copy was to continue it.`,
    { hint: 'Begin the copy again: it will do without it.' },
  );
}
