// `store check`: verifies what can be verified of a store, reads only, and goes on whatever it meets. The list of findings is the
// answer; docs/operations/check.md says what each means.
//
// Invariants: damage is a finding, never an exception (only a cancelled check, a store that somebody holds and a copy that cannot be
// made throw); without an agent LevelDB is opened on a copy only, in a process
// of its own; with one it is read through a LevelDB snapshot, all records of
// which belong to one instant. Memory is the metadata without window records, and a bitmap of places per extents file.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';

import { CellblockError } from '../base/errors.js';
import type { CommitQueue } from '../catalog/commit-queue.js';
import type { KeyRange, Level, LevelSnapshot } from '../catalog/level.js';
import { ALL_WINDOWS } from '../model/keys.js';
import type { Watched } from './cancellation.js';
import { throwIfCancelled } from './cancellation.js';
import { checkExtents } from './check/extents.js';
import type { Finding, FindingCode } from './check/findings.js';
import { Findings, reasonOf } from './check/findings.js';
import { StoreImage } from './check/image.js';
import type { ScannedPage } from './check/isolated-scan.js';
import { CannotOpen, isolatedScan } from './check/isolated-scan.js';
import { checkJournal } from './check/journal-check.js';
import { copyMetadata } from './check/metadata-copy.js';
import { checkRelations } from './check/relations.js';
import { WindowCheck } from './check/windows.js';

/** A directory no agent has open, or the store of the running agent. */
export type CheckTarget =
  | { directory: string }
  | { directory: string; queue: CommitQueue; isKnownFile(number: number): boolean };

export interface CheckOptions extends Watched {
  onFinding?: (finding: Finding) => void;
  /** Where the copy of the metadata goes; default: the system's directory for temporary files. */
  scratch?: string;
}

export interface CheckCounts {
  volumes: number;
  snapshots: number;
  lines: number;
  files: number;
  records: bigint;
  /** Blocks with data, in all maps together. */
  blocks: bigint;
  pendingPunches: number;
  /** Valid entries; 0 after a clean stop, and while an agent runs. */
  journalEntries: bigint;
}

export interface CheckResult {
  /** No finding of severity error. */
  clean: boolean;
  /** At most a hundred of each code. */
  findings: Finding[];
  found: Partial<Record<FindingCode, number>>;
  counts: CheckCounts;
}

const BEFORE_WINDOWS_LAST: readonly KeyRange[] = [
  { gte: Buffer.of(0), lt: ALL_WINDOWS.gte },
  { gte: ALL_WINDOWS.lt, lt: Buffer.alloc(40, 0xff) },
  ALL_WINDOWS,
];

type Scan = (ranges: readonly KeyRange[]) => AsyncIterable<ScannedPage>;

export function checkStore(target: CheckTarget, options: CheckOptions = {}): Promise<CheckResult> {
  return 'queue' in target ? checkRunning(target, options) : checkStopped(target.directory, options);
}

async function checkRunning(
  target: Extract<CheckTarget, { queue: CommitQueue }>,
  options: CheckOptions,
): Promise<CheckResult> {
  const findings = new Findings(options.onFinding);
  return target.queue.readSnapshot(async (level, snapshot) => {
    findings.reset();
    const check = new StoreCheck(target.directory, findings, options);
    await check.metadata((ranges) => scanRunning({ level, snapshot }, ranges));
    await check.rest({ running: true, knownNow: (number) => target.isKnownFile(number) });
    return check.result;
  });
}

async function checkStopped(directory: string, options: CheckOptions): Promise<CheckResult> {
  const findings = new Findings(options.onFinding);
  const check = new StoreCheck(directory, findings, options);
  const copy = await copyMetadata(directory, options);
  if (!copy) {
    findings.add('metadata-missing', `There is no directory ${join(directory, 'metadata')}.`);
    return check.result;
  }
  try {
    const isRead = await readCopy(copy.path, check, findings);
    if (isRead) await check.rest({ running: false, knownNow: null });
  } finally {
    await copy.remove();
  }
  return check.result;
}

