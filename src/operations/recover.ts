// Recovery, the normal start: what counts in the journal goes into LevelDB, then the journal begins anew.
//
// Invariant: idempotent at every crash point. Every batch says the same when it is written again; `applied` comes last, per line;
// only after all of it is durable the data plane starts a new incarnation, under which nothing old is valid any more (J1).

import type { Catalog, Change } from '../catalog/catalog.js';
import { hasBelow, liveNumbers } from '../model/chain.js';
import { addCutOffs } from '../model/cut-offs.js';
import type { Line } from '../model/entities.js';
import { currentVersion, endVersion, extentsPath } from '../model/entities.js';
import { windowKey } from '../model/keys.js';
import type { ChangeEntry, CutMemberSeen, KnownLine, ReplayPlan } from '../model/replay.js';
import { planReplay } from '../model/replay.js';
import { placesOf } from '../model/runs.js';
import { fileOfSlot } from '../model/slot.js';
import { decodeWindowRecord, encodeWindowRecord } from '../model/window-record.js';
import { WindowReplay } from '../model/window-replay.js';
import type { ExtentsFile, JournalScan, Plane } from '../plane/treaty.js';
import type { Logger, RecoveryReport } from './types.js';
import type { WrittenPage } from './written-windows.js';
import { writtenPage } from './written-windows.js';

const LOADED_AT_ONCE = 512;

export interface RecoverOptions {
  blocksPerWindow: number;
  asPowerLoss: boolean;
}

export async function recover(
  parts: { catalog: Catalog; plane: Plane; log: Logger },
  scan: JournalScan,
  options: RecoverOptions,
): Promise<RecoveryReport> {
  const began = performance.now();
  const { catalog, plane, log } = parts;
  for (const { number } of catalog.files.values()) plane.knowFile(fileOf(number));
  const sameIncarnation = scan.sameIncarnation && !options.asPowerLoss;
  const planned = (): ReplayPlan =>
    planReplay(scan.entries, (line) => knownLine(catalog, line), { sameIncarnation });
  let plan = planned();
  const unstable = syncNamed(parts, plan);
  for (const [line, after] of unstable) plan.failed.set(line, after);
  await noteFailures(catalog, plan);
  // What a container that failed just now had not committed is void (D8); the kernel tells of the error only once.
  if (unstable.size > 0) plan = planned();
  await completeCuts(catalog, plan.cuts);
  const end = scan.nextPosition - 1n;
  for (const id of linesSeen(scan)) {
    const line = catalog.lines.get(id);
    if (!line) continue;
    await new LineReplay(catalog, line, options.blocksPerWindow).run(plan.changes.get(id) ?? []);
    await setApplied(catalog, id, end);
  }
  if (plan.void > 0) log.warn({ entries: plan.void }, 'changes that were never flushed did not survive');
  plane.startJournal(startPosition(catalog, scan));
  return {
    isNew: scan.created && catalog.containers.size === 0,
    clean: scan.clean || scan.created,
    powerLoss: !scan.clean && !scan.created && !sameIncarnation,
    entriesSeen: scan.entries.length,
    entriesCounted: plan.counted,
    cutsCompleted: plan.cuts.length,
    failedVolumes: [...plan.failed.keys()].flatMap((line) => nameOf(catalog, line)),
    milliseconds: Math.round(performance.now() - began),
  };
}

export function knownLine(catalog: Catalog, id: number): KnownLine | undefined {
  const line = catalog.lines.get(id);
  if (!line) return undefined;
  const current = currentVersion(line);
  const known: KnownLine = { current, live: liveNumbers(line), applied: catalog.applied.get(id) ?? -1n };
  const failure = catalog.containers.get(line.container)?.failure;
  return failure ? { ...known, voidAfter: failure.after } : known;
}

