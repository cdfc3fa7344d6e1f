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

  isWritten(block: number): boolean {
    return this.#blocks.has(block);
  }

  /** The block is what it is there. */
  take(block: number, other: Contents): void {
    this.#blocks.set(block, new Set(other.mayBe(block)));
  }

  alsoMayBeAsIn(other: Contents): void {
    for (const block of other.written()) for (const value of other.mayBe(block)) this.alsoMayBe(block, value);
  }
}

/** The block that is the identity of a volume. */
const IDENTITY = 0;

const ONLY_ZERO: ReadonlySet<number> = new Set([0]);

/** Something asked for and not yet answered may have happened or not. */
interface Uncertain {
  /** Not answered: it may be there or not. */
  coming: boolean;
  /** Its delete was asked for. */
  going: boolean;
}

/** Blocks and what a request puts into them. */
type Changes = Map<number, number>;

/** A request that is not answered; a trim says which blocks it is about, as what is in them may change under it. */
export interface ModelRequest {
  changes: Changes;
  trimmed?: { block: number; count: number };
}

/** A sync that is not answered: what there is if it comes to be, and if it does not. */
export interface ModelSync {
  readonly safety: boolean;
  /** Records of syncs up to this one were there before. */
  readonly after: number;
  /** With what is written meanwhile in or out: it may come before and after. */
  readonly ifDone: Contents;
  readonly ifNot: Contents;
  lossyIfNot: Contents;
  /** What the undo point has. */
  readonly old: Contents;
  readonly oldSizes: Set<number>;
  readonly newSize: number;
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
  readonly #requests = new Set<ModelRequest>();
  sync: ModelSync | null = null;
  /** The snapshot an undo goes back to. */
  undoPoint: string | null = null;

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

  requestBegins(request: ModelRequest): void {
    this.#requests.add(request);
    this.#alsoMayBe(request.changes);
  }

  #alsoMayBe(changes: Changes): void {
    const { sync } = this;
    const ofSync = sync ? [sync.ifDone, sync.ifNot, sync.lossyIfNot, sync.old] : [];
    const ofCuts = [...this.#cuts].map(({ contents }) => contents);
    for (const contents of [this.now, this.lossy, ...ofSync, ...ofCuts])
      for (const [block, value] of changes) contents.alsoMayBe(block, value);
  }

  /** While a sync is under way it may have been before it, and of no effect. */
  requestEnds(request: ModelRequest): void {
    this.#requests.delete(request);
    const sure = this.sync ? this.sync.ifNot : this.now;
    for (const [block, value] of request.changes) sure.is(block, value);
    if (this.sync && request.changes.has(IDENTITY)) this.now.is(IDENTITY, request.changes.get(IDENTITY)!);
  }

  flushed(): void {
    if (this.sync) this.sync.lossyIfNot = this.sync.ifNot.copy();
    this.lossy = this.now.copy();
  }

  /** It takes the contents but for its identity, which nobody sees otherwise at any time. */
  syncBegins(
    from: { contents: Contents; size: number },
    options: { grow: boolean; safety: boolean; after: number },
  ): void {
    const size = options.grow ? Math.max(from.size, this.size) : this.size;
    for (const request of this.#requests) widen(request, from.contents);
    this.sync = {
      safety: options.safety,
      after: options.after,
      ifDone: this.#synced(from.contents),
      ifNot: this.now.copy(),
      lossyIfNot: this.lossy.copy(),
      old: this.now.copy(),
      oldSizes: new Set(this.sizes),
      newSize: size,
    };
    for (const { changes } of this.#requests) this.#alsoMayBe(changes);
    for (const contents of [this.now, this.lossy, ...[...this.#cuts].map((cut) => cut.contents)])
      contents.alsoMayBeAsIn(this.sync.ifDone);
    for (const sizes of [this.sizes, ...[...this.#cuts].map((cut) => cut.sizes)]) sizes.add(size);
  }

  #synced(from: Contents): Contents {
    const contents = from.copy();
    for (const block of this.now.written())
      if (!contents.isWritten(block) && block !== IDENTITY) contents.is(block, 0);
    contents.take(IDENTITY, this.now);
    return contents;
  }

  /** The identity is what was written last, whether before or after. `safety`: the name of the undo point. */
  syncEnds(safety: string | null): void {
    const { ifDone, ifNot, old, oldSizes, newSize } = this.sync!;
    this.lossy = ifDone.copy();
    this.now = ifDone;
    this.now.take(IDENTITY, ifNot);
    this.sizes = new Set([newSize]);
    this.sync = null;
    this.undoPoint = safety;
    if (safety === null) return;
    const snapshot = new ModelSnapshot(safety, old, oldSizes);
    snapshot.coming = false;
    this.snapshots.set(safety, snapshot);
  }

  syncUndone(): void {
    const { ifNot, lossyIfNot, oldSizes } = this.sync!;
    this.now = ifNot;
    this.lossy = lossyIfNot;
    this.sizes = new Set(oldSizes);
    this.sync = null;
  }

  resizeBegins(blocks: number): void {
    this.#alsoMayBe(this.#behind(blocks));
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

  #behind(end: number): Changes {
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
    if (this.sync) this.sync.lossyIfNot = snapshot.contents.copy();
  }

  cutRefused(snapshot: ModelSnapshot): void {
    this.snapshots.delete(snapshot.name);
    this.#cuts.delete(snapshot);
  }

  /** After a start: whatever was under way has ended one way or the other. */
  restarted(how: 'clean' | 'process-death' | 'power-loss'): void {
    this.coming = this.going = false;
    this.#cuts.clear();
    this.#requests.clear();
    if (how === 'power-loss') this.now = this.lossy.copy();
    if (how === 'clean') this.lossy = this.now.copy();
  }
}

/** A trim that is under way zeroes what there will be. */
function widen({ changes, trimmed }: ModelRequest, contents: Contents): void {
  if (!trimmed) return;
  const { block, count } = trimmed;
  for (const at of contents.written()) if (at >= block && at < block + count) changes.set(at, 0);
}
