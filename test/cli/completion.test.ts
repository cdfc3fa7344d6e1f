// Completion of bash, zsh and fish. Real shells type: bash and zsh on a terminal of their own, where a tab is pressed; fish says by
// itself what it would offer. A line that is entered comes back as the words that a command would have got.

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { DESCRIBED, withDescendants } from '../../src/commands/command-tree.js';
import { completedNames } from '../../src/commands/completed-names.js';
import {
  ALL_KEYS,
  entryOfArgument,
  entryOfOption,
  NAME_KINDS,
} from '../../src/commands/completion-values.js';
import { makeProgram } from '../../src/commands/program.js';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { find, missing, must, repositoryRoot, run } from '../support/programs.js';
import { runCli } from './run-cli.js';

t.setTimeout(300_000);

const program = path.join(repositoryRoot, 'dist/src/main/cellblock.js');

t.test('it is known what stands for every argument and behind every option, and nothing else', async (t) => {
  const used = withDescendants(makeProgram(DESCRIBED)).flatMap((command) => [
    ...command.registeredArguments.map((argument) => entryOfArgument(command, argument).key),
    ...command.options.flatMap((option) => entryOfOption(option)?.key ?? []),
  ]);
  t.same(
    ALL_KEYS.filter((key) => !used.includes(key)),
    [],
    'no entry is of what is not there',
  );
  t.ok(used.length > 100, String(used.length));
});

