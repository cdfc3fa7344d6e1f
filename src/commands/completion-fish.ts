// Completion for fish: one `complete` for each verb, option and argument, with the condition that the words before the cursor name its
// command. What they name is found by one function, from the verbs and the options that take a value.

import type { CompletedCommand, CompletedOption, Grammar } from './completion-grammar.js';
import type { Values } from './completion-values.js';

export function fishCompletion({ program, commands }: Grammar): string {
  const [root] = commands;
  const paths = commands.slice(1).map(({ words }) => quoted(words.join(' ')));
  const lines = commands.flatMap((command) => commandLines(program, command, command === root));
  return `# Completion of ${program} for fish. Made by: ${program} completion fish
# To have it in this shell: ${program} completion fish | source

# Sets what the words before the cursor name, and which argument is next. Fails where the value of an option is.
function __${program}_read_line
    set -l words (commandline -opc)
    set -l skip none
    set -g __${program}_call $words[1]
    set -g __${program}_at ''
    set -g __${program}_place 1
    for word in $words[2..-1]
        if test $skip = one
            set skip none
            continue
        end
        switch "$__${program}_at $word"
${commands.map((command) => skipCases(command, command === root)).join('')}            case '* -*'
                set skip none
            case '*'
                test $skip = many; and continue
                set -l deeper (string trim "$__${program}_at $word")
                if test $__${program}_place = 1; and contains -- $deeper ${paths.join(' ')}
                    set -g __${program}_at $deeper
                else
                    set -g __${program}_place (math $__${program}_place + 1)
                end
        end
    end
    set -l api (contains -i -- --api $words)
    and set -q words[(math $api + 1)]
    and set -g -a __${program}_call --api $words[(math $api + 1)]
    test $skip = none
end

# The words before the cursor name the command $argv[1]. With $argv[2]: that argument of it is next (with a +: or one behind it).
function __${program}_is
    __${program}_read_line
    set -l between_options $status
    test "$__${program}_at" = "$argv[1]"
    or return 1
    test (count $argv) = 1
    and return 0
    test $between_options = 0
    or return 1
    switch "$argv[2]"
        case '*+'
            test $__${program}_place -ge (string trim -r -c + $argv[2])
        case '*'
            test $__${program}_place = $argv[2]
    end
end

function __${program}_names
    __${program}_read_line
    $__${program}_call[1] complete-names $argv[1] $__${program}_call[2..-1] 2>/dev/null
end

complete -c ${program} -f
${lines.join('\n')}
`;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** What the reader of the line has to pass over. */
function skipCases({ words, options }: CompletedCommand, isProgram: boolean): string {
  const group = (many: boolean): string => {
    const patterns = options
      .filter(({ placeholder, takesMany }) => placeholder !== null && takesMany === many)
      .map(({ name }) => quoted(isProgram ? `* ${name}` : [...words, name].join(' ')));
    if (patterns.length === 0) return '';
    return `            case ${patterns.join(' ')}\n                set skip ${many ? 'many' : 'one'}\n`;
  };
  return group(false) + group(true);
}

function commandLines(program: string, command: CompletedCommand, isProgram: boolean): string[] {
  const path = command.words.join(' ');
  const when = (place = ''): string => `-n ${quoted(`__${program}_is ${quoted(path)} ${place}`.trimEnd())}`;
  return [
    ...command.verbs.map(
      ({ name, description }) =>
        `complete -c ${program} ${when('1')} -a ${quoted(name)} -d ${quoted(description)}`,
    ),
    ...command.options.map((option) => optionLine(program, option, isProgram ? '' : `${when()} `)),
    ...command.arguments.flatMap(({ values, takesMany }, index) => {
      const action = actionText(program, values);
      return action === ''
        ? []
        : [`complete -c ${program} ${when(`${index + 1}${takesMany ? '+' : ''}`)} ${action}`];
    }),
  ];
}

function optionLine(
  program: string,
  { name, description, placeholder, values }: CompletedOption,
  when: string,
): string {
  // -x: its value is no file.
  const requires = values.kind === 'file' ? '-r' : '-x';
  const value = placeholder === null ? '' : ` ${requires} ${actionText(program, values)}`.trimEnd();
  return `complete -c ${program} ${when}-l ${name.slice(2)}${value} -d ${quoted(description)}`;
}

function actionText(program: string, values: Values): string {
  switch (values.kind) {
    case 'any':
      return '';
    case 'file':
      return '-F';
    case 'directory':
      return `-a '(__fish_complete_directories (commandline -ct))'`;
    case 'words':
      return `-a ${quoted(values.words.join(' '))}`;
    case 'names':
      return `-a '(__${program}_names ${values.names})'`;
  }
}
