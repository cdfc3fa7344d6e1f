// Moves of many volumes at once: each is begun by itself, and what speaks against one stops no other.

import { asCellblockError } from '../base/errors.js';
import type { Route } from '../model/cell/route.js';
import type { MoveVerbs, StartOptions } from './move-verbs.js';
import type { MoveStarted } from './results.js';

export interface MoveAsked {
  route: Route;
  cell: string;
}

export async function startMoves(
  moves: MoveVerbs,
  asked: readonly MoveAsked[],
  { counts, ...options }: StartOptions & { counts: Map<string, number> },
): Promise<(MoveStarted | { volume: string; problem: string })[]> {
  const started: (MoveStarted | { volume: string; problem: string })[] = [];
  // One after the other: each goes to the host that has the fewest volumes then.
  for (const { route, cell } of asked)
    try {
      started.push(await moves.startAt(route, { cell, counts }, options));
    } catch (error) {
      started.push({ volume: route.name, problem: asCellblockError(error).message });
    }
  return started;
}
