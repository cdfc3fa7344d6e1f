// Gives back what deleted versions hold, in the background, without moving data: freed when nobody reads them, merged into the one
// that still does, left alone while more do. DESIGN "Deleting a snapshot"; HAZARDS 3, 4, 5, 7, J7, J12.
//
// Invariants: the delete was durable before anything here begins, so it never has to be undone; a window moves in one batch (the
// dependent's new record, the removal, the pending punches), so that every state between two batches reads right; a version
// leaves its line only when it has no records left. The records of an open current map are written by the data plane alone.

import { CellblockError } from '../base/errors.js';
import type { Catalog, Change } from '../catalog/catalog.js';
import type { Level } from '../catalog/level.js';
import { dependentsOf, hasBelow, previousLive } from '../model/chain.js';
import { addCutOffs, inheritCutOffs, newestCutOff, renumberCutOffs } from '../model/cut-offs.js';
import type { Base, Line } from '../model/entities.js';
import { lineEnd, parseWindowKey, windowBound, windowKey } from '../model/keys.js';
import { freeRecord, mergeRecords } from '../model/merge.js';
import type { BlockRange } from '../model/punch.js';
import { fileOfSlot } from '../model/slot.js';
import type { WindowRecord } from '../model/window-record.js';
import { decodeWindowRecord, encodeWindowRecord } from '../model/window-record.js';
import type { Device, Devices } from './devices.js';
import type { Files } from './files.js';
import type { PlaneClient } from './plane-client.js';
import type { Punches } from './punches.js';
import type { Rounds } from './rounds.js';
import { nameFiles } from './rounds.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';
import { writtenChunks, writtenPage } from './written-windows.js';

const RECORDS_AT_ONCE = 500;
const ADOPTED_AT_ONCE = 1024;
/** Ranges of pending punches in one group: 16 bytes each. */
const FREED_AT_ONCE = 65_536;
const RETRY_MS = 20_000;
/** Freed and merged faster than punched: waits for the disk from so many on, as each is kept in memory. */
const PUNCHES_WAITING = 256;

/** How far the work on one deleted version is. */
interface Progress {
  line: number;
  version: number;
  /** That version, and those below it that go in the same pass: nobody reads them but one another. */
  versions: ReadonlySet<number>;
  at: Place;
  records: number;
}

/** What is still to be looked at. */
interface Place {
  /** Versions one after the other, by the index of written windows; null: all in one scan of the line, of which they are the most. */
  versions: readonly number[] | null;
  /** First window, of the first version. */
  window: bigint;
}

interface Page {
  records: { window: bigint; version: number; record: WindowRecord; bytes: Buffer }[];
  /** Where the next page begins; null: this was the last. */
  next: Place | null;
}

export class Reclaim {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #rounds: Rounds;
  readonly #client: PlaneClient;
  readonly #punches: Punches;
  readonly #files: Files;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;
  readonly #lines = new Set<number>();
  readonly #blocked = new Set<string>();
  #running: Promise<void> | null = null;
  #again = false;
  #failures = 0;
  #stopped = false;
  #retry: NodeJS.Timeout | null = null;
  readonly #watchers = new Set<(line: number, records: number) => void>();

  constructor(
    collaborators: {
      catalog: Catalog;
      devices: Devices;
      rounds: Rounds;
      client: PlaneClient;
      punches: Punches;
      files: Files;
      log: Logger;
    },
    options: { blocksPerWindow: number },
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#rounds = collaborators.rounds;
    this.#client = collaborators.client;
    this.#punches = collaborators.punches;
    this.#files = collaborators.files;
    this.#log = collaborators.log;
    this.#blocksPerWindow = options.blocksPerWindow;
  }

  /** Versions that are deleted and still there. */
  get pending(): number {
    let count = 0;
    for (const line of this.#catalog.lines.values()) {
      for (const { state } of line.versions) if (state === 'deleted') count++;
    }
    return count;
  }

  /** At start: every line with deleted versions. */
  noteAll(): void {
    for (const line of this.#catalog.lines.values()) this.note(line.id);
  }

  /** A version of the line was deleted, or lost a reader. */
  note(line: number): void {
    this.#lines.add(line);
  }

  /** Calls back with every lot of records that was dealt with, until the answer is called. */
  watch(onProgress: (line: number, records: number) => void): () => void {
    this.#watchers.add(onProgress);
    return () => void this.#watchers.delete(onProgress);
  }

  /** Works until nothing is left that can be done now. */
  kick(): Promise<void> {
    this.#again = true;
    if (this.#stopped) return this.#running ?? Promise.resolve();
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      // Asked for between the end of the loop and here.
      if (this.#again && !this.#stopped) void this.kick();
    });
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#retry) clearTimeout(this.#retry);
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      for (let work = this.#pick(); work && !this.#stopped; work = this.#pick()) {
        try {
          await this.#work(work);
          this.#failures = 0;
        } catch (error) {
          this.#block(work, error);
        }
      }
    }
    this.#files.releaseLater();
  }

