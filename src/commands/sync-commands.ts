// cellblock sync ..., cellblock restore, cellblock identity: the state of one container, the identity of another.

import { type Command, Option } from 'commander';
import type { FoundIdentity, Sync } from '../agent/sync-schema.js';
import { CellblockError } from '../base/errors.js';
import { checkName, parseSnapshotReference } from '../model/names.js';
import { apiPath } from './api-client.js';
import { asCommandError, type CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { formatTime } from './format.js';
import { runHook } from './hooks.js';
import { checkVolumeName } from './names.js';
import { syncReport } from './sync-report.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock sync list`';
const POLICIES = ['keep', 'take', 'new'] as const;

interface Rule {
  field: string;
  policy: (typeof POLICIES)[number];
}

interface CommonOptions {
  safety: boolean;
  online?: boolean;
  force?: boolean;
  takeKeys?: boolean;
  identity?: Rule[];
  dryRun?: boolean;
  grow?: boolean;
  guestIdentity?: boolean;
  disks?: { source: string; target: string }[];
  boot?: string;
  files?: boolean;
  pre?: string;
  post?: string;
  hookTimeout?: number;
}

interface SyncCommandOptions extends CommonOptions {
  from?: string;
}

export function addSyncCommands(program: Command, contextOf: ContextOf): void {
  const sync = program
    .command('sync')
    .description(
      'bring volumes to the state of a snapshot of another, in an instant, with their identity kept',
    )
    .argument('[target...]')
    .option('--from <name@snap>', 'the snapshot whose state they take; has to be given')
    .option('--dry-run', 'only say what would become of the identity')
    .option('--grow', 'take the size of a larger source')
    .option(
      '--disks <src:dst,...>',
      'of a virtual machine: only these disks, and not its configuration',
      parsePairs,
    )
    .option('--boot <dst>', 'its boot disk is meant, when it is among --disks')
    .option('--files', 'of a virtual machine: its files too, such as firmware variables');
  addCommonOptions(sync).action((targets: string[], options: SyncCommandOptions, command: Command) =>
    syncAll(contextOf(command), targets, options),
  );
  const undo = sync
    .command('undo')
    .description('back to the state before the last sync')
    .argument('<target>');
  // `sync` has the same options and takes them wherever they stand.
  addCommonOptions(undo).action((target: string, _options: CommonOptions, command: Command) =>
    undoSync(contextOf(command), target, command.optsWithGlobals<CommonOptions>()),
  );
  sync
    .command('list')
    .description('list the last syncs')
    .action((_options: object, command: Command) => list(contextOf(command)));
  sync
    .command('show')
    .description('all about one sync, with its report')
    .argument('<id>')
    .action((id: string, _options: object, command: Command) => show(contextOf(command), id));
  const restore = program
    .command('restore')
    .description('bring a volume back to a snapshot of its own, with its identity of now')
    .argument('<name@snap>')
    .option('--dry-run', 'only say what would become of the identity');
  addCommonOptions(restore).action((snapshot: string, options: CommonOptions, command: Command) =>
    restoreOne(contextOf(command), snapshot, options),
  );
  program
    .command('identity')
    .description('ids and labels inside volumes')
    .command('show')
    .description('list what is found on a volume or snapshot')
    .argument('<name[@snap]>')
    .action((name: string, _options: object, command: Command) => showIdentity(contextOf(command), name));
}

function addCommonOptions(command: Command): Command {
  return command
    .option('--no-safety', 'do not keep the state before as a snapshot (else: for 24 h)')
    .option('--online', 'clients stay connected and are held meanwhile: for those that cache nothing')
    .addOption(new Option('--force', 'close the connections of clients first').conflicts('online'))
    .option('--guest-identity', 'machine id, host name and SSH host keys on the boot disk survive')
    .option('--take-keys', 'the key slots of an encrypted source may come along')
    .option(
      '--identity <field=policy>',
      'keep, take or new for a field or group, such as fs=keep, partition-2/fs.uuid=new, all=take',
      (text: string, before: Rule[] = []) => [...before, parseRule(text)],
    )
    .option('--pre <command>', 'run before, as you, with CELLBLOCK_TARGET; if it fails nothing is done')
    .option('--post <command>', 'run after, as you, whatever became of the sync')
    .option('--hook-timeout <seconds>', 'how long a hook may take', parseSeconds, 60);
}

function parseRule(text: string): Rule {
  const match = /^([^=]+)=(.*)$/.exec(text);
  const policy = POLICIES.find((one) => one === match?.[2]);
  if (match && policy) return { field: match[1]!, policy };
  throw new CellblockError('option-invalid', `${JSON.stringify(text)} says nothing about an identity.`, {
    hint: 'Write it as FIELD=keep, FIELD=take or FIELD=new, such as fs.uuid=keep.',
  });
}

function parsePairs(text: string): { source: string; target: string }[] {
  return text.split(',').map((pair) => {
    const [source = '', target = '', ...more] = pair.split(':');
    if (source !== '' && target !== '' && more.length === 0) return { source, target };
    throw new CellblockError('option-invalid', `${JSON.stringify(pair)} is no pair of disks.`, {
      hint: 'Write pairs as SOURCE:TARGET, such as --disks vda:vda,vdb:vdc.',
    });
  });
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds > 0 && seconds <= 86_400) return seconds;
  throw new CellblockError('option-invalid', `${JSON.stringify(text)} is no number of seconds.`, {
    hint: 'Give a number above 0, at most 86400.',
  });
}

