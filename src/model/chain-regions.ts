// Which lines of a long chain may say anything about a region: their regions in one table, one row of bits a bucket, so that a fault
// looks at a few cache lines of memory instead of at every line's own set.
// Invariant: a superset of what the sets said when it was made; who keeps it drops it when a line changes or gets a region.

import type { Link } from './chain.js';
import { BUCKET_COUNT } from './region-set.js';

const BITS = 32;

export class ChainRegions {
  readonly #links: readonly Link[];
  /** Words of a row. */
  readonly #stride: number;
  readonly #rows: Uint32Array;
  /** Lines that are asked about every region. */
  readonly #always: Uint32Array;

  constructor(links: readonly Link[]) {
    this.#links = links;
    this.#stride = Math.ceil(links.length / BITS);
    this.#rows = new Uint32Array(BUCKET_COUNT * this.#stride);
    this.#always = new Uint32Array(this.#stride);
    links.forEach(({ line }, at) => {
      const bit = 1 << (at % BITS);
      const word = Math.floor(at / BITS);
      if (line.cutOffs.length > 0) this.#always[word]! |= bit;
      for (const bucket of line.regions.all()) this.#rows[bucket * this.#stride + word]! |= bit;
    });
  }

  /** The links of lines with records in one of the buckets or with cut-offs, in their order. */
  linksOf(buckets: readonly number[]): Link[] {
    const found: Link[] = [];
    for (let word = 0; word < this.#stride; word++) {
      let bits = this.#always[word]!;
      for (const bucket of buckets) bits |= this.#rows[bucket * this.#stride + word]!;
      for (; bits !== 0; bits &= bits - 1)
        found.push(this.#links[word * BITS + BITS - 1 - Math.clz32(bits & -bits)]!);
    }
    return found;
  }
}
