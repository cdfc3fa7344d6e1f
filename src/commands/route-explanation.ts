// `route show --explain`: by which an operator understands where a volume is and why. From what is known, through what both cells answer and the
// rules that were looked at, to what would be done now and what was done before.

import type { Elsewhere, Explained, RouteDetails } from '../coordinator/results.js';
import type { CellAnswer } from '../model/cell/answer.js';
import type { Head, Place, Route } from '../model/cell/route.js';
import { formatTime } from './format.js';
import { many, troubleLines } from './moves-report.js';
import { paragraph } from './paragraph.js';
import { printable, table } from './table.js';

type Trials = readonly { rule: string; holds: boolean; because: string }[];
type Answers = Pick<Explained, 'x' | 'y'>;

/** Of what is shown of an id: enough to tell two apart. */
const ID_DIGITS = 8;
/** What belongs to a decision is set in below its first line. */
const DECISION_COLUMNS = 8;

export function routeTable(details: RouteDetails): string {
  const facts = table(
    [
      { title: 'ROUTE', cell: ([key]) => key },
      { title: '', cell: ([, value]) => value },
    ],
    routeFacts(details),
  );
  return facts + troubleLines(details.troubles);
}

function routeFacts({ route, completeThrough, replicas, unfinished }: RouteDetails): [string, string][] {
  const { name, volume, status, epoch, gen, lineageHead, active, alternate } = route;
  const facts: [string, string][] = [
    ['Volume', name],
    ['Id', volume],
    ['State', status],
    ['Epoch', `${epoch} (the route was changed ${gen} times)`],
    ['Last snapshot', headWords(lineageHead)],
    ['Active (x)', placeWords(active)],
    ['Alternate (y)', alternate ? placeWords(alternate) : '-'],
    ['Move', journalWords(route)],
  ];
  for (const { host, completeThrough: through } of replicas)
    facts.push([`Replica ${host}`, through ? `complete through ${headWords(through)}` : 'has nothing yet']);
  if (replicas.length > 0) facts.push(['Complete in the cell', `through ${headWords(completeThrough)}`]);
  for (const { operation, begun, askedBy } of unfinished)
    facts.push(['Not ended', `${operation.kind}, asked by ${askedBy} at ${formatTime(begun)}`]);
  return facts;
}

function placeWords({ cell, primary, epoch, mustSeal, needsRepair }: Place): string {
  const notes = [
    ...(mustSeal === null ? [] : [`has to be sealed below epoch ${mustSeal}`]),
    ...(needsRepair ? ['somebody has to look after it'] : []),
  ];
  return [`${cell}/${primary}, epoch ${epoch}`, ...notes].join('; ');
}

function journalWords({ journal }: Route): string {
  if (journal === null) return '-';
  const { from, to, fromHost, toHost, phase, direction } = journal;
  const way = direction === 'rollback' ? ', being turned back' : '';
  return `${from}/${fromHost} to ${to}/${toHost}: ${phase}${way}`;
}

function headWords(head: Head | null): string {
  return head === null ? 'none' : `${head.seq} (${head.id.slice(0, ID_DIGITS)})`;
}

/** A head of a host that may be hidden: such a one has the number of the visible one before it, and is none of the snapshots of the lineage. */
function endWords(head: Head | null, { lineage, lineageHead }: CellAnswer): string {
  if (head === null) return '-';
  const visible = lineage[head.seq] ?? (lineageHead?.seq === head.seq ? lineageHead.id : undefined);
  const isHidden = head.seq === 0 || (visible !== undefined && visible !== head.id);
  if (!isHidden) return headWords(head);
  const behind = head.seq === 0 ? 'before the first' : `behind ${head.seq}`;
  return `${behind} (hidden, ${head.id.slice(0, ID_DIGITS)})`;
}

/** Answers that were kept by an earlier program say nothing of it. */
function replicaWords({ replica }: Partial<Pick<CellAnswer, 'replica'>>): string {
  if (!replica) return '-';
  return replica.completeThrough ? `through ${headWords(replica.completeThrough)}` : 'nothing yet';
}

/** What an operation that is asked for now would come to. */
const OUTCOMES: Readonly<Record<string, (rule: string) => string>> = {
  perform: (rule) => `A snapshot asked for now would be taken, by the rule ${rule}:`,
  retry: (rule) => `A snapshot asked for now would have to wait, by the rule ${rule}:`,
  creating: (rule) =>
    `A snapshot asked for now would be refused, by the rule ${rule}: the volume is being made.`,
  quarantine: () =>
    'A snapshot asked for now would be refused: the volume is for an operator to decide about.',
  'not-found': () => 'A snapshot asked for now would be refused: no cell of the route knows the volume.',
  gone: () => 'The volume is deleted, and the delete is being finished at every host.',
};

