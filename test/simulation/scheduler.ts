// What happens next in a simulated world: events in order of their time, one after the other, each with everything that follows from it without
// time passing.
//
// Invariants: an event belongs to a process; what a dead process had coming never comes. Of two events of the same time the one that was planned
// first comes first, so a run depends on nothing but its seed.

const breathe = setImmediate;

/** Whoever lives and dies as a whole: an agent, a coordinator, a client. */
export class Process {
  readonly name: string;
  isDead = false;
  /** Stopped: what comes meanwhile comes when it goes on. */
  isPaused = false;

  constructor(name: string) {
    this.name = name;
  }
}

interface Event {
  atMs: number;
  order: number;
  process: Process;
  /** Null: it was taken back. */
  callback: (() => void) | null;
}

export class Scheduler {
  nowMs = 0;
  events = 0;
  /** Whose event it is; everything that is planned without saying whose it is, is its. */
  current: Process;
  readonly world = new Process('world');
  readonly #heap: Event[] = [];
  readonly #deferred = new Map<Process, Event[]>();
  #order = 0;

  constructor() {
    this.current = this.world;
  }

  /** Returns what takes it back. */
  after(milliseconds: number, callback: () => void, process = this.current): () => void {
    const event: Event = {
      atMs: this.nowMs + Math.max(0, milliseconds),
      order: ++this.#order,
      process,
      callback,
    };
    this.#push(event);
    return () => {
      event.callback = null;
    };
  }

  every(milliseconds: number, callback: () => void, process = this.current): () => void {
    let cancel: () => void;
    const tick = (): void => {
      cancel = this.after(milliseconds, tick, process);
      callback();
    };
    cancel = this.after(milliseconds, tick, process);
    return () => cancel();
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.after(milliseconds, resolve));
  }

  /** A process that was stopped goes on, with all that has come for it. */
  resume(process: Process): void {
    process.isPaused = false;
    for (const { callback } of this.#deferred.get(process) ?? [])
      if (callback) this.after(0, callback, process);
    this.#deferred.delete(process);
  }

  /** Until that time, or until `isOver`. */
  async run(untilMs: number, isOver: () => boolean = () => false): Promise<void> {
    while (!isOver()) {
      const next = this.#heap[0];
      if (!next || next.atMs > untilMs) break;
      this.#pop();
      await this.#happen(next);
    }
    if (!isOver()) this.nowMs = Math.max(this.nowMs, untilMs);
  }

  async #happen(event: Event): Promise<void> {
    const { process, callback } = event;
    if (!callback || process.isDead) return;
    if (process.isPaused) {
      const waiting = this.#deferred.get(process) ?? [];
      this.#deferred.set(process, waiting);
      waiting.push(event);
      return;
    }
    this.nowMs = event.atMs;
    this.events++;
    this.current = process;
    callback();
    // Everything that needs no time: promises, one after the other, before the next event.
    await new Promise<void>((resolve) => breathe(resolve));
    this.current = this.world;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(event, heap[above]!)) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const least = right < heap.length && isBefore(heap[right]!, heap[left]!) ? right : left;
      if (!isBefore(heap[least]!, last)) break;
      heap[at] = heap[least]!;
      at = least;
    }
    heap[at] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs === b.atMs ? a.order < b.order : a.atMs < b.atMs;
}
