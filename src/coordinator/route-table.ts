// All routes in memory, by volume and by name. They are frozen, so that everybody reads the same ones: a copy for each reading takes ten times as long.
//
// Invariants: it holds what is stored and nothing else: a write comes here when it is stored, not before. A name belongs to one volume.

import type { Route } from '../model/cell/route.js';

interface Entry {
  route: Route;
  /** Of etcd: the revision it was stored at. */
  revision: string;
}

export class RouteTable {
  readonly #entries = new Map<string, Entry>();
  readonly #volumes = new Map<string, string>();
  /** In the order of their bytes. Sorted when somebody wants it: loading brings many, in the order of their volumes. */
  #names: string[] = [];
  #isSorted = true;

  get size(): number {
    return this.#entries.size;
  }

  route(volume: string): Route | null {
    return this.#entries.get(volume)?.route ?? null;
  }

  named(name: string): Route | null {
    const volume = this.#volumes.get(name);
    return volume === undefined ? null : this.route(volume);
  }

  /** The volume that has a name. */
  holder(name: string): string | undefined {
    return this.#volumes.get(name);
  }

  entry(volume: string): Readonly<Entry> | undefined {
    return this.#entries.get(volume);
  }

  page(after: string | null, limit: number): Route[] {
    this.#sort();
    const start = after === null ? 0 : this.#placeBehind(after);
    return this.#names.slice(start, start + limit).map((name) => this.named(name)!);
  }

  /** A frozen one takes the place of what the volume had. False: the name is another's, and nothing has changed. */
  set(route: Route, revision = ''): boolean {
    const { volume, name } = route;
    const holder = this.#volumes.get(name);
    if (holder !== undefined && holder !== volume) return false;
    const before = this.#entries.get(volume)?.route;
    this.#entries.set(volume, { route, revision });
    if (before?.name === name) return true;
    if (before) this.#forgetName(before.name);
    this.#volumes.set(name, volume);
    this.#names.push(name);
    this.#isSorted = false;
    return true;
  }

  delete(volume: string): void {
    const entry = this.#entries.get(volume);
    if (!entry) return;
    this.#entries.delete(volume);
    this.#forgetName(entry.route.name);
  }

  #forgetName(name: string): void {
    this.#volumes.delete(name);
    this.#sort();
    this.#names.splice(this.#placeBehind(name) - 1, 1);
  }

  /** Nearly sorted as a rule, which is what the sort of V8 is quick with. */
  #sort(): void {
    if (!this.#isSorted) this.#names.sort(compareNames);
    this.#isSorted = true;
  }

  #placeBehind(name: string): number {
    let [low, high] = [0, this.#names.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareNames(this.#names[middle]!, name) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** By the bytes of UTF-8, which is the order of code points. That of UTF-16 differs: its surrogates lie before U+E000. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const [x, y] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (x === y) continue;
    const [surrogateX, surrogateY] = [isSurrogate(x), isSurrogate(y)];
    return surrogateX === surrogateY ? x - y : surrogateX ? 1 : -1;
  }
  return a.length - b.length;
}

/** A half of a character beyond U+FFFF: greater than everything that is none. */
function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xe000;
}
