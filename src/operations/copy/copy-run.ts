// The copy of one volume: snapshot after snapshot, oldest first, until everything it was told to bring is here.
//
// Invariants: a snapshot is listed only when what is stored of it has the digest that the source has of it; nothing is told as complete before its
// snapshots are durable. Whatever ends in the middle begins again with the first snapshot that is not here, and what was copied of that
// one is not copied again.

import { setImmediate as turn } from 'node:timers/promises';
import { asCellblockError, CellblockError } from '../../base/errors.js';
import { checkAllowed } from '../../model/access.js';
import type { Head } from '../../model/cell/route.js';
import type { Snapshot } from '../../model/entities.js';
import { isHiddenName } from '../../model/names.js';
import type { Digest, Pull, SnapshotFacts } from '../../protocol/exchange.js';
import type { Clock } from '../../protocol/timing.js';
import { sinceById } from '../changed-contexts.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import { digestOf, sameDigest, sideOf } from './digest.js';
import { attributesOf, type Landed, Landing, type LandingParts } from './landing.js';
import { pause, RateLimit, stopped } from './rate-limit.js';
import { type ConnectSource, type CopyCredentials, SourceExport, sourceTrouble } from './source.js';
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
interface Next {
  facts: SnapshotFacts;
  /** The one before it in the lineage, if that is here. */
  parent: Snapshot | null;
}

const PROGRESS_MS = 500;

export class CopyRun {
  readonly volume: string;
  readonly #parts: CopyParts;
  readonly #host: CopyHost;
  readonly #log: Logger;
  readonly #options: CopyOptions;
  readonly #counts: CopyCounts;
  readonly #landing: Landing;
  readonly #abort = new AbortController();
  readonly #rate: RateLimit;
  #pull: Pull;
  /** Told more while it worked. */
  #again = false;
  #isOver = false;
  #done = 0n;
  #total = 0n;
  #lastCameMs = 0;
  #lastToldMs = Number.NEGATIVE_INFINITY;

