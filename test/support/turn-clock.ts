// Timers that go by turns of the event loop and not by a clock: what waits a while is done after so many turns, on any machine.

type Callback = () => void;

const MS_A_TURN = 10;

interface WaitingTimer {
  due: number;
  callback: Callback;
}

export class TurnClock {
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  #waiting = new Set<WaitingTimer>();
  #now = 0;

  /** From now on setTimeout and clearTimeout are those of this clock. */
  install(): void {
    globalThis.setTimeout = ((callback: Callback, milliseconds = 0) => {
      const timer = { due: this.#now + milliseconds, callback, unref: () => timer };
      this.#waiting.add(timer);
      return timer;
    }) as never;
    globalThis.clearTimeout = ((timer: WaitingTimer) => void this.#waiting.delete(timer)) as never;
  }

  uninstall(): void {
    Object.assign(globalThis, this.#real);
  }

  /** A turn has passed. */
  tick(): void {
    this.#now += MS_A_TURN;
    for (const timer of [...this.#waiting]) {
      if (timer.due > this.#now || !this.#waiting.delete(timer)) continue;
      timer.callback();
    }
  }

  /** The process is gone, and all that it waited for. */
  forget(): void {
    this.#waiting.clear();
  }
}
