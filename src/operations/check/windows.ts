// Checks the window records, one after the other, and what they say about slots together.
//
// Invariant: memory is a bitmap of places per file, and the sets of written windows of all versions of one chunk. A slot is named by one record only, as a rule; slots that turn up again are
// noted and looked at block by block in another pass.

import type { Line } from '../../model/entities.js';
import type { WindowKey } from '../../model/keys.js';
import { parseWindowKey } from '../../model/keys.js';
import { PlaceSet } from '../../model/place-set.js';
import { regionOf } from '../../model/region-set.js';
import { splitRuns } from '../../model/runs.js';
import { fileOfSlot, offsetInFile, placeOfSlot } from '../../model/slot.js';
import { blocksPerWindow, windowsOf } from '../../model/units.js';
import type { Run, WindowRecord } from '../../model/window-record.js';
import { decodeWindowRecord } from '../../model/window-record.js';
import { chunkOf, indexInChunk, WrittenSet } from '../../model/written-set.js';
import type { Findings } from './findings.js';
import { reasonOf } from './findings.js';
import type { StoreImage } from './image.js';
import { show, writtenName } from './image.js';

/** What the records say about one file. */
export interface NamedFile {
  places: PlaceSet;
  /** Where the last block that is named ends. */
  endBytes: bigint;
}

/** Slots looked at block by block in one pass. */
const SUSPECTS_AT_ONCE = 50_000;

interface KnownLine {
  line: Line;
  live: Set<number>;
  current: number | null;
  /** Windows of the current size. */
  windows: bigint | null;
}

export class WindowCheck {
  readonly files = new Map<number, NamedFile>();
  records = 0n;
  blocks = 0n;
  readonly #image: StoreImage;
  readonly #findings: Findings;
  readonly #blocks: number;
  readonly #lines = new Map<number, KnownLine>();
  readonly #suspects = new Set<bigint>();
  /** Sets of written windows by version, of the chunk the records are in just now. */
  #written = { line: -1, chunk: -1n, sets: new Map<number, WrittenSet>() };

