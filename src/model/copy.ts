// The JSON record of a snapshot that is being copied from another host: what the current version of the receiving container is meant to become.
//
// Invariant: it is durable before the first byte of that snapshot is written, and goes with the snapshot's being listed. So whatever that
// version says, it says of this snapshot: it need not be copied again.

export interface CopyRecord {
  /** Id of the volume everywhere: 32 hexadecimal digits. */
  volume: string;
  container: number;
  /** The version that is written. */
  line: number;
  version: number;
  /** Id of the snapshot it becomes. */
  snapshot: string;
  /** Id of the snapshot that its changes are told since; null: all of it is copied. */
  since: string | null;
}

export function encodeCopy(copy: CopyRecord): string {
  return JSON.stringify(copy);
}

/** Throws when it is none. */
export function decodeCopy(text: string): CopyRecord {
  const copy = JSON.parse(text) as CopyRecord;
  const { volume, container, line, version, snapshot, since } = copy;
  if (![volume, snapshot, since ?? snapshot].every((id) => /^[0-9a-f]{32}$/.test(id)))
    throw new Error('it names no volume or no snapshot');
  if (![container, line, version].every((number) => Number.isSafeInteger(number)))
    throw new Error('it names no version');
  return copy;
}
