// Which hosts have said in their hello that they hold a part of a volume. Kept by volume: whoever asks for one looks at those hosts, and not at
// everything that every host has said.
//
// Invariant: it holds what the hellos that were added say and nothing else; a hello is removed as it was added.

import type { Hello } from './messages.js';

export class VolumeHolders {
  /** Most volumes have one: a list for each of them would take more memory than all the rest. */
  readonly #hosts = new Map<string, string | readonly string[]>();

  of(volume: string): readonly string[] {
    const hosts = this.#hosts.get(volume) ?? [];
    return typeof hosts === 'string' ? [hosts] : hosts;
  }

  add(hello: Hello): void {
    for (const volume of heldBy(hello)) {
      const hosts = this.of(volume);
      this.#hosts.set(volume, hosts.length === 0 ? hello.host : [...hosts, hello.host]);
    }
  }

  remove(hello: Hello): void {
    for (const volume of heldBy(hello)) {
      const [first, ...others] = this.of(volume).filter((host) => host !== hello.host);
      if (first === undefined) this.#hosts.delete(volume);
      else this.#hosts.set(volume, others.length === 0 ? first : [first, ...others]);
    }
  }
}

/** Of a volume that is gone there is only a tombstone. */
function heldBy({ volumes }: Hello): string[] {
  return volumes.filter(({ state }) => state !== 'GONE').map(({ id }) => id);
}
