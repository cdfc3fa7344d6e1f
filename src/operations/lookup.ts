// Names to things, or one sentence why not.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Container, ContainerKind, Snapshot } from '../model/entities.js';
import { checkName } from '../model/names.js';

/** A container of either kind: for what is the same for both, as snapshots and syncs are. */
export function requireContainer(catalog: Catalog, name: string): Container {
  return find(catalog, name, 'volume');
}

/** `container-kind-wrong` for one of another kind: each has verbs of its own. */
export function requireKind(catalog: Catalog, name: string, kind: ContainerKind): Container {
  const container = find(catalog, name, kind);
  if (container.kind === kind) return container;
  throw new CellblockError(
    'container-kind-wrong',
    `${JSON.stringify(name)} is a ${container.kind}, not a ${kind}.`,
    { hint: `Use \`cellblock ${container.kind} ...\` for it; see \`cellblock ${container.kind} list\`.` },
  );
}

function find(catalog: Catalog, name: string, kind: ContainerKind): Container {
  checkName(name, kind);
  const container = catalog.containerNamed(name);
  if (container) return container;
  throw new CellblockError('volume-not-found', `There is no ${kind} ${JSON.stringify(name)}.`, {
    hint: `See \`cellblock ${kind} list\`.`,
  });
}

export function requireSnapshot(catalog: Catalog, volume: string, name: string): Snapshot {
  const container = requireContainer(catalog, volume);
  checkName(name, 'snapshot');
  const snapshot = catalog.snapshotNamed(container, name);
  if (snapshot) return snapshot;
  throw new CellblockError(
    'snapshot-not-found',
    `The ${container.kind} ${JSON.stringify(volume)} has no snapshot ${JSON.stringify(name)}.`,
    {
      hint: `See \`cellblock snapshot list ${volume}\`.`,
    },
  );
}
