// The durable metadata in memory, and the one way to change it. Everything but window records and pending punches is here.
//
// Invariants: memory is changed first and at once, together with the group of operations that makes it durable (`Change`), and
// groups become durable in the order they were made: so a record in LevelDB is always one that memory had. Ids are never
// reused: counters are reserved in chunks, durably, before the first number of a chunk can become durable anywhere.

import { CellblockError } from '../base/errors.js';
import { type Attachment, decodeAttachment, encodeAttachment } from '../model/attachment.js';
import { type CopyRecord, decodeCopy, encodeCopy } from '../model/copy.js';
import type { Base, Container, ExtentsFileRecord, Line, Snapshot, Version } from '../model/entities.js';
import {
  decodeContainer,
  decodeFile,
  decodeLine,
  decodeSnapshot,
  encodeContainer,
  encodeFile,
  encodeLine,
  encodeSnapshot,
} from '../model/entities.js';
import { decodeGroupCut, encodeGroupCut, type GroupCut } from '../model/group-cut.js';
import type { Family } from '../model/keys.js';
import {
  ALL_PUNCHES,
  familyRange,
  jsonKey,
  parsePunchKey,
  punchKey,
  windowKey,
  writtenKey,
} from '../model/keys.js';
import {
  decodeLineage,
  decodeLineageId,
  encodeLineage,
  encodeLineageId,
  type Lineage,
  lineageIdKey,
  parseLineageIdKey,
} from '../model/lineage.js';
import type { BlockRange } from '../model/punch.js';
import { decodePunch, encodePunch, MAX_PUNCH_RANGES } from '../model/punch.js';
import { regionOf } from '../model/region-set.js';
import { decodeSync, encodeSync, type SyncRecord } from '../model/sync.js';
import {
  decodeVm,
  decodeVmSnapshot,
  encodeVm,
  encodeVmSnapshot,
  type Vm,
  type VmSnapshot,
} from '../model/vm.js';
import type { CommitQueue } from './commit-queue.js';
import { bytesOf, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS } from './commit-queue.js';
import type { Operation } from './level.js';
import { LineageIndex } from './lineage-index.js';
import { SparseVersions } from './sparse-versions.js';
import type { WrittenNotes } from './written-index.js';
import { WrittenIndex } from './written-index.js';

const COUNTER_CHUNK = 1000;
export type CounterName = 'container' | 'line' | 'file' | 'punch' | 'task' | 'sync' | 'vm';
type Counters = Record<CounterName, number>;

export interface PendingPunch {
  id: number;
  ranges: BlockRange[];
}

export class Catalog {
  readonly queue: CommitQueue;
  readonly containers = new Map<number, Container>();
  readonly lines = new Map<number, Line>();
  readonly snapshots = new Map<string, Snapshot>();
  readonly files = new Map<number, ExtentsFileRecord>();
  readonly punches = new Map<number, PendingPunch>();
  /** Syncs under way and those that have ended lately, oldest first. */
  readonly syncs = new Map<number, SyncRecord>();
  readonly vms = new Map<number, Vm>();
  /** Ids are of one sequence with those of VMs. */
  readonly vmSnapshots = new Map<number, VmSnapshot>();
  /** Volumes and snapshots that are devices of the kernel, by their keys. */
  readonly attachments = new Map<string, Attachment>();
  /** Snapshots that are being copied from another host, by the volumes they belong to. */
  readonly copies = new Map<string, CopyRecord>();
  /** What this host has on record of volumes of cells. */
  readonly lineages = new LineageIndex();
  readonly groupCuts = new Map<string, GroupCut>();
  /** Starts of the agent on this store, this one included; 0: it is only looked at. */
  boots = 0;
  /** Per line: everything of its journal entries at or below is in LevelDB. */
  readonly applied = new Map<number, bigint>();
  readonly written: WrittenIndex;
  readonly sparse: SparseVersions;
  /** Grows whenever a line changes: caches of chains ask it. */
  structure = 0;

