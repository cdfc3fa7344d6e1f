// docs/conformance.md: what stands above the marker is written by hand and stays, the rest is what was seen.
import { allCases } from '../../test/conformance/all-cases.js';
import { requirements } from '../../test/conformance/requirements.js';
import { type Case, caseId } from '../../test/conformance/target.js';
import type { Machine } from '../machine.js';
import type { Outcome, Verdict } from './trial.js';

export const MARKER = '<!-- Everything below is written by `npm run conformance`. -->';

type Listed = Pick<Case, 'name' | 'covers'>;

/** What the page has to know of a group of cases. */
interface Group {
  readonly name: string;
  readonly cases: readonly Listed[];
}

export interface Results {
  readonly taken: string;
  readonly machine: Machine;
  readonly servers: readonly string[];
  readonly groups: readonly Group[];
  /** By the name of the server, then by caseId(). */
  readonly outcomes: ReadonlyMap<string, ReadonlyMap<string, Outcome>>;
}

const VERDICTS: readonly Verdict[] = ['passes', 'fails', 'hangs', 'dies', 'not offered'];

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ').replaceAll('<', '&lt;');
}

const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;

function table(head: readonly string[], body: readonly (readonly string[])[]): string[] {
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...body.map(line), ''];
}

function said({ verdict, seen }: Outcome): string {
  if (verdict === 'passes') return 'pass';
  if (verdict === 'not offered') return '–';
  return `**${verdict}**: ${seen.length > 90 ? `${seen.slice(0, 90)}…` : seen}`;
}

const sectionsOf = (covers: readonly string[] = []): string[] => [
  ...new Set(covers.map((id) => requirements.get(id)?.section ?? id)),
];

/** A claim on which a server that keeps every MUST may fail. */
export const isBeyond = (covers: readonly string[] = []): boolean => sectionsOf(covers).includes('promise');

function outcomeOf(results: Results, server: string, group: Group, one: Listed): Outcome {
  return (
    results.outcomes.get(server)?.get(caseId(group, one)) ?? { verdict: 'not offered', seen: 'not tried' }
  );
}

function counts(results: Results): string[] {
  const runs = results.groups.flatMap((group) => group.cases.map((one) => ({ group, one })));
  const count = (server: string, verdict: Verdict, beyond: boolean): number =>
    runs.filter(
      ({ group, one }) =>
        isBeyond(one.covers) === beyond && outcomeOf(results, server, group, one).verdict === verdict,
    ).length;
  const rows = VERDICTS.map((verdict) => [
    verdict,
    ...results.servers.map((server) => `${count(server, verdict, false)} + ${count(server, verdict, true)}`),
  ]);
  return table(['cases of MUST alone + cases that ask for more', ...results.servers], rows);
}

function groupTable(results: Results, group: Group): string[] {
  const rows = group.cases.map((one) => [
    one.name,
    sectionsOf(one.covers).join('; '),
    ...results.servers.map((server) => said(outcomeOf(results, server, group, one))),
  ]);
  return [`### ${group.name}`, '', ...table(['case', 'by', ...results.servers], rows)];
}

/** Requirements that no case covers, each with what shows it; without one it is forgotten. */
export function uncovered(cases: readonly Listed[]): { id: string; says: string; why: string | null }[] {
  const covered = new Set<string>(cases.flatMap(({ covers }) => covers ?? []));
  return [...requirements]
    .filter(([id]) => !covered.has(id))
    .map(([id, { says, elsewhere = null }]) => ({ id, says, why: elsewhere }));
}

function coverage(): string[] {
  const open = uncovered(allCases);
  const rows = open.map(({ id, says, why }) => [`${id}: ${says}`, why ?? 'nothing']);
  return [
    '## What no case shows',
    '',
    `${requirements.size - open.length} of ${requirements.size} requirements (\`test/conformance/requirements.ts\`) have cases. The others:`,
    '',
    ...table(['requirement', 'shown by'], rows),
  ];
}

function measuredOn({ machine, taken }: Results): string[] {
  const { versions } = machine;
  const of = (name: string): string => `${name}: ${versions[name] ?? 'unknown'}`;
  const programs = ['cellblock', 'qemu-nbd', 'nbdkit', 'nbd-server'].map(of);
  const memory = Math.round(machine.memory_bytes / 2 ** 30);
  return [
    `Taken ${taken} on Linux ${machine.kernel}, ${machine.cpu}, ${machine.cores} cores, ${memory} GiB. ${programs.join('; ')}.`,
    '',
  ];
}

export function page(before: string, results: Results): string {
  const text = before.split(MARKER)[0]?.trimEnd() ?? '';
  const lines = [
    text,
    '',
    MARKER,
    '',
    '## Counts',
    '',
    ...measuredOn(results),
    ...counts(results),
    '## Cases',
    '',
  ];
  for (const group of results.groups) lines.push(...groupTable(results, group));
  lines.push(...coverage());
  return `${lines.join('\n').trimEnd()}\n`;
}
