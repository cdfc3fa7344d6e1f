// A volume of which two cells say that they own it, so that an operator has to decide: for whoever tests what becomes of it.

import type { CoordinatorWorld } from '../../support/coordinator-world.js';

/** `db`, moved from east-1 to the west, and the old owner made one again by hand, which has gone on: nobody can say by rule which of them is the volume. */
export async function forked(world: CoordinatorWorld): Promise<string> {
  const id = await world.volume('db', 'east-1', 2);
  await world.done('move-start', { volume: 'db', cell: 'west', withBases: false, dryRun: false });
  await world.until('the move', () => world.route('db').journal === null);
  madeOwnerAgain(world, id);
  const refused = await world.refused('snapshot-create', { snapshots: [{ volume: 'db', name: 's3' }] });
  if (refused !== 'volume-quarantined') throw new Error(`the fork was ${refused}`);
  return id;
}

/** east-1, which it was moved away from. */
export function madeOwnerAgain(world: CoordinatorWorld, id: string): void {
  const held = world.host('east-1').volumes.get(id)!;
  held.record = { ...held.record, state: 'ACTIVE', epoch: 2, released: null, sealedHead: null };
  held.content = 999;
}
