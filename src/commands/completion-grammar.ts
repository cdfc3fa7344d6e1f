// The command line as a shell's completion needs it: of every command its verbs, options and arguments, each with what can stand there.

import type { Command, Option } from 'commander';
import { placeholderOf, withDescendants, wordsTo } from './command-tree.js';
import { entryOfArgument, entryOfOption, type Values } from './completion-values.js';

export interface CompletedOption {
  /** With its dashes. */
  name: string;
  description: string;
  /** What its value is called; null: it takes none. */
  placeholder: string | null;
  values: Values;
  /** All words up to the next option are values of it. */
  takesMany: boolean;
}

export interface CompletedArgument {
  name: string;
  values: Values;
  /** All further words are. */
  takesMany: boolean;
}

export interface CompletedCommand {
  /** Behind the program; empty: the program itself. */
  words: readonly string[];
  description: string;
  verbs: readonly { name: string; description: string }[];
  /** Those of the program go with every command and are not repeated. */
  options: readonly CompletedOption[];
  arguments: readonly CompletedArgument[];
}

export interface Grammar {
  program: string;
  /** The program first. */
  commands: readonly CompletedCommand[];
}

const HELP: CompletedOption = {
  name: '--help',
  description: 'how it is written',
  placeholder: null,
  values: { kind: 'any' },
  takesMany: false,
};

export function grammarOf(program: Command): Grammar {
  return { program: program.name(), commands: withDescendants(program).map(completed) };
}

function completed(command: Command): CompletedCommand {
  return {
    words: wordsTo(command),
    description: oneLine(command.description()),
    verbs: command.commands.map((verb) => ({
      name: verb.name(),
      description: oneLine(verb.description()),
    })),
    options: [
      ...command.options.map(completedOption),
      // --help is everywhere, and so stands with the options of the program.
      ...(command.parent === null ? [HELP] : []),
    ],
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      values: entryOfArgument(command, argument).values,
      takesMany: argument.variadic || argument.name().endsWith('...'),
    })),
  };
}

function completedOption(option: Option): CompletedOption {
  return {
    name: option.long ?? option.flags,
    description: oneLine(option.description),
    placeholder: placeholderOf(option),
    values: entryOfOption(option)?.values ?? { kind: 'any' },
    takesMany: option.variadic,
  };
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll('`', '');
}
