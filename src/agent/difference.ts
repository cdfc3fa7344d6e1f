// One page of what differs between two states, found by their names. Each page is of one instant; both states are pinned while it is
// read, so a delete that comes meanwhile waits for it.

import { CellblockError } from '../base/errors.js';
import { parseSnapshotReference } from '../model/names.js';
import { type DiffSide, diffPage } from '../operations/diff.js';
import { requireContainer, requireSnapshot } from '../operations/lookup.js';
import type { Operations, Parts } from '../operations/operations.js';
import type { DifferencePage } from './inspection.js';

export interface DifferenceQuestion {
  /** VOLUME@SNAPSHOT. */
  from: string;
  /** VOLUME@SNAPSHOT, or VOLUME for its current state. */
  to: string;
  /** Where the page begins. */
  offset: bigint;
}

export async function differencePage(
  operations: Operations,
  question: DifferenceQuestion,
): Promise<DifferencePage> {
  const { parts } = operations;
  const { devices, meta, catalog } = parts;
  const { from, to, offset } = question;
  const older = snapshotSide(parts, from);
  const newer = to.includes('@') ? snapshotSide(parts, to) : currentSide(parts, to);
  const pinned = [older, newer];
  for (const { line, version } of pinned) devices.pin(line, version);
  try {
    await devices.settle(older.line, older.version);
    await (to.includes('@') ? devices.settle(newer.line, newer.version) : settleCurrent(parts, newer));
    const page = await diffPage(catalog, older, newer, { windowBytes: meta.windowBytes, offset });
    const extents = page.ranges.map(({ offset: start, length, kind }) => ({
      offset: start,
      lengthBytes: length,
      kind,
    }));
    return { from, to, extents, next: page.next };
  } finally {
    for (const { line, version } of pinned) devices.unpin(line, version);
  }
}

/** A current version goes on changing, so it is never settled for good: one round brings what was written up to now. */
async function settleCurrent({ devices, rounds, catalog }: Parts, { line }: DiffSide): Promise<void> {
  await devices.settleBases(line);
  const container = catalog.lines.get(line)?.container;
  if (container === undefined) return;
  await devices.mutexOf(container).run(async () => {
    const device = devices.current(container);
    if (device !== undefined) await rounds.run(device);
  });
}

function snapshotSide({ catalog }: Parts, name: string): DiffSide {
  const reference = parseSnapshotReference(name);
  const { line, version, sizeBytes } = requireSnapshot(catalog, reference.volume, reference.snapshot);
  return { line, version, sizeBytes };
}

function currentSide({ catalog }: Parts, name: string): DiffSide {
  const { line: id, sizeBytes } = requireContainer(catalog, name);
  const current = catalog.lines.get(id)?.versions.at(-1);
  if (current === undefined) {
    throw new CellblockError('catalog-corrupt', `Volume ${JSON.stringify(name)} has no current version.`, {
      hint: 'Run `cellblock store check`.',
    });
  }
  return { line: id, version: current.version, sizeBytes };
}
