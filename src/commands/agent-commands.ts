// cellblock status, store ... and task ...

import type { Command } from 'commander';
import type { Status, StoreSpace, Task } from '../agent/api-schema.js';
import { CellblockError } from '../base/errors.js';
import { apiPath } from './api-client.js';
import { type CheckOptions, checkStoreCommand, type OfflineCheck } from './check-command.js';
import type { Context, ContextOf } from './context.js';
import { formatBytes, formatDuration, formatTime } from './format.js';
import { printable, table } from './table.js';

export function addAgentCommands(program: Command, contextOf: ContextOf, offlineCheck: OfflineCheck): void {
  program
    .command('status')
    .description('the agent: version, where it listens, what it holds')
    .action((_options: object, command: Command) => status(contextOf(command)));
  const store = program.command('store').description('the data directory of the agent');
  store
    .command('status')
    .description(
      'space of every volume and snapshot: logical size, data allocated, read by it alone, given back by deleting it, unread but still held',
    )
    .action((_options: object, command: Command) => space(contextOf(command)));
  store
    .command('check')
    .description('verify every invariant; reads only; the exit code is the answer')
    .option('--store <directory>', 'check this store without an agent: a stopped one, or a copy')
    .action((options: CheckOptions, command: Command) =>
      checkStoreCommand(contextOf(command), options, offlineCheck),
    );
  const task = program.command('task').description('work that takes long');
  task
    .command('list')
    .description('running tasks and those that ended lately')
    .action((_options: object, command: Command) => tasks(contextOf(command)));
  task
    .command('cancel')
    .description('cancel a task')
    .argument('<id>')
    .action((id: string, _options: object, command: Command) => cancel(contextOf(command), id));
}

async function status({ api, terminal, signal }: Context): Promise<void> {
  const status = await api.call<Status>({ method: 'GET', path: apiPath(['status']), signal });
  terminal.result(status, () => {
    const { counts, store } = status;
    const facts: [string, string][] = [
      ['State', store.state],
      ['Version', `${status.version} (pid ${status.pid}, up ${formatDuration(status.uptimeSeconds)})`],
      ['Listening', status.listeners.join(', ') || '-'],
      ['TLS', tlsOf(status.tls)],
      ['Coordinator', coordinatorOf(status.coordinator)],
      ['Store', `${store.directory} (${store.id})`],
      ['Space', spaceOf(store.space)],
      ['Engine', status.engine],
      ['Volumes', `${counts.volumes}, ${counts.snapshots} snapshots`],
      ['Clients', String(counts.connections)],
      ['Being freed', `${counts.pendingDeletes} versions, ${counts.pendingPunches} ranges`],
      ['Failed', status.failedVolumes.join(', ') || '-'],
    ];
    return table(
      [
        { title: 'AGENT', cell: ([key]) => key },
        { title: '', cell: ([, value]) => value },
      ],
      facts,
    );
  });
}

function coordinatorOf(membership: Status['coordinator']): string {
  if (membership === null) return '-';
  const { host, cell, connected, coordinator, leader, serving } = membership;
  const facts = [`${host} in cell ${cell}`];
  facts.push(connected ? `connected to ${coordinator}` : 'not connected');
  if (leader !== null && leader !== coordinator) facts.push(`${leader} leads`);
  if (!serving) facts.push('volumes of cells wait for it');
  return facts.join(', ');
}

function tlsOf({ mode, certificate, psk, clients }: Status['tls']): string {
  if (mode === 'off') return 'off';
  const facts: string[] = [mode];
  if (certificate)
    facts.push(`certificate of ${printable(certificate.subject)} until ${formatTime(certificate.expires)}`);
  if (clients !== 'none') facts.push(`certificates of clients ${clients}`);
  if (psk) facts.push('pre-shared keys');
  return facts.join(', ');
}

const BELOW_RESERVE = 'Less than the reserve is free: new writes are refused until there is room';

function spaceOf(space: Status['store']['space']): string {
  if (space === undefined) return 'the file system does not answer';
  const { freeBytes, reserveBytes, belowReserve } = space;
  const facts = `${formatBytes(freeBytes)} free, ${formatBytes(reserveBytes)} in reserve`;
  return belowReserve ? `${facts}. ${BELOW_RESERVE}` : facts;
}

async function space({ api, terminal, signal }: Context): Promise<void> {
  const space = await api.call<StoreSpace>({ method: 'GET', path: apiPath(['store', 'status']), signal });
  terminal.result(space, () => {
    const rows = table(
      [
        { title: 'NAME', cell: (row) => row.name },
        { title: 'LOGICAL', cell: (row) => formatBytes(row.logicalBytes), align: 'right' },
        { title: 'ALLOCATED', cell: (row) => formatBytes(row.allocatedBytes), align: 'right' },
        { title: 'EXCLUSIVE', cell: (row) => formatBytes(row.exclusiveBytes), align: 'right' },
        { title: 'RECLAIMABLE', cell: (row) => formatBytes(row.reclaimableBytes), align: 'right' },
        { title: 'UNREAD', cell: (row) => formatBytes(row.unreadBytes), align: 'right' },
      ],
      [...space.volumes, ...space.snapshots],
    );
    const { freeBytes, sizeBytes, reserveBytes } = space.fileSystem;
    const full = freeBytes < reserveBytes ? ` ${BELOW_RESERVE}.` : '';
    return `${rows}File system: ${formatBytes(freeBytes)} free of ${formatBytes(sizeBytes)}, ${formatBytes(reserveBytes)} in reserve.${full}\n`;
  });
}

async function tasks({ api, terminal, signal }: Context): Promise<void> {
  const tasks = await api.call<Task[]>({ method: 'GET', path: apiPath(['tasks']), signal });
  terminal.result(tasks, () =>
    tasks.length === 0
      ? 'No tasks.\n'
      : table(
          [
            { title: 'ID', cell: (row) => String(row.id), align: 'right' },
            { title: 'KIND', cell: (row) => row.kind },
            { title: 'SUBJECT', cell: (row) => row.subject },
            { title: 'STATE', cell: (row) => row.state },
            {
              title: 'DONE',
              cell: (row) => (row.percent === null ? '' : `${Math.floor(row.percent)}%`),
              align: 'right',
            },
            { title: 'STARTED', cell: (row) => formatTime(row.created) },
            { title: 'ERROR', cell: (row) => row.error?.message ?? '' },
          ],
          tasks,
        ),
  );
}

async function cancel({ api, terminal, signal }: Context, id: string): Promise<void> {
  if (!/^[1-9]\d{0,14}$/.test(id)) {
    throw new CellblockError('option-invalid', `${JSON.stringify(id)} is not the number of a task.`, {
      hint: 'See `cellblock task list`.',
    });
  }
  const task = await api.change<Task>({
    method: 'DELETE',
    path: apiPath(['tasks', id]),
    signal,
    look: '`cellblock task list`',
  });
  terminal.result(
    task,
    () => `Task ${task.id} (${task.kind} ${printable(task.subject)}) is ${task.state}.\n`,
  );
}
