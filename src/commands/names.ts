// Names as the command line takes them: where a volume is asked for and a snapshot was given, the error says which verb is for that.

import { CellblockError } from '../base/errors.js';
import { checkName, parseSnapshotReference } from '../model/names.js';

/** `instead`: what to do about a snapshot, one sentence. Throws one sentence for everything that cannot name a volume. */
export function checkVolumeName(
  name: string,
  { instead, kind = 'volume' }: { instead: string; kind?: 'volume' | 'file' },
): void {
  if (isSnapshot(name)) {
    throw new CellblockError('name-bad-character', `${JSON.stringify(name)} is a snapshot, not a ${kind}.`, {
      hint: instead,
    });
  }
  checkName(name, kind);
}

function isSnapshot(name: string): boolean {
  try {
    parseSnapshotReference(name);
    return true;
  } catch {
    return false;
  }
}

/** The part before the `@`. */
export function volumeOf(snapshot: string): string {
  return snapshot.split('@')[0] ?? '';
}
