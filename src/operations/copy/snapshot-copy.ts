// The copy of one snapshot: a place is made ready, what differs is brought, and it is listed when what is stored has the digest of the source.
//
// Invariant: until it is listed it is nobody's, and what was copied of it is not copied again.

import { setImmediate as turn } from 'node:timers/promises';
import { asCellblockError, CellblockError } from '../../base/errors.js';
import { checkAllowed } from '../../model/access.js';
import type { Snapshot } from '../../model/entities.js';
import type { Digest, Pull, SnapshotFacts } from '../../protocol/exchange.js';
import type { Clock } from '../../protocol/timing.js';
import { sinceById } from '../changed-contexts.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import type { CopyProgress } from './copy-progress.js';
import { digestOf, sameDigest, sideOf } from './digest.js';
import { attributesOf, type Landed, Landing, type LandingParts } from './landing.js';
import { type RateLimit, stopped } from './rate-limit.js';
import { type ConnectSource, type CopyCredentials, SourceExport } from './source.js';
import { bytesToSend, transfer } from './transfer.js';
import type { CopyHost } from './treaty.js';

export interface CopyParts extends LandingParts {
  snapshots: Snapshots;
}

export interface CopyOptions {
  /** Read anew for every snapshot: files may have been replaced. */
  credentials: () => CopyCredentials | null;
  clock: Clock;
  connect: ConnectSource;
  connections: number;
  /** Of one read, at the most. */
  pieceBytes: number;
  connectMs: number;
  silenceMs: number;
  firstPauseMs: number;
  longestPauseMs: number;
  /** A source that nothing has come from for so long is given up. */
  giveUpMs: number;
}

/** Of all copies since the start. */
export interface CopyCounts {
  snapshots: number;
  /** Bytes of data that came over the wire. */
  receivedBytes: bigint;
  /** Bytes that differ from their base in the snapshots that are here: what has to be sent at the least, and zeros. */
  changedBytes: bigint;
  /** Snapshots that did not have the digest of the source. */
  mismatches: number;
  /** Times that a connection broke, or none could be made. */
  breaks: number;
}

/** What is to be brought next. */
export interface Next {
  facts: SnapshotFacts;
  /** The one before it in the lineage, if that is here. */
  parent: Snapshot | null;
}

/** The copy of a volume that the snapshot is one of. */
export interface CopyOfVolume {
  readonly volume: string;
  /** As it was told last. */
  readonly pull: Pull;
  readonly signal: AbortSignal;
  readonly rate: RateLimit;
  readonly counts: CopyCounts;
  readonly progress: CopyProgress;
}

export class SnapshotCopy {
  readonly #of: CopyOfVolume;
  readonly #parts: CopyParts;
  readonly #host: CopyHost;
  readonly #log: Logger;
  readonly #options: CopyOptions;
  readonly #landing: Landing;

  constructor(
    of: CopyOfVolume,
    { parts, host, log }: { parts: CopyParts; host: CopyHost; log: Logger },
    options: CopyOptions,
  ) {
    this.#of = of;
    this.#parts = parts;
    this.#host = host;
    this.#log = log;
    this.#options = options;
    this.#landing = new Landing(parts, host);
  }

