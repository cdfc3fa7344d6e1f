// The names people know open devices by: NAME for a volume, NAME@SNAPSHOT for a view of a snapshot.

import type { Operations } from '../operations/operations.js';

export function deviceNames({ parts }: Operations): Map<number, string> {
  const { catalog, devices } = parts;
  const names = new Map<number, string>();
  for (const { handle, container: id, line, version, view } of devices.all()) {
    const container = catalog.containers.get(id);
    if (container === undefined) continue;
    const snapshot = view
      ? catalog.snapshotsOf(container).find((one) => one.line === line && one.version === version)
      : undefined;
    // A view whose snapshot was deleted lives on until its last client leaves; it has no name any more.
    if (view && snapshot === undefined) continue;
    names.set(handle, snapshot === undefined ? container.name : `${container.name}@${snapshot.name}`);
  }
  return names;
}
