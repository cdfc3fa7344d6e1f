// cellblock store check: by the agent, or on a directory without one. Problems go to stdout as they are found; the exit code is the
// answer.

import type { CheckLine } from '../agent/check-lines.js';
import type { FailureKind } from '../agent/exit-codes.js';
import type { CheckProblem, CheckReport, CheckWatcher } from '../agent/inspection.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context } from './context.js';
import { printable } from './table.js';

export interface CheckOptions {
  store?: string;
}

/** Checks a store that no agent has open; reads only. */
export type OfflineCheck = (directory: string, watcher: CheckWatcher) => Promise<CheckReport>;

export async function checkStoreCommand(
  context: Context,
  options: CheckOptions,
  offline: OfflineCheck,
): Promise<void> {
  const { terminal, signal } = context;
  const progress = await terminal.progress('store check');
  const watcher: CheckWatcher = {
    signal,
    onProblem: (problem) => terminal.text(`${line(problem)}\n`),
    onProgress: (done, total) => {
      if (total !== null) progress.update(done, total);
    },
  };
  let report: CheckReport;
  try {
    report = await (options.store === undefined ? online(context, watcher) : offline(options.store, watcher));
  } finally {
    progress.end();
  }
  terminal.result(report, () =>
    report.clean ? `The store is clean (${report.recordsSeen} records).\n` : '',
  );
  if (!report.clean) throw verdict(report.problems.filter(({ severity }) => severity === 'error'));
}

/** What a newer version wrote is no damage, and whatever else looks wrong in it may be right there. */
const NEWER: ReadonlySet<string> = new Set(['store-newer', 'journal-newer']);

function verdict(errors: readonly CheckProblem[]): CommandError {
  if (errors.some(({ code }) => NEWER.has(code))) {
    return new CommandError(
      'version',
      'store-newer',
      'The store was made by a newer version of cellblock.',
      'Check it with that version.',
    );
  }
  return new CommandError(
    'corrupt',
    'store-damaged',
    `The store is damaged: ${errors.length} ${errors.length === 1 ? 'problem' : 'problems'}.`,
    'Copy what still reads (cellblock volume export), and restore the rest from a backup.',
  );
}

async function online({ api, signal }: Context, watcher: CheckWatcher): Promise<CheckReport> {
  const path = apiPath(['store', 'check'], { stream: 'true' });
  for await (const line of api.stream<CheckLine>({ method: 'GET', path, signal })) {
    switch (line.type) {
      case 'progress':
        watcher.onProgress(line.done, line.total);
        break;
      case 'problem':
        watcher.onProblem(line);
        break;
      case 'report': {
        const { clean, problems, recordsSeen } = line;
        return { clean, problems, recordsSeen };
      }
      case 'error':
        throw new CommandError(line.kind as FailureKind, line.code, line.message, line.hint);
    }
  }
  throw new CommandError(
    'unreachable',
    'agent-unreachable',
    'The agent ended before the check did.',
    'See the log of cellblockd.',
  );
}

function line({ severity, code, message }: CheckProblem): string {
  return `${severity}: ${printable(message)} [${code}]`;
}
