// Hands values from callbacks to a reader that may be slower. Invariant: at most one replaceable value waits, after the others.

export class Mailbox<Value> {
  readonly #kept: Value[] = [];
  #newest: { value: Value } | undefined;
  #wake: (() => void) | undefined;

  /** Takes the place of a replaceable value that was not taken yet. */
  replace(value: Value): void {
    this.#newest = { value };
    this.#wake?.();
  }

  /** Waits in line; nothing takes its place. */
  keep(value: Value): void {
    this.#kept.push(value);
    this.#wake?.();
  }

  /** The next value, waiting for it when there is none. One reader at a time. */
  async take(): Promise<Value> {
    for (;;) {
      const kept = this.#kept.shift();
      if (kept !== undefined) return kept;
      const newest = this.#newest;
      this.#newest = undefined;
      if (newest !== undefined) return newest.value;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
