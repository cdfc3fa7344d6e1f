#!/usr/bin/env node
// The agent's process: command line, configuration, log, signals. What it consists of is in composition.ts.

import { resolve } from 'node:path';
import { CommanderError } from 'commander';
import { type AgentLine, agentCommand } from '../agent/command-line.js';
import { readConfiguration } from '../agent/configuration.js';
import { KeptClients } from '../agent/kept-clients.js';
import { makeLogger } from '../agent/logger.js';
import { makeSettings, type Settings } from '../agent/settings.js';
import { type PassedSockets, takePassedSockets } from '../agent/socket-activation.js';
import { asCellblockError } from '../base/errors.js';
import { activationError, descriptorError } from '../operations/listen-error.js';
import { listeningAddress, loadPlane, loadServiceNotifications } from '../plane/addon.js';
import { composeAgent } from './composition.js';
import { runUntilStopped } from './run-until-stopped.js';
import { managerOf } from './service-manager-of.js';
import { tellFailure, tellUsage } from './tell.js';
import { version } from './version.js';

process.exit(await main(process.argv.slice(2)));

async function main(words: string[]): Promise<number> {
  try {
    const read = readSettings(words);
    if (read === undefined) return 0;
    const { settings, passed, keepsClients, configuration } = read;
    const log = makeLogger({ level: settings.log.level, journald: process.env.JOURNAL_STREAM !== undefined });
    const manager = managerOf(process, log);
    return await runUntilStopped({ log, manager }, async () => {
      log.info({ version, pid: process.pid, store: settings.store.directory }, 'starting');
      const debug = process.env.CELLBLOCK_DEBUG === '1';
      const native = loadServiceNotifications();
      const clients = new KeptClients({ manager, native, passed: passed.clients, log });
      return composeAgent(settings, {
        plane: loadPlane(),
        log,
        debug,
        configuration,
        runtimeDirectory: process.env.RUNTIME_DIRECTORY ?? null,
        clients: { resumed: clients, kept: keepsClients && manager.listens ? clients : null },
      });
    });
  } catch (error) {
    if (error instanceof CommanderError) return tellUsage('cellblockd', error);
    return tellFailure('cellblockd', asCellblockError(error));
  }
}

interface Read {
  settings: Settings;
  passed: PassedSockets;
  keepsClients: boolean;
  /** The file, absolute; null: none was given. */
  configuration: string | null;
}

/** Undefined: help or version was asked for and printed. */
function readSettings(words: string[]): Read | undefined {
  const command = agentCommand(version);
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
    keepClients: keepsClients = false,
  } = command.opts<AgentLine>();
  const line = { store, nbd, api, defaultExport, allowRemote };
  const passed = takePassedSockets(process.env, process.pid);
  const settings = makeSettings(
    config === undefined ? {} : readConfiguration(config),
    line,
    listening(passed),
  );
  return { settings, passed, keepsClients, configuration: config === undefined ? null : resolve(config) };
}

/** Those named api have to be unix sockets: on TCP everybody could have the API. */
function listening({ nbd, api }: PassedSockets) {
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
