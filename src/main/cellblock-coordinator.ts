#!/usr/bin/env node
// The coordinator's process: command line, log, signals. What it consists of is in coordinator-composition.ts.

import { type Command, CommanderError } from 'commander';
import { COORDINATOR_EXIT_CODES, exitCodeLines } from '../agent/exit-codes.js';
import { type LogLevel, makeLogger } from '../agent/logger.js';
import { asCellblockError } from '../base/errors.js';
import {
  type CoordinatorSettings,
  coordinatorCommand,
  coordinatorSettings,
} from '../coordinator/command-line.js';
import { composeCoordinator } from './coordinator-composition.js';
import { runUntilStopped } from './run-until-stopped.js';
import { managerOf } from './service-manager-of.js';
import { tellFailure, tellUsage } from './tell.js';
import { version } from './version.js';

const PROGRAM = 'cellblock-coordinator';

process.exit(await main(process.argv.slice(2)));

async function main(words: string[]): Promise<number> {
  try {
    const command = parsed(words);
    if (command === undefined) return 0;
    const settings: CoordinatorSettings = coordinatorSettings(command);
    const { logLevel } = command.opts<{ logLevel: LogLevel }>();
    const log = makeLogger({ level: logLevel, journald: process.env.JOURNAL_STREAM !== undefined });
    return await runUntilStopped({ log, manager: managerOf(process, log) }, async () => {
      log.info({ version, pid: process.pid, name: settings.name, state: settings.state.kind }, 'starting');
      return composeCoordinator(settings, log);
    });
  } catch (error) {
    if (error instanceof CommanderError) return tellUsage(PROGRAM, error);
    return tellFailure(PROGRAM, asCellblockError(error));
  }
}

/** Undefined: help or version was asked for and printed. */
function parsed(words: string[]): Command | undefined {
  const command = coordinatorCommand(version).addHelpText(
    'after',
    `\nSIGTERM: gives leadership back, tells the hosts and ends. SIGHUP: reads certificates and tokens again.\n\nExit codes:\n${exitCodeLines(COORDINATOR_EXIT_CODES)}`,
  );
  try {
    return command.parse(words, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    throw error;
  }
}
