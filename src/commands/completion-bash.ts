// Completion for bash. Two tables are made of the grammar, the engine below them is the same for any; it needs neither bash-completion
// nor a Node for anything but names. Bash takes words apart at @, = and :, of which names are full: they are put together again first.

import type { CompletedCommand, Grammar } from './completion-grammar.js';
import type { Values } from './completion-values.js';

export function bashCompletion({ program, commands }: Grammar): string {
  const [root] = commands;
  return `# Completion of ${program} for bash. Made by: ${program} completion bash
# To have it in this shell: source <(${program} completion bash)

# What goes on from the words $1: verbs, options, and what stands for the argument in place $2.
_${program}_command() {
    verbs= options= values=any
    case $1 in
${commands.map(commandCase).join('')}    esac
    options+=' ${(root?.options ?? []).map(({ name }) => name).join(' ')}'
}

# What stands behind the option $2 of the words $1: takes is none, one or many.
_${program}_option() {
    takes=none values=any
    case "$1 $2" in
${commands.map((command) => optionCases(command, command === root)).join('')}    esac
}
${ENGINE.replaceAll('PROGRAM', program)}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function commandCase({ words, verbs, options, arguments: places }: CompletedCommand): string {
  const lines = [`verbs=${quoted(verbs.map(({ name }) => name).join(' '))}`];
  if (words.length > 0) lines.push(`options=${quoted(options.map(({ name }) => name).join(' '))}`);
  if (places.length > 0) {
    const cases = places.map(({ values, takesMany }, index) => {
      const pattern = takesMany ? '*' : String(index + 1);
      return `${pattern}) values=${quoted(valuesText(values))} ;;`;
    });
    lines.push(`case $2 in ${cases.join(' ')} esac`);
  }
  return `        ${quoted(words.join(' '))})\n${lines.map((line) => `            ${line}\n`).join('')}            ;;\n`;
}

function optionCases({ words, options }: CompletedCommand, isProgram: boolean): string {
  return options
    .filter(({ placeholder }) => placeholder !== null)
    .map(({ name, values, takesMany }) => {
      const pattern = isProgram ? `*' ${name}'` : quoted([...words, name].join(' '));
      return `        ${pattern}) takes=${takesMany ? 'many' : 'one'} values=${quoted(valuesText(values))} ;;\n`;
    })
    .join('');
}

function valuesText(values: Values): string {
  if (values.kind === 'words') return `words ${values.words.join(' ')}`;
  if (values.kind === 'names') return `names ${values.names}`;
  return values.kind;
}

const ENGINE = `
# The line up to the cursor as words, the last one being typed: what bash took apart without a blank between belongs together.
_PROGRAM_words() {
    local rest=$1 index blank word
    words=()
    for ((index = 0; index <= COMP_CWORD; index++)); do
        blank=\${rest%%[^[:blank:]]*}
        rest=\${rest#"$blank"}
        word=\${COMP_WORDS[index]}
        # Of the one being typed only what stands before the cursor.
        if ((index == COMP_CWORD)); then word=$rest; fi
        rest=\${rest#"$word"}
        if ((\${#words[@]} == 0)) || [[ -n $blank ]]; then
            words+=("$word")
        else
            words[\${#words[@]} - 1]+=$word
        fi
    done
}

# As the command gets it: without the quotes around it and the backslashes in it.
_PROGRAM_plain() {
    plain=$1
    case $plain in
    \\'*) plain=\${plain#\\'} plain=\${plain%\\'} ;;
    \\"*) plain=\${plain#\\"} plain=\${plain%\\"} ;;
    *) plain=\${plain//\\\\/} ;;
    esac
}

# Offers the words given that begin with what is typed. $1 stands before them in the word and is there already.
_PROGRAM_offer() {
    local before=$1 typed=$current candidate kept=
    shift
    local plain
    _PROGRAM_plain "\${typed#"$before"}"
    if [[ $typed != [\\'\\"]* ]]; then
        # Bash puts a candidate in place of what follows the last of these (the @ with it); the rest stays as it is.
        local last=\${typed##*["@:="]}
        if [[ $last != "$typed" ]]; then
            local at=\${typed%"$last"}
            if [[ $COMP_WORDBREAKS == *"\${at: -1}"* ]]; then kept=\${at%@}; fi
        fi
    fi
    for candidate; do
        [[ $candidate == "$plain"* ]] || continue
        if [[ $typed != [\\'\\"]* ]]; then printf -v candidate %q "$candidate"; fi
        candidate=$before$candidate
        COMPREPLY+=("\${candidate#"$kept"}")
    done
}

# Offers what $1 says (see the tables), behind $2 in the same word.
_PROGRAM_values() {
    local kind=\${1%% *} list=\${1#* } names
    case $kind in
    words)
        read -ra names <<<"$list"
        _PROGRAM_offer "$2" "\${names[@]}"
        ;;
    names)
        mapfile -t names < <("$program" complete-names "$list" "\${api[@]}" </dev/null 2>/dev/null)
        _PROGRAM_offer "$2" "\${names[@]}"
        ;;
    file | directory)
        local plain
        _PROGRAM_plain "\${current#"$2"}"
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen "-\${kind:0:1}" -- "$plain")
        ;;
    esac
}

_PROGRAM() {
    COMPREPLY=()
    local words program current path= place=1 many= only= api=()
    local verbs options values takes index word plain
    _PROGRAM_words "\${COMP_LINE:0:COMP_POINT}"
    program=\${words[0]}
    type -- "$program" >/dev/null 2>&1 || program=PROGRAM
    current=\${words[\${#words[@]} - 1]}
    for ((index = 1; index < \${#words[@]} - 1; index++)); do
        _PROGRAM_plain "\${words[index]}"
        word=$plain
        if [[ -z $only && $word == -- ]]; then
            only=yes many=
        elif [[ -z $only && $word == --*=* ]]; then
            many=
            if [[ $word == --api=* ]]; then api=("$word"); fi
        elif [[ -z $only && $word == -?* ]]; then
            many=
            _PROGRAM_option "$path" "$word"
            if [[ $takes == many ]]; then many=$values; fi
            if [[ $takes == one ]]; then
                ((index++))
                if ((index == \${#words[@]} - 1)); then
                    _PROGRAM_values "$values" ''
                    return
                fi
                if [[ $word == --api ]]; then
                    _PROGRAM_plain "\${words[index]}"
                    api=(--api "$plain")
                fi
            fi
        elif [[ -z $many ]]; then
            _PROGRAM_command "$path" "$place"
            if ((place == 1)) && [[ " $verbs " == *" $word "* ]]; then
                path=\${path:+$path }$word
            else
                ((place++))
            fi
        fi
    done
    _PROGRAM_command "$path" "$place"
    if [[ -z $only && $current == --*=* ]]; then
        _PROGRAM_option "$path" "\${current%%=*}"
        _PROGRAM_values "$values" "\${current%%=*}="
    elif [[ -z $only && $current == -* ]]; then
        read -ra words <<<"$options"
        _PROGRAM_offer '' "\${words[@]}"
    elif [[ -n $many ]]; then
        _PROGRAM_values "$many" ''
    else
        if ((place == 1)); then
            read -ra words <<<"$verbs"
            _PROGRAM_offer '' "\${words[@]}"
        fi
        _PROGRAM_values "$values" ''
    fi
}

complete -F _PROGRAM PROGRAM
`;
