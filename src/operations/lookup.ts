// Names to things, or one sentence why not.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Container, Snapshot } from '../model/entities.js';
import { checkName } from '../model/names.js';

export function requireVolume(catalog: Catalog, name: string): Container {
  checkName(name, 'volume');
  const container = catalog.containerNamed(name);
  if (container) return container;
  throw new CellblockError('volume-not-found', `There is no volume ${JSON.stringify(name)}.`, {
    hint: 'See `cellblock volume list`.',
  });
}

export function requireSnapshot(catalog: Catalog, volume: string, name: string): Snapshot {
  const container = requireVolume(catalog, volume);
  checkName(name, 'snapshot');
  const snapshot = catalog.snapshotNamed(container, name);
  if (snapshot) return snapshot;
  throw new CellblockError(
    'snapshot-not-found',
    `The volume ${JSON.stringify(volume)} has no snapshot ${JSON.stringify(name)}.`,
    {
      hint: `See \`cellblock snapshot list ${volume}\`.`,
    },
  );
}