export function explanation(details: RouteDetails, explained: Explained): string {
  const { route } = details;
  const { trials, rule, steps, afterwards, decisions, evidence, elsewhere } = explained;
  return [
    routeTable(details),
    '\n',
    answersTable(route, explained),
    elsewhereLines(route.name, elsewhere),
    '\nRules, in the order they were looked at:\n',
    trials.length === 0 ? '  A tombstone decides: no rule was looked at.\n' : trialLines(trials),
    `\n${OUTCOMES[explained.outcome]?.(rule) ?? `The rule is ${rule}.`}\n`,
    ...steps.map((step, at) => paragraph(step, `  ${at + 1}. `)),
    steps.length === 0 ? '  Nothing is to be done.\n' : '',
    paragraph(printable(afterwards), '  Afterwards: '),
    evidence ? `\nIn quarantine since ${formatTime(evidence.at)}, when they had answered:\n` : '',
    evidence ? answersTable(evidence.route, evidence) + trialLines(evidence.trials) : '',
    decisions.length === 0
      ? '\nNothing has been asked of it yet.\n'
      : '\nWhat was done, the last one last:\n',
    ...decisions.map(decisionText),
  ].join('');
}

/** What the route does not name. */
export function elsewhereLines(name: string, elsewhere: readonly Elsewhere[]): string {
  return elsewhere
    .map(({ host, cell, state, epoch, seq, isReplica }) => {
      const what = isReplica ? 'a beginning of it that serves nobody' : `it as ${state}`;
      const owner = state === 'ACTIVE' || state === 'OUTGOING';
      const adopt = owner
        ? ` If that is where it is, \`cellblock quarantine adopt ${printable(name)} --cell ${cell}\` says so to the route.`
        : '';
      return paragraph(
        `Not in the route: host ${host} of cell ${cell} has ${what}, under epoch ${epoch}, with ${many(seq, 'snapshot')}.${adopt}`,
      );
    })
    .join('');
}

const FACTS: readonly [title: string, value: (answer: CellAnswer) => string][] = [
  ['state', ({ state }) => state],
  ['epoch', ({ epoch }) => String(epoch)],
  ['last snapshot', ({ lineageHead }) => headWords(lineageHead)],
  ['written to since', ({ dirtySinceHead }) => (dirtySinceHead ? 'yes' : 'no')],
  ['activated from', (answer) => endWords(answer.activatedFrom, answer)],
  ['sealed at', (answer) => endWords(answer.sealedHead, answer)],
  ['released to epoch', ({ released }) => (released === null ? '-' : String(released))],
  ['part in a move', ({ move }) => (move ? `${move.role}, ${move.phase}, with ${move.peerCell}` : '-')],
  ['complete through', (answer) => endWords(answer.move?.completeThrough ?? null, answer)],
  ['as a replica', replicaWords],
  ['in flight', ({ inFlight }) => (inFlight ? `snapshot ${inFlight.slice(0, ID_DIGITS)}` : '-')],
  ['tombstone', ({ tombstone }) => (tombstone ? `${tombstone.why}, epoch ${tombstone.epoch}` : '-')],
];

/** Both answers side by side. What neither says anything of is left out, but for what every answer has. */
export function answersTable({ active, alternate }: Route, { x, y }: Answers): string {
  const place = (side: Place | null) => (side ? `${side.cell}/${side.primary}` : 'none');
  const rows = FACTS.map(([title, value]) => {
    const said = (answer: CellAnswer) =>
      answer.state === 'UNKNOWN' && title !== 'state' ? '-' : value(answer);
    return { title, x: said(x), y: alternate ? said(y) : '-' };
  });
  const shown = rows.filter((row, at) => at < 3 || row.x !== '-' || row.y !== '-');
  return table(
    [
      { title: 'ANSWERS', cell: (row) => row.title },
      { title: `x: ${place(active)}`, cell: (row) => silence(row.x) },
      { title: `y: ${place(alternate)}`, cell: (row) => silence(row.y) },
    ],
    shown,
  );
}

function silence(value: string): string {
  return value === 'UNKNOWN' ? 'UNKNOWN (no answer)' : value;
}

/** The guard's sentence beside each rule; the last one is taken. */
export function trialLines(trials: Trials): string {
  const width = Math.max(0, ...trials.map(({ rule }) => rule.length));
  return trials
    .map(({ rule, holds, because }) =>
      paragraph(printable(because), `  ${rule.padEnd(width)}  ${holds ? 'yes' : 'no '}  `),
    )
    .join('');
}

function decisionText({
  number,
  at,
  operation,
  rule,
  trials,
  x,
  y,
  steps,
  result,
}: Explained['decisions'][number]) {
  const head = `  #${number} ${formatTime(at)}  `;
  const others = trials.filter(({ holds }) => !holds).map((trial) => `not ${trial.rule}: ${trial.because}`);
  const lines = [
    `${operation}: x was ${stateWords(x)}, y ${stateWords(y)}, so ${rule}`,
    ...others,
    ...(steps.length === 0 ? [] : [steps.join('; ')]),
    `result: ${result}`,
  ];
  const indent = ' '.repeat(DECISION_COLUMNS);
  return lines
    .map((line, index) => paragraph(printable(line), index === 0 ? head : indent, DECISION_COLUMNS))
    .join('');
}

function stateWords({ state, epoch, lineageHead }: CellAnswer): string {
  if (state === 'NONE' || state === 'UNKNOWN') return state;
  return `${state} (epoch ${epoch}, ${many(lineageHead?.seq ?? 0, 'snapshot')})`;
}
