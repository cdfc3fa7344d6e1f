// The leak sweep: gives back places of extents files that nothing names, and files nothing needs. What a crash left behind: blocks
// whose entries did not count, files whose removal was cut short. DESIGN section 5 "Recovery", HAZARDS 7 and J6.
//
// Invariants, in the order in which they are relied on:
// * a file's length is taken before the LevelDB snapshot, and files of volumes that are open at the snapshot are left alone. So every
//   place below the length was handed out before, to a map that had nothing outside of LevelDB: what the snapshot does not name
//   there was lost, is freed, or lies in the own slot of a current version;
// * own slots of current versions are left alone: an export opened meanwhile may write there. All else is handed out from the
//   length of the file on. So nothing that comes after the snapshot can be hit;
// * nothing is punched before every record was seen, and nothing at all when one of them cannot be read;
// * a place may be named by a pending punch: to punch it twice is harmless. A grace period lies between the snapshot and the first
//   punch, for those who looked up a place before.
// Memory is two bitmaps of places per file. Nothing durable is needed: a sweep that did not end is repeated by the next start.

import { readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';

import { systemCode } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Level, LevelSnapshot } from '../catalog/level.js';
import { currentVersion, extentsPath } from '../model/entities.js';
import { ALL_WINDOWS, parseWindowKey } from '../model/keys.js';
import { PlaceSet } from '../model/place-set.js';
import { splitRuns } from '../model/runs.js';
import { fileOfSlot, offsetInFile, placeOfSlot } from '../model/slot.js';
import { BLOCK_BYTES, blocksPerWindow } from '../model/units.js';
import type { WindowRecord } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { Watched } from './cancellation.js';
import { throwIfCancelled } from './cancellation.js';
import type { Logger } from './types.js';

export interface SweepCollaborators {
  catalog: Catalog;
  client: {
    grace(): Promise<void>;
    punch(ranges: { file: number; offset: bigint; bytes: bigint }[]): Promise<void>;
  };
  /** Unlinks a file of a container that is gone, and forgets it. */
  files: { release(number: number): Promise<void> };
  /** The current map of the container is open, or was left open by a failure. */
  isOpen(container: number): boolean;
  log: Logger;
}

export interface SweepOptions extends Watched {
  directory: string;
  windowBytes: number;
  /** Punch even in files that hold no more than what is named. */
  thorough?: boolean;
}

export interface SweepReport {
  records: bigint;
  /** Ranges handed to the disk, and how long they are together; most of it may have been holes already. */
  punchedRanges: number;
  punchedBytes: bigint;
  filesRemoved: number[];
  /** Files of volumes that were open: left to the sweep of another start. */
  filesLeftAlone: number;
}

type Range = { file: number; offset: bigint; bytes: bigint };

/** One file as the sweep sees it. */
interface Swept {
  number: number;
  /** Places that may be looked at. */
  places: number;
  /** What the file system holds for it. */
  heldBytes: number;
  named: PlaceSet;
  /** Own slots of current versions, and places several records name: looked at as a whole only. */
  kept: PlaceSet;
  namedBlocks: number;
}

const RANGES_AT_ONCE = 256;

export function sweep(collaborators: SweepCollaborators, options: SweepOptions): Promise<SweepReport> {
  return new Sweep(collaborators, options).run();
}

