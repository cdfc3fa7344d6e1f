// The windows a version of few has written, ascending: four bytes a window, whatever the size of the volume.

export type WindowList = Uint32Array;

const LARGEST = 2 ** 32 - 1;

/** Null: a window does not fit into it. */
export function windowListOf(windows: readonly number[]): WindowList | null {
  const last = windows.at(-1) ?? 0;
  return last <= LARGEST ? Uint32Array.from(windows) : null;
}

/** Those in [first, first + count). */
export function windowsIn(list: WindowList, first: bigint, count: number): WindowList {
  const from = Number(first);
  const begin = firstNotBelow(list, from);
  let end = begin;
  while (end < list.length && list[end]! < from + count) end++;
  return list.subarray(begin, end);
}

function firstNotBelow(list: WindowList, window: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle]! < window) low = middle + 1;
    else high = middle;
  }
  return low;
}
