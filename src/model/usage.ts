// Who uses how much, told from the maps of a family of lines (lines that hang together by their bases), a window at a time.
//
// Every block with data belongs to one record: to one version of one line. Who reads it: all snapshots and current states from that
// version on, in its line and in lines based on it, up to those that say something else about the block (data, zero, cut-off).
//   allocated   blocks with data a snapshot or volume reads, whoever wrote them
//   own         blocks its own map has
//   exclusive   blocks it alone reads: what its deletion leaves without a reader
//   (container) exclusive: blocks read by nothing outside of it; unread: blocks of its versions that nobody reads any more, held
//               by deleted versions until they are freed or merged
// Deleted versions read nothing; they only pass through what is below them.
//
// Invariant: a window costs in proportion to its own records and cut-offs, not to the number of versions or clones: what lies
// between two records is the same for all blocks, and a subtree without records in the window counts as one.

import { countUpTo } from './chain.js';
import type { VersionRuns } from './diff.js';
import type { CutOff, Line } from './entities.js';
import type { Run } from './window-record.js';

/** Who reads a block: NOBODY, one reader (even code), several of one container (odd code), or MANY. */
type Readers = number;
const NOBODY = 0;
const MANY = -1;

interface Reader {
  container: number;
  code: Readers;
}

interface Node {
  line: Line;
  versions: readonly number[];
  /** Position in the family: bases come before what continues them. */
  order: number;
  parent: { node: Node; at: number } | null;
  /** Continuing lines by the position of the version they continue, ascending. */
  children: { at: number; node: Node }[];
  /** Code of the reader at each position; NOBODY: a deleted version. */
  readers: Readers[];
  /** How many readers there are below each position. */
  readersBelow: Int32Array;
  /** Code of all readers of the line together. */
  ofContainer: Readers;
  /** All readers of the line and of what continues it. */
  subtree: Readers;
  /** Changes of `allocated` against the version below, summed over all windows. */
  allocated: Float64Array;
  own: Float64Array;
}

export interface VersionUsage {
  line: number;
  version: number;
  allocatedBlocks: number;
  ownBlocks: number;
  exclusiveBlocks: number;
}

export interface ContainerUsage {
  exclusiveBlocks: number;
  unreadBlocks: number;
}

export interface WindowOfLine {
  line: number;
  /** Newest first. */
  records: readonly VersionRuns[];
}

/** Lines that hang together, bases first. Lines whose base is not there begin a family; a circle of bases belongs to none. */
export function familiesOf(lines: ReadonlyMap<number, Line>): Line[][] {
  const continuing = new Map<number, Line[]>();
  const roots: Line[] = [];
  for (const line of lines.values()) {
    if (!line.base || !lines.has(line.base.line)) roots.push(line);
    else if (continuing.has(line.base.line)) continuing.get(line.base.line)!.push(line);
    else continuing.set(line.base.line, [line]);
  }
  return roots.map((root) => {
    const family = [root];
    for (let at = 0; at < family.length; at++) {
      for (const line of continuing.get(family[at]!.id) ?? []) family.push(line);
    }
    return family;
  });
}

export class FamilyUsage {
  readonly #blocks: number;
  readonly #nodes: Node[] = [];
  readonly #byLine = new Map<number, Node>();
  readonly #containers: number[] = [];
  readonly #readers: Reader[] = [];
  readonly #exclusive: number[] = [];
  readonly #ofContainers: ContainerUsage[] = [];
  readonly #cuts: CutSweep;