  readonly #byName = new Map<string, Container>();
  /** Of every container with snapshots: by the name of the snapshot. */
  readonly #snapshotsByName = new Map<number, Map<string, Snapshot>>();
  /** By the base: line, then version. A template may have thousands. */
  readonly #children = new Map<number, Map<number, Set<Line>>>();
  /** Where in #children each line stands. */
  readonly #basedOn = new Map<number, Base>();
  readonly #filesOf = new Map<number, number[]>();
  /** Lines of each container, the newest last: a sync gives it another. */
  readonly #linesOf = new Map<number, Set<number>>();
  readonly #next: Counters = { container: 1, line: 1, file: 1, punch: 1, task: 1, sync: 1, vm: 1 };
  readonly #reserved: Counters = {
    container: 1,
    line: 1,
    file: 1,
    punch: 1,
    task: 1,
    sync: 1,
    vm: 1,
  };

  constructor(queue: CommitQueue) {
    this.queue = queue;
    this.written = new WrittenIndex(queue);
    this.sparse = new SparseVersions(this.written);
  }

  async load(): Promise<void> {
    await this.#each('container', (text) => this.#insertContainer(decodeContainer(text)));
    await this.#each('line', (text) => this.#insertLine(decodeLine(text)));
    await this.#each('snapshot', (text) => {
      this.keepSnapshot(decodeSnapshot(text));
    });
    this.#listSnapshots();
    await this.#each('file', (text) => this.#insertFile(decodeFile(text)));
    await this.#loadSyncs();
    await this.#each('vm', (text) => this.keepVm(decodeVm(text)));
    await this.#each('vm-snapshot', (text) => this.keepVmSnapshot(decodeVmSnapshot(text)));
    await this.#each('attachment', (text) => this.keepAttachment(decodeAttachment(text)));
    await this.#each('copy', (text) => this.keepCopy(decodeCopy(text)));
    await this.#loadLineages();
    await this.#each('applied', (text, id) => this.applied.set(Number(id), BigInt(text)));
    await this.#loadPunches();
    await this.#loadCounters();
  }

  containerNamed(name: string): Container | undefined {
    return this.#byName.get(name);
  }

  snapshotNamed(container: Container, name: string): Snapshot | undefined {
    return this.#snapshotsByName.get(container.id)?.get(name);
  }

  /** Oldest first: those of a line that a sync left are older than those of the line it made. */
  snapshotsOf(container: Container): Snapshot[] {
    return this.linesOf(container.id).flatMap((line) =>
      line.versions.flatMap(({ snapshot }) => (snapshot === null ? [] : [this.snapshots.get(snapshot)!])),
    );
  }

  /** Without the hidden ones. */
  visibleSnapshotCount(container: Container): number {
    const hidden = this.lineages.ofContainer(container.id)?.hidden.length ?? 0;
    return (this.#snapshotsByName.get(container.id)?.size ?? 0) - hidden;
  }

  /** Oldest first. */
  linesOf(container: number): Line[] {
    const ids = [...(this.#linesOf.get(container) ?? [])].sort((a, b) => a - b);
    return ids.map((id) => this.lines.get(id)!);
  }

  /** Lines whose base is this version. */
  childrenOf(line: number, version: number): ReadonlySet<Line> {
    return this.#children.get(line)?.get(version) ?? NO_LINES;
  }

  /** Versions of the line that are the base of another. */
  basesIn(line: number): ReadonlySet<number> {
    return new Set(this.#children.get(line)?.keys());
  }

  /** Numbers of the container's own files, in order. */
  filesOf(container: number): readonly number[] {
    return this.#filesOf.get(container) ?? [];
  }

  change(): Change {
    return new Change(this);
  }

  /** Resolves when everything committed so far is durable. */
  barrier(): Promise<void> {
    return this.queue.commit([]);
  }

  /** @internal Takes the next number. A new chunk is handed in at once: whoever uses a number of it comes behind. */
  take(counter: CounterName): number {
    const number = this.#next[counter]++;
    if (number >= this.#reserved[counter]) {
      this.#reserved[counter] = number + COUNTER_CHUNK;
      const reservation = putJson('meta', 'counters', JSON.stringify(this.#reserved));
      void this.queue.commit([reservation]).catch(() => undefined);
    }
    return number;
  }

  /** @internal */
  keepContainer(container: Container): void {
    this.#insertContainer(container);
  }

  /** @internal The name is free from now on. */
  forgetName(name: string): void {
    this.#byName.delete(name);
  }

  /** @internal */
  keepLine(line: Line): void {
    this.#insertLine(line);
  }

  /** @internal */
  dropLine(line: Line): void {
    this.lines.delete(line.id);
    const siblings = this.#linesOf.get(line.container);
    siblings?.delete(line.id);
    if (siblings?.size === 0) this.#linesOf.delete(line.container);
    this.applied.delete(line.id);
    this.#placeChild(line, null);
    this.structure++;
  }

  #placeChild(line: Line, base: Base | null): void {
    const before = this.#basedOn.get(line.id);
    if (before === (base ?? undefined)) return;
    if (before) {
      const versions = this.#children.get(before.line)!;
      const children = versions.get(before.version)!;
      children.delete(line);
      if (children.size === 0) versions.delete(before.version);
      if (versions.size === 0) this.#children.delete(before.line);
      this.#basedOn.delete(line.id);
    }
    if (!base) return;
    this.#basedOn.set(line.id, base);
    const versions = this.#children.get(base.line) ?? new Map<number, Set<Line>>();
    this.#children.set(base.line, versions);
    const children = versions.get(base.version);
    if (children) children.add(line);
    else versions.set(base.version, new Set([line]));
  }

  /** @internal */
  keepSnapshot(snapshot: Snapshot): void {
    this.snapshots.set(snapshot.id, snapshot);
    const named = this.#snapshotsByName.get(snapshot.container);
    if (named) named.set(snapshot.name, snapshot);
    else this.#snapshotsByName.set(snapshot.container, new Map([[snapshot.name, snapshot]]));
  }

  /** @internal */
  dropSnapshot(snapshot: Snapshot): void {
    this.snapshots.delete(snapshot.id);
    const named = this.#snapshotsByName.get(snapshot.container);
    if (named?.get(snapshot.name) !== snapshot) return;
    named.delete(snapshot.name);
    if (named.size === 0) this.#snapshotsByName.delete(snapshot.container);
  }

  /** @internal */
  keepFile(file: ExtentsFileRecord): void {
    if (!this.files.has(file.number)) this.#insertFile(file);
  }

  /** @internal */
  dropFile(file: ExtentsFileRecord): void {
    this.files.delete(file.number);
    const files = (this.#filesOf.get(file.container) ?? []).filter((number) => number !== file.number);
    if (files.length > 0) this.#filesOf.set(file.container, files);
    else this.#filesOf.delete(file.container);
  }

  #insertContainer(container: Container): void {
    this.containers.set(container.id, container);
    if (container.state === 'live') this.#byName.set(container.name, container);
  }

  #insertLine(line: Line): void {
    this.lines.set(line.id, line);
    const siblings = this.#linesOf.get(line.container);
    if (siblings) siblings.add(line.id);
    else this.#linesOf.set(line.container, new Set([line.id]));
    this.#placeChild(line, line.base);
    this.structure++;
  }

  /** Oldest first, as they were made: by their keys 10 comes before 9. */
  async #loadSyncs(): Promise<void> {
    const records: SyncRecord[] = [];
    await this.#each('sync', (text) => void records.push(readSync(text)));
    for (const record of records.sort((a, b) => a.id - b.id)) this.syncs.set(record.id, record);
  }

  async #loadLineages(): Promise<void> {
    await this.#each('lineage', (text, id) =>
      this.lineages.keep(readRecord(`lineage/${id}`, text, decodeLineage)),
    );
    await this.#each('lineage-id', (text, id) => {
      const key = parseLineageIdKey(id);
      if (!key) throw damaged(`the record lineage-id/${id} stands under no key`);
      this.lineages.keepId(key.volume, key.seq, readRecord(`lineage-id/${id}`, text, decodeLineageId));
    });
    await this.#each('group-cut', (text, id) => {
      const group = readRecord(`group-cut/${id}`, text, decodeGroupCut);
      this.groupCuts.set(group.id, group);
    });
    const stored = await this.queue.read((level) => level.get(jsonKey('meta', 'boot')));
    if (stored) this.boots = readRecord('meta/boot', stored.toString(), decodeBoots);
  }

  /** @internal */
  keepVm(vm: Vm): void {
    this.vms.set(vm.id, vm);
  }

  /** @internal */
  keepVmSnapshot(snapshot: VmSnapshot): void {
    this.vmSnapshots.set(snapshot.id, snapshot);
  }

  /** @internal */
  keepAttachment(attachment: Attachment): void {
    this.attachments.set(attachment.key, attachment);
  }

  /** @internal */
  keepCopy(copy: CopyRecord): void {
    this.copies.set(copy.volume, copy);
  }

  vmNamed(name: string): Vm | undefined {
    for (const vm of this.vms.values()) if (vm.name === name) return vm;
    return undefined;
  }

  /** The VM a container is a member of. */
  vmOf(container: number): Vm | undefined {
    for (const vm of this.vms.values())
      if (vm.members.some((member) => member.container === container)) return vm;
    return undefined;
  }

  /** Oldest first. */
  vmSnapshotsOf(vm: number): VmSnapshot[] {
    return [...this.vmSnapshots.values()].filter((one) => one.vm === vm).sort((a, b) => a.id - b.id);
  }

  #insertFile(file: ExtentsFileRecord): void {
    this.files.set(file.number, file);
    const files = this.#filesOf.get(file.container);
    this.#filesOf.set(
      file.container,
      [...(files ?? []), file.number].sort((a, b) => a - b),
    );
  }

  #listSnapshots(): void {
    const listed = new Map<number, Version[]>();
    for (const { id, line, version } of this.snapshots.values()) {
      if (!listed.has(line)) listed.set(line, []);
      listed.get(line)!.push({ version, state: 'listed', snapshot: id });
    }
    for (const [id, versions] of listed) {
      const line = this.lines.get(id);
      if (!line) throw damaged(`a snapshot names line ${id}, which is not there`);
      line.versions = [...line.versions, ...versions];
    }
    for (const line of this.lines.values())
      line.versions = [...line.versions].sort((a, b) => a.version - b.version);
  }

  async #loadPunches(): Promise<void> {
    await this.queue.read(async (level) => {
      for await (const page of level.scan(ALL_PUNCHES)) {
        for (const [key, value] of page) {
          const id = parsePunchKey(key);
          if (id !== null) this.punches.set(id, { id, ranges: decodePunch(value) });
        }
      }
    });
  }

  async #loadCounters(): Promise<void> {
    const stored = await this.queue.read((level) => level.get(jsonKey('meta', 'counters')));
    if (!stored) return;
    const counters = parseCounters(stored);
    const used: Partial<Record<CounterName, ReadonlyMap<number, unknown>>> = {
      container: this.containers,
      line: this.lines,
      file: this.files,
      punch: this.punches,
      sync: this.syncs,
      vm: new Map<number, unknown>([...this.vms, ...this.vmSnapshots]),
    };
    counters.sync ??= 1;
    counters.vm ??= 1;
    for (const name of Object.keys(this.#next) as CounterName[]) {
      if (!Number.isSafeInteger(counters[name])) throw damaged(`the counter of ${name} numbers is missing`);
      let next = counters[name];
      for (const id of used[name]?.keys() ?? []) if (id >= next) next = id + 1;
      this.#next[name] = next;
      this.#reserved[name] = Math.max(counters[name], this.#next[name]);
    }
  }

  async #each(family: Family, insert: (text: string, id: string) => void): Promise<void> {
    await this.queue.read(async (level) => {
      for await (const page of level.scan(familyRange(family))) {
        for (const [key, value] of page) insert(value.toString(), key.toString().slice(family.length + 1));
      }
    });
  }
}

