// cellblock move ...: volumes into other cells.

import { setTimeout as aWhile } from 'node:timers/promises';
import type { Command } from 'commander';
import { CellblockError } from '../base/errors.js';
import type { MoveStarted, MoveStatus } from '../coordinator/results.js';
import { CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { type AgainOption, askCoordinator, checkPlace, required, withAgain } from './coordinator-verbs.js';
import { previewLines, statusTable } from './moves-report.js';
import { checkVolumeName, volumeOf } from './names.js';
import { printable } from './table.js';

const ASK_EVERY_MS = 500;

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

const look = (name: string) => `\`cellblock move status ${name}\``;

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
  const last = await follow(context, name, begun.move!);
  terminal.result(last, () => `Volume ${printable(name)} is in cell ${last.to}, at host ${last.toHost}.\n`);
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

function statusOf(context: Context, name: string): Promise<MoveStatus> {
  return askCoordinator(context, { verb: 'move-status', arguments: { volume: name } }, { look: look(name) });
}

/** Until it is over. Interrupting the wait does not interrupt the move. */
async function follow(context: Context, name: string, move: string): Promise<MoveStatus> {
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
    `See ${look(name)}.`,
  );
}

function goesOn(name: string): CommandError {
  return new CommandError(
    'cancelled',
    'interrupted',
    `The wait was interrupted; the move of volume ${name} goes on.`,
    `See ${look(name)}; \`cellblock move cancel ${name}\` turns it back.`,
  );
}
