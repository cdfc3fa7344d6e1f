// The rule of the index of written windows: no record without its bit.

import type { Level } from '../../src/catalog/level.js';
import { ALL_WINDOWS, ALL_WRITTEN, parseWindowKey, parseWrittenKey } from '../../src/model/keys.js';
import { chunkOf, indexInChunk, WrittenSet } from '../../src/model/written-set.js';

/** Records that are missing in the index, as `line/version/window`. */
export async function unnoted(level: Level): Promise<string[]> {
  const sets = new Map<string, WrittenSet>();
  for await (const page of level.scan(ALL_WRITTEN)) {
    for (const [bytes, stored] of page) {
      const { line, version, chunk } = parseWrittenKey(bytes)!;
      sets.set(`${line}/${version}/${chunk}`, WrittenSet.decode(stored));
    }
  }
  const missing: string[] = [];
  for await (const page of level.scan(ALL_WINDOWS)) {
    for (const [bytes] of page) {
      const { line, version, window } = parseWindowKey(bytes)!;
      const set = sets.get(`${line}/${version}/${chunkOf(window)}`);
      if (!set?.has(indexInChunk(window))) missing.push(`${line}/${version}/${window}`);
    }
  }
  return missing;
}

/** Parts of the index there are. */
export async function writtenLeft(level: Level): Promise<number> {
  let count = 0;
  for await (const page of level.scan(ALL_WRITTEN)) count += page.length;
  return count;
}
