// The command line as a tree to be described: for pages of manuals and the completion of shells, which are made from it.

import { Readable, Writable } from 'node:stream';
import type { Command, Option } from 'commander';

/** What a program is made with that is described and never run. */
export const DESCRIBED = {
  version: '1',
  streams: { stdin: Readable.from([]), stdout: new Writable(), stderr: new Writable() },
  signal: new AbortController().signal,
  offlineCheck: async (): Promise<never> => {
    throw new Error('this program is only described');
  },
};

/** Words from the program to the command; without the program: what is typed behind it. */
export function wordsTo(command: Command): string[] {
  const names: string[] = [];
  for (let at = command; at.parent !== null; at = at.parent) names.unshift(at.name());
  return names;
}

/** The command itself first, then all below it. */
export function withDescendants(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withDescendants)];
}

/** Those that do something by themselves. */
export function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

/** The name in its flags, between the brackets; null: it takes no value. */
export function placeholderOf(option: Option): string | null {
  return /[<[](.*)[>\]]/.exec(option.flags)?.[1] ?? null;
}