function readSync(text: string): SyncRecord {
  try {
    return decodeSync(text);
  } catch (cause) {
    throw damaged(`the record of a sync cannot be read (${(cause as Error).message})`);
  }
}

function readRecord<T>(key: string, text: string, decode: (text: string) => T): T {
  try {
    return decode(text);
  } catch (cause) {
    throw damaged(`the record ${key} cannot be read (${(cause as Error).message})`);
  }
}

function decodeBoots(text: string): number {
  const { starts } = (JSON.parse(text) ?? {}) as { starts?: unknown };
  if (!Number.isSafeInteger(starts)) throw new Error('it counts nothing');
  return starts as number;
}

function parseCounters(stored: Buffer): Counters {
  try {
    return (JSON.parse(stored.toString()) ?? {}) as Counters;
  } catch {
    throw damaged('the record meta/counters cannot be read');
  }
}

const NO_LINES: ReadonlySet<Line> = new Set();

function putJson(family: Family, id: string | number, text: string): Operation {
  return { type: 'put', key: jsonKey(family, id), value: Buffer.from(text) };
}

/**
 * One atomic group. Its calls change memory and note the operation; `commit` hands the group in. A round fills its change over several
 * turns, and others change the same lines and files meanwhile: so those are put as they are when the group is handed in.
 * With window records that is when the sets they are noted in have been read: who puts such records waits for the commit.
 */
