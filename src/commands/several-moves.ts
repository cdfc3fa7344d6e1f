// What is asked of several moves at once: of a split, and of a drain.

import type { Command } from 'commander';
import { CellblockError } from '../base/errors.js';
import type { MoveOfMany } from '../coordinator/results.js';
import type { Context } from './context.js';
import { followMoves } from './follow-moves.js';
import { requireAllStarted } from './moves-report.js';

export interface SeveralOptions {
  withBases?: boolean;
  unshare?: boolean;
  dryRun?: boolean;
  wait?: boolean;
}

export function withSeveralOptions(command: Command): Command {
  return command
    .option('--with-bases', 'bring along first what their snapshots continue of other volumes')
    .option('--unshare', 'let what continues other volumes arrive without sharing data with them')
    .option('--dry-run', 'only say what would be moved')
    .option('--wait', 'wait until all of them are there');
}

/** What becomes of volumes that continue others; undefined: they are refused. */
export function basesOf({ withBases, unshare }: SeveralOptions): { bases?: 'carry' | 'unshare' } {
  if (withBases && unshare)
    throw new CellblockError('option-invalid', '--with-bases and --unshare are opposites.', {
      hint: 'Give one of them.',
    });
  if (withBases) return { bases: 'carry' };
  return unshare ? { bases: 'unshare' } : {};
}

export function checkSeveral({ dryRun, wait }: SeveralOptions): void {
  if (dryRun && wait)
    throw new CellblockError('option-invalid', '--dry-run begins nothing that --wait could wait for.', {
      hint: 'Give one of them.',
    });
}

/** Shows what was begun, waits for it if that is wanted, and fails if not all of it could be begun. */
export async function tellSeveral<Result extends { moves: readonly MoveOfMany[] }>(
  context: Context,
  done: Result,
  { wait, text }: SeveralOptions & { text: () => string },
): Promise<void> {
  const { terminal } = context;
  if (wait) {
    terminal.text(text());
    const over = await followMoves(context, done.moves);
    terminal.result({ ...done, over }, () => '');
  } else terminal.result(done, text);
  requireAllStarted(done.moves);
}
