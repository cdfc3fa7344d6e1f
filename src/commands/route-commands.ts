// cellblock route ... and cellblock quarantine ...: where volumes are, why it was decided so, and what an operator decides.

import type { Command } from 'commander';
import type {
  AdoptResult,
  ClaimResult,
  Quarantined,
  RouteDetails,
  RouteList,
  RouteSummary,
} from '../coordinator/results.js';
import { type ConfirmOptions, confirm, YES } from './confirm.js';
import type { Context, ContextOf } from './context.js';
import { type AgainOption, askCoordinator, checkPlace, required, withAgain } from './coordinator-verbs.js';
import { formatTime } from './format.js';
import { many } from './moves-report.js';
import { checkVolumeName, volumeOf } from './names.js';
import { paragraph } from './paragraph.js';
import { answersTable, elsewhereLines, explanation, routeTable, trialLines } from './route-explanation.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock route list`';

type Decided = ConfirmOptions & AgainOption;

export function addRouteCommands(program: Command, contextOf: ContextOf): void {
  const route = program.command('route').description('where volumes of cells are');
  route
    .command('list')
    .description('list routes')
    .action((_options: object, command: Command) => list(contextOf(command)));
  route
    .command('show')
    .description('where a volume is')
    .argument('<name>')
    .option('--explain', 'ask both cells, and say what would be decided now and why; changes nothing')
    .action((name: string, options: { explain?: boolean }, command: Command) =>
      show(contextOf(command), name, options),
    );
  withAgain(
    route
      .command('claim')
      .description('give a volume of a host a route: it belongs to the cell from then on')
      .argument('<name>')
      .option('--host <host>', 'where it is; has to be given'),
  ).action((name: string, options: { host?: string } & AgainOption, command: Command) =>
    claim(contextOf(command), name, options),
  );
  withAgain(
    route
      .command('forget')
      .description('drop the route of a volume that is lost or deleted; what hosts have of it they keep')
      .argument('<name>')
      .option(...YES),
  ).action((name: string, options: Decided, command: Command) => forget(contextOf(command), name, options));
  addQuarantineCommands(program, contextOf);
}

function addQuarantineCommands(program: Command, contextOf: ContextOf): void {
  const quarantine = program
    .command('quarantine')
    .description('volumes of which the rules cannot tell which cell is right');
  quarantine
    .command('list')
    .description('list them, with both answers of then and why')
    .action((_options: object, command: Command) => listQuarantined(contextOf(command)));
  withAgain(
    quarantine
      .command('adopt')
      .description('decide which cell goes on with a volume; the other one is sealed, and kept')
      .argument('<name>')
      .option('--cell <cell>', 'which one; has to be given')
      .option('--host <host>', 'which host of that cell, where two have a part of the volume')
      .option(...YES),
  ).action((name: string, options: { cell?: string; host?: string } & Decided, command: Command) =>
    adopt(contextOf(command), name, options),
  );
  withAgain(
    quarantine
      .command('keep-fork')
      .description('make a volume of its own of what was decided against')
      .argument('<name>')
      .option('--as <name>', 'what it is called; has to be given'),
  ).action((name: string, options: { as?: string } & AgainOption, command: Command) =>
    keepFork(contextOf(command), name, options),
  );
  withAgain(
    quarantine
      .command('discard')
      .description('throw away what was decided against')
      .argument('<name>')
      .option(...YES),
  ).action((name: string, options: Decided, command: Command) => discard(contextOf(command), name, options));
}

function checkRouted(name: string): void {
  checkVolumeName(name, { instead: `Snapshots have no route of their own; name ${volumeOf(name)}.` });
}

const lookAt = (name: string) => `\`cellblock route show ${name}\``;

async function list(context: Context): Promise<void> {
  const routes: RouteSummary[] = [];
  for (let after: string | null = null; ; ) {
    const page: RouteList = await askCoordinator<RouteList>(
      context,
      { verb: 'route-list', arguments: { after } },
      { look: LOOK },
    );
    routes.push(...page.routes);
    after = page.next;
    if (after === null) break;
  }
  context.terminal.result(routes, () =>
    routes.length === 0
      ? 'No volume has a route. Give one a route with: cellblock route claim NAME --host HOST\n'
      : table(
          [
            { title: 'VOLUME', cell: (row) => row.name },
            { title: 'CELL', cell: (row) => row.cell },
            { title: 'HOST', cell: (row) => row.host },
            { title: 'STATE', cell: (row) => row.status },
            { title: 'EPOCH', cell: (row) => String(row.epoch), align: 'right' },
            { title: 'SNAPSHOTS', cell: (row) => String(row.seq), align: 'right' },
            { title: 'COPY AT', cell: (row) => row.alternate ?? '' },
            { title: 'MOVE', cell: (row) => row.phase ?? '' },
          ],
          routes,
        ),
  );
}

async function show(context: Context, name: string, options: { explain?: boolean }): Promise<void> {
  checkRouted(name);
  const details = await askCoordinator<RouteDetails>(
    context,
    { verb: 'route-show', arguments: { volume: name, explain: options.explain === true } },
    { look: lookAt(name) },
  );
  context.terminal.result(details, () =>
    details.explained === null ? routeTable(details) : explanation(details, details.explained),
  );
}