function linesSeen(scan: JournalScan): Set<number> {
  const lines = new Set<number>();
  for (const entry of scan.entries) {
    if (entry.kind === 'cut') for (const member of entry.members) lines.add(member.line);
    else lines.add(entry.line);
  }
  return lines;
}

/** Cuts that were answered and whose group did not reach LevelDB. */
async function completeCuts(catalog: Catalog, cuts: readonly CutMemberSeen[]): Promise<void> {
  for (const { line: id, version, snapshotId, name } of cuts) {
    const line = catalog.lines.get(id)!;
    if (name === '') {
      // A group that could not be taken whole: the version ended, but as nobody's snapshot.
      endVersion(line, null);
      await catalog.change().line(line).commit();
      continue;
    }
    const container = catalog.containers.get(line.container)!;
    const snapshot = {
      id: Buffer.from(snapshotId).toString('hex'),
      name,
      container: container.id,
      line: id,
      version,
      sizeBytes: container.sizeBytes,
      created: new Date().toISOString(),
      expires: null,
    };
    endVersion(line, snapshot.id);
    await catalog.change().line(line).snapshot(snapshot).commit();
  }
}

/** Makes stable what entries that count name. Answers the lines for which that failed, and the last position that counts of each. */
function syncNamed(
  parts: { catalog: Catalog; plane: Plane; log: Logger },
  plan: ReplayPlan,
): Map<number, bigint> {
  const failed = new Map<number, bigint>();
  for (const file of namedFiles(parts.catalog, plan)) {
    try {
      parts.plane.syncFiles([file]);
    } catch (error) {
      parts.log.error(
        { err: error, file: file.number },
        'an extents file could not be made stable: its volume fails',
      );
      const owner = parts.catalog.files.get(file.number)!.container;
      for (const id of plan.changes.keys()) {
        const after = plan.committed.get(id) ?? -1n;
        if (parts.catalog.lines.get(id)!.container === owner) failed.set(id, after < 0n ? 0n : after);
      }
    }
  }
  return failed;
}

/** Files that entries which count name: their data must be stable before LevelDB says so. */
function namedFiles(catalog: Catalog, plan: ReplayPlan): ExtentsFile[] {
  const numbers = new Set<number>();
  for (const changes of plan.changes.values()) {
    for (const change of changes) if (change.kind === 'own') numbers.add(fileOfSlot(change.slot));
  }
  return [...numbers].filter((number) => catalog.files.has(number)).map(fileOf);
}

function fileOf(number: number): ExtentsFile {
  return { number, path: extentsPath(number) };
}

async function noteFailures(catalog: Catalog, plan: ReplayPlan): Promise<void> {
  for (const [id, after] of plan.failed) {
    const container = catalog.containers.get(catalog.lines.get(id)!.container);
    if (!container || container.failure) continue;
    container.failure = { at: new Date().toISOString(), error: 'EIO', after };
    await catalog.change().container(container).commit();
  }
}

function nameOf(catalog: Catalog, line: number): string[] {
  const container = catalog.containers.get(catalog.lines.get(line)?.container ?? -1);
  return container ? [container.name] : [];
}

export async function setApplied(catalog: Catalog, line: number, position: bigint): Promise<void> {
  if (position <= (catalog.applied.get(line) ?? -1n)) return;
  await catalog.change().applied(line, position).commit();
  catalog.applied.set(line, position);
}

function startPosition(catalog: Catalog, scan: JournalScan): bigint {
  let position = scan.nextPosition;
  for (const applied of catalog.applied.values()) if (applied >= position) position = applied + 1n;
  return position;
}

/** Replays the changes of one line. Nothing is written before all of them were looked at: what one drops another may name. */
export class LineReplay {
  readonly #catalog: Catalog;
  readonly #line: Line;
  readonly #blocksPerWindow: number;
  readonly #windows = new Map<string, { version: number; window: bigint; replay: WindowReplay }>();