class Sweep {
  readonly #parts: SweepCollaborators;
  readonly #options: SweepOptions;
  readonly #blocks: number;
  readonly #report: SweepReport = {
    records: 0n,
    punchedRanges: 0,
    punchedBytes: 0n,
    filesRemoved: [],
    filesLeftAlone: 0,
  };
  #files = new Map<number, Swept>();
  #waiting: Range[] = [];

  constructor(collaborators: SweepCollaborators, options: SweepOptions) {
    this.#parts = collaborators;
    this.#options = options;
    this.#blocks = blocksPerWindow(options.windowBytes);
  }

  async run(): Promise<SweepReport> {
    const { catalog } = this.#parts;
    const lengths = await this.#lengths();
    const onDisk = await readdir(join(this.#options.directory, 'extents'));
    const unneeded = await catalog.queue.readSnapshot(async (level, snapshot) => {
      this.#chooseFiles(lengths);
      const highest = Math.max(0, ...catalog.files.keys());
      await this.#see({ level, snapshot });
      await this.#parts.client.grace();
      await this.#punchGaps({ level, snapshot });
      return {
        orphans: onDisk.filter((name) => /^[1-9]\d*$/.test(name) && Number(name) < highest).map(Number),
      };
    });
    await this.#removeFiles(unneeded.orphans);
    return this.#report;
  }

  async #lengths(): Promise<Map<number, { bytes: number; heldBytes: number }>> {
    const lengths = new Map<number, { bytes: number; heldBytes: number }>();
    for (const number of [...this.#parts.catalog.files.keys()]) {
      try {
        const { size, blocks } = await stat(join(this.#options.directory, extentsPath(number)));
        lengths.set(number, { bytes: size, heldBytes: blocks * 512 });
      } catch (error) {
        // Made at its first write.
        if (systemCode(error) !== 'ENOENT') throw error;
        lengths.set(number, { bytes: 0, heldBytes: 0 });
      }
    }
    return lengths;
  }

  /** In the instant of the snapshot. */
  #chooseFiles(lengths: ReadonlyMap<number, { bytes: number; heldBytes: number }>): void {
    const { catalog, isOpen } = this.#parts;
    this.#files = new Map();
    this.#report.filesLeftAlone = 0;
    this.#report.records = 0n;
    for (const { number, container, state } of catalog.files.values()) {
      const length = lengths.get(number);
      if (state !== 'live' || !length) continue;
      if (isOpen(container)) {
        this.#report.filesLeftAlone++;
        continue;
      }
      // The next place is handed out from here on, rounded up.
      const places = Math.ceil(length.bytes / this.#options.windowBytes);
      const { heldBytes } = length;
      this.#files.set(number, {
        number,
        places,
        heldBytes,
        named: new PlaceSet(),
        kept: new PlaceSet(),
        namedBlocks: 0,
      });
    }
  }

  /** All records, once, before anything is done. */
  async #see(source: { level: Level; snapshot: LevelSnapshot }): Promise<void> {
    const current = new Map(
      [...this.#parts.catalog.lines.values()].map((line) => [line.id, currentVersion(line)]),
    );
    await this.#eachRecord(source, ({ line, version }, record) => {
      this.#report.records++;
      for (const slot of slotsOf(record)) {
        const file = this.#files.get(fileOfSlot(slot));
        if (!file) continue;
        const place = placeOfSlot(slot);
        const writable = slot === record.ownSlot && current.get(line) === version;
        if (writable || !file.named.add(place)) file.kept.add(place);
        file.named.add(place);
      }
      for (const { slot, count } of record.runs) {
        const file = slot === null ? undefined : this.#files.get(fileOfSlot(slot));
        if (file) file.namedBlocks += count;
      }
    });
  }

  async #punchGaps(source: { level: Level; snapshot: LevelSnapshot }): Promise<void> {
    const leaking = new Map([...this.#files].filter(([, file]) => this.#mayLeak(file)));
    if (leaking.size === 0) return;
    for (const file of leaking.values()) {
      for (const { first, end } of file.named.gaps(file.places)) {
        const offset = BigInt(first) * BigInt(this.#options.windowBytes);
        await this.#punch({
          file: file.number,
          offset,
          bytes: BigInt(end - first) * BigInt(this.#options.windowBytes),
        });
      }
    }
    await this.#eachRecord(source, async (_key, record) => {
      for (const slot of slotsOf(record)) {
        const file = leaking.get(fileOfSlot(slot));
        if (!file || placeOfSlot(slot) >= file.places || file.kept.has(placeOfSlot(slot))) continue;
        await this.#punchWithin(slot, record);
      }
    });
    await this.#flush();
  }

  /** Named blocks are written as a whole, so a file that holds no more bytes than they are has no leak. */
  #mayLeak({ heldBytes, namedBlocks }: Swept): boolean {
    return this.#options.thorough === true || heldBytes > namedBlocks * BLOCK_BYTES;
  }

  /** Blocks of a slot that its one record does not have. */
  async #punchWithin(slot: bigint, record: WindowRecord): Promise<void> {
    const mine = record.runs.filter((run) => run.slot === slot);
    for (const { start, count } of splitRuns([{ start: 0, count: this.#blocks, slot }], mine).silent) {
      const offset = offsetInFile(slot, start, this.#options.windowBytes);
      await this.#punch({ file: fileOfSlot(slot), offset, bytes: BigInt(count * BLOCK_BYTES) });
    }
  }

  async #punch(range: Range): Promise<void> {
    this.#waiting.push(range);
    if (this.#waiting.length >= RANGES_AT_ONCE) await this.#flush();
  }

  async #flush(): Promise<void> {
    throwIfCancelled(this.#options.signal);
    const { catalog, client, log } = this.#parts;
    const ranges = this.#waiting.splice(0).filter(({ file }) => catalog.files.get(file)?.state === 'live');
    if (ranges.length === 0) return;
    try {
      await client.punch(ranges);
      this.#report.punchedRanges += ranges.length;
      for (const { bytes } of ranges) this.#report.punchedBytes += bytes;
    } catch (error) {
      log.warn({ err: error }, 'leaked space could not be given back; the next sweep tries again');
    }
  }

  /** Files of containers that are gone and that no record names, and files of ours nobody knows any more. */
  async #removeFiles(orphans: readonly number[]): Promise<void> {
    const { catalog, files, log } = this.#parts;
    const gone = [...this.#files.values()].filter(({ number, named }) => {
      const container = catalog.files.get(number)?.container;
      return named.size === 0 && container !== undefined && !catalog.containers.has(container);
    });
    for (const { number } of gone) await this.#remove(number, () => files.release(number));
    for (const number of orphans) {
      // A file's record is there before the file: what has none now never gets one.
      if (catalog.files.has(number)) continue;
      await this.#remove(number, () => unlink(join(this.#options.directory, extentsPath(number))));
      log.info({ file: number }, 'an extents file that nothing knows was removed');
    }
  }

  async #remove(number: number, removing: () => Promise<void>): Promise<void> {
    throwIfCancelled(this.#options.signal);
    try {
      await removing();
      this.#report.filesRemoved.push(number);
    } catch (error) {
      this.#parts.log.warn(
        { err: error, file: number },
        'an extents file could not be removed; the next sweep tries again',
      );
    }
  }

  /** Throws at the first record that cannot be read: what it names is not known, so nothing may be punched. */
  async #eachRecord(
    { level, snapshot }: { level: Level; snapshot: LevelSnapshot },
    look: (key: { line: number; version: number }, record: WindowRecord) => void | Promise<void>,
  ): Promise<void> {
    let seen = 0n;
    for await (const page of level.scan(ALL_WINDOWS, { snapshot })) {
      throwIfCancelled(this.#options.signal);
      for (const [bytes, stored] of page) {
        const key = parseWindowKey(bytes);
        const record = decodeWindowRecord(stored, this.#blocks);
        const looking = look(key ?? { line: -1, version: -1 }, record);
        if (looking) await looking;
      }
      seen += BigInt(page.length);
      this.#options.onProgress?.(seen);
    }
  }
}

function slotsOf(record: WindowRecord): Set<bigint> {
  const slots = new Set<bigint>();
  if (record.ownSlot !== null) slots.add(record.ownSlot);
  for (const { slot } of record.runs) if (slot !== null) slots.add(slot);
  return slots;
}
