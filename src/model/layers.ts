// Layer numbers of one open device: which layer a record of (line, version) belongs to. Numbers are given at open, oldest version
// first from 1, the current one the highest; a cut adds one; a version that leaves takes its number along.
// Invariant: the table shares the version lists of the lines, so a chain of a thousand versions costs nothing per device.

import type { Link } from './chain.js';
import { countUpTo, liveNumbers } from './chain.js';

interface Segment {
  versions: readonly number[];
  count: number;
  /** Layer of versions[0]. */
  first: number;
}

export class LayerTable {
  readonly #segments = new Map<number, Segment>();
  readonly #raised = new Map<number, number>();
  readonly #ownLine: number;
  readonly #below: number;
  #current: number;

  /** `chain` newest line first, as of the moment the device is opened; numbers begin above `below`. */
  constructor(chain: readonly Link[], below = 0) {
    this.#below = below;
    this.#current = below;
    this.#ownLine = chain[0]!.line.id;
    for (let index = chain.length - 1; index >= 0; index--) {
      const { line, upTo } = chain[index]!;
      const versions = liveNumbers(line);
      const count = countUpTo(versions, upTo);
      this.#segments.set(line.id, { versions, count, first: this.#current + 1 });
      this.#current += count;
    }
  }

  /** Layer of the version being written (or viewed). */
  get current(): number {
    return this.#current;
  }

  /** The layers at open, ascending. */
  initial(): number[] {
    return Array.from({ length: this.#current - this.#below }, (_, index) => this.#below + index + 1);
  }

  /** A cut: `version` of the device's own line is the current one now. */
  raise(version: number): void {
    this.#current += 1;
    this.#raised.set(version, this.#current);
  }

  /** Undefined: not of this device's chain. */
  layerOf(line: number, version: number): number | undefined {
    if (line === this.#ownLine) {
      const raised = this.#raised.get(version);
      if (raised !== undefined) return raised;
    }
    const segment = this.#segments.get(line);
    if (!segment) return undefined;
    const count = countUpTo(segment.versions, version);
    if (count === 0 || count > segment.count || segment.versions[count - 1] !== version) return undefined;
    return segment.first + count - 1;
  }
}
