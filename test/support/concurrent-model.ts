// What volumes and snapshots may read as while much is under way at once. A block may hold any of a few values: several as long as
// a request for it has not been answered, and one again when it has been, or has been read after a death.

/** Values of every block that was ever written; any other reads zero. */
export class Contents {
  readonly #blocks: Map<number, Set<number>>;

  constructor(blocks = new Map<number, Set<number>>()) {
    this.#blocks = blocks;
  }

  copy(): Contents {
    return new Contents(new Map([...this.#blocks].map(([block, values]) => [block, new Set(values)])));
  }

  written(): number[] {
    return [...this.#blocks.keys()];
  }

  mayBe(block: number): ReadonlySet<number> {
    return this.#blocks.get(block) ?? ONLY_ZERO;
  }

  alsoMayBe(block: number, value: number): void {
    this.#blocks.set(block, new Set([...this.mayBe(block), value]));
  }

  is(block: number, value: number): void {
    this.#blocks.set(block, new Set([value]));
  }
}

const ONLY_ZERO: ReadonlySet<number> = new Set([0]);

/** Something asked for and not yet answered may have happened or not. */
interface Uncertain {
  /** Not answered: it may be there or not. */
  coming: boolean;
  /** Its delete was asked for. */
  going: boolean;
}

export class ModelSnapshot implements Uncertain {
  readonly name: string;
  readonly contents: Contents;
  /** In blocks. */
  sizes: Set<number>;
  coming = true;
  going = false;

  constructor(name: string, contents: Contents, sizes: ReadonlySet<number>) {
    this.name = name;
    this.contents = contents;
    this.sizes = new Set(sizes);
  }
}

export class ModelVolume implements Uncertain {
  readonly name: string;
  /** What it reads as, also after the death of the process. */
  now: Contents;
  /** What it may come back with after power loss: what was flushed last and all that was written since. */
  lossy: Contents;
  /** In blocks. */
  sizes: Set<number>;
  readonly snapshots = new Map<string, ModelSnapshot>();
  coming = true;
  going = false;
  /** Cuts under way: a write that is not answered before may be in or out. */
  readonly #cuts = new Set<ModelSnapshot>();

  constructor(name: string, contents: Contents, blocks: number) {
    this.name = name;
    this.now = contents;
    this.lossy = contents.copy();
    this.sizes = new Set([blocks]);
  }

  get size(): number {
    return Math.min(...this.sizes);
  }

  /** Snapshots that were answered, those whose delete was asked for included. */
  takenSnapshots(): ModelSnapshot[] {
    return [...this.snapshots.values()].filter(({ coming }) => !coming);
  }

  requestBegins(changes: ReadonlyMap<number, number>): void {
    const concerned = [this.now, this.lossy, ...[...this.#cuts].map(({ contents }) => contents)];
    for (const [block, value] of changes) for (const contents of concerned) contents.alsoMayBe(block, value);
  }

  requestEnds(changes: ReadonlyMap<number, number>): void {
    for (const [block, value] of changes) this.now.is(block, value);
  }

  flushed(): void {
    this.lossy = this.now.copy();
  }

  resizeBegins(blocks: number): void {
    this.requestBegins(this.#behind(blocks));
    this.sizes.add(blocks);
    for (const { sizes } of this.#cuts) sizes.add(blocks);
  }

  resizeEnds(blocks: number): void {
    this.sizes = new Set([blocks]);
    for (const block of this.#behind(blocks).keys()) {
      this.now.is(block, 0);
      this.lossy.is(block, 0);
    }
  }

  /** It was refused: nothing has changed. */
  resizeRefused(blocks: number): void {
    this.sizes.delete(blocks);
  }

  #behind(end: number): Map<number, number> {
    return new Map(this.now.written().flatMap((block) => (block >= end ? [[block, 0]] : [])));
  }

  cutBegins(name: string): ModelSnapshot {
    const snapshot = new ModelSnapshot(name, this.now.copy(), this.sizes);
    this.snapshots.set(name, snapshot);
    this.#cuts.add(snapshot);
    return snapshot;
  }

  /** What the snapshot has is stable; and what was written since the cut began is in its contents too. */
  cutEnds(snapshot: ModelSnapshot): void {
    snapshot.coming = false;
    this.#cuts.delete(snapshot);
    this.lossy = snapshot.contents.copy();
  }

  cutRefused(snapshot: ModelSnapshot): void {
    this.snapshots.delete(snapshot.name);
    this.#cuts.delete(snapshot);
  }

  /** After a start: whatever was under way has ended one way or the other. */
  restarted(how: 'clean' | 'process-death' | 'power-loss'): void {
    this.coming = this.going = false;
    this.#cuts.clear();
    if (how === 'power-loss') this.now = this.lossy.copy();
    if (how === 'clean') this.lossy = this.now.copy();
  }
}
