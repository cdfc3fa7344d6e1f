// cellblock attach ..., attach list and detach: volumes as block devices of the kernel. A mount is made here, as the caller; the agent
// mounts nothing.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Command } from 'commander';
import type { Attachment } from '../agent/routes/attachments.js';
import { CellblockError } from '../base/errors.js';
import { checkExportName } from '../model/names.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context, ContextOf } from './context.js';
import { formatBytes, formatTime } from './format.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock attach list`';

interface AttachWords {
  readOnly?: boolean;
  connections?: string;
  device?: string;
  blockSize?: string;
  ioTimeout?: string;
  deadTimeout?: string;
  mount?: string;
  ifNotAttached?: boolean;
}

export function addAttachCommands(program: Command, contextOf: ContextOf): void {
  const attach = program
    .command('attach')
    .description('make a volume, file or snapshot a block device of the kernel; as root')
    .argument('[name]', 'VOLUME or VOLUME@SNAPSHOT; a snapshot is attached read-only')
    .option('--read-only', 'nobody may write to it')
    .option('--connections <count>', 'so many connections, 1 to 16 (default: 2)')
    .option('--device <device>', 'this one, such as /dev/nbd3 (default: a free one)')
    .option('--block-size <bytes>', '512, 1024, 2048 or 4096 (default: 512)')
    .option(
      '--io-timeout <seconds>',
      'a request that takes longer is sent again; so long users wait after the agent was killed (default: 10)',
    )
    .option('--dead-timeout <seconds>', 'without an agent requests wait so long, then fail (default: 300)')
    .option('--mount <directory>', 'mount it there')
    .option('--if-not-attached', 'it is no error if it is attached already; then it stays as it is')
    .action((name: string | undefined, options: AttachWords, command: Command) =>
      attachVolume(contextOf(command), name, options),
    );
  attach
    .command('list')
    .description('what is attached, as what, and who uses it')
    .action((_options: object, command: Command) => list(contextOf(command)));
  program
    .command('detach')
    .description('end a block device; one that is in use is refused')
    .argument('<name>', 'what was attached, or its device')
    .option('--force', 'even if it is in use: whoever uses it gets I/O errors')
    .action((name: string, options: { force?: boolean }, command: Command) =>
      detach(contextOf(command), name, options),
    );
}

async function attachVolume(context: Context, name: string | undefined, options: AttachWords): Promise<void> {
  const { api, terminal, signal } = context;
  if (name === undefined)
    throw new CellblockError('option-invalid', 'What is to be attached is not named.', {
      hint: 'Name a volume, or see `cellblock attach list`.',
    });
  checkExportName(name);
  const there = options.ifNotAttached ? await attachedAs(context, name) : undefined;
  if (there) {
    return terminal.result(there, () => `${printable(name)} is attached already, as ${there.device}.\n`);
  }
  const attachment = await api.change<Attachment>({
    method: 'POST',
    path: apiPath(['attachments']),
    body: bodyOf(name, options),
    signal,
    look: LOOK,
  });
  if (options.mount !== undefined) await mountOrDetach(context, attachment, options.mount);
  terminal.result(attachment, () => {
    const mounted = options.mount === undefined ? '' : `, mounted on ${printable(options.mount)}`;
    const readOnly = attachment.readOnly ? ', read-only' : '';
    return `${printable(name)} attached as ${attachment.device} (${formatBytes(attachment.sizeBytes)}${readOnly}${mounted}).\n`;
  });
}

async function attachedAs({ api, signal }: Context, name: string): Promise<Attachment | undefined> {
  const all = await api.call<Attachment[]>({ method: 'GET', path: apiPath(['attachments']), signal });
  return all.find((one) => one.name === name);
}

function bodyOf(name: string, options: AttachWords): object {
  return {
    name,
    ...(options.readOnly ? { read_only: true } : {}),
    ...(options.device === undefined ? {} : { device: options.device }),
    ...numberOf('connections', '--connections', options.connections),
    ...numberOf('block_size', '--block-size', options.blockSize),
    ...numberOf('io_timeout', '--io-timeout', options.ioTimeout),
    ...numberOf('dead_timeout', '--dead-timeout', options.deadTimeout),
  };
}

function numberOf(key: string, option: string, text: string | undefined): object {
  if (text === undefined) return {};
  if (/^\d{1,9}$/.test(text)) return { [key]: Number(text) };
  throw new CellblockError('option-invalid', `${JSON.stringify(text)} after ${option} is no number.`, {
    hint: 'Give a whole number.',
  });
}

/** What cannot be mounted is not left behind attached. */
async function mountOrDetach({ api }: Context, attachment: Attachment, directory: string): Promise<void> {
  const { device, readOnly } = attachment;
  const words = [...(readOnly ? ['-o', 'ro'] : []), '--', device, directory];
  const child = spawn('mount', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const code = await once(child, 'close').then(
    ([code]) => code as number | null,
    (error: Error) => {
      said = error.message;
      return null;
    },
  );
  if (code === 0) return;
  await api.change({ method: 'DELETE', path: apiPath(['attachments', device]), look: LOOK });
  const why = said.trim().split('\n')[0] || `mount ended with ${code}`;
  throw new CommandError(
    'refused',
    'mount-failed',
    `${device} could not be mounted on ${JSON.stringify(directory)} and was detached again: ${printable(why)}.`,
    'Attach it without --mount to look at it.',
  );
}

async function list({ api, terminal, signal }: Context): Promise<void> {
  const all = await api.call<Attachment[]>({ method: 'GET', path: apiPath(['attachments']), signal });
  terminal.result(all, () =>
    all.length === 0
      ? 'Nothing is attached. Attach a volume with: cellblock attach NAME\n'
      : table(
          [
            { title: 'DEVICE', cell: (row) => row.device },
            { title: 'NAME', cell: (row) => row.name ?? '-' },
            { title: 'SIZE', cell: (row) => formatBytes(row.sizeBytes), align: 'right' },
            { title: 'MODE', cell: (row) => (row.readOnly ? 'read-only' : 'read-write') },
            { title: 'CONNECTIONS', cell: (row) => `${row.connected} of ${row.connections}`, align: 'right' },
            { title: 'SINCE', cell: (row) => formatTime(row.created) },
            { title: 'USED', cell: usersOf },
          ],
          all,
        ),
  );
}

function usersOf({ users }: Attachment): string {
  return users.map(({ kind, where }) => (kind === 'swap' ? 'swap' : where)).join(', ') || '-';
}

async function detach(
  { api, terminal, signal }: Context,
  name: string,
  options: { force?: boolean },
): Promise<void> {
  const query = options.force === true ? { force: 'true' } : {};
  const attachment = await api.change<Attachment>({
    method: 'DELETE',
    path: apiPath(['attachments', name], query),
    signal,
    look: LOOK,
  });
  terminal.result(
    attachment,
    () => `${printable(attachment.name ?? name)} is no longer ${attachment.device}.\n`,
  );
}