async function claim(
  context: Context,
  name: string,
  { again, ...options }: { host?: string } & AgainOption,
): Promise<void> {
  checkRouted(name);
  const host = checkPlace(
    required(options.host, '--host <host>', 'Name the host that has it; see `cellblock host list`.'),
    'host',
  );
  const claimed = await askCoordinator<ClaimResult>(
    context,
    { verb: 'route-claim', arguments: { volume: name, host } },
    { again, look: lookAt(name) },
  );
  context.terminal.result(claimed, () => {
    const with_ = claimed.snapshots === 0 ? '' : `, with ${many(claimed.snapshots, 'snapshot')}`;
    const faulted =
      claimed.state === 'FAULTED' ? `It is not served there; see \`cellblock route show ${name}\`.\n` : '';
    return `Volume ${printable(claimed.name)} belongs to cell ${claimed.cell}, at host ${claimed.host}${with_}.\n${faulted}`;
  });
}

async function forget(context: Context, name: string, options: Decided): Promise<void> {
  checkRouted(name);
  await confirm(context, `The route of volume ${name} and all that was decided of it are dropped.`, options);
  const dropped = await askCoordinator<RouteSummary>(
    context,
    { verb: 'route-forget', arguments: { volume: name } },
    { again: options.again, look: LOOK },
  );
  context.terminal.result(dropped, () => `Volume ${printable(dropped.name)} has no route any more.\n`);
}

async function listQuarantined(context: Context): Promise<void> {
  const { volumes } = await askCoordinator<{ volumes: Quarantined[] }>(
    context,
    { verb: 'quarantine-list', arguments: {} },
    { look: '`cellblock quarantine list`' },
  );
  context.terminal.result(volumes, () =>
    volumes.length === 0 ? 'No volume is in quarantine.\n' : volumes.map(evidenceText).join('\n'),
  );
}

function evidenceText({ name, at, route, x, y, trials, elsewhere }: Quarantined): string {
  const owners = elsewhere.filter(({ state }) => state === 'ACTIVE' || state === 'OUTGOING');
  const named = [route.active.cell, ...(route.alternate ? [route.alternate.cell] : [])];
  // Where another host owns it none of the route is adopted.
  const cells = owners.length > 0 ? [...new Set(owners.map(({ cell }) => cell))] : named;
  return [
    `Volume ${printable(name)}, since ${formatTime(at)}\n`,
    answersTable(route, { x, y }),
    trialLines(trials),
    elsewhereLines(name, elsewhere),
    paragraph(
      `Decide: cellblock quarantine adopt ${printable(name)} --cell ${cells.join(' or ')}; the other one is kept.`,
    ),
  ].join('');
}

async function adopt(
  context: Context,
  name: string,
  { cell: given, host: part, again, ...options }: { cell?: string; host?: string } & Decided,
): Promise<void> {
  checkRouted(name);
  const cell = checkPlace(
    required(given, '--cell <cell>', 'Say which cell goes on; see `cellblock quarantine list`.'),
    'cell',
  );
  const host = part === undefined ? {} : { host: checkPlace(part, 'host') };
  await confirm(
    context,
    `Cell ${cell} goes on with volume ${name}; what the other one has is sealed.`,
    options,
  );
  const adopted = await askCoordinator<AdoptResult>(
    context,
    { verb: 'quarantine-adopt', arguments: { volume: name, cell, ...host } },
    { again, look: lookAt(name) },
  );
  context.terminal.result(adopted, () => {
    const done = `Volume ${printable(adopted.volume)} is at ${adopted.cell}/${adopted.host} under epoch ${adopted.epoch}.\n`;
    return adopted.left === null
      ? done
      : `${done}What host ${adopted.left} has is kept: \`cellblock quarantine keep-fork\` makes a volume of it, \`discard\` throws it away.\n`;
  });
}

async function keepFork(
  context: Context,
  name: string,
  { again, ...options }: { as?: string } & AgainOption,
): Promise<void> {
  checkRouted(name);
  const as = required(options.as, '--as <name>', 'Say what the new volume is called.');
  checkVolumeName(as, { instead: 'Give a name without `@`.' });
  const kept = await askCoordinator<ClaimResult>(
    context,
    { verb: 'quarantine-keep-fork', arguments: { volume: name, as } },
    { again, look: LOOK },
  );
  context.terminal.result(
    kept,
    () =>
      `Volume ${printable(kept.name)} is what host ${kept.host} had of ${printable(name)}, with ${many(kept.snapshots, 'snapshot')}.\n`,
  );
}

async function discard(context: Context, name: string, options: Decided): Promise<void> {
  checkRouted(name);
  await confirm(
    context,
    `What was decided against of volume ${name} is thrown away, with what only it has.`,
    options,
  );
  const done = await askCoordinator<{ volume: string; host: string }>(
    context,
    { verb: 'quarantine-discard', arguments: { volume: name } },
    { again: options.again, look: lookAt(name) },
  );
  context.terminal.result(done, () => `What host ${done.host} had of ${printable(done.volume)} is gone.\n`);
}
