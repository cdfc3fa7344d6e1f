// The reference: a volume is a byte array, a snapshot is a copy, a clone is another copy.

export class ModelVolume {
  bytes: Buffer;
  /** Oldest first. */
  readonly snapshots = new Map<string, Buffer>();

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  write(offset: number, content: Buffer): void {
    content.copy(this.bytes, offset);
  }

  zero(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  resize(size: number): void {
    const kept = this.bytes.subarray(0, size);
    this.bytes = Buffer.concat([kept, Buffer.alloc(size - kept.length)]);
  }
}

export class ModelStore {
  readonly volumes = new Map<string, ModelVolume>();

  create(name: string, size: number): void {
    this.volumes.set(name, new ModelVolume(Buffer.alloc(size)));
  }

  volume(name: string): ModelVolume {
    const volume = this.volumes.get(name);
    if (!volume) throw new Error(`the model has no volume ${name}`);
    return volume;
  }

  snapshot(volume: string, name: string): void {
    this.volume(volume).snapshots.set(name, Buffer.from(this.volume(volume).bytes));
  }

  clone(volume: string, snapshot: string, name: string): void {
    const source = this.volume(volume).snapshots.get(snapshot);
    if (!source) throw new Error(`the model has no snapshot ${volume}@${snapshot}`);
    this.volumes.set(name, new ModelVolume(Buffer.from(source)));
  }
}
