// The report: one JSON file with every value of every round, one Markdown page with medians, and the plots beside it.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Column, Finding, NumbersTable, RowResult } from './finding.js';
import { factor, number } from './judge.js';
import type { Machine } from './machine.js';
import { spread } from './statistics.js';

export interface Report {
  readonly taken: string;
  readonly machine: Machine;
  readonly method: {
    readonly rounds: number;
    readonly runtime_ms: number;
    readonly quick: boolean;
    readonly cached_bytes: number;
  };
  readonly rows: readonly RowResult[];
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

function section(row: RowResult, plotsAt: string): string[] {
  return [
    `### ${row.id}: ${row.work}`,
    '',
    ...row.tables.flatMap(numbers),
    ...row.notes.flatMap((note) => [note, '']),
    ...row.plots.flatMap((plot) => [`![${plot.title}](${plotsAt}/${plot.file})`, '']),
  ];
}

function machineLines({ machine, method, taken }: Report): string[] {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name}: ${version}`);
  return [
    `Taken ${taken} on ${machine.cores} cores (${machine.cpu}), ${(machine.memory_bytes / 2 ** 30).toFixed(0)} GiB of memory, ` +
      `Linux ${machine.kernel}, ${machine.file_system}.`,
    '',
    ...versions.map((version) => `* ${version}`),
    '',
    `${method.rounds} rounds${method.quick ? ' (quick: small sizes, few rounds)' : ''}, all servers in turn in each; ` +
      `${method.runtime_ms} ms a measurement; the cached volume has ${method.cached_bytes / 2 ** 20} MiB. Load: fio's nbd engine ` +
      "over a unix socket, or the bench's own client where a row says so. Every value is a median with (minimum - maximum).",
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

export async function writeReport(directory: string, report: Report): Promise<string> {
  await mkdir(join(directory, PLOTS), { recursive: true });
  for (const plot of report.rows.flatMap((row) => row.plots)) {
    await writeFile(join(directory, PLOTS, plot.file), plot.svg);
  }
  await writeFile(join(directory, 'benchmarks.json'), json(report));
  const page = join(directory, 'benchmarks.md');
  await writeFile(page, markdown(report, PLOTS));
  return page;
}
