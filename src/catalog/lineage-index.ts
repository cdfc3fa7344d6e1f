// Lineages in memory: by volume, by container, and the ids of their visible snapshots in both directions.
// Invariant: a container belongs to one volume at most; what is here is what memory has, durable or about to be.

import type { Lineage } from '../model/lineage.js';

interface Ids {
  bySeq: Map<number, string>;
  byId: Map<string, number>;
}

export class LineageIndex {
  readonly #byVolume = new Map<string, Lineage>();
  readonly #byContainer = new Map<number, string>();
  readonly #ids = new Map<string, Ids>();

  get size(): number {
    return this.#byVolume.size;
  }

  values(): IterableIterator<Lineage> {
    return this.#byVolume.values();
  }

  of(volume: string): Lineage | undefined {
    return this.#byVolume.get(volume);
  }

  ofContainer(container: number): Lineage | undefined {
    const volume = this.#byContainer.get(container);
    return volume === undefined ? undefined : this.#byVolume.get(volume);
  }

  /** The id of a visible snapshot, whether it is still here or not. */
  idAt(volume: string, seq: number): string | undefined {
    return this.#ids.get(volume)?.bySeq.get(seq);
  }

  seqOf(volume: string, id: string): number | undefined {
    return this.#ids.get(volume)?.byId.get(id);
  }

  /** In no order. */
  seqsOf(volume: string): number[] {
    return [...(this.#ids.get(volume)?.bySeq.keys() ?? [])];
  }

  /** Volumes that have ids. */
  volumesWithIds(): string[] {
    return [...this.#ids.keys()];
  }

  keep(lineage: Lineage): void {
    const { volume } = lineage.record;
    const before = this.#byVolume.get(volume)?.container ?? null;
    if (before !== null && before !== lineage.container) this.#byContainer.delete(before);
    this.#byVolume.set(volume, lineage);
    if (lineage.container !== null) this.#byContainer.set(lineage.container, volume);
  }

  keepId(volume: string, seq: number, id: string): void {
    const ids = this.#ids.get(volume) ?? {
      bySeq: new Map<number, string>(),
      byId: new Map<string, number>(),
    };
    this.#ids.set(volume, ids);
    const before = ids.bySeq.get(seq);
    if (before !== undefined) ids.byId.delete(before);
    ids.bySeq.set(seq, id);
    ids.byId.set(id, seq);
  }

  dropId(volume: string, seq: number): void {
    const ids = this.#ids.get(volume);
    const id = ids?.bySeq.get(seq);
    if (!ids || id === undefined) return;
    ids.bySeq.delete(seq);
    if (ids.byId.get(id) === seq) ids.byId.delete(id);
    if (ids.bySeq.size === 0) this.#ids.delete(volume);
  }
}
