#!/usr/bin/env node
// The agent's process: command line, configuration, log, signals. What it consists of is in composition.ts.

import { Command, CommanderError } from 'commander';
import { readConfiguration } from '../agent/configuration.js';
import { AGENT_EXIT_CODES, exitCodeLines } from '../agent/exit-codes.js';
import { makeLogger } from '../agent/logger.js';
import { makeSettings, type Settings } from '../agent/settings.js';
import { takePassedSockets } from '../agent/socket-activation.js';
import { asCellblockError } from '../base/errors.js';
import { activationError, descriptorError } from '../operations/listen-error.js';
import { listeningAddress, loadPlane } from '../plane/addon.js';
import { composeAgent } from './composition.js';
import { runUntilStopped } from './run-until-stopped.js';
import { tellFailure, tellUsage } from './tell.js';
import { version } from './version.js';

process.exit(await main(process.argv.slice(2)));

async function main(words: string[]): Promise<number> {
  try {
    const settings = readSettings(words);
    if (settings === undefined) return 0;
    const log = makeLogger({ level: settings.log.level, journald: process.env.JOURNAL_STREAM !== undefined });
    return await runUntilStopped(log, async () => {
      log.info({ version, pid: process.pid, store: settings.store.directory }, 'starting');
      const debug = process.env.CELLBLOCK_DEBUG === '1';
      return composeAgent(settings, { plane: loadPlane(), log, debug });
    });
  } catch (error) {
    if (error instanceof CommanderError) return tellUsage('cellblockd', error);
    return tellFailure('cellblockd', asCellblockError(error));
  }
}

/** Undefined: help or version was asked for and printed. */
function readSettings(words: string[]): Settings | undefined {
  const command = new Command('cellblockd')
    .description('The storage agent: serves the volumes of one store over NBD.')
    .requiredOption('--store <directory>', 'the store; made when the directory is missing or empty')
    .option('--config <file>', 'configuration, YAML; see docs/configuration.md')
    .option('--nbd <address>', 'serve NBD on unix:PATH or tcp:HOST:PORT; may be repeated', collect)
    .option('--api <path>', 'unix socket of the control API')
    .option('--default-export <name>', 'VOLUME or VOLUME@SNAPSHOT for clients that ask for no name')
    .option(
      '--allow-remote-without-tls',
      'listen on TCP addresses other than loopback, though nothing is encrypted there and nobody has to prove who they are',
    )
    .version(version)
    .allowExcessArguments(false)
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `\nExit codes:\n${exitCodeLines(AGENT_EXIT_CODES)}`)
    .exitOverride();
  try {
    command.parse(words, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    throw error;
  }
  const {
    store,
    config,
    nbd = [],
    api,
    defaultExport,
    allowRemoteWithoutTls: allowRemote = false,
  } = command.opts<{
    store: string;
    config?: string;
    nbd?: string[];
    api?: string;
    defaultExport?: string;
    allowRemoteWithoutTls?: boolean;
  }>();
  const line = { store, nbd, api, defaultExport, allowRemote };
  return makeSettings(config === undefined ? {} : readConfiguration(config), line, passedSockets());
}

/** Those named api have to be unix sockets: on TCP everybody could have the API. */
function passedSockets() {
  const { nbd, api } = takePassedSockets(process.env, process.pid);
  return { nbd, api: api === null ? null : { descriptor: api, path: apiPathOf(api) } };
}

function apiPathOf(descriptor: number): string {
  let address: string;
  try {
    address = listeningAddress(descriptor);
  } catch (error) {
    throw descriptorError(error);
  }
  if (address.startsWith('unix:/')) return address.slice('unix:'.length);
  throw activationError(`The socket passed as api is ${address}, and no unix socket with a path.`);
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