async function syncAll(context: Context, targets: string[], options: SyncCommandOptions): Promise<void> {
  if (targets.length === 0)
    throw new CellblockError('option-invalid', 'No target is named.', {
      hint: 'Write `cellblock sync TARGET... --from SOURCE@SNAPSHOT`.',
    });
  if (options.from === undefined)
    throw new CellblockError('option-invalid', "The option '--from <name@snap>' is missing.", {
      hint: 'Name the snapshot whose state is taken.',
    });
  parseSnapshotReference(options.from);
  for (const target of targets)
    checkVolumeName(target, { instead: 'A snapshot never changes; clone it, and sync the clone.' });
  await each(context, targets, (target) => syncOne(context, target, { ...options, from: options.from! }));
}

interface Ended {
  sync: Sync;
  /** Why what was to run after it failed; null: it did not. */
  after: CommandError | null;
}

/** Each target has its own result; what went wrong with one keeps no other from its turn. */
async function each(
  { terminal }: Context,
  targets: readonly string[],
  work: (target: string) => Promise<Ended>,
): Promise<void> {
  const done: Sync[] = [];
  const failed: { target: string; error: unknown }[] = [];
  for (const target of targets) {
    try {
      const { sync, after } = await work(target);
      done.push(sync);
      if (after) failed.push({ target, error: after });
    } catch (error) {
      if (targets.length === 1) throw error;
      failed.push({ target, error });
    }
  }
  if (targets.length === 1) {
    terminal.result(done[0], () => syncReport(done[0]!));
    if (failed[0]) throw failed[0].error;
    return;
  }
  const errors = failed.map(({ target, error }) => {
    const { code, message, hint } = asCommandError(error);
    return { target, code, message, hint };
  });
  terminal.result({ synced: done, failed: errors }, () => done.map((one) => syncReport(one)).join('\n'));
  if (!terminal.json)
    for (const { target, message, hint } of errors)
      terminal.error(`cellblock: ${printable(target)}: ${message} ${hint}`);
  if (failed.length > 0) throw failed[0]!.error;
}

function bodyOf(options: CommonOptions): object {
  return {
    safety: options.safety,
    online: options.online ?? false,
    force: options.force ?? false,
    take_keys: options.takeKeys ?? false,
    guest_identity: options.guestIdentity ?? false,
    identity: options.identity ?? [],
  };
}

async function syncOne(
  context: Context,
  target: string,
  options: CommonOptions & { from: string },
): Promise<Ended> {
  const { from, dryRun = false, grow = false } = options;
  const { disks, boot, files } = options;
  const body = { target, from, grow, dry_run: dryRun, disks, boot, files, ...bodyOf(options) };
  const { api, signal } = context;
  const work = () => api.change<Sync>({ method: 'POST', path: apiPath(['syncs']), body, signal, look: LOOK });
  return dryRun ? { sync: await work(), after: null } : withHooks(context, { ...options, target }, work);
}

