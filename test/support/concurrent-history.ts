// One concurrent history: lives of a store one after the other. In each an actor per volume does what it likes, LevelDB answers late
// and now and then fails, and the end comes in the middle of it all: a clean stop, the death of the process or the loss of power, at
// any batch or step of the data plane. After every start everything reads as the model allows, and what was answered stands.
//
// A history is determined by its seed: no clock and no disk of this machine is asked while actors are at work.

import { ALL_WINDOWS, familyRange } from '../../src/model/keys.js';
import type { Operations } from '../../src/operations/operations.js';
import type { SyncIdentity } from '../../src/operations/sync-types.js';
import { answerBothWays } from './both-ways.js';
import { metadataErrors, unfinishedSyncs } from './checked.js';
import { Actor, HOT_WINDOWS, type Stage, VOLUME_BLOCKS } from './concurrent-actor.js';
import { Contents, type ModelSnapshot, ModelVolume } from './concurrent-model.js';
import { answerLate, turn } from './late-level.js';
import { randomOf } from './random.js';
import { BLOCKS, blocksBytes, type Death, Store } from './store-harness.js';
import { testIdentity } from './test-identity.js';
import { TurnClock } from './turn-clock.js';

type End = 'clean' | Death;

/** Shown of what must not be. */
const MOST_FAILURES = 6;
/** Volumes nobody uses are closed after fifty turns. */
const IDLE_CLOSE_MS = 500;
/** A hundred and fifty turns: a sync takes fewer as long as LevelDB takes its batches. */
const HOLD_LIMIT_MS = 1500;

export interface HistoryOptions {
  seed: number;
  lives: number;
  /** Of everything that happens, for reading a failure. */
  log?: (line: string) => void;
}

/** Answers how often syncs ended in which way. Throws when something is not as it must be. */
export async function playConcurrently(options: HistoryOptions): Promise<Map<string, number>> {
  const history = new ConcurrentHistory(await Store.make(), options);
  history.clock.install();
  try {
    await history.play(options.lives);
    return history.endings;
  } finally {
    await history.end();
  }
}

export class ConcurrentHistory implements Stage {
  readonly store: Store;
  readonly clock = new TurnClock();
  readonly volumes = new Map<string, ModelVolume>();
  /** Snapshots asked for in one instant in this life. */
  readonly groups: { volume: ModelVolume; name: string }[][] = [];
  /** Its number; 0 between lives. */
  life = 0;
  isStopping = false;
  nextIdentity: SyncIdentity | null = null;
  /** How often syncs ended in which way. */
  readonly endings = new Map<string, number>();
  readonly #random: () => number;
  readonly #log: (line: string) => void;
  readonly #failures: string[] = [];
  #actors: Promise<void>[] = [];
  #lives = 0;
  #names = 0;
  #values = 0;
  /** Whether LevelDB fails now and then in this life. */
  #levelFails = false;
  /** Batches that LevelDB had taken when it failed last. */
  #writtenBefore = 0;

  constructor(store: Store, { seed, log }: HistoryOptions) {
    this.store = store;
    store.started = answerBothWays;
    answerBothWays(store);
    store.options = {
      idleCloseMs: IDLE_CLOSE_MS,
      holdLimitMs: HOLD_LIMIT_MS,
      identity: () => this.nextIdentity ?? testIdentity(),
    };
    this.#random = randomOf(seed);
    this.#log = log ?? (() => undefined);
  }

  get operations(): Operations {
    return this.store.operations;
  }

  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  newValue(): number {
    return ++this.#values;
  }

  newName(prefix: string): string {
    return `${prefix}${++this.#names}`;
  }

  note(line: string): void {
    this.#log(line);
  }

  fail(what: string): void {
    this.#log(`FAILED ${what}`);
    this.#failures.push(what);
  }

  /** A round that LevelDB did not take refuses what needs it; nothing has changed then. */
  isExcused(error: unknown): boolean {
    const isOfLevel = /The metadata of the store cannot be written|The sync waits for the metadata/;
    return this.#levelFails && isOfLevel.test(String(error));
  }

