// Several lines at once, window by window in ascending order: what each has in a window.
// Invariant: memory is bounded by one page per line, and pages get smaller the more lines there are.

import type { CursorSource, StoredVersion } from './line-cursor.js';
import { LineCursor } from './line-cursor.js';

export interface MergedWindow {
  window: bigint;
  lines: { line: number; versions: StoredVersion[] }[];
}

interface Head {
  line: number;
  cursor: LineCursor;
  window: bigint;
  versions: StoredVersion[];
}

const BUFFERED_RECORDS = 32_768;

export async function* mergeWindows(
  source: CursorSource,
  lines: readonly number[],
): AsyncGenerator<MergedWindow> {
  const largestPage = Math.min(1000, Math.floor(BUFFERED_RECORDS / Math.max(1, lines.length)));
  const heap: Head[] = [];
  for (const line of lines) {
    const head: Head = {
      line,
      cursor: new LineCursor(source, line, { largestPage }),
      window: 0n,
      versions: [],
    };
    if (await advance(head, 0n)) push(heap, head);
  }
  while (heap.length > 0) {
    const { window } = heap[0]!;
    const merged: MergedWindow = { window, lines: [] };
    while (heap.length > 0 && heap[0]!.window === window) {
      const head = heap[0]!;
      merged.lines.push({ line: head.line, versions: head.versions });
      if (await advance(head, window + 1n)) sink(heap);
      else drop(heap);
    }
    yield merged;
  }
}

async function advance(head: Head, from: bigint): Promise<boolean> {
  const found = await head.cursor.seek(from);
  if (!found) return false;
  head.window = found.window;
  head.versions = found.versions;
  return true;
}

function push(heap: Head[], head: Head): void {
  let at = heap.push(head) - 1;
  while (at > 0) {
    const parent = (at - 1) >>> 1;
    if (heap[parent]!.window <= head.window) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = head;
}

/** The first has changed: down to its place. */
function sink(heap: Head[]): void {
  const head = heap[0]!;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]!.window < heap[child]!.window) child++;
    if (heap[child]!.window >= head.window) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = head;
}

function drop(heap: Head[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  heap[0] = last;
  sink(heap);
}
