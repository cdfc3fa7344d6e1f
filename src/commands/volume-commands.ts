// cellblock volume ... and cellblock file ...: the verbs that are one call of the API. Import and export have files of their own.

import type { Command } from 'commander';
import type {
  DeletePlan,
  FileDetails,
  RepairReport,
  Task,
  Volume,
  VolumeDetails,
} from '../agent/api-schema.js';
import { CellblockError } from '../base/errors.js';
import { checkAllowed, checkDescription } from '../model/access.js';
import { parseSize } from '../model/sizes.js';
import { apiPath } from './api-client.js';
import { type ConfirmOptions, YES } from './confirm.js';
import type { Context, ContextOf } from './context.js';
import {
  type AgainOption,
  isViaCoordinator,
  refuseAgain,
  refuseWithCoordinator,
  withAgain,
} from './coordinator-verbs.js';
import { followTask } from './follow-task.js';
import { formatBytes, formatTime } from './format.js';
import { checkVolumeName, volumeOf } from './names.js';
import { type Noun, VOLUME } from './noun.js';
import { printable, table } from './table.js';
import { deleteViaCoordinator, resizeViaCoordinator } from './via-coordinator.js';
import {
  addLimitOptions,
  addSettingOptions,
  givenOf,
  type LimitOptions,
  limitsBody,
  type SettingOptions,
  settingLines,
  settingsBody,
} from './volume-settings.js';

const ALLOW =
  'who may open it and its snapshots over NBD: uid:NUMBER (over unix sockets), tls:IDENTITY (a * at its end stands for anything)';
const DESCRIPTION = 'text NBD clients are shown';
const VIA = '`coordinator`: one of a cell, at whatever hosts it is';

interface AccessOptions {
  allow?: string[];
  description?: string;
}

type CreateOptions = AccessOptions & LimitOptions;

interface SetOptions extends AccessOptions, SettingOptions {
  allowAll?: boolean;
  disconnect?: boolean;
}

/** The context of a command, and what it speaks of. */
type Spoken = Context & { noun: Noun };

export function addVolumeCommands(program: Command, contextOf: ContextOf, noun = VOLUME): Command {
  const { kind, sizeExample } = noun;
  const spoken = (command: Command): Spoken => ({ ...contextOf(command), noun });
  const volume = program.command(kind).description(noun.description);
  const creating = volume
    .command('create')
    .description(`make an empty ${kind}`)
    .argument('<name>')
    .option('--size <size>', `logical size, such as ${sizeExample}; has to be given`)
    .option('--allow <who...>', ALLOW)
    .option('--description <text>', DESCRIPTION)
    .action((name: string, options: { size?: string } & CreateOptions, command: Command) =>
      create(spoken(command), name, { ...options, size: required(options.size, noun) }),
    );
  if (kind === 'volume') addLimitOptions(creating);
  volume
    .command('list')
    .description(`list ${kind}s`)
    .action((_options: object, command: Command) => list(spoken(command)));
  volume
    .command('show')
    .description(`all about one ${kind}`)
    .argument('<name>')
    .action((name: string, _options: object, command: Command) => show(spoken(command), name));
  volume
    .command('rename')
    .description(`give a ${kind} another name; connections stay`)
    .argument('<name>')
    .argument('<new-name>')
    .action((name: string, newName: string, _options: object, command: Command) =>
      rename(spoken(command), name, newName),
    );
  withAgain(
    volume
      .command('resize')
      .description('change the logical size')
      .argument('<name>')
      .option('--size <size>', `new logical size, such as ${sizeExample}; has to be given`)
      .option('--force', 'allow to shrink: what lies behind the new end is gone')
      .option('--via <whom>', VIA),
  ).action((name: string, options: { size?: string } & ResizeOptions, command: Command) =>
    resize(spoken(command), name, { ...options, size: required(options.size, noun) }),
  );
  const setting = volume
    .command('set')
    .description(
      kind === 'volume'
        ? 'say who may open it and what NBD clients are told of it, or set its limits and its transaction log'
        : 'say who may open it, and what NBD clients are told of it',
    )
    .argument('<name>')
    .option('--allow <who...>', `${ALLOW}; in place of who could before`)
    .option('--allow-all', 'everybody who reaches a socket may open it')
    .option('--description <text>', DESCRIPTION)
    .option('--disconnect', 'close its open connections, which stay otherwise; who may, connects again')
    .action((name: string, _options: object, command: Command) =>
      set(spoken(command), name, givenOf<SetOptions>(command)),
    );
  if (kind === 'volume') addSettingOptions(setting);
  withAgain(
    volume
      .command('delete')
      .description(`delete a ${kind}; its clones stay`)
      .argument('<name>')
      .option('--with-snapshots', 'delete its snapshots too')
      .option('--disconnect', 'close the connections of its clients')
      .option('--dry-run', 'only say what would be deleted')
      .option('--wait', 'wait until its space is free')
      .option('--via <whom>', VIA)
      .option(...YES),
  ).action((name: string, options: DeleteOptions, command: Command) =>
    remove(spoken(command), name, options),
  );
  volume
    .command('repair')
    .description(`make a ${kind} writable again after its disk failed`)
    .argument('<name>')
    .action((name: string, _options: object, command: Command) => repair(spoken(command), name));
  return volume;
}

