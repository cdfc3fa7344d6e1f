// Why a server could not start or was started wrongly: one sentence and what to do, on stderr, and its exit code.

import type { CommanderError } from 'commander';
import { EXIT_CODES } from '../agent/exit-codes.js';
import type { CellblockError } from '../base/errors.js';

export function tellUsage(program: string, error: CommanderError): number {
  const what = (error.message.replace(/^error: /, '').split('\n')[0] ?? '')
    .replace(/^./, (first) => first.toUpperCase())
    .replace(/\.$/, '');
  process.stderr.write(`${program}: ${what}. See \`${program} --help\`.\n`);
  return EXIT_CODES.invalid;
}

export function tellFailure(program: string, { kind, message, hint, cause }: CellblockError): number {
  const priority = process.env.JOURNAL_STREAM === undefined ? '' : '<3>';
  process.stderr.write(`${priority}${program}: ${message} ${hint}\n`);
  if (kind === 'internal' && cause instanceof Error) process.stderr.write(`${priority}${cause.stack}\n`);
  return EXIT_CODES[kind];
}
