// cellblock move ...: volumes into other cells.

import type { Command } from 'commander';
import { CellblockError } from '../base/errors.js';
import type { MoveStarted, MoveStatus } from '../coordinator/results.js';
import type { Context, ContextOf } from './context.js';
import { type AgainOption, askCoordinator, checkPlace, required, withAgain } from './coordinator-verbs.js';
import { arrivedText, followMove, lookAtMove as look, statusOf } from './follow-moves.js';
import { previewLines, statusTable } from './moves-report.js';
import { checkVolumeName, volumeOf } from './names.js';
import { printable } from './table.js';

interface StartOptions extends AgainOption {
  to?: string;
  withBases?: boolean;
  dryRun?: boolean;
  wait?: boolean;
}

export function addMoveCommands(program: Command, contextOf: ContextOf): void {
  const move = program.command('move').description('bring volumes into other cells, while they are used');
  withAgain(
    move
      .command('start', { isDefault: true })
      .description('move a volume; the word `start` may be left out')
      .argument('<name>')
      .option('--to <cell>', 'where it goes; has to be given')
      .option(
        '--with-bases',
        'bring along what its snapshots continue of other volumes: only differences are sent then',
      )
      .option('--dry-run', 'only say what would be sent')
      .option('--wait', 'wait until it is there'),
  ).action((name: string, options: StartOptions, command: Command) =>
    start(contextOf(command), name, options),
  );
  move
    .command('status')
    .description('how far a move is, or how the last one ended')
    .argument('<name>')
    .action((name: string, _options: object, command: Command) => status(contextOf(command), name));
  withAgain(
    move
      .command('cancel')
      .description('turn a move back; possible until its source has released the volume')
      .argument('<name>'),
  ).action((name: string, options: AgainOption, command: Command) =>
    cancel(contextOf(command), name, options),
  );
}

function checkMoved(name: string): void {
  checkVolumeName(name, { instead: `Snapshots move with their volume; name that, ${volumeOf(name)}.` });
}

async function start(context: Context, name: string, options: StartOptions): Promise<void> {
  checkMoved(name);
  const { terminal } = context;
  const { dryRun = false, wait = false, withBases = false, again } = options;
  const cell = checkPlace(
    required(options.to, '--to <cell>', 'Say which cell it goes to, such as --to west.'),
    'cell',
  );
  if (dryRun && wait)
    throw new CellblockError('option-invalid', '--dry-run begins nothing that --wait could wait for.', {
      hint: 'Give one of them.',
    });
  const begun = await askCoordinator<MoveStarted>(
    context,
    { verb: 'move-start', arguments: { volume: name, cell, withBases, dryRun } },
    { again, look: look(name) },
  );
  if (!wait) {
    const next = dryRun ? '' : `See ${look(name)}.\n`;
    terminal.result(begun, () => `${previewLines(begun)}${next}`);
    return;
  }
  terminal.text(previewLines(begun));
  const last = await followMove(context, name, begun.move!);
  terminal.result(last, () => arrivedText(last));
}

async function status(context: Context, name: string): Promise<void> {
  checkMoved(name);
  const now = await statusOf(context, name);
  context.terminal.result(now, () => statusTable(now));
}

async function cancel(context: Context, name: string, { again }: AgainOption): Promise<void> {
  checkMoved(name);
  const now = await askCoordinator<MoveStatus>(
    context,
    { verb: 'move-cancel', arguments: { volume: name } },
    { again, look: look(name) },
  );
  context.terminal.result(
    now,
    () => `The move of volume ${printable(name)} is being turned back. See ${look(name)}.\n`,
  );
}
