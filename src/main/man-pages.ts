// The pages of the manual, made of what the programs say of themselves: cellblock(1) with one page for each of its commands, the two
// servers, and the configuration file.

import type { Command, Option } from 'commander';
import { agentCommand } from '../agent/command-line.js';
import { configurationSections } from '../agent/configuration-keys.js';
import { AGENT_EXIT_CODES, COORDINATOR_EXIT_CODES, EXIT_CODE_MEANINGS } from '../agent/exit-codes.js';
import { DESCRIBED, wordsTo } from '../commands/command-tree.js';
import { makeProgram } from '../commands/program.js';
import { coordinatorCommand } from '../coordinator/command-line.js';
import { AGENT_EXAMPLES, COMMAND_EXAMPLES, COORDINATOR_EXAMPLES, type Example } from './man-examples.js';
import { definition, lines, literal, paragraph, prose, section, typed } from './roff.js';

const HEAD = String.raw`.\" Made from the program by "npm run docs"; a test holds it current.
`;

/** By path, relative to the root of the project. */
export function manPages(): [path: string, content: string][] {
  const program = makeProgram(DESCRIBED);
  const pages: [name: string, number: number, content: string][] = [
    ['cellblock', 1, programPage(program)],
    ...program.commands.map((command): [string, number, string] => [
      pageName(command),
      1,
      commandPage(program, command),
    ]),
    ['cellblockd', 8, agentPage()],
    ['cellblock-coordinator', 8, coordinatorPage()],
    ['cellblock.yaml', 5, configurationManPage()],
  ];
  return pages.map(([name, number, content]) => [`docs/man/${name}.${number}`, content]);
}

function pageName(command: Command): string {
  return ['cellblock', ...wordsTo(command)].join('-');
}

function page(name: string, number: number, what: string, ...sections: string[]): string {
  const title = `.TH "${literal(name.toUpperCase())}" ${number} "" "cellblock" "cellblock"\n`;
  const first = section('NAME', `${literal(name)} \\- ${prose(withoutEnd(what))}\n`);
  return [HEAD, title, first, ...sections].join('');
}

function withoutEnd(text: string): string {
  return text.replace(/\.$/, '');
}

function programPage(program: Command): string {
  return page(
    'cellblock',
    1,
    program.description(),
    section(
      'SYNOPSIS',
      `${typed('cellblock ')}[${typed('--api <path>')}] [${typed('--json')}] ${typed('<command>')} ...\n`,
    ),
    section(
      'DESCRIPTION',
      paragraph(
        prose(
          'Results go to standard output, everything else to standard error. An error is one sentence on what is wrong and one on what to do. Import and export read and write files as whoever runs the command. Sizes take K, M, G, T, P, E (binary).',
        ),
      ),
      paragraph(
        prose(
          'SIGINT, SIGTERM and SIGHUP end an import or export cleanly; a second one ends the command at once. A change that was sent is not taken back: its answer is waited for, 15 seconds at most.',
        ),
      ),
    ),
    section('OPTIONS', ...program.options.map(optionText), helpText()),
    section(
      'COMMANDS',
      paragraph('Each has a page of its own.'),
      ...program.commands.map((command) =>
        definition(`\\fB${literal(pageName(command))}\\fR(1)`, prose(command.description())),
      ),
    ),
    exitStatus(EXIT_CODE_MEANINGS),
    environment(),
    section(
      'FILES',
      definition(
        typed('./data/api.sock'),
        'Where the agent is looked for first when neither option nor variable says it.',
      ),
      definition(typed('/run/cellblock/api.sock'), 'The socket of the agent as a service.'),
    ),
    examples(COMMAND_EXAMPLES.cellblock ?? []),
    seeAlso(['cellblockd', 8], ['cellblock.yaml', 5], ['cellblock-coordinator', 8]),
  );
}

