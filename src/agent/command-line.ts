// What the program of the agent is told on its command line.

import { Command } from 'commander';
import { AGENT_EXIT_CODES, exitCodeLines } from './exit-codes.js';

export interface AgentLine {
  store: string;
  config?: string;
  nbd?: string[];
  api?: string;
  defaultExport?: string;
  allowRemoteWithoutTls?: boolean;
  keepClients?: boolean;
}

export function agentCommand(version: string): Command {
  return new Command('cellblockd')
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
    .option(
      '--keep-clients',
      'at a stop, leave connected clients with the service manager, so that a restart does not end their connections; its unit needs FileDescriptorStoreMax=',
    )
    .version(version)
    .allowExcessArguments(false)
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `\nExit codes:\n${exitCodeLines(AGENT_EXIT_CODES)}`)
    .exitOverride();
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
