// cellblock snapshot ... and cellblock clone.

import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { Difference, Snapshot, Task, Volume } from '../agent/api-schema.js';
import { checkName, parseSnapshotReference } from '../model/names.js';
import { apiPath } from './api-client.js';
import type { Context, ContextOf } from './context.js';
import {
  type AgainOption,
  isViaCoordinator,
  refuseAgain,
  refuseWithCoordinator,
  withAgain,
} from './coordinator-verbs.js';
import { expiryAfter } from './durations.js';
import { followTask } from './follow-task.js';
import { formatBytes, formatTime } from './format.js';
import { checkVolumeName, volumeOf } from './names.js';
import { printable, table } from './table.js';
import { deleteSnapshotsViaCoordinator, snapshotViaCoordinator } from './via-coordinator.js';
import { spaceIs } from './volume-commands.js';

export function addSnapshotCommands(program: Command, contextOf: ContextOf): void {
  const snapshot = program.command('snapshot').description('frozen states of volumes');
  withAgain(
    snapshot
      .command('create')
      .description('take snapshots; several are taken in one instant, all or none')
      .argument('<name@snap...>')
      .option('--for <time>', 'delete them by themselves after so long, such as 12h or 7d')
      .option('--via <whom>', '`coordinator`: volumes of cells, at whatever hosts they are')
      .option('--local', 'volumes of cells too, if this host serves them; their coordinator hears of it'),
  ).action((targets: string[], options: CreateOptions, command: Command) =>
    create(contextOf(command), targets, options),
  );
  snapshot
    .command('list')
    .description('list snapshots, of one volume or all')
    .argument('[name]')
    .action((name: string | undefined, _options: object, command: Command) => list(contextOf(command), name));
  withAgain(
    snapshot
      .command('delete')
      .description('delete snapshots, all or none; no data is moved')
      .argument('<name@snap...>')
      .option('--wait', 'wait until their space is free')
      .option(
        '--via <whom>',
        '`coordinator`: of volumes of cells, at every host that has them; one after the other',
      ),
  ).action((targets: string[], options: RemoveOptions, command: Command) =>
    remove(contextOf(command), targets, options),
  );
  snapshot
    .command('diff')
    .description('list what may differ between a snapshot and another one, or its volume as it is now')
    .argument('<name@a>')
    .argument('<name[@b]>')
    .action((from: string, to: string, _options: object, command: Command) =>
      diff(contextOf(command), from, to),
    );
  snapshot
    .command('mount')
    .description('a throw-away clone to take single files out of; it is deleted by itself')
    .argument('<name@snap>')
    .option('--for <time>', 'how long it is there, such as 12h or 7d', '48h')
    .option('--name <name>', 'what it is called; a name is made up else')
    .action((source: string, options: { for: string; name?: string }, command: Command) =>
      mount(contextOf(command), source, options),
    );
  program
    .command('clone')
    .description('make a volume that continues a snapshot')
    .argument('<name@snap>')
    .argument('<new-name>')
    .option('--new-identity', 'give its file systems, partitions and disk ids of their own')
    .action((source: string, name: string, options: { newIdentity?: boolean }, command: Command) =>
      clone(contextOf(command), source, name, options),
    );
}

interface CreateOptions extends AgainOption {
  for?: string;
  via?: string;
  local?: boolean;
}

async function create(context: Context, targets: string[], options: CreateOptions): Promise<void> {
  const { api, terminal, signal } = context;
  for (const target of targets) parseSnapshotReference(target);
  if (isViaCoordinator(options.via)) {
    refuseWithCoordinator({ '--local': options.local }, 'Give one of them.');
    refuseWithCoordinator({ '--for': options.for }, 'Snapshots of cells do not expire: leave --for out.');
    return snapshotViaCoordinator(context, targets, options);
  }
  refuseAgain(options);
  const expires = options.for === undefined ? undefined : expiryAfter(options.for);
  const snapshots = await api.change<Snapshot[]>({
    method: 'POST',
    path: apiPath(['snapshots']),
    body: { targets, expires, ...(options.local === true ? { local: true } : {}) },
    signal,
    look: '`cellblock snapshot list`',
  });
  terminal.result(snapshots, () =>
    snapshots.map(({ fullName }) => `Snapshot ${printable(fullName)} taken.\n`).join(''),
  );
}