/** Not commander's requiredOption(): that hides a misspelt option behind the one that is missing then. */
function required(size: string | undefined, { sizeExample }: Noun): string {
  if (size !== undefined) return size;
  throw new CellblockError('option-invalid', "The option '--size <size>' is missing.", {
    hint: `Say the size with it, such as --size ${sizeExample}.`,
  });
}

async function create(
  { api, terminal, signal, noun }: Spoken,
  name: string,
  { size, ...options }: { size: string } & CreateOptions,
): Promise<void> {
  checkVolumeName(name, { instead: `Take it with \`cellblock snapshot create ${name}\`.`, kind: noun.kind });
  const limits = limitsBody(options);
  const body = {
    name,
    size: String(parseSize(size)),
    ...noun.extras(),
    ...accessOf(options),
    ...(limits && { limits }),
  };
  const path = apiPath([noun.collection]);
  const volume = await api.change<Volume>({ method: 'POST', path, body, signal, look: noun.look });
  terminal.result(
    volume,
    () => `${noun.title} ${printable(volume.name)} made, ${noun.size(volume.sizeBytes)}.\n`,
  );
}

async function list({ api, terminal, signal, noun }: Spoken): Promise<void> {
  const volumes = await api.call<Volume[]>({ method: 'GET', path: apiPath([noun.collection]), signal });
  terminal.result(volumes, () =>
    volumes.length === 0
      ? `No ${noun.kind}s. Make one with: cellblock ${noun.kind} create NAME --size ${noun.sizeExample}\n`
      : table(
          [
            { title: 'NAME', cell: (row) => row.name },
            { title: 'SIZE', cell: (row) => noun.size(row.sizeBytes), align: 'right' },
            { title: 'SNAPSHOTS', cell: (row) => String(row.snapshots), align: 'right' },
            { title: 'CLIENTS', cell: (row) => String(row.connections), align: 'right' },
            { title: 'STATE', cell: stateOf },
            { title: 'CLONED FROM', cell: (row) => row.clonedFrom ?? '' },
            { title: 'CREATED', cell: (row) => formatTime(row.created) },
          ],
          volumes,
        ),
  );
}

async function show({ api, terminal, signal, noun }: Spoken, name: string): Promise<void> {
  checkVolumeName(name, { instead: `See \`cellblock snapshot list ${volumeOf(name)}\`.`, kind: noun.kind });
  const path = apiPath([noun.collection, name]);
  const volume = await api.call<VolumeDetails | FileDetails>({ method: 'GET', path, signal });
  terminal.result(volume, () => {
    const facts: [string, string][] = [
      ['Name', volume.name],
      ['Size', `${formatBytes(volume.sizeBytes)} (${volume.sizeBytes} bytes)`],
      ['State', stateOf(volume)],
      ['Clients', String(volume.connections)],
      ['Created', formatTime(volume.created)],
      ['Cloned from', volume.clonedFrom ?? '-'],
      ['Open to', volume.allow.length === 0 ? 'everybody' : volume.allow.join(', ')],
      ['Description', volume.description || '-'],
      ['Cell', cellOf(volume)],
      ...noun.facts(volume),
      ['Versions below', String(volume.depth)],
      ['Files', volume.files.join(', ') || '-'],
      ['Snapshots', volume.snapshotList.map((snapshot) => snapshot.name).join(', ') || '-'],
    ];
    return table(
      [
        { title: noun.kind.toUpperCase(), cell: ([key]) => key },
        { title: '', cell: ([, value]) => value },
      ],
      facts,
    );
  });
}

