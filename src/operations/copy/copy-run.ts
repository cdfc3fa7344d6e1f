// The copy of one volume: snapshot after snapshot, oldest first, until everything it was told to bring is here.
//
// Invariants: a snapshot is listed only when what is stored of it has the digest that the source has of it; nothing is told as complete before its
// snapshots are durable. Whatever ends in the middle begins again with the first snapshot that is not here, and what was copied of that
// one is not copied again.

import { asCellblockError, CellblockError } from '../../base/errors.js';
import type { Head } from '../../model/cell/route.js';
import { isHiddenName } from '../../model/names.js';
import type { Pull, SnapshotFacts } from '../../protocol/exchange.js';
import type { Logger } from '../types.js';
import { CopyProgress } from './copy-progress.js';
import { pause, RateLimit, stopped } from './rate-limit.js';
import {
  type CopyCounts,
  type CopyOfVolume,
  type CopyOptions,
  type CopyParts,
  type Next,
  SnapshotCopy,
} from './snapshot-copy.js';
import { sourceTrouble } from './source.js';
import type { CopyHost } from './treaty.js';

export class CopyRun implements CopyOfVolume {
  readonly volume: string;
  readonly #parts: CopyParts;
  readonly #host: CopyHost;
  readonly #log: Logger;
  readonly #options: CopyOptions;
  readonly counts: CopyCounts;
  readonly progress: CopyProgress;
  readonly rate: RateLimit;
  readonly #one: SnapshotCopy;
  readonly #abort = new AbortController();
  #pull: Pull;
  /** Told more while it worked. */
  #again = false;
  #isOver = false;

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
    this.counts = collaborators.counts;
    this.#options = options;
    this.progress = new CopyProgress(options.clock, (done, total) =>
      this.#host.progress(volume, { move: this.#pull.move, done, total }),
    );
    this.#one = new SnapshotCopy(this, collaborators, options);
    this.rate = new RateLimit(pull.bytesPerSecond, {
      clock: options.clock,
      largestPiece: options.pieceBytes,
      within: collaborators.rate,
    });
  }

  get pull(): Pull {
    return this.#pull;
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
    this.rate.set(pull.bytesPerSecond);
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
      this.progress.now();
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
    this.progress.begin();
    for (let anew = false; ; ) {
      const cameMs = this.progress.lastCameMs;
      try {
        return await this.#one.bring(next, anew);
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
        this.counts.breaks++;
        anew = false;
        breaks = this.progress.lastCameMs > cameMs ? 0 : breaks + 1;
        if (clock.now().uptimeMs - this.progress.lastCameMs >= giveUpMs) throw trouble;
        this.#log.warn(reason, 'the source of a copy could not be read; it is tried again');
        await pause(Math.min(firstPauseMs * 2 ** breaks, longestPauseMs), { clock, signal });
      }
    }
  }
}
