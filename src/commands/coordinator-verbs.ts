// Verbs of cells: forwarded by the agent to its coordinator. What a verb gives is what --json shows.

import { randomBytes } from 'node:crypto';
import { type Command, Option } from 'commander';
import type { CallAnswer } from '../agent/coordinator-calls.js';
import { CellblockError } from '../base/errors.js';
import { isPlaceName } from '../model/cell/names.js';
import type { Arguments, Verb } from '../protocol/verbs.js';
import { apiPath } from './api-client.js';
import type { Context } from './context.js';

export interface AgainOption {
  again?: string | undefined;
}

export interface AskOptions extends AgainOption {
  /** Where it is seen whether a change was made. */
  look: string;
  /** Of what looks at many volumes. */
  timeoutSeconds?: number;
}

/** Of every verb that changes something. */
export function withAgain(command: Command): Command {
  return command.addOption(
    new Option('--again <id>', 'the same as before, of which it is not known whether it was done'),
  );
}

export async function askCoordinator<Value>(
  { api, signal }: Context,
  call: { [V in Verb]: { verb: V; arguments: Arguments<V> } }[Verb],
  { again, look, timeoutSeconds }: AskOptions,
): Promise<Value> {
  if (again !== undefined && !/^[0-9a-f]{32}$/.test(again))
    throw new CellblockError('option-invalid', `${JSON.stringify(again)} is no id of a call.`, {
      hint: 'Give the 32 hexadecimal digits that you were told.',
    });
  const { value } = await api.change<CallAnswer>({
    method: 'POST',
    path: apiPath(['coordinator', 'calls']),
    body: {
      ...call,
      id: again ?? randomBytes(16).toString('hex'),
      ...(timeoutSeconds === undefined ? {} : { timeout_seconds: timeoutSeconds }),
    },
    signal,
    look,
  });
  return value as Value;
}

/** Not commander's requiredOption(): that hides a misspelt option behind the one that is missing then. */
export function required(value: string | undefined, option: string, hint: string): string {
  if (value !== undefined) return value;
  throw new CellblockError('option-invalid', `The option '${option}' is missing.`, { hint });
}

export function checkPlace(name: string, what: 'cell' | 'host'): string {
  if (isPlaceName(name)) return name;
  throw new CellblockError('option-invalid', `${JSON.stringify(name)} cannot be the name of a ${what}.`, {
    hint: `Names of ${what}s have letters, digits, \`.\`, \`_\` and \`-\`, at most 63; see \`cellblock ${what} list\`.`,
  });
}

/** `--via coordinator`, of verbs that an agent does by itself else. */
export function isViaCoordinator(via: string | undefined): boolean {
  if (via === undefined) return false;
  if (via === 'coordinator') return true;
  throw new CellblockError('option-invalid', `Nothing goes via ${JSON.stringify(via)}.`, {
    hint: 'Write --via coordinator, or leave it out.',
  });
}

/** An agent that does it by itself has no calls that could come again. */
export function refuseAgain({ again }: AgainOption): void {
  if (again === undefined) return;
  throw new CellblockError('option-invalid', '--again is of what was asked via the coordinator.', {
    hint: 'Give --via coordinator too.',
  });
}

/** What only an agent that does it by itself takes. */
export function refuseWithCoordinator(options: Readonly<Record<string, unknown>>, because: string): void {
  const [given] = Object.entries(options).find(([, value]) => value !== undefined) ?? [];
  if (given === undefined) return;
  throw new CellblockError('option-invalid', `${given} and --via coordinator do not go together.`, {
    hint: because,
  });
}
