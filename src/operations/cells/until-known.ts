// What the metadata has taken in and could not make durable becomes durable later, unless the process dies: until then nobody can be told
// either way.

import { setTimeout as aWhile } from 'node:timers/promises';
import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';

const AGAIN_MS = 500;

/** Does idempotent work again when the metadata can be written again: then it is seen what was done. Whoever asked waits, or gives up. */
export async function untilKnown<T>(catalog: Catalog, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof CellblockError) || error.code !== 'catalog-write-failed') throw error;
    }
    await untilWritable(catalog);
  }
}

async function untilWritable(catalog: Catalog): Promise<void> {
  for (;;) {
    try {
      return await catalog.barrier();
    } catch (error) {
      if (error instanceof CellblockError && error.code === 'store-stopping') throw error;
      await aWhile(AGAIN_MS);
    }
  }
}
