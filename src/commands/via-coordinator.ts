// What an agent does by itself to its own volumes, asked of the coordinator for those of cells: snapshots, resizes and deletes, wherever they are.

import { CellblockError } from '../base/errors.js';
import type {
  DeleteResult,
  GroupResult,
  OperationResult,
  SnapshotDeleteResult,
  SnapshotResult,
} from '../coordinator/results.js';
import { parseSnapshotReference } from '../model/names.js';
import { type ConfirmOptions, confirm } from './confirm.js';
import type { Context } from './context.js';
import { type AgainOption, askCoordinator } from './coordinator-verbs.js';
import { formatBytes } from './format.js';
import { printable } from './table.js';

export async function snapshotViaCoordinator(
  context: Context,
  targets: readonly string[],
  { again }: AgainOption,
): Promise<void> {
  const snapshots = targets
    .map(parseSnapshotReference)
    .map(({ volume, snapshot: name }) => ({ volume, name }));
  const taken = await askCoordinator<SnapshotResult | GroupResult>(
    context,
    { verb: 'snapshot-create', arguments: { snapshots } },
    { again, look: `\`cellblock route show ${snapshots[0]!.volume}\`` },
  );
  context.terminal.result(taken, () => ('group' in taken ? groupText(taken) : snapshotText(taken)));
}

function snapshotText({ volume, name, seq, cell, host, rule }: SnapshotResult): string {
  return `Snapshot ${printable(`${volume}@${name}`)} taken at ${cell}/${host}: number ${seq} of its lineage (${rule}).\n`;
}

export function groupText({ snapshots, held, unconfirmed }: GroupResult): string {
  const lines = snapshots.map(({ volume, name, seq, host, lost }) => {
    const snapshot = `Snapshot ${printable(`${volume}@${name}`)}`;
    if (lost) return `${snapshot} is lost: host ${host} has lost it, or its volume.`;
    return `${snapshot} taken at host ${host}${seq === null ? '' : `: number ${seq} of its lineage`}.`;
  });
  const windows = held.map(({ host, milliseconds }) => `${host} ${milliseconds.toFixed(1)} ms`).join(', ');
  lines.push(`In one instant; clients were held: ${windows}.`);
  if (unconfirmed.length > 0)
    lines.push(`Not confirmed yet by ${unconfirmed.join(', ')}: asked again until it is.`);
  return `${lines.join('\n')}\n`;
}

export async function resizeViaCoordinator(
  context: Context,
  name: string,
  { size, again }: { size: bigint } & AgainOption,
): Promise<void> {
  const done = await askCoordinator<OperationResult>(
    context,
    { verb: 'volume-resize', arguments: { volume: name, sizeBytes: String(size) } },
    { again, look: `\`cellblock route show ${name}\`` },
  );
  context.terminal.result(
    done,
    () =>
      `Volume ${printable(done.volume)} has ${formatBytes(size)} now, at ${done.cell}/${done.host}; clients see it when they connect again.\n`,
  );
}

/** One after the other: what was deleted before one is refused stays deleted, and was said. */
export async function deleteSnapshotsViaCoordinator(
  context: Context,
  targets: readonly string[],
  { again }: AgainOption,
): Promise<void> {
  const references = targets.map(parseSnapshotReference);
  if (again !== undefined && references.length > 1)
    throw new CellblockError('option-invalid', '--again is of one call, and several snapshots are several.', {
      hint: 'Name the one snapshot that was asked for then.',
    });
  const results: SnapshotDeleteResult[] = [];
  for (const { volume, snapshot: name } of references) {
    const done = await askCoordinator<SnapshotDeleteResult>(
      context,
      { verb: 'snapshot-delete', arguments: { volume, name } },
      { again, look: `\`cellblock route show ${volume}\`` },
    );
    results.push(done);
    context.terminal.text(deletedText(done));
  }
  context.terminal.result(references.length === 1 ? results[0]! : results, () => '');
}

function deletedText({ volume, name, cell, host, unconfirmed }: SnapshotDeleteResult): string {
  const rest = unconfirmed.length === 0 ? '' : `; not confirmed yet by ${unconfirmed.join(', ')}`;
  return `Snapshot ${printable(`${volume}@${name}`)} deleted at ${cell}/${host}${rest}.\n`;
}

export async function deleteViaCoordinator(
  context: Context,
  name: string,
  options: ConfirmOptions & AgainOption,
): Promise<void> {
  await confirm(context, `Volume ${name} is deleted at every host, with its snapshots.`, options);
  const done = await askCoordinator<DeleteResult>(
    context,
    { verb: 'volume-delete', arguments: { volume: name } },
    { again: options.again, look: '`cellblock route list`' },
  );
  context.terminal.result(done, () => {
    const rest = done.unconfirmed.length === 0 ? '' : `; not confirmed yet by ${done.unconfirmed.join(', ')}`;
    return `Volume ${printable(done.volume)} deleted${rest}.\n`;
  });
}