/** False: LevelDB cannot open it, nothing is known. */
async function readCopy(path: string, check: StoreCheck, findings: Findings): Promise<boolean> {
  try {
    // Without it LevelDB would make a new and empty database, and all would be well.
    await stat(join(path, 'CURRENT'));
    await check.metadata((ranges) => isolatedScan(path, ranges));
    return true;
  } catch (error) {
    if (error instanceof CellblockError) throw error;
    findings.add('metadata-unopenable', `The metadata cannot be opened: ${reasonOf(error)}.`);
    return false;
  }
}

async function* scanRunning(
  { level, snapshot }: { level: Level; snapshot: LevelSnapshot },
  ranges: readonly KeyRange[],
): AsyncGenerator<ScannedPage> {
  for (const [range, bounds] of ranges.entries()) {
    for await (const entries of level.scan(bounds, { snapshot })) yield { range, entries };
  }
}

class StoreCheck {
  readonly #directory: string;
  readonly #findings: Findings;
  readonly #options: CheckOptions;
  readonly #image: StoreImage;
  #windows: WindowCheck | null = null;
  #journalEntries = 0n;
  #seen = 0n;

  constructor(directory: string, findings: Findings, options: CheckOptions) {
    this.#directory = directory;
    this.#findings = findings;
    this.#options = options;
    this.#image = new StoreImage(findings);
  }

  /** One pass over all records; those of windows come last, so everything they refer to is known by then. */
  async metadata(scan: Scan): Promise<void> {
    await this.#each(scan, BEFORE_WINDOWS_LAST, ({ range, entries }) => {
      if (range < 2) for (const [key, value] of entries) this.#image.take(key, value);
      else for (const [key, value] of entries) this.#windowCheck()?.take(key, value);
    });
    const windows = this.#windowCheck();
    for (let suspects = windows?.nextSuspects(); suspects; suspects = windows?.nextSuspects()) {
      const some = suspects;
      await this.#each(scan, [ALL_WINDOWS], ({ entries }) => {
        for (const [key, value] of entries) some.take(key, value);
      });
    }
  }

  /** Begins with the windows when all else was seen. Null: of another format nothing more can be said. */
  #windowCheck(): WindowCheck | null {
    if (this.#windows) return this.#windows;
    if (this.#image.isForeign) return null;
    this.#image.finish();
    checkRelations(this.#image, this.#findings);
    this.#windows = new WindowCheck(this.#image, this.#findings);
    return this.#windows;
  }

  /** Journal and extents files. */
  async rest(mode: { running: boolean; knownNow: ((file: number) => boolean) | null }): Promise<void> {
    if (!this.#windows) return;
    throwIfCancelled(this.#options.signal);
    const { entries } = await checkJournal(this.#directory, this.#image, this.#findings, mode);
    this.#journalEntries = entries;
    await checkExtents(
      {
        directory: this.#directory,
        image: this.#image,
        named: this.#windows.files,
        knownNow: mode.knownNow,
        incomplete: this.#findings.has('metadata-unreadable') || this.#findings.has('window-record-damaged'),
      },
      this.#findings,
    );
  }

  get result(): CheckResult {
    const { containers, snapshots, lines, files, punchRecords } = this.#image;
    return {
      clean: !this.#findings.hasErrors,
      findings: this.#findings.listed,
      found: this.#findings.counts,
      counts: {
        volumes: [...containers.values()].filter(({ state }) => state === 'live').length,
        snapshots: snapshots.size,
        lines: lines.size,
        files: files.size,
        records: this.#windows?.records ?? 0n,
        blocks: this.#windows?.blocks ?? 0n,
        pendingPunches: punchRecords,
        journalEntries: this.#journalEntries,
      },
    };
  }

  async #each(scan: Scan, ranges: readonly KeyRange[], take: (page: ScannedPage) => void): Promise<void> {
    try {
      for await (const page of scan(ranges)) {
        throwIfCancelled(this.#options.signal);
        take(page);
        this.#seen += BigInt(page.entries.length);
        this.#options.onProgress?.(this.#seen);
      }
    } catch (error) {
      if (error instanceof CellblockError || error instanceof CannotOpen || wasClosed(error)) throw error;
      this.#findings.add('metadata-unreadable', `The metadata cannot be read further: ${reasonOf(error)}.`);
    }
  }
}

/** The agent reopens its database after trouble: the whole reading is repeated then. */
function wasClosed(error: unknown): boolean {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && /^LEVEL_\w+_NOT_OPEN$/.test(code);
}