  synced(ending: string): void {
    this.endings.set(ending, (this.endings.get(ending) ?? 0) + 1);
  }

  begin(volume: ModelVolume): void {
    this.#actors.push(new Actor(this, volume).run());
  }

  async create(): Promise<ModelVolume> {
    const volume = new ModelVolume(this.newName('v'), new Contents(), VOLUME_BLOCKS);
    this.volumes.set(volume.name, volume);
    await this.operations.createVolume(volume.name, { sizeBytes: blocksBytes(VOLUME_BLOCKS) });
    volume.coming = false;
    return volume;
  }

  async play(lives: number): Promise<void> {
    await this.store.restart('clean');
    for (let count = 0; count < 3; count++) await this.create();
    for (let count = 0; count < lives; count++) {
      await this.#live();
      this.#throwFailures();
    }
    await this.#deleteEverything();
    this.#throwFailures();
  }

  async end(): Promise<void> {
    this.life = 0;
    this.isStopping = true;
    this.clock.uninstall();
    if (!this.store.isDead) this.store.die('process-death');
    await this.store.end();
  }

  #throwFailures(): void {
    if (this.#failures.length > 0) throw new Error(this.#failures.slice(0, MOST_FAILURES).join('\n'));
  }

  // ---- one life ----

  async #live(): Promise<void> {
    const end = this.#chooseEnd();
    await this.#sweepEnded();
    this.life = ++this.#lives;
    this.isStopping = false;
    this.#levelFails = this.below(3) === 0;
    this.#writtenBefore = 0;
    answerLate(this.store.level, (n) => this.below(n));
    for (const volume of [...this.volumes.values()]) this.begin(volume);
    await this.#letThemWork(end);
    if (this.#failures.length > 0) return;
    await this.#endLife(end);
    await this.#startAgain(end);
    await this.#verify(end);
  }