  /** A version that cannot be dealt with now is left alone for a while. */
  #block(work: Progress, error: unknown): void {
    if (this.#stopped) return;
    this.#failures++;
    const facts = { ...trouble(error, this.#failures), line: work.line, version: work.version };
    this.#log.warn(facts, 'a deleted snapshot could not be freed; it is tried again later');
    this.#blocked.add(placeOf(work));
    if (this.#retry) return;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#blocked.clear();
      this.noteAll();
      void this.kick();
    }, RETRY_MS);
    this.#retry.unref();
  }

  /** The newest deleted version with at most one reader: newest first, so that a whole line is freed and never merged down. */
  #pick(): Progress | null {
    for (const id of [...this.#lines].sort((a, b) => b - a)) {
      const line = this.#catalog.lines.get(id);
      for (const { version, state } of [...(line?.versions ?? [])].reverse()) {
        if (state !== 'deleted' || this.#blocked.has(placeOf({ line: id, version }))) continue;
        const readers = this.#readers(line!, version);
        if (readers === 'many') continue;
        const versions = readers === null ? this.#unreadFrom(line!, version) : new Set([version]);
        return { line: id, version, versions, at: beginning(line!, versions), records: 0 };
      }
      this.#lines.delete(id);
    }
    return null;
  }

  #readers(line: Line, version: number): Base | null | 'many' {
    const dependents = dependentsOf(line, version, this.#catalog.childrenOf(line.id, version));
    const pinned = this.#devices.isPinned(line.id, version);
    if (dependents.length + (pinned ? 1 : 0) > 1 || (pinned && dependents.length === 0)) return 'many';
    return dependents[0] ?? null;
  }

  /** A whole line that is deleted goes in one pass, not in one for each of its versions. */
  #unreadFrom(line: Line, version: number): Set<number> {
    const continued = this.#catalog.basesIn(line.id);
    const unread = new Set<number>();
    for (const live of [...line.versions].reverse()) {
      if (live.version > version) continue;
      const { version: next, state } = live;
      if (state !== 'deleted' || continued.has(next) || this.#devices.isPinned(line.id, next)) break;
      unread.add(next);
    }
    return unread;
  }

  async #work(progress: Progress): Promise<void> {
    await this.#catalog.barrier();
    await this.#devices.settle(progress.line, progress.version);
    for (const version of progress.versions) await this.#devices.closeUnusedView(progress.line, version);
    for (let more = true; more && !this.#stopped; ) more = await this.#step(progress);
  }

  /** One chunk. False: the version is gone, or it has to wait after all. */
  async #step(progress: Progress): Promise<boolean> {
    if (this.#catalog.punches.size > PUNCHES_WAITING) await this.#punches.settled();
    const line = this.#catalog.lines.get(progress.line);
    if (!line?.versions.some(({ version, state }) => version === progress.version && state === 'deleted'))
      return false;
    const reader = this.#readers(line, progress.version);
    if (reader === 'many') return false;
    if (reader === null) return this.#free(line, progress);
    const into = this.#catalog.lines.get(reader.line)!;
    const isCurrent = into.versions.some(
      ({ version, state }) => version === reader.version && state === 'current',
    );
    if (!isCurrent) {
      await this.#devices.settle(reader.line, reader.version);
      return this.#merge(line, into, reader.version, progress);
    }
    return this.#devices
      .mutexOf(into.container)
      .run(() => this.#mergeIntoCurrent(line, into, reader.version, progress));
  }

  /** Nobody reads it: what it names is punched. */
  async #free(line: Line, progress: Progress): Promise<boolean> {
    const page = await this.#page(progress, RECORDS_AT_ONCE);
    const change = this.#catalog.change();
    const unlinked = this.#files.goingWith(line.container);
    const freed: BlockRange[] = [];
    let done = 0;
    for (const { window, version, record } of page.records) {
      if (isFull(change, freed)) break;
      change.removeWindow(line.id, window, version);
      freed.push(...freeRecord(record).filter(({ slot }) => !unlinked.has(fileOfSlot(slot))));
      done++;
    }
    change.punch(freed);
    if (await this.#finishPage(change, progress, cutPage(page, done, progress))) return true;
    await this.#leave(line, progress.versions, null);
    return false;
  }

  async #mergeIntoCurrent(line: Line, into: Line, version: number, progress: Progress): Promise<boolean> {
    // Between asking and having the mutex a snapshot may have been taken, a clone made, the device opened.
    const reader = this.#readers(line, progress.version);
    const same =
      reader !== null && reader !== 'many' && reader.line === into.id && reader.version === version;
    const isCurrent = into.versions.some((live) => live.version === version && live.state === 'current');
    if (!same || !isCurrent) return true;
    const container = this.#catalog.containers.get(into.container)!;
    const device = this.#devices.current(container.id);
    if (!device) return this.#merge(line, into, version, progress);
    if (container.failure || device.failed) {
      throw new CellblockError('volume-failed', `The volume ${JSON.stringify(container.name)} has failed.`, {
        hint: `Run \`cellblock volume repair ${container.name}\`.`,
      });
    }
    return this.#adopt(line, into, device, progress);
  }

  /** The dependent's records are ours to write: it is frozen, or not open (and its mutex is held). */
  async #merge(line: Line, into: Line, version: number, progress: Progress): Promise<boolean> {
    const page = await this.#page(progress, RECORDS_AT_ONCE);
    const keys = page.records.map(({ window }) => windowKey(into.id, window, version));
    const stored = keys.length > 0 ? await this.#catalog.queue.read((level) => level.getMany(keys)) : [];
    const below = hasBelow(line, progress.version);
    const above = line.id === into.id ? progress.version : 0;
    const change = this.#catalog.change();
    const freed: BlockRange[] = [];
    let done = 0;
    for (const { window, record } of page.records) {
      if (isFull(change, freed)) break;
      const mine = stored[done++];
      const merged = mergeRecords({
        deleted: record,
        dependent: mine ? this.#decode(mine) : null,
        cutOff: newestCutOff(into.cutOffs, window, version, above) !== 0,
        below,
      });
      if (merged.record) {
        change.window(into, window, version, encodeWindowRecord(merged.record));
        nameFiles(change, merged.record, into.container);
      }
      change.removeWindow(line.id, window, progress.version);
      freed.push(...merged.freed);
    }
    change.punch(freed);
    if (await this.#finishPage(change, progress, cutPage(page, done, progress))) return true;
    await this.#leave(line, progress.versions, { line: into, version });
    return false;
  }

  /** The dependent is an open current map: the data plane takes over what it is silent about, and a round brings it here. */
  async #adopt(line: Line, into: Line, device: Device, progress: Progress): Promise<boolean> {
    if (progress.records === 0) await this.#rounds.run(device);
    const page = await this.#page(progress, ADOPTED_AT_ONCE);
    if (page.records.length > 0) {
      // Under a cut-off of the dependent nothing is taken over. The data plane may still know it under the layer of a version that
      // was merged since, so this is decided here.
      const above = line.id === into.id ? progress.version : 0;
      const records = page.records
        .filter(({ window }) => newestCutOff(into.cutOffs, window, device.version, above) === 0)
        .map(({ window, bytes }) => ({ window, record: bytes }));
      if (records.length > 0)
        await this.#client.adopt(device.handle, hasBelow(line, progress.version), records);
      const windows = new Map(page.records.map(({ window, record }) => [window, record]));
      await this.#rounds.run(device, { line: line.id, version: progress.version, windows });
    }
    if (this.#advance(progress, page)) return true;
    await this.#leave(line, progress.versions, { line: into, version: device.version });
    return false;
  }

  /** False: that was the last. */
  async #finishPage(change: Change, progress: Progress, page: Page): Promise<boolean> {
    if (!change.isEmpty) await change.commit();
    if (page.records.length > 0) this.#punches.kick();
    return this.#advance(progress, page);
  }

  #advance(progress: Progress, page: Page): boolean {
    progress.records += page.records.length;
    if (page.next) progress.at = page.next;
    if (page.records.length > 0)
      for (const watcher of this.#watchers) watcher(progress.line, page.records.length);
    return page.next !== null;
  }

  /** The versions have no records any more: they leave their line; a single one may have a reader, which continues where it did. */
  async #leave(
    line: Line,
    versions: ReadonlySet<number>,
    reader: { line: Line; version: number } | null,
  ): Promise<void> {
    const change = await this.#forgetWritten(line.id, versions);
    const bases = new Set<number>(line.base ? [line.base.line] : []);
    const [version] = versions;
    if (reader && reader.line !== line) this.#rebase(line, version!, reader, change);
    line.versions = line.versions.filter((live) => !versions.has(live.version));
    if (reader && reader.line === line)
      line.cutOffs = renumberCutOffs(line.cutOffs, version!, reader.version);
    else line.cutOffs = line.cutOffs.filter((cutOff) => !versions.has(cutOff.version));
    if (line.versions.length > 0) change.line(line);
    else change.removeLine(line);
    const gone = line.versions.length === 0 ? this.#files.containerGone(line.container, change) : null;
    await change.commit();
    for (const left of versions) this.#devices.removeLayer(line.id, left);
    if (gone) await this.#files.unlink(gone);
    for (const base of bases) this.note(base);
    this.note(line.id);
  }

