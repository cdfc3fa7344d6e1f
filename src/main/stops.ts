// What a process is made of and how it ends: in reverse of the order it was built in.

import type { Logger } from 'pino';

export class Stops {
  readonly #log: Logger;
  readonly #steps: { name: string; stop: () => Promise<void> }[] = [];
  #running: Promise<void> | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  add(name: string, stop: () => Promise<void>): void {
    this.#steps.push({ name, stop });
  }

  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  /** One part that fails to stop does not keep the others; the first failure is told. */
  async #runAll(): Promise<void> {
    let failure: unknown;
    for (const { name, stop } of this.#steps.reverse()) {
      try {
        await stop();
        this.#log.debug({ part: name }, 'stopped');
      } catch (error) {
        this.#log.error({ part: name, err: error }, 'could not stop in order');
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }
}