  constructor(
    { volume, pull }: { volume: string; pull: Pull },
    collaborators: { parts: CopyParts; host: CopyHost; log: Logger; counts: CopyCounts; rate: RateLimit },
    options: CopyOptions,
  ) {
    this.volume = volume;
    this.#pull = pull;
    this.#parts = collaborators.parts;
    this.#host = collaborators.host;
    this.#log = collaborators.log;
    this.#counts = collaborators.counts;
    this.#landing = new Landing(collaborators.parts, collaborators.host);
    this.#options = options;
    this.#rate = new RateLimit(pull.bytesPerSecond, {
      clock: options.clock,
      largestPiece: options.pieceBytes,
      within: collaborators.rate,
    });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Goes on with what it is told now; false: it has ended, or that is of another source, or another move. */
  update(pull: Pull): boolean {
    if (this.#isOver || this.#abort.signal.aborted) return false;
    if (pull.move !== this.#pull.move || JSON.stringify(pull.from) !== JSON.stringify(this.#pull.from))
      return false;
    this.#pull = pull;
    this.#again = true;
    this.#rate.set(pull.bytesPerSecond);
    return true;
  }

  abort(): void {
    this.#abort.abort();
  }

  /** Never throws: failures are told. */
  async run(): Promise<void> {
    try {
      await this.#reconcile();
      do {
        this.#again = false;
        for (let next = this.#next(); next; next = this.#next()) await this.#bring(next);
        await this.#complete();
      } while (this.#again && !this.#abort.signal.aborted);
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const { code, message } = asCellblockError(error);
      this.#log.error({ volume: this.volume, code, reason: message }, 'a copy has failed');
      this.#host.failed(this.volume, { move: this.#pull.move, code, message });
    } finally {
      this.#isOver = true;
    }
  }

  /** A stop may have come between the cut, which is durable in the journal, and the group that was to list it with the lineage. */
  async #reconcile(): Promise<void> {
    const { catalog } = this.#parts;
    const begun = catalog.copies.get(this.volume);
    const snapshot = begun && catalog.snapshots.get(begun.snapshot);
    const facts = this.#pull.description.snapshots.find(({ id }) => id === begun?.snapshot);
    if (!snapshot || !facts || !this.#isHere(facts.id)) return;
    const change = catalog.change();
    snapshot.created = facts.created;
    snapshot.expires = facts.expires;
    change.snapshot(snapshot).removeCopy(this.volume);
    this.#host.arrived(this.volume, facts, change);
    await change.commit();
  }

  /** Up to `through`, when that is among them. */
  #wanted(): SnapshotFacts[] {
    const { description, through } = this.#pull;
    const last = through ? description.snapshots.findIndex(({ id }) => id === through.id) : -1;
    return last < 0 ? description.snapshots : description.snapshots.slice(0, last + 1);
  }

  /** Those before the newest that is here were here once, and have been deleted. */
  #next(): Next | null {
    if (this.#abort.signal.aborted) throw stopped();
    const wanted = this.#wanted();
    const newest = wanted.findLastIndex(({ id }) => this.#isHere(id));
    const facts = wanted[newest + 1];
    if (!facts) return null;
    const container = this.#host.containerOf(this.volume);
    const known = newest < 0 ? undefined : this.#parts.catalog.snapshots.get(wanted[newest]!.id);
    // Behind a page of the description: the newest there is.
    const parent = known ?? (container ? this.#parts.catalog.snapshotsOf(container).at(-1) : undefined);
    return { facts, parent: parent ?? null };
  }

  #isHere(id: string): boolean {
    const container = this.#host.containerOf(this.volume);
    return container !== null && this.#parts.catalog.snapshots.get(id)?.container === container.id;
  }

  async #complete(): Promise<void> {
    const { move, through, description } = this.#pull;
    const last = this.#wanted().at(-1);
    const reached: Head | null = through ?? (last ? { id: last.id, seq: last.seq } : null);
    if (reached === null || (through === null && description.more)) return;
    if (this.#isHere(reached.id)) {
      await this.#host.complete(this.volume, {
        move,
        through: reached,
        lineageHead: this.#visible(reached),
      });
      this.#tellProgress('now');
      return;
    }
    if (description.more) return;
    throw new CellblockError(
      'copy-invalid',
      `The copy is to be complete through ${reached.id}, which was not described.`,
      { hint: 'Have the volume described anew.' },
    );
  }

  /** The last visible snapshot that the copy is complete through: hidden ones have its seq. */
  #visible({ id, seq }: Head): Head | null {
    const visible = this.#wanted().findLast(({ hidden, seq: own }) => !hidden && own <= seq);
    if (visible) return { id: visible.id, seq: visible.seq };
    if (seq === 0) return null;
    // It came with an earlier page.
    const hidden = new Set(this.#wanted().map((facts) => facts.id));
    const container = this.#host.containerOf(this.volume)!;
    const older = this.#parts.catalog
      .snapshotsOf(container)
      .findLast(({ id: own, name }) => own !== id && !hidden.has(own) && !isHiddenName(name));
    return older ? { id: older.id, seq } : null;
  }

  /** Tries until it is here: again after a break, and once more from the beginning when the digests differ. */
  async #bring(next: Next): Promise<void> {
    const { clock, firstPauseMs, longestPauseMs, giveUpMs } = this.#options;
    const { signal } = this.#abort;
    let differed = false;
    let breaks = 0;
    this.#lastCameMs = clock.now().uptimeMs;
    for (let anew = false; ; ) {
      const cameMs = this.#lastCameMs;
      try {
        return await this.#try(next, anew);
      } catch (error) {
        if (signal.aborted) throw stopped();
        const trouble = sourceTrouble(error, this.#pull.from.host);
        const reason = { volume: this.volume, snapshot: next.facts.id, reason: trouble.message };
        if (trouble.code === 'copy-mismatch' && !differed) {
          differed = anew = true;
          this.#log.warn(reason, 'a copied snapshot differs from its source; it is copied again');
          continue;
        }
        if (trouble.code !== 'copy-source-unreachable') throw trouble;
        this.#counts.breaks++;
        anew = false;
        breaks = this.#lastCameMs > cameMs ? 0 : breaks + 1;
        if (clock.now().uptimeMs - this.#lastCameMs >= giveUpMs) throw trouble;
        this.#log.warn(reason, 'the source of a copy could not be read; it is tried again');
        await pause(Math.min(firstPauseMs * 2 ** breaks, longestPauseMs), { clock, signal });
      }
    }
  }

  async #try({ facts, parent }: Next, anew: boolean): Promise<void> {
    this.#refuseTaken(facts);
    const { source, base } = await this.#open(facts, parent);
    let landed: Landed | null = null;
    try {
      const sizeBytes = BigInt(facts.sizeBytes);
      landed = await this.#landing.prepare({
        volume: this.volume,
        description: this.#pull.description,
        snapshot: facts.id,
        sizeBytes,
        base,
        anew,
      });
      await this.#transfer(facts, { source, base, landed });
      source.end();
      const digest = await this.#verify(facts, { base, landed });
      await this.#list(facts, landed);
      this.#counts.changedBytes += BigInt(digest.bytes);
      this.#counts.snapshots++;
    } finally {
      source.end();
      landed?.end();
    }
  }

  /** Before anything is sent for it. */
  #refuseTaken({ id, name }: SnapshotFacts): void {
    const { catalog } = this.#parts;
    const other = catalog.snapshots.get(id);
    const container = this.#host.containerOf(this.volume);
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
    const { from, description } = this.#pull;
    const { signal } = this.#abort;
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
    const begun = catalog.copies.get(this.volume);
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
    const described = this.#pull.description.snapshots.find((facts) => facts.id === id);
    if (described) return described.name;
    return container === this.#host.containerOf(this.volume)?.id ? name : sinceById(id);
  }

  async #transfer(
    facts: SnapshotFacts,
    { source, base, landed }: { source: SourceExport; base: Snapshot | null; landed: Landed },
  ): Promise<void> {
    const sizeBytes = BigInt(facts.sizeBytes);
    const before = this.#done;
    const toSend = await bytesToSend(source, sizeBytes);
    this.#total = before + toSend;
    if (landed.isFresh) await this.#requireRoom(toSend);
    this.#tellProgress('now');
    let received = 0n;
    await transfer({
      source,
      sizeBytes,
      isIncremental: base !== null,
      have: this.#landing.copied(landed, base),
      target: { client: this.#parts.client, handle: landed.device.handle },
      rate: this.#rate,
      connections: this.#options.connections,
      signal: this.#abort.signal,
      onReceived: (bytes) => {
        this.#lastCameMs = this.#options.clock.now().uptimeMs;
        received += BigInt(bytes);
        this.#counts.receivedBytes += BigInt(bytes);
        this.#done += BigInt(bytes);
        this.#tellProgress('now and then');
      },
    });
    this.#done = this.#total;
    this.#log.info(
      {
        volume: this.volume,
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
    const { host } = this.#pull.from;
    const [there, here] = await Promise.all([
      this.#askDigest({ host, snapshot: facts.id, since: base?.id ?? null }),
      this.#digestHere({ base, landed }),
    ]);
    if (sameDigest(there, here)) return here;
    this.#counts.mismatches++;
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
      { since: base && sideOf(base), signal: this.#abort.signal },
    );
  }

  /** Whoever cannot answer now is asked again, as the source is. */
  async #askDigest(what: { host: string; snapshot: string; since: string | null }): Promise<Digest> {
    const { signal } = this.#abort;
    const gone = new Promise<never>((_, reject) =>
      signal.addEventListener('abort', () => reject(stopped()), { once: true }),
    );
    try {
      return await Promise.race([this.#host.digestOf(this.volume, what), gone]);
    } catch (cause) {
      if (signal.aborted) throw stopped();
      throw new CellblockError(
        'copy-source-unreachable',
        `The digest of what ${what.host} has could not be had: ${asCellblockError(cause).message}`,
        { hint: 'Check that the host and a coordinator are reached.', cause },
      );
    }
  }

  /** From here on it is here: the cut is durable, and the record of the lineage in the same group as the snapshot. */
  async #list(facts: SnapshotFacts, { container }: Landed): Promise<void> {
    if (this.#abort.signal.aborted) throw stopped();
    const { description } = this.#pull;
    const attributes = attributesOf(description);
    await this.#parts.snapshots.create(
      [{ volume: container.name, snapshot: facts.name, id: facts.id, created: facts.created }],
      {
        expires: facts.expires,
        alongside: (change) => {
          container.attributes = attributes;
          container.allow = checkAllowed(description.allow);
          change.container(container).removeCopy(this.volume);
          this.#host.arrived(this.volume, facts, change);
        },
      },
    );
    await turn();
  }

  #tellProgress(when: 'now' | 'now and then'): void {
    const nowMs = this.#options.clock.now().uptimeMs;
    if (when === 'now and then' && nowMs - this.#lastToldMs < PROGRESS_MS) return;
    this.#lastToldMs = nowMs;
    this.#host.progress(this.volume, { move: this.#pull.move, done: this.#done, total: this.#total });
  }
}
