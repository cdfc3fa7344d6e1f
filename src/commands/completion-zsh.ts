// Completion for zsh: a function for each command, in the words of _arguments(1). Put into a directory of $fpath as _cellblock, or
// sourced after compinit.

import type { CompletedArgument, CompletedCommand, CompletedOption, Grammar } from './completion-grammar.js';
import type { Values } from './completion-values.js';

export function zshCompletion({ program, commands }: Grammar): string {
  const [root] = commands;
  const everywhere = (root?.options ?? []).map(optionSpec(program));
  return `#compdef ${program}
# Completion of ${program} for zsh. Made by: ${program} completion zsh
# To have it in this shell, after compinit: source <(${program} completion zsh)

# The kind of names stands behind what _arguments has for compadd.
_${program}__names() {
  local -a names
  names=(\${(f)"$("$_${program}__call[1]" complete-names \${@[-1]} "\${(@)_${program}__call[2,-1]}" </dev/null 2>/dev/null)"})
  compadd "\${(@)argv[1,-2]}" -a names
}

${commands.map((command) => commandFunction(program, command, command === root, everywhere)).join('\n')}
_${program}() {
  local -a _${program}__call
  _${program}__call=("\${(Q)words[1]}")
  (( $+commands[$_${program}__call[1]] )) || [[ -x $_${program}__call[1] ]] || _${program}__call=(${program})
  local at=\${words[(i)--api]}
  (( at < CURRENT - 1 )) && _${program}__call+=(--api "\${(Q)words[at + 1]}")
  _${program}__program
}

if [[ $funcstack[1] == _${program} ]]; then
  # Loaded from $fpath: this file was the function of that name, which what is above has taken the place of.
  _${program}
elif (( $+functions[compdef] )); then
  compdef _${program} ${program}
fi
`;
}

function commandFunction(
  program: string,
  { words, verbs, options, arguments: places }: CompletedCommand,
  isProgram: boolean,
  everywhere: readonly string[],
): string {
  const name = isProgram ? `_${program}__program` : ['', program, ...words].join('_');
  const specs = [...everywhere, ...(isProgram ? [] : options.map(optionSpec(program)))];
  const call = (more: readonly string[], flags = ''): string =>
    `_arguments ${flags}${[...specs, ...more].map((spec) => `\\\n    ${quoted(spec)} `).join('')}`.trimEnd();
  if (verbs.length === 0) return `${name}() {\n  ${call(places.map(argumentSpec(program)))}\n}\n`;
  const list = verbs.map((verb) => `    ${quoted(`${escaped(verb.name)}:${verb.description}`)}\n`).join('');
  const cases = verbs
    .map((verb) => `    ${verb.name}) ${['', program, ...words, verb.name].join('_')} ;;\n`)
    .join('');
  const [first] = places;
  const other = first?.values.kind === 'names' ? `    ${actionText(program, first.values)} && ret=0\n` : '';
  const elsewhere = first
    ? `    *) ${call(rest(places).map(argumentSpec(program))).replaceAll('\n', '\n    ')} ;;\n`
    : '';
  return `${name}() {
  local context state state_descr line ret=1
  typeset -A opt_args
  local -a verbs=(
${list}  )
  ${call(['1: :->first', '*:: :->rest'], '-C ')} && ret=0
  case $state in
  first)
    _describe -t commands command verbs && ret=0
${other}    ;;
  rest)
    case $line[1] in
${cases}${elsewhere}    esac
    ;;
  esac
  return ret
}
`;
}

/** Behind the first argument, which was taken already. */
function rest(places: readonly CompletedArgument[]): readonly CompletedArgument[] {
  return places.filter(({ takesMany }, index) => index > 0 || takesMany);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** In a description or message of _arguments. */
function escaped(text: string): string {
  return text.replaceAll(/[\\:[\]]/g, '\\$&');
}

function optionSpec(program: string) {
  return ({ name, description, placeholder, values }: CompletedOption): string => {
    if (placeholder === null) return `${name}[${escaped(description)}]`;
    const message = escaped(placeholder.replace(/\.\.\.$/, ''));
    const action = actionText(program, values);
    // One value only also for those that take many: behind a list zsh would offer no further options.
    return `*${name}=[${escaped(description)}]:${message}:${action}`;
  };
}

function argumentSpec(program: string) {
  return ({ name, values, takesMany }: CompletedArgument, index: number): string =>
    `${takesMany ? '*' : index + 1}:${escaped(name)}:${actionText(program, values)}`;
}

function actionText(program: string, values: Values): string {
  switch (values.kind) {
    case 'any':
      return ' ';
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'words':
      return `(${values.words.join(' ')})`;
    case 'names':
      return `_${program}__names ${values.names}`;
  }
}
