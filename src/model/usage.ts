// Who uses how much, told from the maps of a family of lines (lines that hang together by their bases), a window at a time.
//
// Every block with data belongs to one record: to one version of one line. Who reads it: all snapshots and current states from that
// version on, in its line and in lines based on it, up to those that say something else about the block (data, zero, cut-off).
//   allocated   blocks with data a snapshot or volume reads, whoever wrote them
//   own         blocks its own map has
//   exclusive   blocks it alone reads: what its deletion leaves without a reader
//   reclaimable blocks its deletion frees in the end, see reclaimable.ts
//   (container) exclusive: blocks read by nothing outside of it; unread: blocks of its versions that nobody reads any more, held
//               by deleted versions until they are freed or merged
// Deleted versions read nothing; they only pass through what is below them.
//
// Invariant: a window costs in proportion to its own records and cut-offs, not to the number of versions or clones: what lies
// between two records is the same for all blocks, and a subtree without records in the window counts as one.

import { countUpTo } from './chain.js';
import type { VersionRuns } from './diff.js';
import type { CutOff, Line } from './entities.js';
import { MANY, NOBODY, type Place, type Readers, type Readership } from './readership.js';
import { Holders } from './reclaimable.js';
import type { Run } from './window-record.js';

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
  reclaimableBlocks: number;
}

export interface ContainerUsage {
  exclusiveBlocks: number;
  reclaimableBlocks: number;
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

/** The figures of a family. Lines without relatives need one count: there, who alone reads a block alone holds it. */
export class FamilyUsage {
  readonly #readers: AllReaders;
  readonly #holders: Holders | null;
  readonly #reading: FamilyCount;
  readonly #holding: FamilyCount | null;

  /** `family` as familiesOf gives it; its lines must not change until the end. */
  constructor(family: readonly Line[], blocksPerWindow: number) {
    this.#readers = new AllReaders(family);
    this.#reading = new FamilyCount(family, this.#readers, blocksPerWindow);
    this.#holders = family.length > 1 ? new Holders(family) : null;
    this.#holding = this.#holders && new FamilyCount(family, this.#holders, blocksPerWindow);
  }

  /** Windows in ascending order; all records of the family in this window. */
  window(window: bigint, lines: readonly WindowOfLine[]): void {
    this.#reading.window(window, lines, 'all');
    this.#holding?.window(window, lines, 'readers');
  }

  /** Blocks all records of the family hold, those nobody reads included. */
  get storedBlocks(): number {
    return this.#reading.storedBlocks;
  }

  /** Totals per version that is no deleted one, and per container. */
  result(): { versions: VersionUsage[]; containers: Map<number, ContainerUsage> } {
    const versions = this.#reading.versions().map(({ place, ...counted }) => {
      const exclusiveBlocks = this.#readers.ofVersion(place);
      const reclaimableBlocks = this.#holders ? this.#holders.ofVersion(place) : exclusiveBlocks;
      return { ...counted, exclusiveBlocks, reclaimableBlocks };
    });
    const freed = this.#holders?.ofContainers();
    const containers = new Map<number, ContainerUsage>();
    for (const [container, counted] of this.#readers.ofContainers()) {
      const reclaimableBlocks = freed ? freed.get(container)! : counted.exclusiveBlocks;
      containers.set(container, { ...counted, reclaimableBlocks });
    }
    return { versions, containers };
  }
}

/** All that can be read from: one reader has an even code, several of one container its odd one. */
class AllReaders implements Readership {
  readonly #codes: Readers[][];
  readonly #containers: number[];
  readonly #indexOf: Map<number, number>;
  readonly #ofLines: Readers[];
  /** By half a code, less one. */
  readonly #containerOfReader: number[] = [];
  readonly #exclusive: number[] = [];
  readonly #ofContainers: { exclusiveBlocks: number; unreadBlocks: number }[];

  constructor(family: readonly Line[]) {
    this.#containers = [...new Set(family.map(({ container }) => container))];
    this.#indexOf = new Map(this.#containers.map((container, index) => [container, index]));
    this.#ofContainers = this.#containers.map(() => ({ exclusiveBlocks: 0, unreadBlocks: 0 }));
    this.#ofLines = family.map(({ container }) => containerCode(this.#indexOf.get(container)!));
    this.#codes = family.map(({ container, versions }) =>
      versions.map(({ state }) =>
        state === 'deleted' ? NOBODY : this.#newReader(this.#indexOf.get(container)!),
      ),
    );
  }

  codesOf(index: number): Readers[] {
    return this.#codes[index]!;
  }

  join(a: Readers, b: Readers): Readers {
    if (a === b || b === NOBODY) return a;
    if (a === NOBODY) return b;
    if (a === MANY || b === MANY) return MANY;
    const container = this.#containerOf(a);
    return container === this.#containerOf(b) ? containerCode(container) : MANY;
  }

  together(index: number): Readers {
    return this.#ofLines[index]!;
  }

  tally(owner: Line, readers: Readers, blocks: number): void {
    if (readers === MANY) return;
    if (readers === NOBODY) {
      this.#ofContainers[this.#indexOf.get(owner.container)!]!.unreadBlocks += blocks;
      return;
    }
    this.#ofContainers[this.#containerOf(readers)]!.exclusiveBlocks += blocks;
    if (readers % 2 === 0) this.#exclusive[readers / 2 - 1]! += blocks;
  }

  ofVersion({ index, at }: Place): number {
    return this.#exclusive[this.#codes[index]![at]! / 2 - 1]!;
  }

  ofContainers(): Map<number, { exclusiveBlocks: number; unreadBlocks: number }> {
    return new Map(this.#containers.map((container, index) => [container, this.#ofContainers[index]!]));
  }

  #newReader(container: number): Readers {
    this.#exclusive.push(0);
    return 2 * this.#containerOfReader.push(container);
  }

  #containerOf(code: Readers): number {
    return code % 2 === 0 ? this.#containerOfReader[code / 2 - 1]! : (code - 1) / 2;
  }
}