  /** Removes what the index has of them; the last group is not handed in yet. */
  async #forgetWritten(line: number, versions: ReadonlySet<number>): Promise<Change> {
    let change = this.#catalog.change();
    for (const version of versions) {
      const chunks = await this.#catalog.queue.read((level) => writtenChunks(level, { line, version }));
      for (const chunk of chunks) {
        if (change.isHalfFull) {
          await change.commit();
          change = this.#catalog.change();
        }
        change.removeWritten(line, version, chunk);
      }
    }
    return change;
  }

  /** The reader is in another line: its base moves one live version down, the cut-offs in between come along. */
  #rebase(line: Line, version: number, reader: { line: Line; version: number }, change: Change): void {
    const below = previousLive(line, version);
    reader.line.base = below === null ? line.base : { line: line.id, version: below };
    if (reader.line.base) {
      const inherited = inheritCutOffs(line.cutOffs, { above: below ?? 0, upTo: version }, reader.version);
      reader.line.cutOffs = addCutOffs(reader.line.cutOffs, inherited);
    }
    change.line(reader.line);
  }

  /** The next records of the version that is worked on; there may be none before the end. */
  #page(progress: Progress, limit: number): Promise<Page> {
    const { versions, window } = progress.at;
    return this.#catalog.queue.read((level) =>
      versions
        ? this.#writtenPage(level, progress.line, { versions, window }, limit)
        : this.#scannedPage(level, progress, limit),
    );
  }

  async #writtenPage(
    level: Level,
    line: number,
    at: { versions: readonly number[]; window: bigint },
    limit: number,
  ): Promise<Page> {
    const [version, ...others] = at.versions as [number, ...number[]];
    const range = { first: at.window, end: null };
    const { records, next } = await writtenPage({ level }, { line, version }, range, limit);
    const page: Page = {
      records: records.map(({ window, stored }) => {
        return { window, version, record: this.#decode(stored), bytes: stored };
      }),
      next: null,
    };
    if (next !== null) page.next = { versions: at.versions, window: next };
    else if (others.length > 0) page.next = { versions: others, window: 0n };
    return page;
  }

  async #scannedPage(level: Level, progress: Progress, limit: number): Promise<Page> {
    const page: Page = { records: [], next: null };
    const range = { gte: windowBound(progress.line, progress.at.window), lt: lineEnd(progress.line) };
    for await (const entries of level.scan(range)) {
      for (const [bytes, value] of entries) {
        const key = parseWindowKey(bytes);
        if (!key || !progress.versions.has(key.version)) continue;
        // In the middle of a window too: what was read of it is gone when the next page is read.
        if (page.records.length === limit) return { ...page, next: { versions: null, window: key.window } };
        page.records.push({ ...key, record: this.#decode(value), bytes: value });
      }
    }
    return page;
  }

  #decode(stored: Uint8Array): WindowRecord {
    return decodeWindowRecord(stored, this.#blocksPerWindow);
  }
}

/** Most of a line is scanned, one version of many is looked up. */
function beginning(line: Line, versions: ReadonlySet<number>): Place {
  const isMost = versions.size * 2 > line.versions.length && versions.size > 1;
  return { versions: isMost ? null : [...versions], window: 0n };
}

/** A batch has to hold the change, the pending punches of what is freed, and one more record with what it frees. */
function isFull(change: Change, freed: readonly BlockRange[]): boolean {
  return change.isHalfFull || freed.length >= FREED_AT_ONCE;
}

/** What was dealt with of a page: the rest is read again. */
function cutPage(page: Page, done: number, { at }: Progress): Page {
  const rest = page.records[done];
  if (!rest) return page;
  return { records: page.records.slice(0, done), next: { versions: at.versions, window: rest.window } };
}

function placeOf({ line, version }: { line: number; version: number }): string {
  return `${line}/${version}`;
}
