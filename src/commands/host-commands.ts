// cellblock host ...: the agents that a coordinator knows.

import type { Command } from 'commander';
import type {
  DrainResult,
  ForgetHostResult,
  HostDetails,
  HostSummary,
  PurgeResult,
  ReadmitResult,
} from '../coordinator/results.js';
import { askOrLoss } from './accept-loss.js';
import { type ConfirmOptions, confirm, YES } from './confirm.js';
import type { Context, ContextOf } from './context.js';
import { type AgainOption, askCoordinator, checkPlace, withAgain } from './coordinator-verbs.js';
import { formatTime } from './format.js';
import { startedTable } from './moves-report.js';
import { checkVolumeName } from './names.js';
import {
  basesOf,
  checkSeveral,
  type SeveralOptions,
  tellSeveral,
  withSeveralOptions,
} from './several-moves.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock host list`';
const DRAIN_SECONDS = 900;

export function addHostCommands(program: Command, contextOf: ContextOf): void {
  const host = program.command('host').description('hosts of cells: agents as the coordinator knows them');
  host
    .command('list')
    .description('list hosts')
    .action((_options: object, command: Command) => list(contextOf(command)));
  host
    .command('show')
    .description('all about one host')
    .argument('<host>')
    .action((name: string, _options: object, command: Command) => show(contextOf(command), name));
  withAgain(
    withSeveralOptions(
      host
        .command('drain')
        .description('move its volumes to other hosts of its cell; new copies go elsewhere')
        .argument('<host>'),
    ),
  ).action((name: string, options: SeveralOptions & AgainOption, command: Command) =>
    drain(contextOf(command), name, options),
  );
  withAgain(
    host
      .command('readmit')
      .description('believe a host that came back older than it was')
      .argument('<host>')
      .option(...YES),
  ).action((name: string, options: ConfirmOptions & AgainOption, command: Command) =>
    readmit(contextOf(command), name, options),
  );
  withAgain(
    host
      .command('forget')
      .description('give up a host that never comes back: no route names it any more')
      .argument('<host>')
      .option(...YES),
  ).action((name: string, options: ConfirmOptions & AgainOption, command: Command) =>
    forget(contextOf(command), name, options),
  );
  withAgain(
    host
      .command('purge')
      .description('delete what a host still has of a volume whose route does not name it, or that has none')
      .argument('<host>')
      .argument('<name>', 'of a volume without a route its id')
      .option('--accept-loss', 'what only that host has of the volume is lost')
      .option(...YES),
  ).action((name: string, volume: string, options: PurgeOptions, command: Command) =>
    purge(contextOf(command), { name, volume, ...options }),
  );
}

type PurgeOptions = ConfirmOptions & AgainOption & { acceptLoss?: boolean };

async function list(context: Context): Promise<void> {
  const { hosts } = await askCoordinator<{ hosts: HostSummary[] }>(
    context,
    { verb: 'host-list', arguments: {} },
    { look: LOOK },
  );
  context.terminal.result(hosts, () =>
    table(
      [
        { title: 'HOST', cell: (row) => row.host },
        { title: 'CELL', cell: (row) => row.cell },
        { title: 'STATE', cell: stateOf },
        { title: 'PRIMARY OF', cell: (row) => String(row.primaryOf), align: 'right' },
        { title: 'COPIES', cell: (row) => String(row.copies), align: 'right' },
        { title: 'NBD', cell: (row) => row.nbd.join(', ') },
      ],
      hosts,
    ),
  );
}

function stateOf({ connected, draining, regressed }: HostSummary): string {
  return [
    connected ? 'connected' : 'away',
    ...(draining ? ['draining'] : []),
    ...(regressed ? ['regressed'] : []),
  ].join(', ');
}

async function show(context: Context, name: string): Promise<void> {
  checkPlace(name, 'host');
  const host = await askCoordinator<HostDetails>(
    context,
    { verb: 'host-show', arguments: { host: name } },
    { look: LOOK },
  );
  context.terminal.result(host, () => {
    const facts = table(
      [
        { title: 'HOST', cell: ([key]) => key },
        { title: '', cell: ([, value]) => value },
      ],
      [
        ['Name', host.host],
        ['Cell', host.cell],
        ['State', stateOf(host)],
        ['NBD', host.nbd.join(', ') || '-'],
        ['Store', host.storeId],
        ['Starts', String(host.boot)],
      ] as [string, string][],
    );
    const volumes = table(
      [
        { title: 'VOLUME', cell: (row) => row.name },
        { title: 'PART', cell: (row) => row.part },
        { title: 'EPOCH', cell: (row) => String(row.epoch), align: 'right' },
        { title: 'ID', cell: (row) => row.id },
      ],
      host.volumes,
    );
    const bases = table(
      [
        { title: 'FOR OTHERS', cell: (row) => row.name },
        { title: 'THROUGH', cell: (row) => `snapshot ${row.seq}${row.complete ? '' : ', on its way'}` },
        { title: 'CONTINUED BY', cell: (row) => row.for.join(', ') || '-' },
        {
          title: 'KEPT',
          cell: (row) => (row.keptUntil === null ? '' : `until ${formatTime(row.keptUntil)}`),
        },
        { title: 'ID', cell: (row) => row.id },
      ],
      host.bases,
    );
    const strays = table(
      [
        { title: 'WITHOUT A ROUTE', cell: (row) => row.name ?? '-' },
        { title: 'STATE', cell: (row) => row.state },
        { title: 'EPOCH', cell: (row) => String(row.epoch), align: 'right' },
        { title: 'ID', cell: (row) => row.id },
      ],
      host.strays,
    );
    return [
      facts,
      host.volumes.length > 0 ? `\n${volumes}` : '',
      host.bases.length > 0 ? `\n${bases}` : '',
      host.strays.length > 0 ? `\n${strays}` : '',
    ].join('');
  });
}

