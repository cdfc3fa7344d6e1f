// One at a time for each name, entered and left: for who has to keep others away over several calls.

import { Mutex } from '../../base/mutex.js';

export class Doors {
  readonly #byName = new Map<string, { mutex: Mutex; inside: number }>();

  /** Resolves when everybody who came before has left; call what it answers to leave. Several: one order for all, as with mutexes. */
  enter(name: string): Promise<() => void> {
    const door = this.#byName.get(name) ?? { mutex: new Mutex(), inside: 0 };
    this.#byName.set(name, door);
    door.inside++;
    return new Promise((entered) => {
      void door.mutex.run(
        () =>
          new Promise<void>((left) => {
            entered(() => {
              left();
              door.inside--;
              if (door.inside === 0) this.#byName.delete(name);
            });
          }),
      );
    });
  }
}
