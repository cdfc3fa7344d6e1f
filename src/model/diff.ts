// Where two versions differ, told from maps alone: no data is read. DESIGN section 4 "Diff(A, B)".
//
// Only windows about which either side says something since their nearest common ancestor (a record, a cut-off) can differ. In such a
// window a block differs when the two read it from different places; a block is at most at one place of a slot, so the same slot
// means the same bytes, and zero is the same however it is said. So a TRIM of what was zero, or a cut-off over nothing, is no change.
// Two places with the same bytes count as different: the answer is never too small, and exact as to maps.

import type { LineTable, Link } from './chain.js';
import { chainOf } from './chain.js';
import { addCutOffs, firstEndingBehind, inheritCutOffs, newestCutOff } from './cut-offs.js';
import type { Base, CutOff, Line } from './entities.js';
import { overlay, splitRuns } from './runs.js';
import { BLOCK_BYTES } from './units.js';
import type { Run } from './window-record.js';

/** A range that differs: what it is at the second of the two. */
export interface DiffRange {
  offset: bigint;
  length: bigint;
  kind: 'data' | 'zero';
}

/** The versions of one line that one side has and the other has not: above `above`, up to `upTo`. */
export interface Part {
  line: Line;
  above: number;
  upTo: number;
  cutOffs: readonly CutOff[];
}

export interface DiffPlan {
  /** The nearest version that both continue; null: they share nothing. */
  ancestor: Base | null;
  /** What each says since, newest line first. */
  from: Part[];
  to: Part[];
  /** What both have in common, newest line first. */
  below: Part[];
}

export interface VersionRuns {
  version: number;
  runs: readonly Run[];
}

/** What a line says about one window, newest version first; only versions the plan asks of it need be there. */
export type WindowOf = (line: number) => readonly VersionRuns[];

/** How to compare two versions; null stands for a version that says nothing at all. */
export function planDiff(lines: LineTable, from: Base | null, to: Base): DiffPlan {
  const fromChain = from ? chainOf(lines, from) : [];
  const toChain = chainOf(lines, to);
  const ancestor = from ? nearestCommon(fromChain, toChain) : null;
  return {
    ancestor,
    from: partsAbove(fromChain, ancestor),
    to: partsAbove(toChain, ancestor),
    below: ancestor ? partsAbove(chainOf(lines, ancestor), null) : [],
  };
}

function nearestCommon(a: readonly Link[], b: readonly Link[]): Base | null {
  const upTo = new Map(b.map((link) => [link.line.id, link.upTo]));
  for (const link of a) {
    const other = upTo.get(link.line.id);
    if (other !== undefined) return { line: link.line.id, version: Math.min(link.upTo, other) };
  }
  return null;
}

function partsAbove(chain: readonly Link[], ancestor: Base | null): Part[] {
  const parts: Part[] = [];
  for (const { line, upTo } of chain) {
    const above = line.id === ancestor?.line ? ancestor.version : 0;
    // Cut-offs as of now: the list is replaced at a change, never written to.
    if (upTo > above) parts.push({ line, above, upTo, cutOffs: line.cutOffs });
    if (above > 0) break;
  }
  return parts;
}

/** Where either side has cut-offs of its own, so that everything that lies below may have changed: sorted, free of overlaps. */
export function cutSince(plan: DiffPlan): CutOff[] {
  const since = [...plan.from, ...plan.to].flatMap(({ cutOffs, above, upTo }) =>
    inheritCutOffs(cutOffs, { above, upTo }, 1),
  );
  return addCutOffs(since, []);
}

/** The first window at or after `from` that one of the cut-offs (of cutSince) covers, and where that cut-off ends (null: open). */
export function nextCut(
  cutOffs: readonly CutOff[],
  from: bigint,
): { first: bigint; end: bigint | null } | null {
  const next = cutOffs[firstEndingBehind(cutOffs, from)];
  return next ? { first: next.first > from ? next.first : from, end: next.end } : null;
}

/** Either side says something about the window. */
export function mayDiffer(plan: DiffPlan, window: bigint, windowOf: WindowOf): boolean {
  return [...plan.from, ...plan.to].some(({ line, above, upTo, cutOffs }) => {
    if (newestCutOff(cutOffs, window, upTo, above) > 0) return true;
    return windowOf(line.id).some(({ version }) => version > above && version <= upTo);
  });
}

/** Blocks of one window that differ, as the second side has them: in a slot, or zero (slot null). Sorted, joined by kind only. */
export function diffWindow(plan: DiffPlan, window: bigint, windowOf: WindowOf): Run[] {
  const below = resolve(plan.below, window, windowOf).runs;
  return differing(sideOf(plan.from, window, windowOf, below), sideOf(plan.to, window, windowOf, below));
}

