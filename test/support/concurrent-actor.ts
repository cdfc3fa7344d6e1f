// Who does things in a concurrent history: one actor for every volume, which writes, trims, reads and flushes it, takes snapshots of it
// alone and together with others, clones and deletes them, resizes it and deletes it at last. One thing after the other, but for
// deletes of snapshots, which go on from the side.

import type { Operations } from '../../src/operations/operations.js';
import type { SyncInfo, SyncRequest } from '../../src/operations/sync-operations.js';
import type { SyncIdentity } from '../../src/operations/sync-types.js';
import { type Contents, type ModelSnapshot, ModelVolume } from './concurrent-model.js';
import { FAILING_STEPS, type FailingStep, failingIdentity, OnPurpose } from './failing-identity.js';
import type { Session } from './fake-plane.js';
import { turns } from './late-level.js';
import { PLAIN_SYNC } from './plain-sync.js';
import { BLOCKS, blocksBytes, type Store } from './store-harness.js';

/** Windows that are written: some alone, some beside one another, in several regions of 64. */
export const HOT_WINDOWS = [0, 1, 2, 3, 64, 65, 130, 131, 200, 201];
export const VOLUME_BLOCKS = 210 * BLOCKS;
const SIZES = [VOLUME_BLOCKS, 202 * BLOCKS, 131 * BLOCKS + 5, 65 * BLOCKS, 3 * BLOCKS + 1];
const MOST_VOLUMES = 8;
const MOST_SNAPSHOTS = 8;
const LONGEST_WRITE = 20;
const LONGEST_TRIM = 60;

/** Longer than the hold of clients may last. */
const SLOW_TURNS = 250;

/** What is synced, and how. */
interface SyncWork {
  from: { volume: ModelVolume; snapshot: ModelSnapshot };
  undo: boolean;
  request: SyncRequest;
  failing: FailingStep | null;
}

/** Where actors act: the history they are of. */
export interface Stage {
  readonly store: Store;
  readonly operations: Operations;
  readonly volumes: Map<string, ModelVolume>;
  /** Snapshots asked for in one instant in this life. */
  readonly groups: { volume: ModelVolume; name: string }[][];
  /** Its number; 0 between lives. */
  readonly life: number;
  readonly isStopping: boolean;
  below(n: number): number;
  newValue(): number;
  newName(prefix: string): string;
  note(line: string): void;
  fail(what: string): void;
  isExcused(error: unknown): boolean;
  /** An actor for the volume. */
  begin(volume: ModelVolume): void;
  create(): Promise<ModelVolume>;
  /** That of the sync that is called next in this turn. */
  nextIdentity: SyncIdentity | null;
  /** A sync has ended in this way. */
  synced(ending: string): void;
  compare(read: { where: string; block: number; values: readonly number[] }, contents: Contents): void;
}

/** The life in which this actor began has ended. */
class Over extends Error {}

export class Actor {
  readonly #history: Stage;
  readonly #volume: ModelVolume;
  readonly #life: number;
  #session: Session | null = null;

  constructor(history: Stage, volume: ModelVolume) {
    this.#history = history;
    this.#volume = volume;
    this.#life = history.life;
  }

