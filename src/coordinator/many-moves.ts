// Moves of many volumes at once: each is begun by itself, and what speaks against one stops no other. Asked for again, what is under way goes on.

import { asCellblockError } from '../base/errors.js';
import type { Route } from '../model/cell/route.js';
import type { MoveVerbs, StartOptions, Together } from './move-verbs.js';
import type { MoveOfMany } from './results.js';

export interface MoveAsked {
  route: Route;
  cell: string;
}

export async function startMoves(
  moves: MoveVerbs,
  asked: readonly MoveAsked[],
  options: StartOptions & { together: Together },
): Promise<MoveOfMany[]> {
  const started: MoveOfMany[] = [];
  // One after the other: each goes where what it continues is by then, or to the host that has the fewest volumes.
  for (const one of await basesFirst(moves, asked)) started.push(await startOne(moves, one, options));
  return started;
}

async function startOne(
  moves: MoveVerbs,
  { route, cell }: MoveAsked,
  { together, ...options }: StartOptions & { together: Together },
): Promise<MoveOfMany> {
  const { name, journal, active } = route;
  if (journal?.direction === 'forward' && journal.to === cell && journal.fromHost === active.primary) {
    const { move, to, toHost, phase } = journal;
    return { volume: name, move, to, toHost, phase };
  }
  try {
    return await moves.startAt(route, cell, together, options);
  } catch (error) {
    const { message, hint } = asCellblockError(error);
    return { volume: name, problem: `${message} ${hint}`.trim() };
  }
}

/** What others continue comes before them; else as they were asked for. */
async function basesFirst(moves: MoveVerbs, asked: readonly MoveAsked[]): Promise<MoveAsked[]> {
  const byVolume = new Map(asked.map((one) => [one.route.volume, one]));
  const ordered = new Set<MoveAsked>();
  const seen = new Set<string>();
  const visit = async (one: MoveAsked): Promise<void> => {
    const { volume } = one.route;
    if (seen.has(volume)) return;
    seen.add(volume);
    for (const base of await moves.continued(one.route)) {
      const before = byVolume.get(base);
      if (before) await visit(before);
    }
    ordered.add(one);
  };
  for (const one of asked) await visit(one);
  return [...ordered];
}