function commandPage(program: Command, command: Command): string {
  const name = pageName(command);
  const parts = [...(isRunnable(command) ? [command] : []), ...command.commands];
  return page(
    name,
    1,
    command.description(),
    section('SYNOPSIS', parts.map(usageOf).join('.br\n')),
    ...(isRunnable(command)
      ? [
          section(
            'DESCRIPTION',
            paragraph(prose(sentence(command.description()))),
            ...placesAndOptions(command),
          ),
        ]
      : []),
    ...(command.commands.length === 0
      ? []
      : [
          section(
            'COMMANDS',
            ...command.commands.map(
              (verb) =>
                `.SS "${roffUsage(verb)}"\n${prose(sentence(verb.description()))}\n${placesAndOptions(verb).join('')}`,
            ),
          ),
        ]),
    section(
      'COMMON OPTIONS',
      ...program.options.filter(({ long }) => long !== '--version').map(optionText),
      helpText(),
    ),
    section('EXIT STATUS', paragraph('See \\fBcellblock\\fR(1).')),
    environment(),
    examples(COMMAND_EXAMPLES[name] ?? []),
    seeAlso(['cellblock', 1], ['cellblockd', 8]),
  );
}

/** Some are a verb themselves and have verbs below, such as attach. */
function isRunnable(command: Command): boolean {
  return command.commands.length === 0 || command.registeredArguments.length > 0;
}

function usageOf(command: Command): string {
  return `${roffUsage(command)}\n`;
}

function roffUsage(command: Command): string {
  const words = ['cellblock', ...wordsTo(command)].join(' ');
  const options = command.options.length > 0 ? ' [\\fIoptions\\fR]' : '';
  const rest = command.registeredArguments.map((argument) => {
    const name = `\\fI${literal(argument.name().replace(/\.\.\.$/, ''))}\\fR`;
    const many = argument.variadic || argument.name().endsWith('...') ? ' ...' : '';
    return argument.required ? ` ${name}${many}` : ` [${name}${many}]`;
  });
  return `\\fB${literal(words)}\\fR${options}${rest.join('')}`;
}

function placesAndOptions(command: Command): string[] {
  return [
    ...command.registeredArguments
      .filter(({ description }) => description !== '')
      .map((argument) => definition(`\\fI${literal(argument.name())}\\fR`, prose(argument.description))),
    ...command.options.map(optionText),
  ];
}

function optionText(option: Option): string {
  const { flags, description, argChoices, defaultValue } = option;
  const facts = [
    ...(argChoices === undefined ? [] : [`one of ${argChoices.join(', ')}`]),
    ...(defaultValue === undefined || argChoices === undefined ? [] : [`default: ${defaultValue}`]),
  ];
  return definition(
    typed(flags),
    prose(facts.length === 0 ? description : `${description}; ${facts.join('; ')}`),
  );
}

function helpText(): string {
  return definition(typed('-h, --help'), 'How it is written.');
}

function exitStatus(meanings: typeof EXIT_CODE_MEANINGS): string {
  return section(
    'EXIT STATUS',
    ...meanings.map(([code, meaning]) => definition(typed(String(code)), prose(meaning))),
  );
}

function environment(): string {
  return section(
    'ENVIRONMENT',
    definition(typed('CELLBLOCK_API'), prose('Socket of the agent, where `--api` does not say it.')),
  );
}

function examples(list: readonly Example[]): string {
  if (list.length === 0) return '';
  return section('EXAMPLES', ...list.flatMap(({ what, line }) => [paragraph(prose(what)), lines(line)]));
}

