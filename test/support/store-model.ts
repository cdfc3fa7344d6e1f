// What a store must read as: every volume is a list of numbers, a snapshot is a copy, a clone copies a copy, a sync copies a copy and
// puts the identity (block 0) back. For power loss every block carries the values it may come back with: the last flushed one and what
// was written since.

export interface ModelVolume {
  blocks: number[];
  /** Per block: what it may read as after power loss. */
  may: Set<number>[];
  snapshots: Map<string, number[]>;
  /** The snapshot an undo goes back to. */
  undoPoint: string | null;
}

export class StoreModel {
  readonly volumes = new Map<string, ModelVolume>();

  create(name: string, blocks: number): void {
    this.volumes.set(name, volumeOf(Array.from({ length: blocks }, () => 0)));
  }

  write(name: string, block: number, values: readonly number[]): void {
    const volume = this.volumes.get(name)!;
    values.forEach((value, index) => {
      volume.blocks[block + index] = value;
      volume.may[block + index]!.add(value);
    });
  }

  flush(name: string): void {
    const volume = this.volumes.get(name)!;
    volume.may = volume.blocks.map((value) => new Set([value]));
  }

  snapshot(name: string, snapshot: string): void {
    this.volumes.get(name)!.snapshots.set(snapshot, [...this.volumes.get(name)!.blocks]);
    this.flush(name);
  }

  clone(name: string, snapshot: string, clone: string): void {
    this.volumes.set(clone, volumeOf(this.volumes.get(name)!.snapshots.get(snapshot)!));
  }

  /** The target keeps its size, or takes that of a larger source; `safety`: the name of the undo point. */
  sync(target: string, from: { volume: string; snapshot: string }, safety: string | null): void {
    const volume = this.volumes.get(target)!;
    const before = volume.blocks;
    const content = [...this.volumes.get(from.volume)!.snapshots.get(from.snapshot)!];
    while (content.length < before.length) content.push(0);
    content[0] = before[0]!;
    if (safety !== null) volume.snapshots.set(safety, before);
    volume.undoPoint = safety;
    volume.blocks = content;
    this.flush(target);
  }

  resize(name: string, blocks: number): void {
    const volume = this.volumes.get(name)!;
    while (volume.blocks.length > blocks) {
      volume.blocks.pop();
      volume.may.pop();
    }
    while (volume.blocks.length < blocks) {
      volume.blocks.push(0);
      volume.may.push(new Set([0]));
    }
  }

  rename(name: string, newName: string): void {
    const volume = this.volumes.get(name)!;
    this.volumes.delete(name);
    this.volumes.set(newName, volume);
  }

  /** After power loss: what was read is what there is, when it may be. Answers the blocks that may not. */
  accept(name: string, read: readonly number[]): number[] {
    const volume = this.volumes.get(name)!;
    const wrong = read.flatMap((value, block) => (volume.may[block]?.has(value) ? [] : [block]));
    volume.blocks = [...read];
    volume.may = read.map((value) => new Set([value]));
    return wrong;
  }
}

function volumeOf(blocks: readonly number[]): ModelVolume {
  return {
    blocks: [...blocks],
    may: blocks.map((value) => new Set([value])),
    snapshots: new Map(),
    undoPoint: null,
  };
}
