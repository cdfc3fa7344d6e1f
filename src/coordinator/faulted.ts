// A volume whose host came back older than its route: nothing of it is served, and by itself nothing goes on. What an operator is told of that,
// and when he may decide although the table only waits.
//
// Invariant: where a silent cell may own the volume nobody is told to decide; it cannot as long as no move has come as far as sealing.

import { type CellAnswer, hasNothing } from '../model/cell/answer.js';
import { isBefore, type Route, sameHead } from '../model/cell/route.js';
import { askBoth } from './asking.js';
import { whyNoCopy } from './hosts-view.js';
import { type Ports, timeOf } from './ports.js';
import type { Trouble, Troubles, Why } from './troubles.js';

type Answers = readonly [x: CellAnswer, y: CellAnswer];

/** The active cell has lost what the route knows, and the other one is silent, perhaps for ever: nobody else could say what becomes of the volume. */
function waitsInVain({ journal }: Route, [x, y]: Answers): boolean {
  return x.state === 'FAULTED' && y.state === 'UNKNOWN' && isBefore(journal, 'SEALING');
}

/** So an operator may go on with what the active cell has. */
export function isForOperator(route: Route, cell: string, answers: Answers): boolean {
  return route.active.cell === cell && waitsInVain(route, answers) && !hasNothing(answers[0]);
}

/** So an operator may say that there is nothing any more. */
export function isLost(route: Route, answers: Answers): boolean {
  return (waitsInVain(route, answers) && hasNothing(answers[0])) || isBeginningOnly(answers);
}

/** The host that owned it came back without it, and the other one had not copied it to the end. */
function isBeginningOnly([x, y]: Answers): boolean {
  return x.state === 'NONE' && y.state === 'RECEIVING';
}

export function whyOlder(
  { name, active, alternate, epoch, lineageHead }: Route,
  x: Pick<CellAnswer, 'epoch' | 'lineageHead'>,
): Why {
  const { primary, cell } = active;
  const other = alternate && alternate.cell !== cell ? ` (or ${alternate.cell}, with what that has)` : '';
  // What is damaged, or was held back as others were, may be as far as it ever was.
  if (x.epoch >= epoch && sameHead(x.lineageHead, lineageHead))
    return {
      because: `What host ${primary} has of volume ${name} is faulted, and is not served: it is as far as its route, with ${wordsOf(x)}.`,
      hint: `The log of ${primary} says why. Go on with what is there: \`cellblock quarantine adopt ${name} --cell ${cell}\`${other}.`,
    };
  return {
    because: `What host ${primary} has of volume ${name} is older than its route, and is not served: it has ${wordsOf(x)}, the route ${wordsOf({ epoch, lineageHead })}.`,
    hint: `Bring the newer store back, or go on with what is there, without what came later: \`cellblock quarantine adopt ${name} --cell ${cell}\`${other}.`,
  };
}

function wordsOf({ epoch, lineageHead }: Pick<CellAnswer, 'epoch' | 'lineageHead'>): string {
  return `epoch ${epoch} and snapshot ${lineageHead?.seq ?? 0}`;
}

function whyNothing({ name, active, alternate }: Route, answers: Answers): Why {
  if (isBeginningOnly(answers))
    return {
      because: `Host ${active.primary} knows nothing of volume ${name}, and host ${alternate!.primary} has only the beginning of a copy.`,
      hint: `Bring back what host ${active.primary} had; if that is gone for good, \`cellblock route forget ${name}\` drops the route.`,
    };
  return {
    because: `Host ${active.primary} has nothing complete of volume ${name}, and host ${alternate!.primary} does not answer.`,
    hint: `Bring host ${alternate!.primary} back, and adopt what it has; if it is gone for good, \`cellblock route forget ${name}\` drops the route.`,
  };
}

/** What stands in the way of a volume, for whoever looks. */
export async function troublesOf(
  parts: Pick<Ports, 'hosts' | 'store' | 'settings' | 'clock'> & { troubles: Troubles },
  route: Route,
): Promise<Trouble[]> {
  const noted = parts.troubles.of(route.volume);
  const why = await whyFaulted(parts, route);
  if (why === null) return noted;
  const at = timeOf(parts.clock);
  const before = noted.find(({ operation }) => operation === null) ?? { since: at, at, tries: 1 };
  return [{ ...before, ...why, operation: null }, ...noted.filter(({ operation }) => operation !== null)];
}

async function whyFaulted(
  parts: Pick<Ports, 'hosts' | 'store' | 'settings'>,
  route: Route,
): Promise<Why | null> {
  const { active, status } = route;
  if ((status !== 'open' && status !== 'quarantined') || !parts.hosts.isConnected(active.primary))
    return null;
  const answers = await askBoth(parts, route, []);
  const [x] = answers;
  if (isLost(route, answers)) return whyNothing(route, answers);
  if (x.state !== 'FAULTED' || hasNothing(x)) return null;
  if (status === 'open' && !isForOperator(route, active.cell, answers)) return null;
  return (await whyNoCopy(parts, active.primary)) ?? whyOlder(route, x);
}