/**
 * Blocks for which it matters what lies below: where one side says zero (or the first says anything) and the other is silent. Data of
 * one side is at a place that nothing else names, so it differs whatever lies below.
 */
export function wantedBelow(
  plan: DiffPlan,
  window: bigint,
  windowOf: WindowOf,
  blocksPerWindow: number,
): Run[] {
  const from = resolve(plan.from, window, windowOf);
  const to = resolve(plan.to, window, windowOf);
  const told = ({ runs, closed }: Resolved): Run[] =>
    closed ? overlay([{ start: 0, count: blocksPerWindow, slot: null }], runs) : runs;
  const zeros = told(to).filter(({ slot }) => slot === null);
  const wanted = [
    ...(to.closed ? [] : splitRuns(told(from), to.runs).silent),
    ...(from.closed ? [] : splitRuns(zeros, from.runs).silent),
  ];
  return wanted.sort((a, b) => a.start - b.start);
}

function sideOf(
  parts: readonly Part[],
  window: bigint,
  windowOf: WindowOf,
  below: readonly Run[],
): readonly Run[] {
  const { runs, closed } = resolve(parts, window, windowOf);
  return closed ? runs : overlay(below, runs);
}

/** `closed`: a cut-off keeps them from asking further. */
interface Resolved {
  runs: Run[];
  closed: boolean;
}

/** What the parts say together. */
function resolve(parts: readonly Part[], window: bigint, windowOf: WindowOf): Resolved {
  let runs: Run[] = [];
  for (const { line, above, upTo, cutOffs } of parts) {
    const limit = newestCutOff(cutOffs, window, upTo, above);
    for (const record of windowOf(line.id)) {
      if (record.version > upTo) continue;
      if (record.version <= above || record.version < limit) break;
      runs = overlay(record.runs, runs);
    }
    if (limit > 0) return { runs, closed: true };
  }
  return { runs, closed: false };
}

/** Where two resolved windows name different places; told with what `b` has. */
function differing(a: readonly Run[], b: readonly Run[]): Run[] {
  const result: Run[] = [];
  let nextA = 0;
  let nextB = 0;
  const end = Math.max(endOf(a), endOf(b));
  for (let at = 0; at < end; ) {
    while (nextA < a.length && a[nextA]!.start + a[nextA]!.count <= at) nextA++;
    while (nextB < b.length && b[nextB]!.start + b[nextB]!.count <= at) nextB++;
    const inA = pieceAt(a[nextA], at, end);
    const inB = pieceAt(b[nextB], at, end);
    const until = Math.min(inA.until, inB.until);
    if (inA.slot !== inB.slot) result.push({ start: at, count: until - at, slot: inB.slot });
    at = until;
  }
  return result;
}

function endOf(runs: readonly Run[]): number {
  const last = runs[runs.length - 1];
  return last ? last.start + last.count : 0;
}

/** What a list has at `at`, given the first run that does not end before it, and up to where. */
function pieceAt(run: Run | undefined, at: number, end: number): { slot: bigint | null; until: number } {
  if (!run) return { slot: null, until: end };
  if (run.start > at) return { slot: null, until: run.start };
  return { slot: run.slot, until: run.start + run.count };
}

/** Joins the runs of ascending windows to ranges of bytes that end at `sizeBytes`. */
export class RangeJoiner {
  readonly #windowBytes: bigint;
  readonly #sizeBytes: bigint;
  readonly #ranges: DiffRange[] = [];

  constructor(options: { windowBytes: number; sizeBytes: bigint }) {
    this.#windowBytes = BigInt(options.windowBytes);
    this.#sizeBytes = options.sizeBytes;
  }

  get count(): number {
    return this.#ranges.length;
  }

  get ranges(): DiffRange[] {
    return this.#ranges;
  }

  add(window: bigint, runs: readonly Run[]): void {
    for (const { start, count, slot } of runs) {
      const offset = window * this.#windowBytes + BigInt(start * BLOCK_BYTES);
      const end = offset + BigInt(count * BLOCK_BYTES);
      this.#put(offset, end < this.#sizeBytes ? end : this.#sizeBytes, slot === null ? 'zero' : 'data');
    }
  }

  #put(offset: bigint, end: bigint, kind: DiffRange['kind']): void {
    if (end <= offset) return;
    const last = this.#ranges[this.#ranges.length - 1];
    if (last && last.kind === kind && last.offset + last.length === offset) last.length += end - offset;
    else this.#ranges.push({ offset, length: end - offset, kind });
  }
}
