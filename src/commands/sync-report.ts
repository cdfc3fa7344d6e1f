// The report of a sync for people: what it did, and what became of every field of the identity.

import type { IdentityReport, Sync } from '../agent/sync-schema.js';
import { printable, table } from './table.js';

type Reported = IdentityReport['restored'][number];

export function syncReport(sync: Sync): string {
  const disks = sync.disks.map((disk) => diskReport(disk, sync));
  return [headOf(sync), ...disks, configReport(sync), guestLine(sync), undoLine(sync)].join('');
}

function configReport({ config }: Sync): string {
  if (!config) return '';
  const rows = config.restored.map(({ field, target, source }) => ({ field, target, source }));
  const kept = table(
    [
      { title: 'CONFIGURATION', cell: (row) => row.field },
      { title: 'KEPT', cell: (row) => shown(row.target) },
      { title: 'SOURCE', cell: (row) => shown(row.source) },
    ],
    rows,
  );
  const lines = [
    ...config.missing.map(
      ({ field, target }) => `${field} (${target}) has no place in the new configuration.`,
    ),
    ...config.foreign.map(
      ({ field, source }) => `${field} (${source}) is of the source: the target had none.`,
    ),
    ...config.notes,
  ];
  return [
    '\n',
    rows.length > 0 ? kept : 'The configuration keeps all it had.\n',
    ...lines.map((line) => `${line}\n`),
  ].join('');
}

function headOf({ id, kind, phase, target, disks, heldMs, error }: Sync): string {
  const from = disks.map((disk) => printable(disk.from)).join(', ');
  const name = printable(target);
  const held = heldMs === null ? '' : ` in ${heldMs.toFixed(heldMs < 10 ? 1 : 0)} ms`;
  switch (phase) {
    case 'planned':
      return `${name} would take the state of ${from}; nothing was changed.\n`;
    case 'undone':
      return `Sync ${id}: ${name} is as it was. ${error ?? ''}\n`;
    case 'done':
      return `Sync ${id}: ${name} ${kind === 'undo' ? 'has again' : 'has'} the state of ${from}${held}.\n`;
    default:
      return `Sync ${id}: ${name} is taking the state of ${from} (${phase}).\n`;
  }
}

function diskReport({ target, identity, guest }: Sync['disks'][number], { disks, phase }: Sync): string {
  if (!identity) return '';
  const title = disks.length > 1 ? `\n${printable(target)}\n` : '';
  const rows = [
    ...rowsOf('restored', identity.restored),
    ...rowsOf('new', identity.fresh),
    ...rowsOf('taken', identity.skipped),
    ...rowsOf('foreign', identity.foreign),
    ...rowsOf('NOT KEPT', identity.unsupported),
    ...rowsOf('same', identity.same),
  ];
  const fields =
    rows.length === 0
      ? 'No identity was found in it.\n'
      : table(
          [
            { title: 'FIELD', cell: (row) => row.field },
            { title: 'KIND', cell: (row) => row.kind },
            { title: 'STATE', cell: (row) => row.state },
            { title: 'NOW', cell: (row) => shown(row.now) },
            { title: 'WAS', cell: (row) => shown(row.target) },
            { title: 'SOURCE', cell: (row) => shown(row.source) },
          ],
          rows,
        );
  return [title, fields, ...remarks(identity, phase), ...guestLines(guest)].join('');
}

function guestLines(guest: Sync['disks'][number]['guest']): string[] {
  if (!guest) return [];
  const list = (what: string, paths: readonly string[]) =>
    paths.length > 0 ? [`${what}: ${paths.join(', ')}.\n`] : [];
  return [
    ...list(
      'Of the guest, kept',
      guest.restored.map(({ path }) => path),
    ),
    ...list(
      'The same already',
      guest.same.map(({ path }) => path),
    ),
    ...list('Ids replaced in', guest.rewritten),
    ...list("The source's, as the target had none", guest.foreign),
    ...guest.unsupported.map(({ path, reason }) => `${path} was not kept. ${reason}\n`),
  ];
}

function rowsOf(state: string, fields: readonly Reported[]): (Reported & { state: string })[] {
  return fields.map((field) => ({ ...field, state }));
}

/** An empty label is a value, an unknown one is not. */
function shown(value: string | null): string {
  if (value === null) return '-';
  return value === '' ? '""' : value;
}

function remarks(
  { boot, unsupported, foreign, skipped, gone, damaged, notes }: IdentityReport,
  phase: Sync['phase'],
): string[] {
  const lines = [
    ...(boot === null
      ? []
      : [`It is a boot disk (${boot}), so ids come from the source unless you say otherwise.`]),
    ...unsupported.map(({ field, reason }) => `${field} was not kept. ${reason ?? ''}`),
    ...[...skipped, ...foreign].flatMap(({ field, reason }) =>
      reason === null ? [] : [`${field}: ${reason}`],
    ),
    ...gone.map(({ field, value }) => `${field} (${value}) of the target has no place in the new content.`),
    ...damaged.map(({ where, reason }) => `${where}: ${reason}`),
    // They speak of what was done, which a plan has not.
    ...notes.map((note) => (phase === 'planned' ? `When done: ${note}` : note)),
  ];
  return lines.map((line) => `${line}\n`);
}

/** Ids that files of the guest name, which nothing but --guest-identity changes. */
const NAMED_IN_GUEST = /\/(?:fs|swap|luks|md|lvm)\.(?!label|name)/;

function guestLine({ disks }: Sync): string {
  const isBooted = disks.some(({ identity }) => identity !== null && identity.boot !== null);
  const isFollowed = disks.some(({ guest }) => guest);
  const kept = disks.flatMap(({ identity }) => identity?.restored ?? []);
  if (!isBooted || isFollowed || !kept.some(({ field }) => NAMED_IN_GUEST.test(field))) return '';
  return "Ids were kept that fstab and boot loader of the source's system do not know: with --guest-identity they follow.\n";
}

function undoLine({ phase, kind, target, safety }: Sync): string {
  if (phase !== 'done' || safety.length === 0 || kind === 'undo') return '';
  return `Undo it within 24 h with: cellblock sync undo ${printable(target)}\n`;
}