  /** `anew`: what was copied of it before is not to be trusted. */
  async bring({ facts, parent }: Next, anew: boolean): Promise<void> {
    this.#refuseTaken(facts);
    const { source, base } = await this.#open(facts, parent);
    let landed: Landed | null = null;
    try {
      const sizeBytes = BigInt(facts.sizeBytes);
      landed = await this.#landing.prepare({
        volume: this.#of.volume,
        description: this.#of.pull.description,
        snapshot: facts.id,
        sizeBytes,
        base,
        anew,
      });
      await this.#transfer(facts, { source, base, landed });
      source.end();
      const digest = await this.#verify(facts, { base, landed });
      await this.#list(facts, landed);
      this.#of.counts.changedBytes += BigInt(digest.bytes);
      this.#of.counts.snapshots++;
    } finally {
      source.end();
      landed?.end();
    }
  }

  /** Before anything is sent for it. */
  #refuseTaken({ id, name }: SnapshotFacts): void {
    const { catalog } = this.#parts;
    const other = catalog.snapshots.get(id);
    const container = this.#host.containerOf(this.#of.volume);
    if (other) {
      const where = catalog.containers.get(other.container)?.name;
      throw new CellblockError(
        'copy-invalid',
        `The snapshot ${id} is here already, as one of the volume ${JSON.stringify(where)}.`,
        { hint: 'One snapshot belongs to one volume: see what became of that one.' },
      );
    }
    if (container && catalog.snapshotNamed(container, name)) {
      throw new CellblockError(
        'snapshot-exists',
        `The ${container.kind} ${JSON.stringify(container.name)} has another snapshot ${JSON.stringify(name)} here.`,
        { hint: 'Delete that one, then begin the copy again.' },
      );
    }
  }

  /** By the first of its possible bases that the source knows. */
  async #open(
    facts: SnapshotFacts,
    parent: Snapshot | null,
  ): Promise<{ source: SourceExport; base: Snapshot | null }> {
    const { from, description } = this.#of.pull;
    const { signal } = this.#of;
    const { connectMs, silenceMs, connections, credentials, connect } = this.#options;
    const options = { credentials: credentials(), connectMs, silenceMs, connections, connect };
    for (const base of this.#bases(facts, parent)) {
      const wanted = {
        exportName: `${description.name}@${facts.name}`,
        sizeBytes: BigInt(facts.sizeBytes),
        since: base && this.#sinceName(base),
      };
      const source = await SourceExport.open(from, wanted, { options, signal });
      if (source) return { source, base };
    }
    throw new Error('the last of the bases is none');
  }

  /**
   * The cheapest first. Where its map continues says the least; the parent in the lineage differs from that only behind a sync, and is
   * better than nothing then. But what was begun goes on.
   */
  #bases({ id, base }: SnapshotFacts, parent: Snapshot | null): (Snapshot | null)[] {
    const { catalog } = this.#parts;
    const begun = catalog.copies.get(this.#of.volume);
    const since = begun?.snapshot === id && begun.since !== null ? this.#known(begun.since) : null;
    const data = base && this.#known(base.snapshot);
    const found = [since, data, parent].filter((one) => one !== null);
    return [...new Set(found), null];
  }

  #known(id: string): Snapshot | null {
    const snapshot = this.#host.snapshot(id);
    // Nobody continues one that is being deleted.
    return snapshot && this.#parts.catalog.snapshots.get(id) === snapshot ? snapshot : null;
  }

  #sinceName({ id, name, container }: Snapshot): string {
    const described = this.#of.pull.description.snapshots.find((facts) => facts.id === id);
    if (described) return described.name;
    return container === this.#host.containerOf(this.#of.volume)?.id ? name : sinceById(id);
  }

  async #transfer(
    facts: SnapshotFacts,
    { source, base, landed }: { source: SourceExport; base: Snapshot | null; landed: Landed },
  ): Promise<void> {
    const sizeBytes = BigInt(facts.sizeBytes);
    const { progress } = this.#of;
    const toSend = await bytesToSend(source, sizeBytes);
    if (landed.isFresh) await this.#requireRoom(toSend);
    progress.expect(toSend);
    let received = 0n;
    await transfer({
      source,
      sizeBytes,
      isIncremental: base !== null,
      have: this.#landing.copied(landed, base),
      target: { client: this.#parts.client, handle: landed.device.handle },
      rate: this.#of.rate,
      connections: this.#options.connections,
      signal: this.#of.signal,
      onReceived: (bytes) => {
        received += BigInt(bytes);
        this.#of.counts.receivedBytes += BigInt(bytes);
        progress.came(bytes);
      },
    });
    progress.all();
    this.#log.info(
      {
        volume: this.#of.volume,
        snapshot: facts.name,
        since: base?.name ?? null,
        receivedBytes: Number(received),
        changedBytes: Number(toSend),
      },
      'a snapshot was copied',
    );
  }

  /** Known before anything is sent, and told as the store tells it. */
  async #requireRoom(bytes: bigint): Promise<void> {
    const room = await this.#parts.space.look();
    if (room === null || room.freeBytes - room.reserveBytes >= bytes) return;
    throw new CellblockError(
      'no-space',
      `The copy needs ${bytes} bytes, and the file system of the store has ${room.freeBytes} left, of which ${room.reserveBytes} are its reserve.`,
      {
        hint: 'Make room there, or delete volumes or snapshots; then begin the copy again, which goes on where it is.',
        facts: { freeBytes: room.freeBytes.toString(), reserveBytes: room.reserveBytes.toString() },
      },
    );
  }

  /** What is stored, as it is read, against what the source has. Nobody else writes into that version. */
  async #verify(
    facts: SnapshotFacts,
    { base, landed }: { base: Snapshot | null; landed: Landed },
  ): Promise<Digest> {
    const { host } = this.#of.pull.from;
    const [there, here] = await Promise.all([
      this.#askDigest({ host, snapshot: facts.id, since: base?.id ?? null }),
      this.#digestHere({ base, landed }),
    ]);
    if (sameDigest(there, here)) return here;
    this.#of.counts.mismatches++;
    throw new CellblockError(
      'copy-mismatch',
      `What was copied of the snapshot ${JSON.stringify(facts.name)} is not what ${host} has: ${here.bytes} bytes with the digest ${here.sha256}, there ${there.bytes} with ${there.sha256}.`,
      { hint: 'Check both stores (`cellblock store check`) and their disks before the copy is begun again.' },
    );
  }

  async #digestHere({ base, landed }: { base: Snapshot | null; landed: Landed }): Promise<Digest> {
    const { container, device, version } = landed;
    await this.#landing.settle(container, device);
    return digestOf(
      { ...this.#parts, windowBytes: this.#parts.meta.windowBytes },
      { ...version, handle: device.handle },
      { since: base && sideOf(base), signal: this.#of.signal },
    );
  }

  /** Whoever cannot answer now is asked again, as the source is. */
  async #askDigest(what: { host: string; snapshot: string; since: string | null }): Promise<Digest> {
    const { signal } = this.#of;
    let aborted: () => void = () => undefined;
    const gone = new Promise<never>((_, reject) => {
      aborted = () => reject(stopped());
      signal.addEventListener('abort', aborted);
    });
    try {
      return await Promise.race([this.#host.digestOf(this.#of.volume, what), gone]);
    } catch (cause) {
      if (signal.aborted) throw stopped();
      throw new CellblockError(
        'copy-source-unreachable',
        `The digest of what ${what.host} has could not be had: ${asCellblockError(cause).message}`,
        { hint: 'Check that the host and a coordinator are reached.', cause },
      );
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  /** From here on it is here: the cut is durable, and the record of the lineage in the same group as the snapshot. */
  async #list(facts: SnapshotFacts, { container }: Landed): Promise<void> {
    if (this.#of.signal.aborted) throw stopped();
    const { description } = this.#of.pull;
    const attributes = attributesOf(description);
    await this.#parts.snapshots.create(
      [{ volume: container.name, snapshot: facts.name, id: facts.id, created: facts.created }],
      {
        expires: facts.expires,
        alongside: (change) => {
          container.attributes = attributes;
          container.allow = checkAllowed(description.allow);
          change.container(container).removeCopy(this.#of.volume);
          this.#host.arrived(this.#of.volume, facts, change);
        },
      },
    );
    await turn();
  }
}