async function drain(
  context: Context,
  name: string,
  { again, ...options }: SeveralOptions & AgainOption,
): Promise<void> {
  checkPlace(name, 'host');
  checkSeveral(options);
  const dryRun = options.dryRun === true;
  const done = await askCoordinator<DrainResult>(
    context,
    { verb: 'host-drain', arguments: { host: name, dryRun, ...basesOf(options) } },
    { again, look: `\`cellblock host show ${name}\``, timeoutSeconds: DRAIN_SECONDS },
  );
  const now = dryRun ? '' : `New copies do not go to host ${name} any more.\n`;
  const text = () =>
    done.moves.length === 0 ? `${now}It is the primary of no volume.\n` : `${now}${startedTable(done.moves)}`;
  await tellSeveral(context, done, { ...options, text });
}

async function readmit(context: Context, name: string, options: ConfirmOptions & AgainOption): Promise<void> {
  checkPlace(name, 'host');
  await confirm(context, `What host ${name} has is believed, though more was seen of it before.`, options);
  const done = await askCoordinator<ReadmitResult>(
    context,
    { verb: 'host-readmit', arguments: { host: name } },
    { again: options.again, look: `\`cellblock host show ${name}\`` },
  );
  context.terminal.result(done, () => {
    const lines = [
      `Host ${name} is readmitted with ${done.readmitted.length === 0 ? 'no volume' : done.readmitted.map(printable).join(', ')}.`,
      ...done.faulted.map(({ volume, because }) => `${printable(volume)} stays faulted: ${because}.`),
      ...(done.missing.length === 0 ? [] : [`It lacks ${done.missing.map(printable).join(', ')}.`]),
    ];
    return `${lines.join('\n')}\n`;
  });
}

async function forget(context: Context, name: string, options: ConfirmOptions & AgainOption): Promise<void> {
  checkPlace(name, 'host');
  const warning = `What host ${name} has of volumes is given up; if it comes back, nothing of it is served before \`cellblock host readmit ${name}\`.`;
  await confirm(context, warning, options);
  const done = await askCoordinator<ForgetHostResult>(
    context,
    { verb: 'host-forget', arguments: { host: name } },
    { again: options.again, look: LOOK },
  );
  context.terminal.result(done, () =>
    done.volumes.length === 0
      ? `Host ${name} is forgotten; no route has named it.\n`
      : `Host ${name} is forgotten: the routes of ${done.volumes.map(printable).join(', ')} name it no more.\n`,
  );
}

async function purge(
  context: Context,
  { name, volume, ...options }: PurgeOptions & { name: string; volume: string },
): Promise<void> {
  checkPlace(name, 'host');
  checkVolumeName(volume, { instead: 'Name the volume; all its snapshots go with it there.' });
  const ask = (acceptLoss: boolean, again?: string) =>
    askCoordinator<PurgeResult>(
      context,
      { verb: 'host-purge', arguments: { host: name, volume, acceptLoss } },
      { again, look: `\`cellblock host show ${name}\`` },
    );
  const about = `What host ${name} has of volume ${volume} is deleted.`;
  const done = await (options.acceptLoss === true
    ? purgeWithLoss(context, ask, { ...options, about })
    : ask(false, options.again));
  context.terminal.result(done, () => `Host ${name} has nothing of volume ${printable(volume)} any more.\n`);
}

/** What would be lost is said before anything is done. */
async function purgeWithLoss(
  context: Context,
  ask: (acceptLoss: boolean, again?: string) => Promise<PurgeResult>,
  { about, again, ...options }: ConfirmOptions & AgainOption & { about: string },
): Promise<PurgeResult> {
  if (again !== undefined) return ask(true, again);
  const { done, loss } = await askOrLoss(() => ask(false));
  if (done) return done;
  context.terminal.note(loss);
  await confirm(context, about, options);
  return ask(true);
}
