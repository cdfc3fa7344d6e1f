// Waits until moves are over, as the coordinator tells it: whoever leads meanwhile. Interrupting the wait interrupts no move.

import { setTimeout as aWhile } from 'node:timers/promises';
import type { MoveOfMany, MoveStatus } from '../coordinator/results.js';
import { CommandError } from './command-error.js';
import type { Context } from './context.js';
import { askCoordinator } from './coordinator-verbs.js';
import { many } from './moves-report.js';
import { printable } from './table.js';

const ASK_EVERY_MS = 500;

export const lookAtMove = (name: string) => `\`cellblock move status ${name}\``;

export function statusOf(context: Context, name: string): Promise<MoveStatus> {
  const look = lookAtMove(name);
  return askCoordinator(context, { verb: 'move-status', arguments: { volume: name } }, { look });
}

export async function followMove(context: Context, name: string, move: string): Promise<MoveStatus> {
  const { terminal, signal } = context;
  const progress = await terminal.progress(`move ${printable(name)}`);
  try {
    for (;;) {
      const now = await statusUnderWay(context, name);
      if (now && now.move !== move) throw superseded(name);
      if (now?.ended != null) return ended(now);
      if (now?.copy?.total != null) progress.update(BigInt(now.copy.done), BigInt(now.copy.total));
      await aWhile(ASK_EVERY_MS, undefined, { signal });
    }
  } catch (error) {
    throw signal.aborted ? goesOn(name) : error;
  } finally {
    progress.end();
  }
}

/** One after the other, each told when it is over; what became of those that did not arrive is told at the end. */
export async function followMoves(context: Context, moves: readonly MoveOfMany[]): Promise<MoveStatus[]> {
  const over: MoveStatus[] = [];
  const failed: string[] = [];
  for (const one of moves) {
    if ('problem' in one || one.move === null) continue;
    try {
      const last = await followMove(context, one.volume, one.move);
      over.push(last);
      context.terminal.text(arrivedText(last));
    } catch (error) {
      if (!(error instanceof CommandError) || error.kind !== 'refused') throw error;
      failed.push(one.volume);
      context.terminal.note(`${error.message} ${error.hint}`);
    }
  }
  if (failed.length > 0)
    throw new CommandError(
      'refused',
      'moves-not-ended',
      `${many(failed.length, 'volume')} did not arrive: ${failed.join(', ')}.`,
      'See what is said of each above.',
    );
  return over;
}

export function arrivedText({ volume, to, toHost }: MoveStatus): string {
  return `Volume ${printable(volume)} is in cell ${to}, at host ${toHost}.\n`;
}

/** Null: nobody can say it now, another coordinator may be about to lead. The move goes on by itself. */
async function statusUnderWay(context: Context, name: string): Promise<MoveStatus | null> {
  try {
    return await statusOf(context, name);
  } catch (error) {
    if (error instanceof CommandError && error.kind === 'busy') return null;
    throw error;
  }
}

function ended(status: MoveStatus): MoveStatus {
  if (status.result === 'moved') return status;
  throw new CommandError(
    'refused',
    'move-turned-back',
    `The move of volume ${status.volume} was ${status.result === 'rolled-back' ? 'turned back' : 'given up'}: it is at ${status.from}/${status.fromHost}.`,
    `See \`cellblock route show ${status.volume} --explain\`.`,
  );
}

function superseded(name: string): CommandError {
  return new CommandError(
    'refused',
    'move-superseded',
    `Another move of volume ${name} has been begun meanwhile.`,
    `See ${lookAtMove(name)}.`,
  );
}

function goesOn(name: string): CommandError {
  return new CommandError(
    'cancelled',
    'interrupted',
    `The wait was interrupted; the move of volume ${name} goes on.`,
    `See ${lookAtMove(name)}; \`cellblock move cancel ${name}\` turns it back.`,
  );
}
