// A set of places of one extents file: a bitmap that grows, 64 KiB for a file of 1 TiB with windows of 2 MiB.

export class PlaceSet {
  #bits = new Uint8Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** False: it was in it before. */
  add(place: number): boolean {
    const byte = place >>> 3;
    if (byte >= this.#bits.length) this.#grow(byte + 1);
    const bit = 1 << (place & 7);
    if (this.#bits[byte]! & bit) return false;
    this.#bits[byte]! |= bit;
    this.#size++;
    return true;
  }

  has(place: number): boolean {
    return ((this.#bits[place >>> 3] ?? 0) & (1 << (place & 7))) !== 0;
  }

  /** Ranges of places below `end` that are not in it, ascending and as long as possible. */
  *gaps(end: number): Generator<{ first: number; end: number }> {
    for (let place = 0; place < end; ) {
      while (place < end && this.has(place)) place++;
      if (place === end) return;
      const first = place;
      while (place < end && !this.has(place)) place++;
      yield { first, end: place };
    }
  }

  #grow(bytes: number): void {
    const bits = new Uint8Array(Math.max(bytes, this.#bits.length * 2));
    bits.set(this.#bits);
    this.#bits = bits;
  }
}
