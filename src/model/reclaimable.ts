// What deleting a snapshot, or a volume with its snapshots, gives back once the background is through: the blocks no map holds any more.
//
// A deleted version goes away when at most one version continues it (DESIGN "Deleting a snapshot"): its blocks are freed, or move to
// that one, which covers some of them. With two or more it stays and holds what it has, read or not. So those who hold blocks in the
// end are the live versions and the deleted ones that at least two continue; a block is freed by a deletion when all who hold it,
// through whichever maps, are no holders any more afterwards.
//
// Invariant: what is asked for every window does not depend on the number of versions: nearly all holders of a line end with its
// container and with nothing else, and are counted, not gone through.

import { countUpTo } from './chain.js';
import type { Base, Line } from './entities.js';
import { MANY, NOBODY, type Place, type Readers, type Readership } from './readership.js';

interface Tree {
  line: Line;
  /** Index of the line continued and the position in it. */
  parent: { tree: number; at: number } | null;
  live: boolean[];
  /** How many versions continue each one in the end. */
  continued: number[];
}

interface LineOfHolders {
  /** Code of several common ones. */
  common: Readers;
  /** How many common ones there are below each position. */
  commonBelow: number[];
  /** Positions of the holders that are not common, ascending. */
  others: number[];
}

/** Those who hold blocks, in the place of those who read them. A set of them is told by whose deletion ends them all. */
export class Holders implements Readership {
  readonly #trees: Tree[];
  readonly #containers: number[];
  readonly #codes: Readers[][];
  readonly #lines: LineOfHolders[];
  /** By code: the containers whose deletion ends all of the set. */
  readonly #endedBy: (readonly number[])[] = [[]];
  readonly #codeOfSet = new Map<string, Readers>();
  readonly #freedAlone: number[] = [];
  readonly #freedWith: number[];