  /** `family` as familiesOf gives it; its lines must not change until the end. */
  constructor(family: readonly Line[], blocksPerWindow: number) {
    this.#blocks = blocksPerWindow;
    for (const line of family) this.#addNode(line);
    for (const node of [...this.#nodes].reverse()) this.#joinSubtree(node);
    this.#cuts = new CutSweep(this.#nodes);
  }

  #addNode(line: Line): void {
    const versions = line.versions.map(({ version }) => version);
    const container = this.#containerIndex(line.container);
    const readers = line.versions.map(({ state }) =>
      state === 'deleted' ? NOBODY : this.#newReader(container),
    );
    const readersBelow = new Int32Array(versions.length + 1);
    readers.forEach((code, at) => {
      readersBelow[at + 1] = readersBelow[at]! + (code === NOBODY ? 0 : 1);
    });
    const node: Node = {
      line,
      versions,
      order: this.#nodes.length,
      parent: this.#parentOf(line),
      children: [],
      readers,
      readersBelow,
      ofContainer: containerCode(container),
      subtree: NOBODY,
      allocated: new Float64Array(versions.length),
      own: new Float64Array(versions.length),
    };
    node.parent?.node.children.push({ at: node.parent.at, node });
    this.#nodes.push(node);
    this.#byLine.set(line.id, node);
  }

  #parentOf({ base }: Line): Node['parent'] {
    for (let next = base; next; ) {
      const node = this.#byLine.get(next.line);
      if (!node) return null;
      const at = countUpTo(node.versions, next.version) - 1;
      if (at >= 0) return { node, at };
      next = node.line.base;
    }
    return null;
  }

  #newReader(container: number): Readers {
    const code = 2 * (this.#readers.length + 1);
    this.#readers.push({ container, code });
    this.#exclusive.push(0);
    return code;
  }