  constructor(image: StoreImage, findings: Findings) {
    this.#image = image;
    this.#findings = findings;
    this.#blocks = blocksPerWindow(image.windowBytes);
    for (const line of image.lines.values()) {
      const container = image.containers.get(line.container);
      const isWritten = container?.state === 'live' && container.line === line.id;
      this.#lines.set(line.id, {
        line,
        live: new Set(line.versions.map(({ version }) => version)),
        current: line.versions.find(({ state }) => state === 'current')?.version ?? null,
        windows: isWritten ? windowsOf(container.sizeBytes, image.windowBytes) : null,
      });
    }
    this.#checkWritten();
  }

  #checkWritten(): void {
    for (const [name, stored] of this.#image.written) {
      const [line, version, chunk] = name.split('/').map(Number) as [number, number, number];
      const who = `The set of windows written in chunk ${chunk} by version ${version} of line ${line}`;
      if (!this.#lines.get(line)?.live.has(version))
        this.#findings.add('written-unneeded', `${who} belongs to no live version.`);
      try {
        WrittenSet.decode(stored);
      } catch (error) {
        this.#findings.add('written-damaged', `${who}: ${reasonOf(error)}.`);
      }
    }
  }

  take(bytes: Buffer, stored: Buffer): void {
    this.records++;
    const key = parseWindowKey(bytes);
    if (!key) {
      this.#findings.add('window-key-malformed', `The key ${show(bytes)} is malformed.`);
      return;
    }
    this.#checkKey(key);
    const record = this.#decode(key, stored);
    if (record) this.#checkRecord(key, record);
  }

  #checkKey(key: WindowKey): void {
    const known = this.#lines.get(key.line);
    if (!known) {
      this.#findings.add('window-line-unknown', `${called(key)} belongs to a line that is not there.`);
      return;
    }
    if (!known.live.has(key.version)) {
      this.#findings.add('window-version-dead', `${called(key)} belongs to a version that is not live.`);
    }
    if (!known.line.regions.has(regionOf(key.window))) {
      this.#findings.add('window-region-missing', `${called(key)} lies in a region the line does not list.`);
    }
    if (!this.#writtenOf(key).has(indexInChunk(key.window)))
      this.#findings.add('window-unnoted', `${called(key)} is not in the index of written windows.`);
    if (key.version === known.current && known.windows !== null && key.window >= known.windows) {
      this.#findings.add('window-beyond-end', `${called(key)} lies behind the end of the volume.`);
    }
  }

  /** Records come by line and window, all versions together: what is kept is of one chunk. */
  #writtenOf({ line, version, window }: WindowKey): WrittenSet {
    const chunk = chunkOf(window);
    if (this.#written.line !== line || this.#written.chunk !== chunk)
      this.#written = { line, chunk, sets: new Map() };
    let set = this.#written.sets.get(version);
    if (!set) {
      set = WrittenSet.read(this.#image.written.get(writtenName({ line, version, chunk })));
      this.#written.sets.set(version, set);
    }
    return set;
  }

  #decode(key: WindowKey, stored: Buffer): WindowRecord | null {
    try {
      return decodeWindowRecord(stored, this.#blocks);
    } catch (error) {
      this.#findings.add('window-record-damaged', `${called(key)}: ${reasonOf(error)}.`);
      return null;
    }
  }

  #checkRecord(key: WindowKey, record: WindowRecord): void {
    if (record.runs.length === 0) this.#findings.add('window-record-empty', `${called(key)} is empty.`);
    const slots = new Set<bigint>(record.ownSlot === null ? [] : [record.ownSlot]);
    for (const run of record.runs) {
      if (run.slot === null) continue;
      slots.add(run.slot);
      this.blocks += BigInt(run.count);
      this.#noteEnd(run, run.slot);
      this.#checkPunches(key, run, run.slot);
    }
    for (const slot of slots) this.#checkSlot(key, slot, slot === record.ownSlot);
  }

  #checkSlot(key: WindowKey, slot: bigint, own: boolean): void {
    const number = fileOfSlot(slot);
    if (!this.#named(number).places.add(placeOfSlot(slot))) this.#suspects.add(slot);
    const file = this.#image.files.get(number);
    if (!file) {
      this.#findings.add('slot-file-unknown', `${called(key)} names file ${number}, which is not known.`);
      return;
    }
    if (file.state === 'dropping')
      this.#findings.add('slot-file-dropping', `${called(key)} names file ${number}.`);
    const container = this.#lines.get(key.line)?.line.container;
    if (container === undefined || file.container === container) return;
    if (own)
      this.#findings.add(
        'own-slot-foreign',
        `${called(key)} has its own slot in file ${number} of volume ${file.container}.`,
      );
    if (!file.movedOut)
      this.#findings.add(
        'slot-file-unmarked',
        `${called(key)} names file ${number} of volume ${file.container}.`,
      );
  }

  #named(number: number): NamedFile {
    let file = this.files.get(number);
    if (!file) {
      file = { places: new PlaceSet(), endBytes: 0n };
      this.files.set(number, file);
    }
    return file;
  }

  #noteEnd({ start, count }: Run, slot: bigint): void {
    const file = this.#named(fileOfSlot(slot));
    const end = offsetInFile(slot, start + count, this.#image.windowBytes);
    if (end > file.endBytes) file.endBytes = end;
  }

  #checkPunches(key: WindowKey, run: Run, slot: bigint): void {
    const ranges = this.#image.punches.get(slot);
    if (!ranges) return;
    const { covered } = splitRuns(
      [run],
      [...ranges].sort((a, b) => a.start - b.start),
    );
    for (const { start, count } of covered.filter((part) => part.count > 0)) {
      this.#findings.add(
        'punch-live',
        `${called(key)} has blocks ${start} to ${start + count - 1} of slot ${nameOf(slot)}, which a punch names.`,
      );
    }
  }

  /** Slots several records name: take() passes over the records again for each lot of them. */
  nextSuspects(): SuspectCheck | null {
    const some = [...this.#suspects].slice(0, SUSPECTS_AT_ONCE);
    for (const slot of some) this.#suspects.delete(slot);
    return some.length > 0 ? new SuspectCheck(new Set(some), this.#findings, this.#blocks) : null;
  }
}

/** Who has which block of a few slots. */
export class SuspectCheck {
  readonly #slots: ReadonlySet<bigint>;
  readonly #findings: Findings;
  readonly #blocks: number;
  readonly #owners = new Map<bigint, { key: WindowKey; runs: Run[] }[]>();

  constructor(slots: ReadonlySet<bigint>, findings: Findings, blocks: number) {
    this.#slots = slots;
    this.#findings = findings;
    this.#blocks = blocks;
  }

  take(bytes: Buffer, stored: Buffer): void {
    const key = parseWindowKey(bytes);
    const record = key && tryDecode(stored, this.#blocks);
    if (!key || !record) return;
    for (const slot of new Set(record.runs.map((run) => run.slot))) {
      if (slot === null || !this.#slots.has(slot)) continue;
      const runs = record.runs.filter((run) => run.slot === slot);
      const owners = this.#owners.get(slot) ?? [];
      for (const other of owners) this.#compare(slot, { key, runs }, other);
      this.#owners.set(slot, [...owners, { key, runs }]);
    }
  }

  #compare(slot: bigint, a: { key: WindowKey; runs: Run[] }, b: { key: WindowKey; runs: Run[] }): void {
    const [both] = splitRuns(a.runs, b.runs).covered;
    if (!both) return;
    this.#findings.add(
      'block-owned-twice',
      `${called(a.key)} and ${called(b.key)} both have block ${both.start} of slot ${nameOf(slot)}.`,
    );
  }
}

function tryDecode(stored: Buffer, blocks: number): WindowRecord | null {
  try {
    return decodeWindowRecord(stored, blocks);
  } catch {
    return null;
  }
}

function called({ line, window, version }: WindowKey): string {
  return `The record of window ${window}, line ${line}, version ${version}`;
}

function nameOf(slot: bigint): string {
  return `${fileOfSlot(slot)}:${placeOfSlot(slot)}`;
}