export class Change {
  readonly #operations: Operation[] = [];
  #bytes = 0;
  /** Of window records: put with the group, in as far as it is not durable yet. */
  readonly #written: WrittenNotes;
  /** What memory relies on whatever becomes of the group: durable with it, or before it when the group is yielding. */
  readonly #lastingLines = new Set<Line>();
  readonly #lastingFiles = new Set<ExtentsFileRecord>();
  readonly punched: PendingPunch[] = [];
  readonly #catalog: Catalog;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
    this.#written = catalog.written.notes();
  }

  get isEmpty(): boolean {
    return this.#operations.length === 0 && this.#lastingLines.size === 0 && this.#lastingFiles.size === 0;
  }

  /** Half of what a batch may hold: whoever asks after every unit of a few records never gets beyond the whole. */
  get isHalfFull(): boolean {
    return (
      this.#operations.length + this.#written.operations >= MAX_BATCH_OPERATIONS / 2 ||
      this.#bytes + this.#written.bytes >= MAX_BATCH_BYTES / 2
    );
  }

  take(counter: CounterName): number {
    return this.#catalog.take(counter);
  }

  container(container: Container): this {
    this.#catalog.keepContainer(container);
    this.#add(putJson('container', container.id, encodeContainer(container)));
    return this;
  }

  /** Renames it; the old name is free at once. */
  rename(container: Container, name: string): this {
    this.#catalog.forgetName(container.name);
    container.name = name;
    return this.container(container);
  }

  removeContainer(container: Container): this {
    this.#catalog.containers.delete(container.id);
    if (this.#catalog.containerNamed(container.name) === container) this.#catalog.forgetName(container.name);
    this.#add({ type: 'del', key: jsonKey('container', container.id) });
    return this;
  }

  line(line: Line): this {
    this.#catalog.keepLine(line);
    this.#add(putJson('line', line.id, encodeLine(line)));
    return this;
  }

  /** As line(), but durable even when the group is given back to its owner (and harmless then). */
  lastingLine(line: Line): this {
    this.#catalog.keepLine(line);
    this.#lastingLines.add(line);
    return this;
  }

  removeLine(line: Line): this {
    this.#catalog.dropLine(line);
    this.#add(
      { type: 'del', key: jsonKey('line', line.id) },
      { type: 'del', key: jsonKey('applied', line.id) },
    );
    return this;
  }

  snapshot(snapshot: Snapshot): this {
    this.#catalog.keepSnapshot(snapshot);
    this.#add(putJson('snapshot', snapshot.id, encodeSnapshot(snapshot)));
    return this;
  }

  removeSnapshot(snapshot: Snapshot): this {
    this.#catalog.dropSnapshot(snapshot);
    this.#add({ type: 'del', key: jsonKey('snapshot', snapshot.id) });
    return this;
  }

  file(file: ExtentsFileRecord): this {
    this.#catalog.keepFile(file);
    this.#add(putJson('file', file.number, encodeFile(file)));
    return this;
  }

  removeFile(file: ExtentsFileRecord): this {
    this.#catalog.dropFile(file);
    this.#add({ type: 'del', key: jsonKey('file', file.number) });
    return this;
  }

  /** Records naming places of `file` stand at `container` from now on: the file outlives its own container. */
  names(file: number, container: number): this {
    const record = this.#catalog.files.get(file);
    if (!record || record.movedOut || record.container === container) return this;
    record.movedOut = true;
    this.#lastingFiles.add(record);
    return this;
  }

  /** Stores a window record (already encoded). The line's set of regions and the index of written windows grow with it. */
  window(line: Line, window: bigint, version: number, record: Buffer): this {
    const region = regionOf(window);
    if (!line.regions.has(region)) {
      line.regions.add(region);
      this.#catalog.structure++;
      this.#lastingLines.add(line);
    }
    this.#written.add(line.id, version, window);
    this.#add({ type: 'put', key: windowKey(line.id, window, version), value: record });
    return this;
  }

  removeWindow(line: number, window: bigint, version: number): this {
    this.#add({ type: 'del', key: windowKey(line, window, version) });
    return this;
  }

  /** Of a version that has no records any more. */
  removeWritten(line: number, version: number, chunk: bigint): this {
    this.#catalog.written.forget(line, version, chunk);
    this.#add({ type: 'del', key: writtenKey(line, version, chunk) });
    return this;
  }

  /** Places to deallocate once this is durable and a grace period has passed. */
  punch(ranges: readonly BlockRange[]): this {
    for (let at = 0; at < ranges.length; at += MAX_PUNCH_RANGES) {
      const punch = { id: this.take('punch'), ranges: ranges.slice(at, at + MAX_PUNCH_RANGES) };
      this.punched.push(punch);
      this.#add({ type: 'put', key: punchKey(punch.id), value: encodePunch(punch.ranges) });
    }
    return this;
  }

  removePunch(id: number): this {
    this.#catalog.punches.delete(id);
    this.#add({ type: 'del', key: punchKey(id) });
    return this;
  }

  applied(line: number, position: bigint): this {
    this.#add(putJson('applied', line, position.toString()));
    return this;
  }

  sync(record: SyncRecord): this {
    this.#catalog.syncs.set(record.id, record);
    this.#add(putJson('sync', record.id, encodeSync(record)));
    return this;
  }

  removeSync(record: SyncRecord): this {
    this.#catalog.syncs.delete(record.id);
    this.#add({ type: 'del', key: jsonKey('sync', record.id) });
    return this;
  }

  vm(vm: Vm): this {
    this.#catalog.keepVm(vm);
    this.#add(putJson('vm', vm.id, encodeVm(vm)));
    return this;
  }

  removeVm(vm: Vm): this {
    this.#catalog.vms.delete(vm.id);
    this.#add({ type: 'del', key: jsonKey('vm', vm.id) });
    return this;
  }

  vmSnapshot(snapshot: VmSnapshot): this {
    this.#catalog.keepVmSnapshot(snapshot);
    this.#add(putJson('vm-snapshot', snapshot.id, encodeVmSnapshot(snapshot)));
    return this;
  }

  removeVmSnapshot(snapshot: VmSnapshot): this {
    this.#catalog.vmSnapshots.delete(snapshot.id);
    this.#add({ type: 'del', key: jsonKey('vm-snapshot', snapshot.id) });
    return this;
  }

  attachment(attachment: Attachment): this {
    this.#catalog.keepAttachment(attachment);
    this.#add(putJson('attachment', attachment.key, encodeAttachment(attachment)));
    return this;
  }

  removeAttachment(attachment: Attachment): this {
    this.#catalog.attachments.delete(attachment.key);
    this.#add({ type: 'del', key: jsonKey('attachment', attachment.key) });
    return this;
  }

  copy(copy: CopyRecord): this {
    this.#catalog.keepCopy(copy);
    this.#add(putJson('copy', copy.volume, encodeCopy(copy)));
    return this;
  }

  removeCopy(volume: string): this {
    if (!this.#catalog.copies.delete(volume)) return this;
    this.#add({ type: 'del', key: jsonKey('copy', volume) });
    return this;
  }

  /** The snapshot is called otherwise from now on. */
  renameSnapshot(snapshot: Snapshot, name: string): this {
    this.#catalog.dropSnapshot(snapshot);
    snapshot.name = name;
    return this.snapshot(snapshot);
  }

  lineage(lineage: Lineage): this {
    this.#catalog.lineages.keep(lineage);
    this.#add(putJson('lineage', lineage.record.volume, encodeLineage(lineage)));
    return this;
  }

  lineageId(volume: string, seq: number, id: string): this {
    this.#catalog.lineages.keepId(volume, seq, id);
    this.#add(putJson('lineage-id', lineageIdKey(volume, seq), encodeLineageId(id)));
    return this;
  }

  removeLineageId(volume: string, seq: number): this {
    this.#catalog.lineages.dropId(volume, seq);
    this.#add({ type: 'del', key: jsonKey('lineage-id', lineageIdKey(volume, seq)) });
    return this;
  }

  groupCut(group: GroupCut): this {
    this.#catalog.groupCuts.set(group.id, group);
    this.#add(putJson('group-cut', group.id, encodeGroupCut(group)));
    return this;
  }

  removeGroupCut(group: GroupCut): this {
    this.#catalog.groupCuts.delete(group.id);
    this.#add({ type: 'del', key: jsonKey('group-cut', group.id) });
    return this;
  }

  /** This start counts. */
  boot(): this {
    this.#catalog.boots += 1;
    return this.meta('boot', { starts: this.#catalog.boots });
  }

  meta(name: string, value: unknown): this {
    this.#add(putJson('meta', name, JSON.stringify(value)));
    return this;
  }

  /** Resolves when it is durable. Pending punches count from then on. */
  async commit(mode: { yielding?: boolean } = {}): Promise<void> {
    try {
      if (!this.#written.isEmpty) await this.#written.hold();
    } catch (error) {
      // The index cannot be read, so the group is not handed in; what memory relies on is.
      void this.#catalog.queue.commit(this.#lasting()).catch(() => undefined);
      throw error;
    }
    try {
      await this.#handIn(mode);
      this.#written.done();
    } catch (error) {
      this.#written.failed();
      throw error;
    }
    for (const punch of this.punched) this.#catalog.punches.set(punch.id, punch);
  }

  async #handIn(mode: { yielding?: boolean }): Promise<void> {
    const { queue } = this.#catalog;
    // Sets are shared: one that is given back could be followed by an older one that is written once more.
    const lasting = [...this.#lasting(), ...this.#written.puts()];
    if (!mode.yielding) return queue.commit([...lasting, ...this.#operations]);
    if (lasting.length > 0) void queue.commit(lasting).catch(() => undefined);
    return queue.commit(this.#operations, mode);
  }

  #add(...operations: Operation[]): void {
    this.#operations.push(...operations);
    this.#bytes += bytesOf(operations);
  }

  /** Lines and files as they are now; those that have gone meanwhile stay gone. */
  #lasting(): Operation[] {
    const { lines, files } = this.#catalog;
    return [
      ...[...this.#lastingLines]
        .filter((line) => lines.get(line.id) === line)
        .map((line) => putJson('line', line.id, encodeLine(line))),
      ...[...this.#lastingFiles]
        .filter((file) => files.get(file.number) === file)
        .map((file) => putJson('file', file.number, encodeFile(file))),
    ];
  }
}

function damaged(what: string): CellblockError {
  return new CellblockError('catalog-corrupt', `The metadata of the store contradicts itself: ${what}.`, {
    hint: 'Run `cellblock store check`, and restore the store from a copy.',
  });
}
