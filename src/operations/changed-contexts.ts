// The contexts that tell what has changed since a snapshot: which of them an export offers, and what one is made of.
//
// An export offers those since snapshots of its own container that it continues. One of a snapshot, which never changes, offers besides: those since
// older snapshots of its container that it does not continue (a sync came in between), and since what its map continues in other containers,
// by `@` and the id, as their names are not its own. HAZARDS 25; docs/decisions/0023.
//
// Invariant: a context tells of every block that differs; one of a snapshot that is not continued is of the moment it was opened, which is for
// ever, as both are frozen and pinned.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { chainOf } from '../model/chain.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { ChangedContext } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import { changedBesides } from './diff.js';

/** A snapshot to tell changes since, as the context names it behind `qemu:dirty-bitmap:`. */
export interface Since {
  name: string;
  snapshot: Snapshot;
}

/** Snapshots of other containers that are offered: those nearest in the chain. */
const MOST_FOREIGN = 8;
/** Ranges that are kept for a context of a snapshot that is not continued: 16 bytes each. */
const MOST_RANGES = 1 << 20;

export function sinceById(id: string): string {
  return `@${id}`;
}

/** Oldest first; those of other containers behind them. */
export function offeredSince(
  catalog: Catalog,
  { container, snapshot }: { container: Container; snapshot: Snapshot | null },
): Since[] {
  const own = catalog.snapshotsOf(container);
  const current = { line: container.line, version: Number.MAX_SAFE_INTEGER };
  const upTo = new Map(chainOf(catalog.lines, current).map((link) => [link.line.id, link.upTo]));
  const isContinued = ({ line, version }: Snapshot): boolean => version <= (upTo.get(line) ?? -1);
  const older = snapshot ? own.slice(0, own.indexOf(snapshot)) : own.filter(isContinued);
  const named = older.map((one) => ({ name: one.name, snapshot: one }));
  return snapshot ? [...named, ...foreignSince(catalog, container, snapshot)] : named;
}

/** Of each line of another container that it continues, the newest snapshot it continues there. */
function foreignSince(catalog: Catalog, container: Container, snapshot: Snapshot): Since[] {
  const found: Since[] = [];
  for (const { line, upTo } of chainOf(catalog.lines, snapshot)) {
    if (found.length === MOST_FOREIGN) break;
    if (line.container === container.id) continue;
    const listed = line.versions.findLast(({ version, state }) => version <= upTo && state === 'listed');
    const base = listed?.snapshot && catalog.snapshots.get(listed.snapshot);
    if (base) found.push({ name: sinceById(base.id), snapshot: base });
  }
  return found;
}

/** What the data plane needs of each. All are pinned; the device reads `exported`, null for a current map. */
export async function contextsOf(
  { catalog, devices, windowBytes }: { catalog: Catalog; devices: Devices; windowBytes: number },
  device: Device,
  { exported, since }: { exported: Snapshot | null; since: readonly Snapshot[] },
): Promise<ChangedContext[]> {
  const contexts: ChangedContext[] = [];
  for (const snapshot of since) {
    const sinceLayer = device.layers.layerOf(snapshot.line, snapshot.version);
    if (sinceLayer !== undefined) contexts.push({ sinceLayer, alsoChanged: new BigUint64Array(0) });
    // A sync has come in between: the volume does not continue it any more.
    else if (exported === null) throw noSuchSnapshot();
    else {
      await devices.settle(snapshot.line, snapshot.version);
      const { ancestor, alsoChanged } = await changedBesides(catalog, exported, snapshot, {
        windowBytes,
        mostRanges: MOST_RANGES,
      });
      const ancestorLayer = ancestor ? device.layers.layerOf(ancestor.line, ancestor.version) : 0;
      if (ancestorLayer === undefined) throw noSuchSnapshot();
      contexts.push({ sinceLayer: ancestorLayer, alsoChanged });
    }
  }
  return contexts;
}

export function noSuchSnapshot(): CellblockError {
  return new CellblockError('snapshot-not-found', 'No such snapshot of this export.', {
    hint: 'See `cellblock snapshot list`.',
  });
}