function seeAlso(...pages: readonly [name: string, number: number][]): string {
  const list = pages.map(([name, number]) => `\\fB${literal(name)}\\fR(${number})`).join(',\n');
  return section(
    'SEE ALSO',
    `${list}\n`,
    paragraph(`Pages on each subject are in \\fI/usr/share/doc/cellblock\\fR.`),
  );
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${withoutEnd(text.slice(1))}.`;
}

/** A server: what it is told, and how signals reach it. */
function serverSections(command: Command): string[] {
  const needed = command.options.filter(({ mandatory }) => mandatory).map(({ flags }) => ` ${typed(flags)}`);
  return [
    section('SYNOPSIS', `${typed(command.name())}${needed.join('')} [\\fIoptions\\fR]\n`),
    section('DESCRIPTION', paragraph(prose(command.description()))),
    section('OPTIONS', ...command.options.map(optionText), helpText()),
  ];
}

function agentPage(): string {
  return page(
    'cellblockd',
    8,
    'storage agent: serves the volumes of one store over NBD',
    ...serverSections(agentCommand('1')),
    section(
      'SIGNALS',
      definition(
        'SIGTERM, SIGINT',
        'Stops: what clients have under way is answered, then everything is written. A second one ends it at once.',
      ),
      definition('SIGHUP', 'Reads the files of TLS again.'),
    ),
    exitStatus(AGENT_EXIT_CODES),
    section(
      'ENVIRONMENT',
      definition(
        typed('LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES'),
        prose('Sockets it is started with, named `nbd` and `api`.'),
      ),
      definition(
        typed('NOTIFY_SOCKET, WATCHDOG_USEC'),
        'Where a service manager is told how it is; see \\fBsd_notify\\fR(3).',
      ),
      definition(
        typed('CELLBLOCK_DEBUG'),
        prose('`1`: answers of the control API carry where a defect was found.'),
      ),
    ),
    section(
      'FILES',
      definition(
        typed('/etc/cellblock/cellblock.yaml'),
        'Configuration of the service; see \\fBcellblock.yaml\\fR(5).',
      ),
      definition(typed('/var/lib/cellblock'), 'The store of the service.'),
      definition(typed('/run/cellblock'), prose('Sockets of the service: `nbd.sock` and `api.sock`.')),
    ),
    examples(AGENT_EXAMPLES),
    seeAlso(['cellblock', 1], ['cellblock.yaml', 5], ['cellblock-coordinator', 8]),
  );
}

function coordinatorPage(): string {
  return page(
    'cellblock-coordinator',
    8,
    'decides where volumes are, over several hosts',
    ...serverSections(coordinatorCommand('1')),
    section(
      'SIGNALS',
      definition(
        'SIGTERM, SIGINT',
        'Gives leadership back, tells the hosts and ends. A second one ends it at once.',
      ),
      definition('SIGHUP', 'Reads certificates and tokens again.'),
    ),
    exitStatus(COORDINATOR_EXIT_CODES),
    section(
      'FILES',
      definition(
        typed('/etc/cellblock/coordinator.env'),
        prose('`LISTEN`, `STATE` and `MORE` (further words) of the service.'),
      ),
      definition(
        typed('/var/lib/cellblock-coordinator'),
        'Home of the service; a state that is a directory can be in it.',
      ),
    ),
    examples(COORDINATOR_EXAMPLES),
    seeAlso(['cellblock', 1], ['cellblockd', 8]),
  );
}

function configurationManPage(): string {
  const sections = configurationSections().map(({ name, keys }) => [
    `.SS "${literal(name)}"\n`,
    ...keys.map(({ path, allowed, fallback, description }) => {
      const shown = typeof fallback === 'string' ? fallback : JSON.stringify(fallback);
      const end = fallback === undefined ? '' : ` Default: \`${shown}\`.`;
      return definition(typed(path.join('.')), prose(description), prose(`Allowed: ${allowed}.${end}`));
    }),
  ]);
  return page(
    'cellblock.yaml',
    5,
    'configuration of cellblockd',
    section('SYNOPSIS', `${typed('/etc/cellblock/cellblock.yaml')}\n`),
    section(
      'DESCRIPTION',
      paragraph(
        prose(
          'One YAML file, read by `cellblockd --config`. Every key is optional. The file is checked whole before anything is opened: an unknown key or a wrong value is refused with file, line and what is allowed there. Below, a dot stands between a mapping and a key in it.',
        ),
      ),
    ),
    section('KEYS', ...sections.flat()),
    section(
      'EXAMPLES',
      lines(
        'nbd:\n  listen:\n    - address: unix:/run/cellblock/nbd.sock\n      mode: "0660"\n    - tcp:127.0.0.1:10809\nlog:\n  level: info',
      ),
    ),
    seeAlso(['cellblockd', 8], ['cellblock', 1]),
  );
}