function cellOf({ cell }: Pick<Volume, 'cell'>): string {
  if (cell === null) return '-';
  const { id, state, role, epoch, seq, served, continuedBy } = cell;
  const by = continuedBy.length === 0 ? '' : `, continued here by ${continuedBy.map(printable).join(', ')}`;
  return `${role}, ${state}, epoch ${epoch}, ${seq} snapshots in its lineage, ${served ? '' : 'not '}served here${by} (${id})`;
}

async function rename({ api, terminal, signal, noun }: Spoken, name: string, newName: string): Promise<void> {
  checkVolumeName(name, { instead: `Snapshots keep their names; name a ${noun.kind}.`, kind: noun.kind });
  checkVolumeName(newName, { instead: 'Give a name without `@`.', kind: noun.kind });
  const path = apiPath([noun.collection, name]);
  const volume = await api.change<Volume>({
    method: 'PATCH',
    path,
    body: { name: newName },
    signal,
    look: noun.look,
  });
  terminal.result(volume, () => `${noun.title} ${printable(name)} is now ${printable(volume.name)}.\n`);
}

interface ResizeOptions extends AgainOption {
  force?: boolean;
  via?: string;
}

async function resize(context: Spoken, name: string, options: { size: string } & ResizeOptions) {
  const { api, terminal, signal, noun } = context;
  checkVolumeName(name, {
    instead: `Snapshots keep their size; name the ${noun.kind}, ${volumeOf(name)}.`,
    kind: noun.kind,
  });
  const size = parseSize(options.size);
  if (isViaCoordinator(options.via)) {
    refuseWithCoordinator({ '--force': options.force }, 'Volumes of cells only grow: leave --force out.');
    return resizeViaCoordinator(context, name, { size, again: options.again });
  }
  refuseAgain(options);
  const body = { size: String(size), force: options.force === true };
  const path = apiPath([noun.collection, name]);
  const volume = await api.change<Volume>({ method: 'PATCH', path, body, signal, look: noun.look });
  terminal.result(
    volume,
    () =>
      `${noun.title} ${printable(volume.name)} has ${noun.size(volume.sizeBytes)} now; clients see it when they connect again.\n`,
  );
}

/** What was said of it, checked here so that nothing is sent that is wrong. */
function accessOf({ allow, description }: AccessOptions): AccessOptions {
  if (description !== undefined) checkDescription(description);
  return {
    ...(allow === undefined ? {} : { allow: checkAllowed(allow) }),
    ...(description === undefined ? {} : { description }),
  };
}

async function set({ api, terminal, signal, noun }: Spoken, name: string, options: SetOptions) {
  checkVolumeName(name, {
    instead: `What is said of the ${noun.kind}, ${volumeOf(name)}, goes for its snapshots too.`,
    kind: noun.kind,
  });
  const { allow, allowAll, description, disconnect } = options;
  if (allow !== undefined && allowAll === true) {
    throw new CellblockError('option-invalid', '--allow and --allow-all are opposites.', {
      hint: 'Give one of them.',
    });
  }
  const access = accessOf({ ...options, ...(allowAll === true ? { allow: [] } : {}) });
  const settings = settingsBody(options);
  const [given, set] = [access, settings].map((part) => Object.keys(part).length > 0);
  if (!given && !set) {
    throw new CellblockError('option-invalid', 'There is nothing to set.', {
      hint: `Give an option; see \`cellblock ${noun.kind} set --help\`.`,
    });
  }
  if (set && (given || disconnect === true)) {
    throw new CellblockError('option-invalid', 'Limits and the transaction log are set by themselves.', {
      hint: 'Say who may open it, and its description, in a command of their own.',
    });
  }
  const path = apiPath([noun.collection, name]);
  const body = set ? settings : { ...access, disconnect: disconnect === true };
  const volume = await api.change<Volume>({ method: 'PATCH', path, body, signal, look: noun.look });
  terminal.result(volume, () => {
    if (set) return settingLines(volume);
    const shown = `${noun.title} ${printable(volume.name)}`;
    const who = volume.allow.length === 0 ? 'everybody' : volume.allow.map(printable).join(', ');
    const open = access.allow === undefined ? '' : `${shown} is open to ${who} now; ${stay(disconnect)}.\n`;
    return `${open}${description === undefined ? '' : `${shown} has another description now.\n`}`;
  });
}