/**
 * Hooks run as the caller, never in the agent: before anything is held, and when it is served again. The one behind runs whatever became
 * of the sync, for it puts back what the one before took away.
 */
async function withHooks(
  { terminal, signal }: Context,
  { pre, post, hookTimeout = 60, target }: CommonOptions & { target: string },
  work: () => Promise<Sync>,
): Promise<Ended> {
  const limit = { timeoutMs: hookTimeout * 1000, signal, target };
  if (pre !== undefined) await runHook('pre', pre, limit);
  const runPost = (): Promise<CommandError | null> =>
    post === undefined
      ? Promise.resolve(null)
      : runHook('post', post, limit).then(() => null, asCommandError);
  let sync: Sync;
  try {
    sync = await work();
  } catch (error) {
    const after = await runPost();
    if (after) terminal.error(`cellblock: ${after.message}`);
    throw error;
  }
  return { sync, after: await runPost() };
}

async function undoSync(context: Context, target: string, options: CommonOptions): Promise<void> {
  checkName(target, 'volume');
  const { api, terminal, signal } = context;
  const body = { target, ...bodyOf(options) };
  const path = apiPath(['syncs', 'undo']);
  const work = () => api.change<Sync>({ method: 'POST', path, body, signal, look: LOOK });
  const { sync, after } = await withHooks(context, { ...options, target }, work);
  terminal.result(sync, () => syncReport(sync));
  if (after) throw after;
}

async function restoreOne(context: Context, snapshot: string, options: CommonOptions): Promise<void> {
  const { volume } = parseSnapshotReference(snapshot);
  const { sync, after } = await syncOne(context, volume, { ...options, from: snapshot });
  context.terminal.result(sync, () => syncReport(sync));
  if (after) throw after;
}

async function list({ api, terminal, signal }: Context): Promise<void> {
  const syncs = await api.call<Sync[]>({ method: 'GET', path: apiPath(['syncs']), signal });
  terminal.result(syncs, () =>
    syncs.length === 0
      ? 'No syncs yet. Make one with: cellblock sync TARGET --from SOURCE@SNAPSHOT\n'
      : table(
          [
            { title: 'ID', cell: (row) => String(row.id), align: 'right' },
            { title: 'KIND', cell: (row) => row.kind },
            { title: 'TARGET', cell: (row) => row.target },
            { title: 'FROM', cell: (row) => row.disks.map(({ from }) => from).join(', ') },
            { title: 'STATE', cell: (row) => row.phase },
            { title: 'CREATED', cell: (row) => formatTime(row.created) },
            { title: 'UNDO POINT', cell: (row) => row.safety.join(', ') },
          ],
          syncs,
        ),
  );
}

async function show({ api, terminal, signal }: Context, id: string): Promise<void> {
  if (!/^[1-9]\d{0,14}$/.test(id))
    throw new CellblockError('option-invalid', `${JSON.stringify(id)} is no number of a sync.`, {
      hint: 'See `cellblock sync list`.',
    });
  const sync = await api.call<Sync>({ method: 'GET', path: apiPath(['syncs', id]), signal });
  terminal.result(sync, () => syncReport(sync));
}

async function showIdentity({ api, terminal, signal }: Context, name: string): Promise<void> {
  if (name.includes('@')) parseSnapshotReference(name);
  else checkName(name, 'volume');
  const found = await api.call<FoundIdentity>({ method: 'GET', path: apiPath(['identity', name]), signal });
  terminal.result(found, () => {
    const rows =
      found.fields.length === 0
        ? 'No identity was found: it is empty, or of no known format.\n'
        : table(
            [
              { title: 'FIELD', cell: (row) => row.field },
              { title: 'KIND', cell: (row) => row.kind },
              { title: 'VALUE', cell: (row) => row.value || '-' },
            ],
            found.fields,
          );
    const boot = found.boot === null ? '' : `A boot disk: it has ${found.boot}.\n`;
    const unsupported = found.unsupported.map(
      ({ field, kind, reason }) => `Not written by a sync: ${field} of ${kind}. ${reason}\n`,
    );
    const damaged = found.damaged.map(({ where, reason }) => `Damaged, on ${where}: ${reason}\n`);
    return [rows, boot, ...unsupported, ...damaged, ...found.notes.map((note) => `${note}\n`)].join('');
  });
}
