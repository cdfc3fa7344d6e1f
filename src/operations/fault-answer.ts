// The answer to one fault while it is put together: of each window the blocks nobody has said anything about yet, and what was said.
// Invariant: records of a window come newest first; it ends with the one that leaves no block of it open, or with a cut-off.

import { splitRuns } from '../model/runs.js';
import type { Run } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { FaultRecord } from '../plane/treaty.js';

interface Asked {
  left: readonly Run[];
  records: FaultRecord[];
}

export class FaultAnswer {
  readonly first: bigint;
  readonly count: number;
  readonly #blocksPerWindow: number;
  readonly #windows: Asked[];
  #open: number;

  constructor(fault: { first: bigint; count: number }, blocksPerWindow: number) {
    this.first = fault.first;
    this.count = fault.count;
    this.#blocksPerWindow = blocksPerWindow;
    this.#open = fault.count;
    const whole: Run[] = [{ start: 0, count: blocksPerWindow, slot: null }];
    this.#windows = Array.from({ length: fault.count }, (): Asked => ({ left: whole, records: [] }));
  }

  /** Nothing more is wanted. */
  get isDone(): boolean {
    return this.#open === 0;
  }

  /** Blocks of the window are open. */
  isOpen(index: number): boolean {
    return this.#windows[index]!.left.length > 0;
  }

  /** What the next older version says of an open window. */
  take(index: number, layer: number, record: Buffer): void {
    const asked = this.#windows[index]!;
    asked.records.push({ window: this.first + BigInt(index), layer, record });
    this.#leave(asked, this.#silentIn(asked.left, record));
  }

  /** Nothing older is asked of an open window. */
  cutOff(index: number, layer: number): void {
    const asked = this.#windows[index]!;
    asked.records.push({ window: this.first + BigInt(index), layer, record: null });
    this.#leave(asked, []);
  }

  records(): FaultRecord[] {
    return this.#windows.flatMap(({ records }) => records);
  }

  #leave(asked: Asked, left: readonly Run[]): void {
    if (asked.left.length > 0 && left.length === 0) this.#open--;
    asked.left = left;
  }

  /** What is damaged covers nothing here: the data plane is the one who judges it. */
  #silentIn(left: readonly Run[], record: Buffer): readonly Run[] {
    try {
      return splitRuns(left, decodeWindowRecord(record, this.#blocksPerWindow).runs).silent;
    } catch {
      return left;
    }
  }
}
