// Moves for people: what one sends, how far it is, and several that were begun at once.

import type { MoveOfMany, MoveStarted, MoveStatus } from '../coordinator/results.js';
import type { Trouble } from '../coordinator/troubles.js';
import { CommandError } from './command-error.js';
import { formatBytes, formatTime } from './format.js';
import { paragraph } from './paragraph.js';
import { printable, table } from './table.js';

type Started = MoveOfMany;

export function many(count: number, noun: string, nouns = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : nouns}`;
}

const begins = (row: Started): row is MoveStarted => 'snapshots' in row;

/** In the order they were begun, and what is brought along with them. */
export function startedTable(moves: readonly Started[]): string {
  const rows = table(
    [
      { title: 'VOLUME', cell: (row) => row.volume },
      { title: 'TO', cell: (row) => ('problem' in row ? '-' : `${row.to}/${row.toHost}`) },
      { title: 'SEND', cell: (row) => (begins(row) ? many(row.snapshots, 'snapshot') : '') },
      { title: 'THERE', cell: (row) => (begins(row) ? String(row.present) : ''), align: 'right' },
      { title: 'MOVE', cell: moveWords },
    ],
    moves,
  );
  return rows + moves.filter(begins).flatMap(basesLines).join('');
}

function moveWords(row: Started): string {
  if ('problem' in row) return `not begun: ${row.problem}`;
  if ('phase' in row) return `under way: ${row.phase}`;
  return row.move === null ? 'would begin' : 'begun';
}

/** What comes before a move of several, and what is lost of sharing. */
function basesLines({ volume, toHost, carried, awaited, unshared }: MoveStarted): string[] {
  const name = printable(volume);
  const lines = carried.map(
    (base) =>
      `Before ${name}, to host ${toHost}: ${many(base.snapshots, 'snapshot')} of volume ${printable(base.volume)} (${formatBytes(BigInt(base.sizeBytes))}), which it continues.`,
  );
  for (const other of awaited)
    lines.push(`${name} waits for volume ${printable(other)}, which it continues.`);
  if (unshared.length > 0)
    lines.push(
      `${name} arrives without sharing with ${many(new Set(unshared.map(({ base }) => base)).size, 'other volume')}: up to ${formatBytes(sumOf(unshared))} more.`,
    );
  return lines.map((line) => `${line}\n`);
}

const sumOf = (sized: readonly { sizeBytes: string }[]): bigint =>
  sized.reduce((sum, each) => sum + BigInt(each.sizeBytes), 0n);

/** What could not be begun has been shown; the exit code says so too. */
export function requireAllStarted(moves: readonly Started[]): void {
  const problems = moves.filter((move) => 'problem' in move).length;
  if (problems === 0) return;
  throw new CommandError(
    'refused',
    'moves-not-begun',
    `${problems} of ${many(moves.length, 'move')} could not be begun.`,
    'See what is said of each above; the others go on.',
  );
}

/** What a move sends, in lines. */
export function previewLines(preview: MoveStarted): string {
  const { volume, from, fromHost, to, toHost, sizeBytes, snapshots, present } = preview;
  const { shared, unshared, carried, awaited, move } = preview;
  const verb = move === null ? 'would move' : 'is on the move';
  const there = present === 0 ? '' : `; ${present} are there already`;
  const lines = [
    `Volume ${printable(volume)} (${formatBytes(BigInt(sizeBytes))}) ${verb} from ${from}/${fromHost} to ${to}/${toHost}.`,
    `To be sent: ${many(snapshots, 'snapshot')}${there}, then what is written meanwhile.`,
  ];
  for (const base of carried)
    lines.push(
      `First ${many(base.snapshots, 'snapshot')} of volume ${printable(base.volume)} (${formatBytes(BigInt(base.sizeBytes))}), which are continued: they are there for the copy only.`,
    );
  for (const other of awaited)
    lines.push(`It waits for volume ${printable(other)}, which is on its way there and is continued.`);
  if (shared > 0) lines.push(`${many(shared, 'snapshot')} of these continue what the destination has.`);
  if (unshared.length > 0) {
    const bytes = sumOf(unshared);
    lines.push(
      `${many(unshared.length, 'snapshot')} continue snapshots of other volumes that are not there, and arrive without sharing with them: up to ${formatBytes(bytes)} more.`,
      ...unshared.map(({ snapshot, base }) => `  ${printable(snapshot)} continues one of volume ${base}`),
    );
  }
  return `${lines.join('\n')}\n`;
}

export function statusTable(status: MoveStatus): string {
  const rows: [string, string][] = [
    ['Volume', status.volume],
    ['From', `${status.from}/${status.fromHost}`],
    ['To', `${status.to}/${status.toHost}`],
    ['State', stateWords(status)],
    ['Begun', formatTime(status.begun)],
    ['Ended', status.ended === null ? '-' : formatTime(status.ended)],
    ['Copy', copyWords(status)],
    ['Deltas sent', String(status.deltas)],
    ['Kept at the source', status.keptUntil === null ? '-' : `until ${formatTime(status.keptUntil)}`],
    ['Id', status.move],
  ];
  const facts = table(
    [
      { title: 'MOVE', cell: ([key]) => key },
      { title: '', cell: ([, value]) => value },
    ],
    rows,
  );
  return facts + troubleLines(status.troubles);
}

/** Why it does not go on, and what can be done about it. */
export function troubleLines(troubles: readonly Trouble[]): string {
  return troubles
    .map(({ operation, because, hint, since, tries }) =>
      [
        `\n${operation === null ? 'It does not go on' : `Not ended: ${printable(operation)}`}, since ${formatTime(since)} (${many(tries, 'try', 'tries')}):\n`,
        paragraph(printable(because), '  '),
        paragraph(printable(hint), '  '),
      ].join(''),
    )
    .join('');
}

const RESULTS: Readonly<Record<string, string>> = {
  moved: 'over: the volume is at its destination',
  'rolled-back': 'over: turned back, the volume is where it was',
  'given-up': 'over: given up',
};

function stateWords({ phase, result, direction }: MoveStatus): string {
  if (phase === null) return RESULTS[result ?? ''] ?? 'over';
  return direction === 'rollback' ? `${phase}, being turned back` : phase;
}

/** The API client makes byte quantities of `done` and `total`. */
function copyWords({ copy }: MoveStatus): string {
  if (copy === null) return '-';
  if (copy.failed !== null) return `failed: ${copy.failed}`;
  const done = formatBytes(BigInt(copy.done));
  return copy.total === null
    ? `${copy.stage}, ${done}`
    : `${copy.stage}, ${done} of ${formatBytes(BigInt(copy.total))}`;
}