  /** Ends with its life, its volume, or the first thing that must not be. */
  async run(): Promise<void> {
    const beginnings = this.#beginnings();
    while (!this.#isOver && !this.#volume.going) {
      try {
        await this.#rest(7);
        await (beginnings.shift() ?? (() => this.#act()))();
      } catch (error) {
        if (error instanceof Over || this.#isOver) break;
        if (!this.#history.isExcused(error)) this.#history.fail(`${this.#volume.name}: ${stackOf(error)}`);
      }
    }
    this.#leave();
  }

  /** A new volume is cloned before any round has stored something of it; else what a start or a clone has left is looked at. */
  #beginnings(): (() => Promise<void>)[] {
    const isNew = this.#volume.now.written().length === 0 && this.#volume.snapshots.size === 0;
    if (!isNew) return Array.from({ length: this.#below(4) }, () => () => this.#read());
    return [
      () => this.#write(),
      () => this.#write(),
      () => this.#snapshot([this.#volume]),
      () => this.#clone(),
    ];
  }

  get #isOver(): boolean {
    return this.#history.isStopping || this.#life !== this.#history.life;
  }

  /** What is answered after the end of the life was never heard of. */
  async #ask<T>(question: Promise<T>): Promise<T> {
    const answer = await question;
    if (this.#life !== this.#history.life) throw new Over();
    return answer;
  }

  #rest(most: number): Promise<void> {
    return this.#ask(turns(this.#below(most + 1)));
  }

  #below(n: number): number {
    return this.#history.below(n);
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#below(list.length)];
  }

  #note(what: string): void {
    this.#history.note(`${this.#volume.name}: ${what}`);
  }

  async #act(): Promise<void> {
    if (this.#isOver) return;
    const verbs: [number, () => unknown][] = [
      [38, () => this.#write()],
      [10, () => this.#trim()],
      [6, () => this.#read()],
      [3, () => this.#flush()],
      [8, () => this.#round()],
      [4, () => this.#evict()],
      [3, () => this.#leave()],
      [8, () => this.#snapshot([this.#volume])],
      [4, () => this.#snapshot(this.#group())],
      [7, () => this.#clone()],
      [9, () => this.#deleteSnapshots()],
      [4, () => this.#readSnapshot()],
      [3, () => this.#resize()],
      [9, () => this.#sync()],
      [1, () => this.#wantFile()],
      [1, () => this.#createOther()],
      [1, () => this.#deleteVolume()],
      [1, () => this.#ask(this.#history.operations.parts.files.releaseUnnamed())],
    ];
    let dice = this.#below(verbs.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, verb] of verbs) {
      dice -= weight;
      if (dice < 0) return void (await verb());
    }
  }

  // ---- as a client ----

  async #connected(): Promise<Session> {
    this.#session ??= await this.#ask(this.#history.store.plane.connect(this.#volume.name));
    return this.#session;
  }

  #leave(): void {
    if (this.#life === this.#history.life) this.#session?.close();
    this.#session = null;
  }

  /** The first block of a hot window, or one in it; null when the volume ends before. */
  #place(): number | null {
    const block = this.#pick(HOT_WINDOWS)! * BLOCKS + this.#pick([0, this.#below(BLOCKS)])!;
    return block < this.#volume.size ? block : null;
  }

  async #write(): Promise<void> {
    const session = await this.#connected();
    const block = this.#place();
    if (block === null) return;
    const count = 1 + this.#below(Math.min(LONGEST_WRITE, this.#volume.size - block));
    const values = Array.from({ length: count }, () => this.#history.newValue());
    const changes = new Map(values.map((value, index) => [block + index, value]));
    this.#note(`write ${block}+${count}: ${values[0]} and on`);
    const request = { changes };
    this.#volume.requestBegins(request);
    await this.#ask(session.write(block, values));
    this.#volume.requestEnds(request);
  }

  /** A few blocks, or all that follow: then it is a cut-off. */
  async #trim(): Promise<void> {
    const session = await this.#connected();
    const block = this.#place();
    if (block === null) return;
    const rest = this.#volume.size - block;
    const count = this.#below(4) === 0 ? rest : Math.min(rest, 1 + this.#below(LONGEST_TRIM));
    const within = this.#volume.now.written().filter((at) => at >= block && at < block + count);
    const changes = new Map(within.map((at) => [at, 0]));
    this.#note(`trim ${block}+${count}`);
    const request = { changes, trimmed: { block, count } };
    this.#volume.requestBegins(request);
    await this.#ask(session.trim(block, count));
    this.#volume.requestEnds(request);
  }

  async #read(): Promise<void> {
    const session = await this.#connected();
    const block = this.#place();
    if (block === null) return;
    const count = Math.min(2 * BLOCKS, this.#volume.size - block);
    const values = await this.#ask(session.read(block, count));
    this.#history.compare({ where: this.#volume.name, block, values }, this.#volume.now);
  }

  async #flush(): Promise<void> {
    const session = await this.#connected();
    this.#note('flush');
    session.flush();
    this.#volume.flushed();
  }

  async #round(): Promise<void> {
    const session = await this.#connected();
    this.#note('round');
    this.#history.store.plane.wantRound(session.handle);
  }

  async #evict(): Promise<void> {
    const session = await this.#connected();
    session.volume.evict();
  }

  async #wantFile(): Promise<void> {
    const session = await this.#connected();
    this.#history.store.plane.emit({ kind: 'file-wanted', handle: session.handle });
  }

  /** As long as it is read it stays as it is, whatever becomes of it meanwhile. */
  async #readSnapshot(): Promise<void> {
    const snapshot = this.#pick(this.#volume.takenSnapshots());
    if (!snapshot) return;
    const where = `${this.#volume.name}@${snapshot.name}`;
    const view = await this.#unlessGone(() => snapshot.going, this.#history.store.plane.connect(where));
    if (!view) return;
    const block = this.#pick(HOT_WINDOWS)! * BLOCKS;
    const size = Math.min(...snapshot.sizes);
    for (let time = 0; time < 2 && block < size; time++) {
      const values = await this.#ask(view.read(block, Math.min(BLOCKS, size - block)));
      this.#history.compare({ where, block, values }, snapshot.contents);
      view.volume.evict();
      await this.#rest(20);
    }
    view.close();
  }

  /** Null when it was refused because what it is about was being deleted. */
  async #unlessGone<T>(isGoing: () => boolean, question: Promise<T>): Promise<T | null> {
    try {
      return await this.#ask(question);
    } catch (error) {
      if (isGoing() && isNotFound(error)) return null;
      throw error;
    }
  }

  // ---- as an operator ----

  /** This volume with one or two others, closed clones among them. */
  #group(): ModelVolume[] {
    const others = [...this.#history.volumes.values()].filter(
      (other) => other !== this.#volume && !other.coming && !other.going,
    );
    const members = new Set([this.#volume, ...[1, 2].flatMap(() => this.#pick(others) ?? [])]);
    return [...members];
  }

  async #snapshot(volumes: ModelVolume[]): Promise<void> {
    if (volumes.some(({ snapshots }) => snapshots.size >= MOST_SNAPSHOTS)) return;
    const name = this.#history.newName('s');
    this.#note(`snapshot ${name} of ${volumes.map((volume) => volume.name).join(' ')}`);
    const cuts = volumes.map((volume) => volume.cutBegins(name));
    this.#history.groups.push(volumes.map((volume) => ({ volume, name })));
    const references = volumes.map((volume) => ({ volume: volume.name, snapshot: name }));
    try {
      const taken = await this.#unlessGone(
        () => volumes.some(({ going }) => going),
        this.#history.operations.createSnapshots(references),
      );
      volumes.forEach((volume, index) => {
        if (taken) volume.cutEnds(cuts[index]!);
        else volume.cutRefused(cuts[index]!);
      });
    } catch (error) {
      if (!this.#isOver) for (const [index, volume] of volumes.entries()) volume.cutRefused(cuts[index]!);
      throw error;
    }
  }

  async #clone(): Promise<void> {
    const snapshot = this.#pick(this.#volume.takenSnapshots());
    if (!snapshot || this.#history.volumes.size >= MOST_VOLUMES) return;
    const name = this.#history.newName('v');
    const clone = new ModelVolume(name, snapshot.contents.copy(), 0);
    clone.sizes = new Set(snapshot.sizes);
    this.#history.volumes.set(name, clone);
    this.#note(`clone ${snapshot.name} -> ${name}`);
    const made = await this.#unlessGone(
      () => snapshot.going,
      this.#history.operations.clone({ volume: this.#volume.name, snapshot: snapshot.name }, name),
    );
    if (!made) return void this.#history.volumes.delete(name);
    clone.coming = false;
    // Nobody opens it before its actor does; a group may come first.
    if (this.#below(2) === 0) this.#history.begin(clone);
    else await this.#snapshot([...new Set([...this.#group(), clone])]).finally(() => this.#begin(clone));
  }

  #begin(volume: ModelVolume): void {
    if (!this.#isOver && !volume.going) this.#history.begin(volume);
  }

  async #deleteSnapshots(): Promise<void> {
    const some = this.#volume.takenSnapshots().filter(({ going }) => !going && this.#below(3) === 0);
    if (some.length === 0) return;
    this.#note(`delete ${some.map(({ name }) => name).join(' ')}`);
    for (const snapshot of some) snapshot.going = true;
    void this.#deleteFromTheSide(some);
  }

  async #deleteFromTheSide(snapshots: ModelSnapshot[]): Promise<void> {
    const references = snapshots.map(({ name }) => ({ volume: this.#volume.name, snapshot: name }));
    try {
      const deleted = this.#history.operations.deleteSnapshots(references);
      await this.#unlessGone(() => this.#volume.going, deleted);
      for (const { name } of snapshots) this.#volume.snapshots.delete(name);
    } catch (error) {
      if (!this.#isOver) this.#history.fail(`${this.#volume.name}: delete: ${stackOf(error)}`);
    }
  }

  async #resize(): Promise<void> {
    const blocks = this.#pick(SIZES)!;
    const before = this.#volume.size;
    if (blocks === before || this.#volume.sync) return;
    this.#note(`resize to ${blocks}`);
    this.#volume.resizeBegins(blocks);
    try {
      const size = { sizeBytes: blocksBytes(blocks), force: true };
      await this.#ask(this.#history.operations.resizeVolume(this.#volume.name, size));
      this.#volume.resizeEnds(blocks);
    } catch (error) {
      if (!this.#isOver) this.#volume.resizeRefused(blocks);
      throw error;
    }
  }

  async #sync(): Promise<void> {
    const work = this.#volume.sync ? null : this.#syncWork();
    if (!work) return;
    const { request, from, failing } = work;
    if (!request.online) this.#leave();
    const { volume, snapshot } = from;
    const how = [request.online && 'online', request.force && 'force', request.grow && 'grow', failing];
    this.#note(
      `${work.undo ? 'undo' : 'sync'} to ${volume.name}@${snapshot.name} ${how.filter(Boolean).join(' ')}`,
    );
    this.#volume.syncBegins(
      { contents: snapshot.contents, size: [...snapshot.sizes][0]! },
      { ...request, after: this.#lastSync() },
    );
    const ended = this.#syncFromTheSide(work);
    // Who connects meanwhile would be sent away, or in the way.
    if (!request.online) await this.#ask(ended);
  }

  /** Null: there is nothing to sync to. */
  #syncWork(): SyncWork | null {
    const from = this.#below(5) === 0 ? this.#undoPoint() : this.#anySnapshot();
    if (!from || from.snapshot.sizes.size > 1 || this.#volume.sizes.size > 1) return null;
    const [size] = from.snapshot.sizes;
    const clients = this.#pick(['stay', 'stay', 'stay', 'none', 'sent away']);
    return {
      from,
      undo: from.volume === this.#volume && from.snapshot.name === this.#volume.undoPoint,
      request: {
        ...PLAIN_SYNC,
        online: clients === 'stay',
        force: clients === 'sent away',
        grow: size! > this.#volume.size || this.#below(2) === 0,
        safety: this.#volume.snapshots.size < MOST_SNAPSHOTS && this.#below(2) === 0,
      },
      failing: this.#below(3) === 0 ? this.#pick(FAILING_STEPS)! : null,
    };
  }

  #undoPoint(): SyncWork['from'] | null {
    const snapshot = this.#volume.snapshots.get(this.#volume.undoPoint ?? '');
    return snapshot ? { volume: this.#volume, snapshot } : null;
  }

  /** Of any volume, or of its own. */
  #anySnapshot(): SyncWork['from'] | undefined {
    const volumes = this.#below(3) === 0 ? [this.#volume] : [...this.#history.volumes.values()];
    return this.#pick(
      volumes.flatMap((volume) => volume.takenSnapshots().map((snapshot) => ({ volume, snapshot }))),
    );
  }

  #lastSync(): number {
    return Math.max(0, ...this.#history.operations.syncs.list().map(({ id }) => id!));
  }

  async #syncFromTheSide(work: SyncWork): Promise<void> {
    const asked = this.#callSync(work);
    const error = await asked.then(
      () => null,
      (error: unknown) => error,
    );
    if (isNotKnown(error)) await this.#workEnded();
    if (this.#life !== this.#history.life) return;
    const ending = this.#syncEnded(error);
    this.#note(`sync ${ending} ${error ?? ''}`);
    this.#history.synced(
      error === null ? ending : `${ending} ${(error as { code?: string }).code ?? work.failing}`,
    );
    if (error !== null && !this.#isOver && !this.#isExpected(error, work))
      this.#history.fail(`${this.#volume.name}: sync: ${stackOf(error)}`);
    if (error === null && ending !== 'done') this.#history.fail(`${this.#volume.name}: a sync is ${ending}`);
  }

  #callSync({ from, undo, request, failing }: SyncWork): Promise<SyncInfo> {
    const { operations } = this.#history;
    const slow = failing === 'expire';
    const identity = failingIdentity(slow ? null : failing, {
      atStep: (step) => (slow && step === 'restore' ? turns(SLOW_TURNS) : undefined),
    });
    this.#history.nextIdentity = identity;
    try {
      const { name } = this.#volume;
      if (undo) return operations.syncs.undo(name, request);
      return operations.syncs.sync(name, { volume: from.volume.name, snapshot: from.snapshot.name }, request);
    } finally {
      this.#history.nextIdentity = null;
    }
  }

  /** Of the volume, whatever was answered before; never, where the life ends first. */
  async #workEnded(): Promise<void> {
    const { catalog, devices } = this.#history.operations.parts;
    const container = catalog.containerNamed(this.#volume.name);
    if (container) await devices.mutexOf(container.id).run(() => Promise.resolve());
  }

  /** The record says how it ended, whatever was answered. */
  #syncEnded(error: unknown): string {
    const { sync } = this.#volume;
    const { name } = this.#volume;
    const [info] = this.#history.operations.syncs
      .list()
      .filter(({ id, target }) => target === name && id! > sync!.after);
    if (info?.phase !== 'done') {
      if (info && info.phase !== 'undone') this.#history.fail(`${name}: a sync that ended is ${info.phase}`);
      this.#volume.syncUndone();
      return 'undone';
    }
    const [safety] = info.safety;
    if (sync!.safety && safety === undefined)
      this.#history.fail(`${name}: the undo point is missing: ${error}`);
    this.#volume.syncEnds(safety === undefined ? null : safety.slice(name.length + 1));
    return 'done';
  }

  #isExpected(error: unknown, { from, undo, request, failing }: SyncWork): boolean {
    const { code } = error as { code?: string };
    if (error instanceof OnPurpose) return failing !== null;
    if (code === 'hold-expired') return request.online;
    // In the last step the limit of the hold cannot undo it any more.
    if (isNotKnown(error) && request.online) return true;
    if (code === 'volume-in-use') return !request.online && !request.force;
    if (code === 'sync-nothing-to-undo') return undo && from.snapshot.going;
    if (isNotFound(error)) return from.snapshot.going || from.volume.going || this.#volume.going;
    return this.#history.isExcused(error);
  }

  async #createOther(): Promise<void> {
    if (this.#history.volumes.size < MOST_VOLUMES) this.#begin(await this.#ask(this.#history.create()));
  }

  async #deleteVolume(): Promise<void> {
    if (this.#history.volumes.size <= 3) return;
    this.#note('delete volume');
    this.#leave();
    this.#volume.going = true;
    try {
      const how = { withSnapshots: true, disconnect: true };
      await this.#ask(this.#history.operations.deleteVolume(this.#volume.name, how));
      this.#history.volumes.delete(this.#volume.name);
    } catch (error) {
      if (this.#isOver) return;
      this.#volume.going = false;
      if ((error as { code?: string }).code !== 'volume-busy') throw error;
    }
  }
}

function isNotFound(error: unknown): boolean {
  const { code, errno } = error as { code?: string; errno?: number };
  return code === 'volume-not-found' || code === 'snapshot-not-found' || errno === 2;
}

/** The sync is done or undone, which is known later; its clients are sent away, and nobody comes in before. */
function isNotKnown(error: unknown): boolean {
  return /The sync waits for the metadata/.test(String(error));
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