  #containerIndex(container: number): number {
    const known = this.#containers.indexOf(container);
    if (known >= 0) return known;
    this.#ofContainers.push({ exclusiveBlocks: 0, unreadBlocks: 0 });
    return this.#containers.push(container) - 1;
  }

  #joinSubtree(node: Node): void {
    node.children.sort((a, b) => a.at - b.at);
    node.subtree = this.#between(node, 0, node.versions.length, NO_NODES);
  }

  /** Windows in ascending order; all records of the family in this window. */
  window(window: bigint, lines: readonly WindowOfLine[]): void {
    const touched = this.#touched(window, lines);
    for (let at = touched.length - 1; at >= 0; at--) this.#countReaders(touched[at]!);
    for (const here of touched) this.#countAllocated(here);
  }

  /** Lines the window is special in, bases first: with records or a cut-off, and all they continue. */
  #touched(window: bigint, lines: readonly WindowOfLine[]): Here[] {
    const found = new Map<Node, Here>();
    const need = (node: Node): Here => {
      const known = found.get(node);
      if (known) return known;
      const first = newHere(node);
      found.set(node, first);
      // Upwards by a loop: chains of clones of clones may be long.
      for (let here = first; here.node.parent; ) {
        const { node: base, at } = here.node.parent;
        const seen = found.get(base);
        const below = seen ?? newHere(base);
        below.children.push({ at, here });
        if (seen) break;
        found.set(base, below);
        here = below;
      }
      return first;
    };
    for (const { line, records } of lines) {
      const node = this.#byLine.get(line);
      if (!node) continue;
      need(node).records = records.flatMap(({ version, runs }) => {
        const at = countUpTo(node.versions, version) - 1;
        return node.versions[at] === version ? [{ at, runs }] : [];
      });
    }
    for (const [node, cutOffs] of this.#cuts.at(window)) {
      need(node).cutOff = cutOffs
        .map(({ version }) => countUpTo(node.versions, version) - 1)
        .filter((at) => at >= 0);
    }
    return [...found.values()].sort((a, b) => a.node.order - b.node.order);
  }

  /** From the newest version down: who reads what lies there. Children were done before. */
  #countReaders(here: Here): void {
    const { node } = here;
    const special = new Set(here.children.map((child) => child.here.node));
    let state: Readers | Int32Array = NOBODY;
    let above = node.versions.length;
    for (const at of eventsOf(here, 'newest first')) {
      state = this.#joinUniform(state, this.#between(node, at, above, special));
      for (const child of here.children)
        if (child.at === at) state = this.#joinStates(state, child.here.fromAbove);
      for (const record of here.records) if (record.at === at) state = this.#take(node, record, state);
      if (here.cutOff.includes(at)) state = NOBODY;
      above = at;
    }
    here.fromAbove = this.#joinUniform(state, this.#between(node, 0, above, special));
  }

  /** Readers at positions [from, to) of a line and in what continues it there, but for the lines in `without`. */
  #between(node: Node, from: number, to: number, without: ReadonlySet<Node>): Readers {
    const count = node.readersBelow[to]! - node.readersBelow[from]!;
    let all = count === 0 ? NOBODY : count === 1 ? this.#onlyReader(node, from) : node.ofContainer;
    for (let index = firstAt(node.children, from); index < node.children.length; index++) {
      const child = node.children[index]!;
      if (child.at >= to || all === MANY) break;
      if (!without.has(child.node)) all = this.#join(all, child.node.subtree);
    }
    return all;
  }

  #onlyReader(node: Node, from: number): Readers {
    let low = from;
    let high = node.versions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (node.readersBelow[middle + 1]! > node.readersBelow[from]!) high = middle;
      else low = middle + 1;
    }
    return node.readers[low]!;
  }

  #join(a: Readers, b: Readers): Readers {
    if (a === b || b === NOBODY) return a;
    if (a === NOBODY) return b;
    if (a === MANY || b === MANY) return MANY;
    const container = this.#containerOf(a);
    return container === this.#containerOf(b) ? containerCode(container) : MANY;
  }

  #containerOf(code: Readers): number {
    return code % 2 === 0 ? this.#readers[code / 2 - 1]!.container : (code - 1) / 2;
  }

  #joinUniform(state: Readers | Int32Array, all: Readers): Readers | Int32Array {
    if (all === NOBODY) return state;
    if (typeof state === 'number') return this.#join(state, all);
    for (let block = 0; block < state.length; block++) state[block] = this.#join(state[block]!, all);
    return state;
  }

  #joinStates(state: Readers | Int32Array, other: Readers | Int32Array): Readers | Int32Array {
    if (typeof other === 'number') return this.#joinUniform(state, other);
    if (typeof state === 'number') return this.#joinUniform(other, state);
    for (let block = 0; block < state.length; block++)
      state[block] = this.#join(state[block]!, other[block]!);
    return state;
  }

  /** A record owns its data blocks and hides what is below all its blocks. */
  #take(node: Node, { at, runs }: RecordAt, state: Readers | Int32Array): Int32Array {
    const blocks = typeof state === 'number' ? new Int32Array(this.#blocks).fill(state) : state;
    for (const { start, count, slot } of runs) {
      if (slot !== null) {
        node.own[at]! += count;
        if (typeof state === 'number') this.#tally(node, state, count);
        else for (let block = start; block < start + count; block++) this.#tally(node, blocks[block]!, 1);
      }
      // Runs do not overlap: what is hidden here is not asked for again by this record.
      blocks.fill(NOBODY, start, start + count);
    }
    return blocks;
  }

  #tally(owner: Node, readers: Readers, blocks: number): void {
    if (readers === MANY) return;
    if (readers === NOBODY) {
      this.#ofContainers[(owner.ofContainer - 1) / 2]!.unreadBlocks += blocks;
      return;
    }
    this.#ofContainers[this.#containerOf(readers)]!.exclusiveBlocks += blocks;
    if (readers % 2 === 0) this.#exclusive[readers / 2 - 1]! += blocks;
  }

  /** From the oldest version up: how many blocks are data. Bases were done before. */
  #countAllocated(here: Here): void {
    const { node } = here;
    let bits = here.inherited ?? new Uint8Array(this.#blocks);
    for (const at of eventsOf(here, 'oldest first')) {
      if (here.cutOff.includes(at)) {
        node.allocated[at]! -= sumOf(bits);
        bits = new Uint8Array(this.#blocks);
      }
      for (const record of here.records)
        if (record.at === at) node.allocated[at]! += apply(record.runs, bits);
      for (const child of here.children) if (child.at === at) child.here.inherited = bits.slice();
    }
  }

  /** Blocks all records of the family hold, those nobody reads included. */
  get storedBlocks(): number {
    return this.#nodes.reduce((sum, { own }) => sum + own.reduce((inner, blocks) => inner + blocks, 0), 0);
  }

  /** Totals per live version that is no deleted one, and per container. */
  result(): { versions: VersionUsage[]; containers: Map<number, ContainerUsage> } {
    const versions: VersionUsage[] = [];
    const totals = new Map<Node, Float64Array>();
    for (const node of this.#nodes) {
      const total = Float64Array.from(node.allocated);
      totals.set(node, total);
      let sum = node.parent ? totals.get(node.parent.node)![node.parent.at]! : 0;
      node.versions.forEach((version, at) => {
        sum += total[at]!;
        total[at] = sum;
        const code = node.readers[at]!;
        if (code === NOBODY) return;
        versions.push({
          line: node.line.id,
          version,
          allocatedBlocks: sum,
          ownBlocks: node.own[at]!,
          exclusiveBlocks: this.#exclusive[code / 2 - 1]!,
        });
      });
    }
    return { versions, containers: new Map(this.#containers.map((id, at) => [id, this.#ofContainers[at]!])) };
  }
}

interface RecordAt {
  /** Position of its version in the line. */
  at: number;
  runs: readonly Run[];
}

/** One line in one window. */
interface Here {
  node: Node;
  records: RecordAt[];
  /** Positions with a cut-off over the window. */
  cutOff: number[];
  children: { at: number; here: Here }[];
  /** Readers that ask what lies below the line. */
  fromAbove: Readers | Int32Array;
  /** Blocks that are data below the line. */
  inherited: Uint8Array | null;
}

function newHere(node: Node): Here {
  return { node, records: [], cutOff: [], children: [], fromAbove: NOBODY, inherited: null };
}

const NO_NODES: ReadonlySet<Node> = new Set();

function containerCode(index: number): Readers {
  return 2 * index + 1;
}

/** Positions where something happens, each once. */
function eventsOf(here: Here, order: 'newest first' | 'oldest first'): number[] {
  const all = new Set([
    ...here.records.map(({ at }) => at),
    ...here.cutOff,
    ...here.children.map(({ at }) => at),
  ]);
  return [...all].sort((a, b) => (order === 'newest first' ? b - a : a - b));
}

/** The first of the ascending children at or after a position. */
function firstAt(children: Node['children'], at: number): number {
  let low = 0;
  let high = children.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (children[middle]!.at < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Puts runs over a map of data blocks; answers how many there are more (or fewer). */
function apply(runs: readonly Run[], bits: Uint8Array): number {
  let change = 0;
  for (const { start, count, slot } of runs) {
    const bit = slot === null ? 0 : 1;
    for (let block = start; block < start + count; block++) {
      change += bit - bits[block]!;
      bits[block] = bit;
    }
  }
  return change;
}

function sumOf(bits: Uint8Array): number {
  let sum = 0;
  for (const bit of bits) sum += bit;
  return sum;
}

/** Cut-offs that lie over ascending windows; each begins and ends once. */
class CutSweep {
  readonly #coming: { node: Node; cutOff: CutOff }[];
  readonly #active = new Map<Node, CutOff[]>();
  #next = 0;

  constructor(nodes: readonly Node[]) {
    this.#coming = nodes
      .flatMap((node) => node.line.cutOffs.map((cutOff) => ({ node, cutOff })))
      .sort((a, b) => (a.cutOff.first < b.cutOff.first ? -1 : a.cutOff.first > b.cutOff.first ? 1 : 0));
  }

  at(window: bigint): ReadonlyMap<Node, CutOff[]> {
    for (
      ;
      this.#next < this.#coming.length && this.#coming[this.#next]!.cutOff.first <= window;
      this.#next++
    ) {
      const { node, cutOff } = this.#coming[this.#next]!;
      const active = this.#active.get(node);
      if (active) active.push(cutOff);
      else this.#active.set(node, [cutOff]);
    }
    for (const [node, cutOffs] of this.#active) {
      if (cutOffs.every(({ end }) => end === null || end > window)) continue;
      const left = cutOffs.filter(({ end }) => end === null || end > window);
      if (left.length > 0) this.#active.set(node, left);
      else this.#active.delete(node);
    }
    return this.#active;
  }
}