  constructor(catalog: Catalog, line: Line, blocksPerWindow: number) {
    this.#catalog = catalog;
    this.#line = line;
    this.#blocksPerWindow = blocksPerWindow;
  }

  async run(changes: readonly ChangeEntry[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#load(changes);
    for (const change of changes) this.#apply(change);
    const cutOffs = changes.filter((change) => change.kind === 'cut-off');
    await this.#putCutOffs(cutOffs);
    for (const cutOff of cutOffs) await this.#dropRange(cutOff);
    await this.#putWindows();
  }

  async #load(changes: readonly ChangeEntry[]): Promise<void> {
    const places = new Map<string, { version: number; window: bigint }>();
    for (const change of changes) {
      if (change.kind !== 'cut-off')
        places.set(placeOf(change.version, change.window), {
          version: change.version,
          window: change.window,
        });
    }
    const wanted = [...places];
    for (let at = 0; at < wanted.length; at += LOADED_AT_ONCE) {
      const some = wanted.slice(at, at + LOADED_AT_ONCE);
      const keys = some.map(([, { version, window }]) => windowKey(this.#line.id, window, version));
      const stored = await this.#catalog.queue.read((level) => level.getMany(keys));
      some.forEach(([place, { version, window }], index) => {
        const bytes = stored[index];
        const record = bytes ? decodeWindowRecord(bytes, this.#blocksPerWindow) : null;
        this.#windows.set(place, { version, window, replay: new WindowReplay(record) });
      });
    }
  }

  #apply(change: ChangeEntry): void {
    if (change.kind === 'cut-off') {
      for (const { version, window, replay } of this.#windows.values()) {
        const inside = change.first <= window && (change.end === null || window < change.end);
        if (version === change.version && inside) replay.cutOff();
      }
      return;
    }
    const { replay } = this.#windows.get(placeOf(change.version, change.window))!;
    if (change.kind === 'own') replay.own(change.start, change.count, change.slot);
    else replay.zero(change.start, change.count);
  }

  async #putCutOffs(cutOffs: readonly Extract<ChangeEntry, { kind: 'cut-off' }>[]): Promise<void> {
    const telling = cutOffs.filter(({ version }) => hasBelow(this.#line, version));
    if (telling.length === 0) return;
    this.#line.cutOffs = addCutOffs(this.#line.cutOffs, telling);
    await this.#catalog.change().line(this.#line).commit();
  }

  /** Stored records of the cut-off's version that no other entry names. */
  async #dropRange({ first, end, version }: Extract<ChangeEntry, { kind: 'cut-off' }>): Promise<void> {
    const line = this.#line.id;
    let change = this.#catalog.change();
    for (let from: bigint | null = first; from !== null; ) {
      const range: { first: bigint; end: bigint | null } = { first: from, end };
      const page: WrittenPage = await this.#catalog.queue.read((level) =>
        writtenPage({ level }, { line, version }, range),
      );
      for (const { window, stored } of page.records) {
        if (this.#windows.has(placeOf(version, window))) continue;
        const { runs } = decodeWindowRecord(stored, this.#blocksPerWindow);
        change.removeWindow(line, window, version).punch(placesOf(runs));
        if (!change.isHalfFull) continue;
        await change.commit();
        change = this.#catalog.change();
      }
      from = page.next;
    }
    if (!change.isEmpty) await change.commit();
  }

  async #putWindows(): Promise<void> {
    let change: Change = this.#catalog.change();
    for (const { version, window, replay } of this.#windows.values()) {
      const { record } = replay;
      if (record) change.window(this.#line, window, version, encodeWindowRecord(record));
      else change.removeWindow(this.#line.id, window, version);
      change.punch(replay.dropped());
      if (!change.isHalfFull) continue;
      await change.commit();
      change = this.#catalog.change();
    }
    if (!change.isEmpty) await change.commit();
  }
}

function placeOf(version: number, window: bigint): string {
  return `${version}/${window}`;
}