function place(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-completion-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** With names that shells take apart. */
const NAMES = ['web', 'a b', 'tag:x', "q'uote", 'dollar$x', 'größe'];

async function agentWithNames(t: Test): Promise<Daemon> {
  const agent = await Daemon.start(t);
  for (const name of NAMES) await agent.api.createVolume(name, MIB);
  await agent.api.call('POST', '/v1/files', { name: 'seed', size: '5' });
  await agent.api.snapshot('web@monday');
  return agent;
}

t.test('names', async (t) => {
  const agent = await agentWithNames(t);
  const ask = (kind: string) => completedNames(kind, { socketPath: agent.apiPath, patienceMs: 60_000 });
  const volumes = [...NAMES].sort();
  t.same(await ask('volumes'), volumes);
  t.same(await ask('files'), ['seed']);
  t.same(await ask('containers'), [...NAMES, 'seed'].sort());
  t.same(await ask('snapshots'), ['web@monday']);
  t.same(await ask('exports'), [...NAMES, 'seed', 'web@monday'].sort());
  t.same(await ask('sources'), ['web@monday']);
  t.same(await ask('attachments'), []);
  t.same(await ask('cells'), [], 'in no cell');
  t.same(await ask('constructor'), [], 'no kind');
  for (const kind of NAME_KINDS) t.type(await ask(kind), Array, kind);
  const words = [program, 'complete-names', 'volumes', '--api', agent.apiPath];
  t.equal(await must(process.execPath, words), `${volumes.join('\n')}\n`, 'as a command, one a line');
});

t.test('who cannot be asked has no names, and nothing is said', async (t) => {
  const directory = place(t);
  const nobody = path.join(directory, 'nobody');
  const words = [program, 'complete-names', 'volumes', '--api', nobody];
  t.match(await run(process.execPath, words), { code: 0, stdout: '', stderr: '' });
  const silent = createServer();
  const socketPath = path.join(directory, 'silent');
  await new Promise<void>((resolve) => silent.listen(socketPath, resolve));
  t.teardown(() => silent.close());
  t.same(await completedNames('volumes', { socketPath, patienceMs: 50 }), [], 'one that does not answer');
});

/** A `cellblock` that answers what completion asks, and otherwise shows the words it got. */
async function stage(t: Test, shell: 'bash' | 'zsh' | 'fish') {
  const agent = await agentWithNames(t);
  const directory = place(t);
  const command = path.join(directory, 'cellblock');
  writeFileSync(
    command,
    `#!/bin/sh
if [ "$1" = complete-names ]; then exec '${process.execPath}' '${program}' "$@"; fi
printf 'GOT'; printf '<%s>' "$@"; echo
`,
  );
  chmodSync(command, 0o755);
  writeFileSync(path.join(directory, 'image.raw'), '');
  const script = path.join(directory, `completion.${shell}`);
  writeFileSync(script, (await runCli(['completion', shell])).stdout);
  const env = {
    PATH: `${directory}:${process.env.PATH}`,
    CELLBLOCK_API: agent.apiPath,
    LC_ALL: 'C.UTF-8',
    TERM: 'dumb',
    HOME: directory,
  };
  return { agent, directory, script, env };
}

/** What is typed, with a tab where one is pressed, and the words that come of it. */
type Typed = [typed: string, words: string[]];

const TYPED: Typed[] = [
  ['vol\tsho\tw\t', ['volume', 'show', 'web']],
  ['snapshot delete we\t', ['snapshot', 'delete', 'web@monday']],
  ['snapshot delete web@\t', ['snapshot', 'delete', 'web@monday']],
  ['snapshot delete web@mo\t', ['snapshot', 'delete', 'web@monday']],
  ['volume show ta\t', ['volume', 'show', 'tag:x']],
  ['volume show tag:\t', ['volume', 'show', 'tag:x']],
  ['volume show a\t', ['volume', 'show', 'a b']],
  ['volume show q\t', ['volume', 'show', "q'uote"]],
  ['volume show d\t', ['volume', 'show', 'dollar$x']],
  ['volume show grö\t', ['volume', 'show', 'größe']],
  ['file show \t', ['file', 'show', 'seed']],
  [
    '--json volume set web --allow uid:1 uid:2 --disc\t',
    ['--json', 'volume', 'set', 'web', '--allow', 'uid:1', 'uid:2', '--disconnect'],
  ],
  ['volume set --allow-a\tw\t', ['volume', 'set', '--allow-all', 'web']],
  ['volume delete --via coo\tw\t', ['volume', 'delete', '--via', 'coordinator', 'web']],
  ['volume delete --via=coo\tw\t', ['volume', 'delete', '--via=coordinator', 'web']],
  ['attach li\t', ['attach', 'list']],
  ['attach web@m\t', ['attach', 'web@monday']],
  ['attach --read\tweb@m\t', ['attach', '--read-only', 'web@monday']],
  ['snapshot list web x w\t', ['snapshot', 'list', 'web', 'x', 'w']],
  ['volume import web ima\t', ['volume', 'import', 'web', 'image.raw']],
  ['completion fi\t', ['completion', 'fish']],
];

/** Types the lines on a terminal of the shell's own and gives what each became. */
async function typeLines(
  shell: string[],
  prelude: string[],
  lines: readonly string[],
  options: { env: Record<string, string>; cwd: string },
) {
  const input = [...prelude, ...lines.map((line) => `cellblock ${line}`), 'exit', ''].join('\n');
  const outcome = await run('script', ['-qec', shell.join(' '), '/dev/null'], { ...options, input });
  const got = [...outcome.stdout.matchAll(/GOT(<.*>)\r?\n/g)].map(([, words]) => words);
  return { got, story: outcome.story };
}

const shown = (words: readonly string[]): string => words.map((word) => `<${word}>`).join('');

async function checkTyped(
  t: Test,
  shell: string[],
  prelude: string[],
  { env, cwd, typed }: { env: Record<string, string>; cwd: string; typed: readonly Typed[] },
) {
  const { got, story } = await typeLines(
    shell,
    prelude,
    typed.map(([line]) => line),
    { env, cwd },
  );
  for (const [index, [line, words]] of typed.entries()) {
    t.equal(got[index], shown(words), line.replaceAll('\t', '⇥'));
  }
  t.equal(got.length, typed.length, story);
}

t.test('bash', { skip: missing('bash', 'script') }, async (t) => {
  const { agent, directory, script, env } = await stage(t, 'bash');
  const typed: Typed[] = [
    ...TYPED,
    [
      'volume set --allow uid:1 uid:2 --disc\tw\t',
      ['volume', 'set', '--allow', 'uid:1', 'uid:2', '--disconnect', 'web'],
    ],
    ['volume show "a\t', ['volume', 'show', 'a b']],
    [`--api ${agent.apiPath} volume show we\t`, ['--api', agent.apiPath, 'volume', 'show', 'web']],
  ];
  await checkTyped(t, ['bash', '--norc', '--noprofile', '-i'], [`source ${script}`], {
    env,
    cwd: directory,
    typed,
  });
  const elsewhere: Typed[] = [
    [`--api ${agent.apiPath} volume show we\t`, ['--api', agent.apiPath, 'volume', 'show', 'web']],
    ['volume show we\t', ['volume', 'show', 'we']],
  ];
  await checkTyped(t, ['bash', '--norc', '--noprofile', '-i'], [`source ${script}`], {
    env: { ...env, CELLBLOCK_API: '/nowhere' },
    cwd: directory,
    typed: elsewhere,
  });
});

t.test('zsh', { skip: missing('zsh', 'script') }, async (t) => {
  const { directory, script, env } = await stage(t, 'zsh');
  const prelude = ['autoload -Uz compinit; compinit -D -u', `source ${script}`];
  await checkTyped(t, ['zsh', '-f', '-i'], prelude, { env, cwd: directory, typed: TYPED });
});

t.test('zsh, loaded from a directory of functions', { skip: missing('zsh', 'script') }, async (t) => {
  const { directory, script, env } = await stage(t, 'zsh');
  await must('cp', [script, path.join(directory, '_cellblock')]);
  const prelude = [`fpath=(${directory} $fpath); autoload -Uz compinit; compinit -D -u`];
  await checkTyped(t, ['zsh', '-f', '-i'], prelude, { env, cwd: directory, typed: TYPED.slice(0, 3) });
});

const OFFERED: [line: string, candidates: string[]][] = [
  ['volume sh', ['show']],
  ['volume show ', [...NAMES]],
  ['volume show web ', []],
  ['snapshot delete we', ['web@monday']],
  ['attach ', ['list', 'seed', 'web@monday', ...NAMES]],
  ['attach li', ['list']],
  ['volume set --allow uid:1 ', []],
  ['volume set --allow uid:1 --allow-all w', ['web']],
  ['volume delete --via ', ['coordinator']],
  ['volume create x --size ', []],
  ['volume delete --w', ['--wait', '--with-snapshots']],
  ['volume import web image', ['image.raw']],
  ['completion ', ['bash', 'fish', 'zsh']],
];

t.test('fish', { skip: missing('fish') }, async (t) => {
  const { agent, directory, script, env } = await stage(t, 'fish');
  const offered: typeof OFFERED = [...OFFERED, [`--api ${agent.apiPath} volume show w`, ['web']]];
  for (const [line, candidates] of offered) {
    const words = ['-N', '-c', `source ${script}; complete -C "cellblock ${line}"`];
    const said = await must('fish', words, { env, cwd: directory });
    const names = said.split('\n').flatMap((each) => (each === '' ? [] : [each.split('\t')[0]]));
    t.same(names.sort(), [...candidates].sort(), line);
  }
});

t.test('every command, option and verb is in each of the scripts', async (t) => {
  const commands = withDescendants(makeProgram(DESCRIBED));
  const script = path.join(place(t), 'script');
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const { stdout } = await runCli(['completion', shell]);
    writeFileSync(script, stdout);
    const syntax = find(shell) === null ? null : await run(shell, ['-n', script]);
    if (syntax) t.match(syntax, { code: 0, stderr: '' }, `${shell} understands it`);
    for (const command of commands) {
      const wanted = [command.name(), ...command.options.map(({ long }) => long?.slice(2) ?? '')];
      for (const word of wanted) if (!stdout.includes(word)) t.fail(`${shell}: ${command.name()}: ${word}`);
    }
  }
  t.match(await runCli(['completion', 'csh']), { code: 2, stderr: /bash, zsh, fish/ });
});
