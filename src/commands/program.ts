// The command line: its grammar, and how every outcome becomes an exit code. Invariant: run() answers an exit code and never throws;
// an error is one sentence on what is wrong and one on what to do, on stderr.

import type { Readable } from 'node:stream';
import { Command, CommanderError } from 'commander';
import { EXIT_CODE_MEANINGS, EXIT_CODES, exitCodeLines } from '../agent/exit-codes.js';
import { CellblockError } from '../base/errors.js';
import { addAgentCommands } from './agent-commands.js';
import { addAttachCommands } from './attach-commands.js';
import { addSupportBundleCommand } from './bundle/support-bundle-command.js';
import { addCellCommands } from './cell-commands.js';
import type { OfflineCheck } from './check-command.js';
import { asCommandError, CommandError, interrupted } from './command-error.js';
import { addCompletionCommand } from './completion-command.js';
import { type ContextOf, contextMaker } from './context.js';
import { addDoctorCommand, type SourcesOf, sourcesMaker } from './doctor/doctor-command.js';
import { addExportCommand } from './export-volume.js';
import { addHostCommands } from './host-commands.js';
import { addImportCommand } from './import-volume.js';
import { addMoveCommands } from './move-commands.js';
import { FILE, VOLUME } from './noun.js';
import { addRouteCommands } from './route-commands.js';
import { addServeStdioCommand } from './serve-stdio.js';
import { addSnapshotCommands } from './snapshot-commands.js';
import { addSyncCommands } from './sync-commands.js';
import { type Streams, Terminal, toJson } from './terminal.js';
import { addVmCommands } from './vm-commands.js';
import { addVolumeCommands } from './volume-commands.js';

export interface ProgramOptions {
  version: string;
  streams: Streams & { stdin: Readable };
  /** Aborted when the user wants to stop. */
  signal: AbortSignal;
  offlineCheck: OfflineCheck;
  /** Where `doctor` looks; default: at this machine. */
  sourcesOf?: SourcesOf;
  /** See ApiClient; default there. */
  patienceMs?: number;
  /** False: what the words were made from is not UTF-8, and they are not what was typed. */
  wordsAreText?: boolean;
}

/** `words`: the command line without node and the script. */
export async function run(words: readonly string[], options: ProgramOptions): Promise<number> {
  const program = makeProgram(options);
  try {
    if (options.wordsAreText === false) throw notText(words);
    await program.parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const failure =
      error instanceof CommanderError
        ? ofUsage(error, commandOf(program, words))
        : failureOf(error, options.signal);
    const json = words.includes('--json');
    show(failure, new Terminal({ json }, options.streams));
    return EXIT_CODES[failure.kind];
  }
}

function notText(words: readonly string[]): CommandError {
  const word = words.find((other) => other.includes('\ufffd')) ?? '';
  return new CommandError(
    'invalid',
    'argument-not-text',
    `The argument ${JSON.stringify(word)} is not valid UTF-8.`,
    'Names have UTF-8 without control characters; a file with another name can be given as a pipe, -.',
  );
}

/** Once interrupted, whatever breaks is a consequence; but what a command found out by then is told. */
function failureOf(error: unknown, signal: AbortSignal): CommandError {
  const isFinding = error instanceof CommandError || error instanceof CellblockError;
  const isCancelled = error instanceof CellblockError && error.kind === 'cancelled';
  return signal.aborted && (!isFinding || isCancelled) ? interrupted() : asCommandError(error);
}

export function makeProgram({
  version,
  streams,
  signal,
  offlineCheck,
  patienceMs,
  sourcesOf = sourcesMaker(version),
}: ProgramOptions): Command {
  const contextOf: ContextOf = contextMaker({ streams, signal, patienceMs });
  const program = new Command('cellblock')
    .description(
      'Thin block volumes, snapshots and clones over NBD: the command line of the agent cellblockd.',
    )
    .version(version)
    .option(
      '--api <path>',
      'socket of the agent; default: $CELLBLOCK_API, ./data/api.sock if it exists, /run/cellblock/api.sock',
    )
    .option('--json', 'answer with JSON')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => streams.stdout.write(text),
      // Help after a missing verb is the answer; errors are shown by run().
      writeErr: (text) => streams.stderr.write(text),
      outputError: () => undefined,
    })
    .addHelpText(
      'after',
      `\nSizes take K, M, G, T, P, E (binary).\n\nExit codes:\n${exitCodeLines(EXIT_CODE_MEANINGS)}`,
    );
  for (const noun of [VOLUME, FILE]) {
    const command = addVolumeCommands(program, contextOf, noun);
    addImportCommand(command, contextOf, { noun, stdin: streams.stdin });
    addExportCommand(command, contextOf, noun);
  }
  addSnapshotCommands(program, contextOf);
  addSyncCommands(program, contextOf);
  addVmCommands(program, contextOf);
  addAttachCommands(program, contextOf);
  addCellCommands(program, contextOf);
  addHostCommands(program, contextOf);
  addMoveCommands(program, contextOf);
  addRouteCommands(program, contextOf);
  addServeStdioCommand(program, contextOf, streams.stdin);
  addAgentCommands(program, contextOf, offlineCheck);
  addDoctorCommand(program, contextOf, sourcesOf);
  addSupportBundleCommand(program, contextOf, { sourcesOf, offlineCheck });
  addCompletionCommand(program, contextOf);
  return program;
}

/** commander says "error: what\n(Did you mean that?)". */
function ofUsage(error: CommanderError, command: string): CommandError {
  if (error.code === 'commander.help') {
    return new CommandError(
      'invalid',
      'command-incomplete',
      'A command is missing.',
      'Choose one of the above.',
    );
  }
  const [what = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const hint = suggestion === undefined ? `See \`${command} --help\`.` : suggestion.replace(/^\(|\)$/g, '');
  return new CommandError('invalid', 'command-invalid', sentence(what), hint);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;
}

/** The innermost command that the words name, whose --help says how it is written. */
function commandOf(program: Command, words: readonly string[]): string {
  const names = [program.name()];
  let at = program;
  for (const word of words) {
    const inner = at.commands.find((command) => command.name() === word);
    if (inner === undefined) continue;
    at = inner;
    names.push(word);
  }
  return names.join(' ');
}

function show(error: CommandError, terminal: Terminal): void {
  const { kind, code, message, hint } = error;
  if (terminal.json) terminal.error(toJson({ error: { kind, code, message, hint } }, 0));
  else terminal.error(`cellblock: ${message}${hint === '' ? '' : ` ${hint}`}`);
}
