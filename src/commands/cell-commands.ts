// cellblock cell ... and cellblock replica ...: where volumes are at home.

import type { Command } from 'commander';
import type {
  CellDetails,
  CellSummary,
  PromoteResult,
  RollbackResult,
  SplitResult,
} from '../coordinator/results.js';
import { askOrLoss } from './accept-loss.js';
import { type ConfirmOptions, confirm, YES } from './confirm.js';
import type { Context, ContextOf } from './context.js';
import { type AgainOption, askCoordinator, checkPlace, required, withAgain } from './coordinator-verbs.js';
import { formatBytes } from './format.js';
import { many, startedTable } from './moves-report.js';
import { checkVolumeName, volumeOf } from './names.js';
import {
  basesOf,
  checkSeveral,
  type SeveralOptions,
  tellSeveral,
  withSeveralOptions,
} from './several-moves.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock cell list`';
/** It looks at every volume of a cell, and at each that it moves. */
const SPLIT_SECONDS = 900;

interface SplitOptions extends AgainOption, SeveralOptions {
  into?: string;
  volumes?: string;
}

interface PromoteOptions extends ConfirmOptions, AgainOption {
  host?: string;
  acceptLoss?: boolean;
}

export function addCellCommands(program: Command, contextOf: ContextOf): void {
  const cell = program.command('cell').description('sets of hosts that volumes are at home in');
  cell
    .command('list')
    .description('list cells')
    .action((_options: object, command: Command) => list(contextOf(command)));
  cell
    .command('show')
    .description('all about one cell')
    .argument('<cell>')
    .action((name: string, _options: object, command: Command) => show(contextOf(command), name));
  withAgain(
    cell.command('create').description('make a cell; its first host makes one too').argument('<cell>'),
  ).action((name: string, options: AgainOption, command: Command) =>
    create(contextOf(command), name, options),
  );
  withAgain(
    withSeveralOptions(
      cell
        .command('split')
        .description(
          'move volumes of a cell into another one; without names the busiest, until half is there',
        )
        .argument('<cell>')
        .option('--into <cell>', 'where they go; has to be given')
        .option('--volumes <names>', 'these, with commas between'),
    ),
  ).action((name: string, options: SplitOptions, command: Command) =>
    split(contextOf(command), name, options),
  );
  withAgain(
    cell.command('rollback').description('turn back every move into a cell that can be').argument('<cell>'),
  ).action((name: string, options: AgainOption, command: Command) =>
    rollback(contextOf(command), name, options),
  );
  withAgain(
    cell
      .command('promote')
      .description('let a replica take the place of a primary that is lost')
      .argument('<name>', 'the volume')
      .option('--host <host>', 'the replica; has to be given')
      .option('--accept-loss', 'what the replica does not have is lost, and the lost primary is sealed')
      .option(...YES),
  ).action((name: string, options: PromoteOptions, command: Command) =>
    promote(contextOf(command), name, options),
  );
  addReplicaCommands(program, contextOf);
}

function addReplicaCommands(program: Command, contextOf: ContextOf): void {
  const replica = program.command('replica').description('further hosts of a cell that have every snapshot');
  for (const verb of ['add', 'remove'] as const)
    withAgain(
      replica
        .command(verb)
        .description(
          verb === 'add'
            ? 'let a host pull every snapshot of a volume'
            : 'and purge what it has; also what a host has of a volume only because others continue it',
        )
        .argument('<name>', 'the volume')
        .option('--host <host>', verb === 'add' ? 'of the same cell; has to be given' : 'has to be given'),
    ).action((name: string, options: { host?: string } & AgainOption, command: Command) =>
      changeReplica(contextOf(command), name, { ...options, verb }),
    );
}

async function list(context: Context): Promise<void> {
  const found = await askCoordinator<{ cells: CellSummary[] }>(
    context,
    { verb: 'cell-list', arguments: {} },
    { look: LOOK },
  );
  context.terminal.result(found.cells, () =>
    found.cells.length === 0
      ? 'No cells. Make one with: cellblock cell create CELL\n'
      : table(
          [
            { title: 'CELL', cell: (row) => row.cell },
            { title: 'VOLUMES', cell: (row) => String(row.volumes), align: 'right' },
            { title: 'HOSTS', cell: (row) => hostWords(row) },
          ],
          found.cells,
        ),
  );
}

function hostWords({ hosts }: CellSummary): string {
  if (hosts.length === 0) return 'none yet';
  return hosts
    .map(({ host, connected, draining, regressed }) => {
      const notes = [
        ...(connected ? [] : ['away']),
        ...(draining ? ['draining'] : []),
        ...(regressed ? ['regressed'] : []),
      ];
      return notes.length === 0 ? host : `${host} (${notes.join(', ')})`;
    })
    .join(', ');
}

async function show(context: Context, name: string): Promise<void> {
  checkPlace(name, 'cell');
  const cell = await askCoordinator<CellDetails>(
    context,
    { verb: 'cell-show', arguments: { cell: name } },
    { look: LOOK },
  );
  const names = (list: readonly string[]) => list.join(', ') || '-';
  context.terminal.result(cell, () =>
    table(
      [
        { title: 'CELL', cell: ([key]) => key },
        { title: '', cell: ([, value]) => value },
      ],
      [
        ['Name', cell.cell],
        ['Hosts', hostWords(cell)],
        ['Volumes', names(cell.names)],
        ['Arriving', names(cell.arriving)],
        ['Leaving', names(cell.leaving)],
      ] as [string, string][],
    ),
  );
}