  #chooseEnd(): End {
    const dice = this.below(7);
    return dice === 0 ? 'clean' : dice < 4 ? 'power-loss' : 'process-death';
  }

  /** The sweep asks the disk of this machine, whose answers come when they come. */
  async #sweepEnded(): Promise<void> {
    for (const { id, kind } of this.operations.listTasks())
      if (kind === 'sweep') await this.operations.waitForTask(id);
  }

  async #letThemWork(end: End): Promise<void> {
    const turns = 20 + this.below(400);
    if (end !== 'clean' && this.below(2) === 0) this.#dieAtPoint(1 + this.below(60), end);
    for (let passed = 0; passed < turns && this.#failures.length === 0 && !this.store.isDead; passed++) {
      if (this.#levelFails && this.below(30) === 0) this.#failBatches();
      await turn();
      this.clock.tick();
    }
  }

  /** The end comes before or after a batch, or at a step of the data plane. */
  #dieAtPoint(number: number, how: Death): void {
    let passed = 0;
    const point = (where: string): void => {
      if (++passed === number) this.#die(how, where);
    };
    this.store.plane.onStep = point;
    this.store.level.onBatch = (when) => point(`${when} a batch`);
  }

  #die(how: Death, where: string): void {
    this.note(`--- ${how} ${where}`);
    this.life = 0;
    this.store.die(how);
  }

  /** Fewer in a row than it takes until those are told who only wait. */
  #failBatches(): void {
    const { failures, log } = this.store.level;
    const count = 1 + this.below(2);
    if (failures.length > 0 || log.length === this.#writtenBefore) return;
    this.#writtenBefore = log.length;
    for (let failed = 0; failed < count; failed++) failures.push({ applied: this.below(2) === 0 });
  }

  async #endLife(end: End): Promise<void> {
    if (end === 'clean') {
      this.note('--- a clean stop');
      this.isStopping = true;
      await Promise.all(this.#actors);
      this.store.level.failures = [];
      await this.operations.close();
    } else if (!this.store.isDead) {
      this.#die(end, 'between two turns');
    }
    this.clock.forget();
    this.life = 0;
    this.#actors = [];
  }

  /** Now and then the first attempt ends in the middle too. */
  async #startAgain(end: End): Promise<void> {
    if (this.below(3) === 0) {
      const number = 1 + this.below(12);
      const outcome = await this.store.survive(() =>
        this.store.start({}, () => this.#dieAtPoint(number, end === 'power-loss' ? end : 'process-death')),
      );
      if (outcome === 'ended') return this.#dieAtPoint(0, 'process-death');
    }
    await this.store.start();
  }

  // ---- after it ----

  async #verify(end: End): Promise<void> {
    this.#checkGroups();
    this.#checkNames(end);
    if (this.#failures.length > 0) return;
    await this.#readEverything('after the start');
    if (this.below(2) === 0) {
      await this.store.settle();
      await this.#readEverything('when all had ended');
    }
    await this.#checkMetadata();
    this.#checkTroubles();
  }

  /** All of a group or none, but for what was to be deleted again. */
  #checkGroups(): void {
    for (const group of this.groups.splice(0)) {
      const left = group.filter(({ volume, name }) => {
        return this.#isListed(volume.name) && volume.snapshots.get(name)?.going === false;
      });
      const there = left.filter(({ volume, name }) => this.#snapshotsOf(volume.name).has(name));
      if (there.length > 0 && there.length < left.length)
        this.fail(`snapshot ${group[0]!.name}: of a group of ${group.length} only some are there`);
    }
  }

  #isListed(volume: string): boolean {
    return this.operations.listVolumes().some(({ name }) => name === volume);
  }

  #snapshotsOf(volume: string): Set<string> {
    return new Set(this.operations.listSnapshots(volume).map(({ name }) => name));
  }

  /** What was answered is there or gone; what was under way is one or the other. */
  #checkNames(end: End): void {
    const names = new Set(this.operations.listVolumes().map(({ name }) => name));
    for (const name of names) if (!this.volumes.has(name)) this.fail(`volume ${name} came back`);
    for (const [name, volume] of [...this.volumes]) {
      if (names.has(name)) {
        if (volume.sync) this.#endSync(volume);
        volume.restarted(end);
        this.#checkSize(name, volume, this.operations.showVolume(name).sizeBytes);
        this.#checkSnapshots(volume);
        continue;
      }
      if (!volume.coming && !volume.going) this.fail(`volume ${name} is gone`);
      this.volumes.delete(name);
    }
  }

  /** It was under way when the life ended: wholly there or wholly not, as its record says. */
  #endSync(volume: ModelVolume): void {
    const { after, safety } = volume.sync!;
    const { name } = volume;
    const infos = this.operations.syncs.list().filter(({ id, target }) => target === name && id! > after);
    const [info] = infos;
    if (infos.length > 1) this.fail(`${name} has ${infos.length} records of one sync`);
    this.synced(`death: ${info?.phase ?? 'not begun'}`);
    if (info?.phase !== 'done') {
      volume.syncUndone();
      return;
    }
    if (safety && info.safety.length === 0) this.fail(`${name}: the undo point is missing`);
    volume.syncEnds(info.safety[0]?.slice(name.length + 1) ?? null);
  }

  #checkSnapshots(volume: ModelVolume): void {
    const names = this.#snapshotsOf(volume.name);
    for (const name of names)
      if (!volume.snapshots.has(name)) this.fail(`snapshot ${volume.name}@${name} came back`);
    for (const [name, snapshot] of [...volume.snapshots]) {
      if (names.has(name)) {
        const reference = { volume: volume.name, snapshot: name };
        this.#checkSize(name, snapshot, this.operations.showSnapshot(reference).sizeBytes);
        snapshot.coming = snapshot.going = false;
        continue;
      }
      if (!snapshot.coming && !snapshot.going) this.fail(`snapshot ${volume.name}@${name} is gone`);
      volume.snapshots.delete(name);
    }
  }

  #checkSize(name: string, model: ModelVolume | ModelSnapshot, sizeBytes: bigint): void {
    const blocks = Number(sizeBytes / 4096n);
    if (!model.sizes.has(blocks))
      this.fail(`${name} has ${blocks} blocks, may have ${[...model.sizes].join(' or ')}`);
    model.sizes = new Set([blocks]);
  }

  async #readEverything(when: string): Promise<void> {
    for (const volume of this.volumes.values()) {
      await this.#readExport(when, volume.name, volume.now, volume.size);
      for (const snapshot of volume.snapshots.values())
        await this.#readExport(
          when,
          `${volume.name}@${snapshot.name}`,
          snapshot.contents,
          [...snapshot.sizes][0]!,
        );
    }
  }

  /** What is read is what it is from now on. */
  async #readExport(when: string, name: string, contents: Contents, size: number): Promise<void> {
    const session = await this.store.plane.connect(name);
    const windows = new Set([
      ...HOT_WINDOWS,
      ...contents.written().map((block) => Math.floor(block / BLOCKS)),
    ]);
    for (const window of windows) {
      const block = window * BLOCKS;
      if (block >= size) continue;
      const values = await session.read(block, Math.min(BLOCKS, size - block));
      this.compare({ where: `${when}: ${name}`, block, values }, contents);
      for (const [index, value] of values.entries())
        if (contents.mayBe(block + index).size > 1) contents.is(block + index, value);
    }
    session.close();
  }

  compare(
    { where, block, values }: { where: string; block: number; values: readonly number[] },
    contents: Contents,
  ): void {
    for (const [index, value] of values.entries()) {
      const may = contents.mayBe(block + index);
      if (!may.has(value))
        this.fail(`${where} block ${block + index}: ${value}, may be ${[...may].join(' or ')}`);
    }
  }

  async #checkMetadata(): Promise<void> {
    for (const wrong of [...unfinishedSyncs(this.store), ...(await metadataErrors(this.store))])
      this.fail(wrong);
  }

  #checkTroubles(): void {
    for (const { message, facts } of this.store.troubles.splice(0)) {
      const { err, reason } = facts as { err?: unknown; reason?: string };
      if (
        EXPECTED_TROUBLES.has(message) ||
        this.#isTroubleOfLevel(`${message} ${err} ${reason}`) ||
        isLimitOfHold(err) ||
        isGone(err)
      )
        continue;
      this.fail(`log: ${message} ${err instanceof Error ? err.stack : reason}`);
    }
  }

  #isTroubleOfLevel(trouble: string): boolean {
    return this.#levelFails && /metadata.* cannot be written|No space left/.test(trouble);
  }

  // ---- at last ----

  /** Nothing is left of what is deleted. */
  async #deleteEverything(): Promise<void> {
    for (const name of this.volumes.keys())
      await this.operations.deleteVolume(name, { withSnapshots: true, disconnect: true });
    await this.store.settle();
    const { catalog, files } = this.operations.parts;
    await files.releaseUnnamed();
    for (const family of ['containers', 'lines', 'snapshots', 'files', 'punches'] as const)
      if (catalog[family].size > 0) this.fail(`${catalog[family].size} ${family} are left`);
    for (const range of [ALL_WINDOWS, familyRange('container'), familyRange('line')])
      for await (const page of this.store.database.scan(range)) this.fail(`${page.length} keys are left`);
    this.#checkTroubles();
  }
}

const EXPECTED_TROUBLES = new Set([
  'changes that were never flushed did not survive',
  'a sync that a stop had interrupted was undone',
]);

/** A sync in its last step waits on without its clients. */
function isLimitOfHold(error: unknown): boolean {
  return ((error ?? {}) as { code?: string }).code === 'hold-expired';
}

/** Of an export that was asked for while it was deleted. */
function isGone(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: string };
  return code === 'volume-not-found' || code === 'snapshot-not-found';
}
