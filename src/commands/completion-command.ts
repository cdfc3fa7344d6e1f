// cellblock completion bash|zsh|fish: prints what makes the shell complete the command line, made from the command line itself.

import { Argument, type Command } from 'commander';
import { bashCompletion } from './completion-bash.js';
import { fishCompletion } from './completion-fish.js';
import { type Grammar, grammarOf } from './completion-grammar.js';
import { zshCompletion } from './completion-zsh.js';
import type { ContextOf } from './context.js';

export const SHELLS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } satisfies Record<
  string,
  (grammar: Grammar) => string
>;

type Shell = keyof typeof SHELLS;

/** Last of all commands: it describes those that are there when it is run. */
export function addCompletionCommand(program: Command, contextOf: ContextOf): void {
  program
    .command('completion')
    .description('print what makes a shell complete commands, options and names')
    .addArgument(new Argument('<shell>').choices(Object.keys(SHELLS)))
    .action((shell: Shell, _options: object, command: Command) => {
      const text = SHELLS[shell](grammarOf(program));
      contextOf(command).terminal.result({ shell, text }, () => text);
    });
}