async function create(context: Context, name: string, { again }: AgainOption): Promise<void> {
  checkPlace(name, 'cell');
  const made = await askCoordinator<CellSummary>(
    context,
    { verb: 'cell-create', arguments: { cell: name } },
    { again, look: LOOK },
  );
  context.terminal.result(made, () => `Cell ${printable(made.cell)} made.\n`);
}

async function split(context: Context, name: string, options: SplitOptions): Promise<void> {
  checkPlace(name, 'cell');
  checkSeveral(options);
  const into = checkPlace(
    required(options.into, '--into <cell>', 'Say which cell the volumes go to, such as --into west.'),
    'cell',
  );
  const volumes = options.volumes === undefined ? null : options.volumes.split(',').map(trimmedVolume);
  const done = await askCoordinator<SplitResult>(
    context,
    {
      verb: 'cell-split',
      arguments: { cell: name, into, volumes, dryRun: options.dryRun === true, ...basesOf(options) },
    },
    { again: options.again, look: '`cellblock route list`', timeoutSeconds: SPLIT_SECONDS },
  );
  const text = () => {
    if (done.moves.length === 0)
      return `Nothing was moved: nothing is being written to volumes of cell ${name}. Name some with --volumes.\n`;
    const rates = done.rates
      ?.map(({ volume, bytesPerSecond }) => `${printable(volume)} ${formatBytes(BigInt(bytesPerSecond))}/s`)
      .join(', ');
    const why = rates === undefined ? '' : `The busiest: ${rates}.\n`;
    return `${why}${startedTable(done.moves)}`;
  };
  await tellSeveral(context, done, { ...options, text });
}

function trimmedVolume(name: string): string {
  const trimmed = name.trim();
  checkVolumeName(trimmed, { instead: 'Name volumes, with commas between.' });
  return trimmed;
}

async function rollback(context: Context, name: string, { again }: AgainOption): Promise<void> {
  checkPlace(name, 'cell');
  const done = await askCoordinator<RollbackResult>(
    context,
    { verb: 'cell-rollback', arguments: { cell: name } },
    { again, look: '`cellblock route list`' },
  );
  context.terminal.result(done, () =>
    done.volumes.length === 0
      ? `No volume is on its way to cell ${name}.\n`
      : table(
          [
            { title: 'VOLUME', cell: (row) => row.volume },
            { title: 'TURNED BACK', cell: (row) => (row.turned ? 'yes' : 'no') },
            { title: 'WHY', cell: (row) => row.because },
          ],
          done.volumes,
        ),
  );
}

/** The loss is said before anything is done; the coordinator says it, who has asked the replica. */
async function promote(context: Context, name: string, options: PromoteOptions): Promise<void> {
  checkVolumeName(name, { instead: `Name the volume, ${volumeOf(name)}.` });
  const host = checkPlace(
    required(options.host, '--host <host>', `Name a replica of it; see \`cellblock route show ${name}\`.`),
    'host',
  );
  const ask = (acceptLoss: boolean, again?: string) =>
    askCoordinator<PromoteResult>(
      context,
      { verb: 'cell-promote', arguments: { volume: name, host, acceptLoss } },
      { again, look: `\`cellblock route show ${name}\`` },
    );
  if (options.acceptLoss !== true) {
    await ask(false);
    return;
  }
  const loss = options.again === undefined ? (await askOrLoss(() => ask(false))).loss : null;
  if (loss !== null) {
    context.terminal.note(loss);
    await confirm(context, `Host ${host} takes the place of the primary.`, options);
  }
  const done = await ask(true, options.again);
  context.terminal.result(done, () => {
    const { completeThrough, snapshots } = done.loss;
    const since = completeThrough === null ? 'it was made' : `snapshot ${completeThrough.seq}`;
    const lost = snapshots > 0 ? `, ${many(snapshots, 'snapshot')} among it` : '';
    return `Volume ${printable(done.volume)} is at host ${done.host} under epoch ${done.epoch}. Lost: what was written since ${since}${lost}.\n`;
  });
}

async function changeReplica(
  context: Context,
  name: string,
  { verb, again, ...options }: { verb: 'add' | 'remove'; host?: string } & AgainOption,
): Promise<void> {
  checkVolumeName(name, { instead: `Name the volume, ${volumeOf(name)}.` });
  const host = checkPlace(
    required(options.host, '--host <host>', 'Name a host of the cell; see `cellblock host list`.'),
    'host',
  );
  const done = await askCoordinator<{ volume: string; replicas: string[] }>(
    context,
    { verb: `replica-${verb}`, arguments: { volume: name, host } },
    { again, look: `\`cellblock route show ${name}\`` },
  );
  context.terminal.result(
    done,
    () => `Replicas of volume ${printable(done.volume)}: ${done.replicas.join(', ') || 'none'}.\n`,
  );
}