  /** `family` as familiesOf gives it. */
  constructor(family: readonly Line[]) {
    this.#trees = treesOf(family);
    this.#containers = [...new Set(family.map(({ container }) => container))];
    this.#freedWith = this.#containers.map(() => 0);
    const endedBy = this.#trees.map(({ live }) => live.map((): number[] => []));
    const trees = new Map<number, number[]>();
    this.#trees.forEach(({ line }, index) => {
      const known = trees.get(line.container);
      if (known) known.unshift(index);
      else trees.set(line.container, [index]);
    });
    this.#containers.forEach((container, index) => {
      for (const { tree, at } of endedWith(this.#trees, trees.get(container)!))
        endedBy[tree]![at]!.push(index);
    });
    this.#codes = this.#trees.map(({ live, continued }, tree) =>
      live.map((isLive, at) => (isLive || continued[at]! > 1 ? this.#newCode(endedBy[tree]![at]!) : NOBODY)),
    );
    this.#lines = this.#trees.map((_tree, index) => this.#lineOf(index));
  }

  /** The common case are those that end with the container of the line, and only so. */
  #lineOf(index: number): LineOfHolders {
    const container = this.#containers.indexOf(this.#trees[index]!.line.container);
    const commonBelow = [0];
    const others: number[] = [];
    this.#codes[index]!.forEach((code, at) => {
      const endedBy = this.#endedBy[code]!;
      const isCommon = endedBy.length === 1 && endedBy[0] === container;
      commonBelow.push(commonBelow[at]! + (isCommon ? 1 : 0));
      if (code !== NOBODY && !isCommon) others.push(at);
    });
    return { common: this.#codeOf([container]), commonBelow, others };
  }

  codesOf(index: number): Readers[] {
    return this.#codes[index]!;
  }

  join(a: Readers, b: Readers): Readers {
    if (a === b || b === NOBODY) return a;
    if (a === NOBODY) return b;
    if (a === MANY || b === MANY) return MANY;
    const ofB = this.#endedBy[b]!;
    return this.#codeOf(this.#endedBy[a]!.filter((container) => ofB.includes(container)));
  }

  together(index: number, from: number, to: number): Readers {
    const { common, commonBelow, others } = this.#lines[index]!;
    let all: Readers = commonBelow[to]! > commonBelow[from]! ? common : NOBODY;
    // Of two others hardly any end together: this is soon over.
    for (let next = countUpTo(others, from - 1); next < others.length && all !== MANY; next++) {
      if (others[next]! >= to) break;
      all = this.join(all, this.#codes[index]![others[next]!]!);
    }
    return all;
  }

  tally(_owner: Line, readers: Readers, blocks: number): void {
    if (readers === MANY || readers === NOBODY) return;
    if (this.#freedAlone[readers] !== undefined) this.#freedAlone[readers] += blocks;
    for (const container of this.#endedBy[readers]!) this.#freedWith[container]! += blocks;
  }

  /** Of a snapshot: what deleting it alone frees. With two or more that continue it, it stays. */
  ofVersion({ index, at }: Place): number {
    const { continued } = this.#trees[index]!;
    return continued[at]! > 1 ? 0 : this.#freedAlone[this.#codes[index]![at]!]!;
  }

  /** By container: what deleting it with its snapshots frees. */
  ofContainers(): Map<number, number> {
    return new Map(this.#containers.map((container, index) => [container, this.#freedWith[index]!]));
  }

  #newCode(endedBy: readonly number[]): Readers {
    const code = this.#endedBy.push(endedBy) - 1;
    this.#freedAlone[code] = 0;
    return code;
  }

  #codeOf(endedBy: readonly number[]): Readers {
    if (endedBy.length === 0) return MANY;
    const name = endedBy.join();
    const known = this.#codeOfSet.get(name);
    if (known !== undefined) return known;
    const code = this.#endedBy.push(endedBy) - 1;
    this.#codeOfSet.set(name, code);
    return code;
  }
}

/** Children are looked at before what they continue. */
function treesOf(family: readonly Line[]): Tree[] {
  const byLine = new Map(family.map((line, index) => [line.id, index]));
  const trees = family.map((line) => ({
    line,
    parent: parentOf(line.base, family, byLine),
    live: line.versions.map(({ state }) => state !== 'deleted'),
    continued: line.versions.map(() => 0),
  }));
  for (const tree of [...trees].reverse()) {
    for (let at = tree.live.length - 1; at >= 0; at--) {
      if (!tree.live[at] && tree.continued[at] === 0) continue;
      if (at > 0) tree.continued[at - 1]!++;
      else if (tree.parent) trees[tree.parent.tree]!.continued[tree.parent.at]!++;
    }
  }
  return trees;
}

function parentOf(
  base: Base | null,
  family: readonly Line[],
  byLine: ReadonlyMap<number, number>,
): Tree['parent'] {
  for (let next = base; next; ) {
    const tree = byLine.get(next.line);
    if (tree === undefined) return null;
    const versions = family[tree]!.versions.map(({ version }) => version);
    const at = countUpTo(versions, next.version) - 1;
    if (at >= 0) return { tree, at };
    next = family[tree]!.base;
  }
  return null;
}

/** The holders that end with a container: of its own, and deleted ones below that only one continues then. */
function endedWith(trees: readonly Tree[], own: readonly number[]): { tree: number; at: number }[] {
  const left = new Map<string, number>();
  const ended: { tree: number; at: number }[] = [];
  const continuedBy = (tree: number, at: number) => left.get(`${tree}/${at}`) ?? trees[tree]!.continued[at]!;
  const below = (tree: number, at: number) => (at > 0 ? { tree, at: at - 1 } : trees[tree]!.parent);
  // One that continued it is gone; up to the first that stays. What is the container's own is looked at when its turn comes.
  const lose = (from: { tree: number; at: number } | null) => {
    for (let next = from; next; next = below(next.tree, next.at)) {
      const { tree, at } = next;
      const count = continuedBy(tree, at) - 1;
      left.set(`${tree}/${at}`, count);
      if (own.includes(tree) || trees[tree]!.live[at]) return;
      if (count === 1) ended.push(next);
      if (count > 0) return;
    }
  };
  for (const tree of own) {
    const { live, continued } = trees[tree]!;
    for (let at = live.length - 1; at >= 0; at--) {
      const count = continuedBy(tree, at);
      const held = live[at] || continued[at]! > 1;
      if (held && count < 2) ended.push({ tree, at });
      if (count === 0 && (live[at] || continued[at]! > 0)) lose(below(tree, at));
    }
  }
  return ended;
}