function stay(disconnect = false): string {
  return disconnect ? 'its connections were closed' : 'connections that are open stay';
}

interface DeleteOptions extends ConfirmOptions, AgainOption {
  via?: string;
  withSnapshots?: boolean;
  disconnect?: boolean;
  dryRun?: boolean;
  wait?: boolean;
}

async function remove(context: Spoken, name: string, options: DeleteOptions): Promise<void> {
  const { api, terminal, signal, noun } = context;
  checkVolumeName(name, {
    instead: `Delete it with \`cellblock snapshot delete ${name}\`.`,
    kind: noun.kind,
  });
  if (isViaCoordinator(options.via)) {
    const { dryRun, wait, disconnect } = options;
    refuseWithCoordinator(
      { '--dry-run': dryRun, '--wait': wait, '--disconnect': disconnect },
      'The coordinator deletes it at every host, with its snapshots: leave that out.',
    );
    return deleteViaCoordinator(context, name, options);
  }
  refuseAgain(options);
  if (options.dryRun === true) return plan(context, name);
  const path = apiPath([noun.collection, name], {
    with_snapshots: options.withSnapshots === true ? 'true' : undefined,
    disconnect: options.disconnect === true ? 'true' : undefined,
  });
  const task = await api.change<Task>({ method: 'DELETE', path, signal, look: noun.look });
  const last = options.wait === true ? await followTask(context, task) : task;
  terminal.result(last, () => `${noun.title} ${printable(name)} deleted; ${spaceIs(last)}.\n`);
}

/** How far the freeing of space is, as the end of a sentence. */
export function spaceIs(task: Task): string {
  return task.state === 'done' ? 'its space is free' : `its space is being freed (task ${task.id})`;
}

async function plan({ api, terminal, signal, noun }: Spoken, name: string): Promise<void> {
  const plan = await api.call<DeletePlan>({
    method: 'GET',
    path: apiPath([noun.collection, name, 'delete-plan']),
    signal,
  });
  terminal.result(plan, () => {
    const snapshots = plan.snapshots.map((snapshot) => printable(snapshot.fullName));
    const lines = [
      `Would delete ${noun.kind} ${printable(plan.volume.name)}, ${noun.size(plan.volume.sizeBytes)}.`,
      ...(snapshots.length > 0
        ? [`With --with-snapshots, which it needs, these go too: ${snapshots.join(', ')}.`]
        : []),
      ...(plan.connections > 0 ? [`Needs --disconnect: clients are connected (${plan.connections}).`] : []),
      ...(plan.clones.length > 0 ? [`Clones stay: ${plan.clones.map(printable).join(', ')}.`] : []),
    ];
    return `${lines.join('\n')}\n`;
  });
}

async function repair({ api, terminal, signal, noun }: Spoken, name: string): Promise<void> {
  checkVolumeName(name, { instead: `Name the ${noun.kind}, ${volumeOf(name)}.`, kind: noun.kind });
  const report = await api.change<RepairReport>({
    method: 'POST',
    path: apiPath([noun.collection, name, 'repair']),
    signal,
    look: noun.look,
  });
  terminal.result(
    report,
    () => `${noun.title} ${printable(report.volume)} is writable again. ${report.warning}\n`,
  );
}

function stateOf(volume: Pick<Volume, 'failed' | 'readOnly' | 'cell'>): string {
  if (volume.failed !== null) return `failed (${volume.failed.error})`;
  if (volume.cell?.role === 'replica') return replicaWords(volume.cell.continuedBy);
  if (volume.cell && !volume.cell.served)
    return volume.cell.role === 'primary' ? 'waiting' : volume.cell.state.toLowerCase();
  return volume.readOnly ? 'read-only' : 'ok';
}

/** It serves nobody: for how many others it may be here is all that a list has room for. */
function replicaWords(continuedBy: readonly string[]): string {
  const [first, ...others] = continuedBy;
  if (first === undefined) return 'replica';
  return `replica (for ${printable(first)}${others.length === 0 ? '' : ` and ${others.length} more`})`;
}
