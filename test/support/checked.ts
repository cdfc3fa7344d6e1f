// What must be so whenever nothing is under way: the metadata is whole, and no sync is unfinished.
import { isUnfinished } from '../../src/model/sync.js';
import { checkStore } from '../../src/operations/check.js';
import type { Store } from './store-harness.js';

/** The disk is a fake one: of files and journal the check knows nothing. */
export async function metadataErrors({ operations, directory }: Store): Promise<string[]> {
  const { queue, catalog } = operations.parts;
  const isKnownFile = (number: number): boolean => catalog.files.has(number);
  const { findings } = await checkStore({ directory, queue, isKnownFile });
  const errors = findings.filter(
    ({ severity, code }) => severity === 'error' && !/^(extents|journal)/.test(code),
  );
  return errors.map(({ code, message }) => `store check: ${code}: ${message}`);
}

export function unfinishedSyncs({ operations }: Store): string[] {
  const records = [...operations.parts.catalog.syncs.values()].filter(isUnfinished);
  return records.map(({ id, target, phase }) => `sync ${id} of ${target} is unfinished: ${phase}`);
}