async function list({ api, terminal, signal }: Context, volume: string | undefined): Promise<void> {
  if (volume !== undefined)
    checkVolumeName(volume, {
      instead: `List those of its volume: \`cellblock snapshot list ${volumeOf(volume)}\`.`,
    });
  const snapshots = await api.call<Snapshot[]>({
    method: 'GET',
    path: apiPath(['snapshots'], { volume }),
    signal,
  });
  terminal.result(snapshots, () =>
    snapshots.length === 0
      ? 'No snapshots. Take one with: cellblock snapshot create NAME@SNAP\n'
      : table(
          [
            { title: 'SNAPSHOT', cell: (row) => row.fullName },
            { title: 'SIZE', cell: (row) => formatBytes(row.sizeBytes), align: 'right' },
            { title: 'CLIENTS', cell: (row) => String(row.connections), align: 'right' },
            { title: 'CREATED', cell: (row) => formatTime(row.created) },
            { title: 'EXPIRES', cell: (row) => (row.expires === null ? '' : formatTime(row.expires)) },
            { title: 'CLONES', cell: (row) => row.clones.join(', ') },
          ],
          snapshots,
        ),
  );
}

interface RemoveOptions extends AgainOption {
  wait?: boolean;
  via?: string;
}

async function remove(context: Context, targets: string[], options: RemoveOptions): Promise<void> {
  const { api, terminal, signal } = context;
  for (const target of targets) parseSnapshotReference(target);
  if (isViaCoordinator(options.via)) {
    refuseWithCoordinator(
      { '--wait': options.wait },
      'Each host frees the space by itself: leave --wait out.',
    );
    return deleteSnapshotsViaCoordinator(context, targets, options);
  }
  refuseAgain(options);
  const task = await api.change<Task>({
    method: 'DELETE',
    path: apiPath(['snapshots']),
    body: { targets },
    signal,
    look: '`cellblock snapshot list`',
  });
  const last = options.wait === true ? await followTask(context, task) : task;
  terminal.result(last, () => `Deleted ${targets.map(printable).join(', ')}; ${spaceIs(last)}.\n`);
}

async function diff({ api, terminal, signal }: Context, from: string, to: string): Promise<void> {
  parseSnapshotReference(from);
  if (to.includes('@')) parseSnapshotReference(to);
  else checkName(to, 'volume');
  const extents: Difference['extents'] = [];
  for (let next: bigint | null = 0n; next !== null; ) {
    const path = apiPath(['diff'], { from, to, offset: String(next) });
    const page: Difference = await api.call<Difference>({ method: 'GET', path, signal });
    // One by one: a page may be too long for the arguments of a call.
    for (const extent of page.extents) extents.push(extent);
    next = page.next;
  }
  const changedBytes = extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0n);
  terminal.result({ from, to, changedBytes, extents }, () => {
    const rows = table(
      [
        { title: 'OFFSET', cell: (row) => String(row.offset), align: 'right' },
        { title: 'LENGTH', cell: (row) => String(row.lengthBytes), align: 'right' },
        { title: 'KIND', cell: (row) => row.kind },
      ],
      extents,
    );
    return `${rows}${formatBytes(changedBytes)} in ${extents.length} extents may differ.\n`;
  });
}

async function mount(
  { api, terminal, signal }: Context,
  source: string,
  options: { for: string; name?: string },
): Promise<void> {
  const { volume, snapshot } = parseSnapshotReference(source);
  const expires = expiryAfter(options.for);
  const name = options.name ?? `${volume}-${snapshot}-${randomBytes(3).toString('hex')}`.slice(-100);
  checkName(name, 'volume');
  const made = await api.change<Volume>({
    method: 'POST',
    path: apiPath(['clones']),
    body: { source, name, expires },
    signal,
    look: '`cellblock volume list`',
  });
  terminal.result(
    made,
    () =>
      `Volume ${printable(made.name)} has the state of ${printable(source)} until ${formatTime(expires)}.\n` +
      'What is written to it is thrown away with it, and clients that are connected then are disconnected.\n',
  );
}

async function clone(
  { api, terminal, signal }: Context,
  source: string,
  name: string,
  options: { newIdentity?: boolean },
): Promise<void> {
  parseSnapshotReference(source);
  checkName(name, 'volume');
  const volume = await api.change<Volume>({
    method: 'POST',
    path: apiPath(['clones']),
    body: { source, name, new_identity: options.newIdentity ?? false },
    signal,
    look: '`cellblock volume list`',
  });
  terminal.result(volume, () => `Volume ${printable(volume.name)} continues ${printable(source)}.\n`);
}
