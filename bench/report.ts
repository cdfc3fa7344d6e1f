// The report: one JSON file with every value of every round, one Markdown page with medians, and the plots beside it.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Column, Finding, NumbersTable, RowResult } from './finding.js';
import { factor, number } from './judge.js';
import type { Machine } from './machine.js';
import { spread } from './statistics.js';

export interface Method {
  readonly rounds: number;
  readonly runtime_ms: number;
  readonly quick: boolean;
  readonly cached_bytes: number;
}

/** A row is one run, and only its own numbers are compared: rows of several runs may stand on one page. */
export interface MeasuredRow extends RowResult {
  readonly taken: string;
  /** What was measured: version and commit. */
  readonly cellblock: string;
  readonly method: Method;
}

export interface Report {
  readonly machine: Machine;
  readonly rows: readonly MeasuredRow[];
}

/** B2 stands before B10, and a row that has a variant before it. */
const byNumber = (a: { id: string }, b: { id: string }): number =>
  Number.parseInt(a.id.slice(1), 10) - Number.parseInt(b.id.slice(1), 10) || (a.id < b.id ? -1 : 1);

const sameMachine = (a: Machine, b: Machine): boolean =>
  a.cpu === b.cpu &&
  a.cores === b.cores &&
  a.memory_bytes === b.memory_bytes &&
  a.kernel === b.kernel &&
  a.file_system === b.file_system;

/** The report with the row in it, in place of an older one; rows of another machine leave. */
export function withRow(before: Report | null, machine: Machine, row: MeasuredRow): Report {
  const others = before && sameMachine(before.machine, machine) ? before.rows : [];
  return { machine, rows: [...others.filter(({ id }) => id !== row.id), row].sort(byNumber) };
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function line(cells: readonly string[]): string {
  return `| ${cells.map(cell).join(' | ')} |`;
}

function tableOf(head: readonly string[], body: readonly (readonly string[])[]): string[] {
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...body.map(line), ''];
}

function findingCells(row: RowResult, finding: Finding): string[] {
  const score = finding.score === undefined ? '-' : factor(finding.score);
  return [row.id, finding.part, finding.target, finding.measured, score, finding.verdict];
}

function columnText(column: Column): string {
  if (column.values.length === 0) return column.absent ?? '-';
  const { median, min, max } = spread(column.values);
  return `${number(median)} (${number(min)} - ${number(max)})`;
}

function numbers(table: NumbersTable): string[] {
  if (table.columns.length === 0) return [];
  const head = [`${table.title} [${table.unit}]`, ...table.columns.map((column) => column.name)];
  return tableOf(head, [['median (min - max)', ...table.columns.map(columnText)]]);
}

function methodOf({ method }: MeasuredRow): string {
  return `${method.rounds} rounds of ${method.runtime_ms} ms a measurement${method.quick ? ' (quick: small sizes)' : ''}`;
}

function section(row: MeasuredRow, plotsAt: string): string[] {
  return [
    `### ${row.id}: ${row.work}`,
    '',
    `Taken ${row.taken}, cellblock ${row.cellblock}, ${methodOf(row)}.`,
    '',
    ...row.tables.flatMap(numbers),
    ...row.notes.flatMap((note) => [note, '']),
    ...row.plots.flatMap((plot) => [`![${plot.title}](${plotsAt}/${plot.file})`, '']),
  ];
}

function machineLines({ machine, rows }: Report): string[] {
  // Of cellblock each row says its own.
  const others = Object.entries(machine.versions).filter(([name]) => name !== 'cellblock');
  const versions = others.map(([name, version]) => `${name}: ${version}`);
  const cached = [...new Set(rows.map(({ method }) => method.cached_bytes / 2 ** 20))].join(' or ');
  return [
    `Taken on ${machine.cores} cores (${machine.cpu}), ${(machine.memory_bytes / 2 ** 30).toFixed(0)} GiB of memory, ` +
      `Linux ${machine.kernel}, ${machine.file_system}.`,
    '',
    ...versions.map((version) => `* ${version}`),
    '',
    'In each round all servers take their turn. Each row is one run; the rows may be of several (each says when, and of which ' +
      `commit). The cached volume has ${cached} MiB. Load: fio's nbd engine over a unix socket, or the bench's own client ` +
      'where a row says so. Every value is a median with (minimum - maximum).',
    '',
    'The score is what was measured against what the target asks, round by round: 1 is just met, more is better. ' +
      'The limit is a server that does the least an NBD server can do (`bench/limit/limit_server.cc`). Numbers of other ' +
      'machines are not comparable: only the ratios of one run are.',
    '',
  ];
}

export function markdown(report: Report, plotsAt: string): string {
  return [
    '# Benchmarks',
    '',
    'Made by `npm run bench`; do not edit.',
    '',
    ...machineLines(report),
    '## Targets',
    '',
    ...tableOf(
      ['#', 'part', 'target', 'measured', 'score', 'verdict'],
      report.rows.flatMap((row) => row.findings.map((finding) => findingCells(row, finding))),
    ),
    '## Numbers',
    '',
    ...report.rows.flatMap((row) => section(row, plotsAt)),
  ].join('\n');
}

/** The JSON has no drawings: they are made from what is in it. */
function json(report: Report): string {
  const rows = report.rows.map((row) => ({
    ...row,
    plots: row.plots.map(({ file, title }) => ({ file, title })),
  }));
  return `${JSON.stringify({ ...report, rows }, null, 2)}\n`;
}

const PLOTS = 'benchmarks';
const DATA = 'benchmarks.json';

/** What an earlier run left there; null where that is nothing, or nothing that can be read. */
export async function readReport(directory: string): Promise<Report | null> {
  try {
    const report = JSON.parse(await readFile(join(directory, DATA), 'utf8')) as Report;
    return report.rows.every(({ taken, method }) => taken && method) ? report : null;
  } catch {
    return null;
  }
}

export async function writeReport(directory: string, report: Report): Promise<string> {
  await mkdir(join(directory, PLOTS), { recursive: true });
  // Rows that were read have no drawings: theirs are there.
  for (const { file, svg } of report.rows.flatMap((row) => row.plots)) {
    if (svg !== undefined) await writeFile(join(directory, PLOTS, file), svg);
  }
  await writeFile(join(directory, DATA), json(report));
  const page = join(directory, 'benchmarks.md');
  await writeFile(page, markdown(report, PLOTS));
  return page;
}
