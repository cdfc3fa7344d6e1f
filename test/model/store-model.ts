// The reference: a volume is a byte array, a snapshot is a copy, a clone is another copy, a sync copies and puts the identity back: the
// UUID of a swap area, where both have one.

const INFO = 1024;
const UUID = { at: 1036, end: 1052 };
const SIGNATURE = { at: 4086, text: 'SWAPSPACE2' };

/** A block that makes a volume a swap area with this UUID. */
export function swapHeader(uuid: Buffer): Buffer {
  const block = Buffer.alloc(4096);
  block.writeUInt32LE(1, INFO);
  block.writeUInt32LE(99, INFO + 4);
  uuid.copy(block, UUID.at);
  block.write(SIGNATURE.text, SIGNATURE.at, 'latin1');
  return block;
}

/** `damaged`: it calls itself one, and cannot be believed. */
export function swapIn(bytes: Buffer): 'none' | 'sound' | 'damaged' {
  if (bytes.toString('latin1', SIGNATURE.at, SIGNATURE.at + SIGNATURE.text.length) !== SIGNATURE.text)
    return 'none';
  return bytes.readUInt32LE(INFO) === 1 && bytes.readUInt32LE(INFO + 4) !== 0 ? 'sound' : 'damaged';
}

export class ModelVolume {
  bytes: Buffer;
  /** Oldest first. */
  readonly snapshots = new Map<string, Buffer>();
  /** The snapshot an undo goes back to. */
  undoPoint: string | null = null;

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

  /** The target keeps its size, or takes that of a larger source. */
  sync(target: string, content: Buffer, safety: string | null): void {
    const volume = this.volume(target);
    const before = volume.bytes;
    const size = Math.max(before.length, content.length);
    volume.bytes = Buffer.concat([content, Buffer.alloc(size - content.length)]);
    if (swapIn(before) === 'sound' && swapIn(content) === 'sound')
      before.copy(volume.bytes, UUID.at, UUID.at, UUID.end);
    if (safety !== null) volume.snapshots.set(safety, before);
    volume.undoPoint = safety;
  }
}
