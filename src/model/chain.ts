// How lines of versions hang together: what a reader at a version asks, and who depends on a version.

import type { Base, Line } from './entities.js';

/** One line of a chain: readers ask its versions up to `upTo`. */
export interface Link {
  line: Line;
  upTo: number;
}

export interface LineTable {
  get(line: number): Line | undefined;
}

/** Newest line first. A base that is missing ends the chain with an error: its data would read as zero. */
export function chainOf(lines: LineTable, at: Base): Link[] {
  const links: Link[] = [];
  for (let next: Base | null = at; next; ) {
    const line = lines.get(next.line);
    if (!line) throw new Error(`line ${next.line} is named as a base but is not there`);
    links.push({ line, upTo: next.version });
    next = line.base;
  }
  return links;
}

const liveNumbersCache = new WeakMap<Line['versions'], number[]>();

/** Live version numbers of a line, ascending; shared by everyone who asks, as the list of versions is replaced at a change. */
export function liveNumbers(line: Line): readonly number[] {
  let numbers = liveNumbersCache.get(line.versions);
  if (!numbers) {
    numbers = line.versions.map(({ version }) => version);
    liveNumbersCache.set(line.versions, numbers);
  }
  return numbers;
}

/** How many of the ascending `numbers` are at most `limit`. */
export function countUpTo(numbers: readonly number[], limit: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The newest live version of the line below `version`, or null. */
export function previousLive(line: Line, version: number): number | null {
  const numbers = liveNumbers(line);
  const count = countUpTo(numbers, version - 1);
  return count > 0 ? numbers[count - 1]! : null;
}

/** The oldest live version of the line above `version`, or null. */
export function nextLive(line: Line, version: number): number | null {
  const numbers = liveNumbers(line);
  return numbers[countUpTo(numbers, version)] ?? null;
}

/** Something older than `version` may be asked through the line. */
export function hasBelow(line: Line, version: number): boolean {
  return line.base !== null || previousLive(line, version) !== null;
}

/** Who reads (line, version) directly: the next live version, and the first live version of every line based on it. */
export function dependentsOf(line: Line, version: number, children: Iterable<Line>): Base[] {
  const dependents: Base[] = [];
  const next = nextLive(line, version);
  if (next !== null) dependents.push({ line: line.id, version: next });
  for (const child of children) {
    const first = child.versions[0];
    if (child.base?.version === version && first) dependents.push({ line: child.id, version: first.version });
  }
  return dependents;
}
