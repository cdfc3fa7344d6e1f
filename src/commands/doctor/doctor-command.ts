// cellblock doctor: looks at the whole installation and says what is wrong and how to mend it. Changes nothing.

import type { Command } from 'commander';
import { ApiClient } from '../api-client.js';
import { CommandError } from '../command-error.js';
import type { Context, ContextOf } from '../context.js';
import { gatherFacts } from './gather.js';
import { type DoctorReport, examine, reportText } from './report.js';
import { type Sources, systemSources } from './sources.js';

/** Whoever calls a doctor does not want to wait for the patient. */
const PATIENCE_MS = 5000;

export interface PlaceOptions {
  store?: string;
  config?: string;
}

export type SourcesOf = (context: Context, options: PlaceOptions) => Sources;

/** Of this machine. */
export function sourcesMaker(version: string): SourcesOf {
  return ({ api, signal }, { store, config }) =>
    systemSources({
      api: new ApiClient(api.socketPath, { patienceMs: PATIENCE_MS }),
      signal,
      version,
      store,
      configuration: config,
    });
}

export function addDoctorCommand(program: Command, contextOf: ContextOf, sourcesOf: SourcesOf): void {
  program
    .command('doctor')
    .description(
      'look at the whole installation: what is wrong, and how to mend it; changes nothing, and works without an agent',
    )
    .option('--quiet', 'say only what is wrong')
    .option('--store <directory>', 'where the store is, if no agent tells')
    .option('--config <file>', 'the configuration of the agent, if it does not tell')
    .action(async (options: PlaceOptions & { quiet?: boolean }, command: Command) => {
      const context = contextOf(command);
      const report = examine(await gatherFacts(sourcesOf(context, options)));
      context.terminal.result(report, () => reportText(report, { all: options.quiet !== true }));
      if (!report.healthy) throw unhealthy(report);
    });
}

function unhealthy({ counts: { problem } }: DoctorReport): CommandError {
  return new CommandError(
    'unhealthy',
    'doctor-found-problems',
    problem === 1 ? 'There is a problem.' : `There are ${problem} problems.`,
    'What to do stands with each; see docs/troubleshooting.md.',
  );
}