/** One way through the windows of a family. */
class FamilyCount {
  readonly #blocks: number;
  readonly #readership: Readership;
  readonly #nodes: Node[] = [];
  readonly #byLine = new Map<number, Node>();
  readonly #cuts: CutSweep;

  constructor(family: readonly Line[], readership: Readership, blocksPerWindow: number) {
    this.#blocks = blocksPerWindow;
    this.#readership = readership;
    for (const line of family) this.#addNode(line);
    for (const node of [...this.#nodes].reverse()) this.#joinSubtree(node);
    this.#cuts = new CutSweep(this.#nodes);
  }

  #addNode(line: Line): void {
    const versions = line.versions.map(({ version }) => version);
    const readers = this.#readership.codesOf(this.#nodes.length);
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

  #joinSubtree(node: Node): void {
    node.children.sort((a, b) => a.at - b.at);
    node.subtree = this.#between(node, 0, node.versions.length, NO_NODES);
  }

  window(window: bigint, lines: readonly WindowOfLine[], what: 'all' | 'readers'): void {
    const touched = this.#touched(window, lines);
    for (let at = touched.length - 1; at >= 0; at--) this.#countReaders(touched[at]!);
    if (what === 'all') for (const here of touched) this.#countAllocated(here);
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
    let all: Readers = NOBODY;
    if (count === 1) all = this.#onlyReader(node, from);
    else if (count > 1) all = this.#readership.together(node.order, from, to);
    for (let index = firstAt(node.children, from); index < node.children.length; index++) {
      const child = node.children[index]!;
      if (child.at >= to || all === MANY) break;
      if (!without.has(child.node)) all = this.#readership.join(all, child.node.subtree);
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

  #joinUniform(state: Readers | Int32Array, all: Readers): Readers | Int32Array {
    if (all === NOBODY) return state;
    if (typeof state === 'number') return this.#readership.join(state, all);
    for (let block = 0; block < state.length; block++)
      state[block] = this.#readership.join(state[block]!, all);
    return state;
  }

  #joinStates(state: Readers | Int32Array, other: Readers | Int32Array): Readers | Int32Array {
    if (typeof other === 'number') return this.#joinUniform(state, other);
    if (typeof state === 'number') return this.#joinUniform(other, state);
    for (let block = 0; block < state.length; block++)
      state[block] = this.#readership.join(state[block]!, other[block]!);
    return state;
  }

  /** A record owns its data blocks and hides what is below all its blocks. */
  #take(node: Node, { at, runs }: RecordAt, state: Readers | Int32Array): Int32Array {
    const blocks = typeof state === 'number' ? new Int32Array(this.#blocks).fill(state) : state;
    for (const { start, count, slot } of runs) {
      if (slot !== null) {
        node.own[at]! += count;
        if (typeof state === 'number') this.#readership.tally(node.line, state, count);
        else
          for (let block = start; block < start + count; block++)
            this.#readership.tally(node.line, blocks[block]!, 1);
      }
      // Runs do not overlap: what is hidden here is not asked for again by this record.
      blocks.fill(NOBODY, start, start + count);
    }
    return blocks;
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

  /** Of every version that is no deleted one. */
  versions(): { line: number; version: number; place: Place; allocatedBlocks: number; ownBlocks: number }[] {
    const totals = new Map<Node, Float64Array>();
    return this.#nodes.flatMap((node) => {
      const total = Float64Array.from(node.allocated);
      totals.set(node, total);
      let sum = node.parent ? totals.get(node.parent.node)![node.parent.at]! : 0;
      return node.line.versions.flatMap(({ version, state }, at) => {
        sum += total[at]!;
        total[at] = sum;
        const place = { index: node.order, at };
        const counted = {
          line: node.line.id,
          version,
          place,
          allocatedBlocks: sum,
          ownBlocks: node.own[at]!,
        };
        return state === 'deleted' ? [] : [counted];
      });
    });
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
