// The pages of the manual: groff and mandoc have nothing to say about them, and every example is a line that the programs take.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { agentCommand } from '../../src/agent/command-line.js';
import { DESCRIBED } from '../../src/commands/command-tree.js';
import { makeProgram } from '../../src/commands/program.js';
import { coordinatorCommand } from '../../src/coordinator/command-line.js';
import { AGENT_EXAMPLES, COMMAND_EXAMPLES, COORDINATOR_EXAMPLES } from '../../src/main/man-examples.js';
import { missing, repositoryRoot, run } from '../support/programs.js';

const folder = path.join(repositoryRoot, 'docs/man');
const pages = readdirSync(folder).sort();

t.test('there is a page for each command, no other, and those of servers and configuration', async (t) => {
  const commands = makeProgram(DESCRIBED).commands.map((command) => `cellblock-${command.name()}.1`);
  const others = ['cellblock.1', 'cellblock.yaml.5', 'cellblock-coordinator.8', 'cellblockd.8'];
  t.same(pages, [...commands, ...others].sort());
});

t.test('groff', { skip: missing('groff') }, async (t) => {
  for (const page of pages) {
    const words = ['-ww', '-man', '-Tutf8', '-Kutf8', '-z', path.join(folder, page)];
    t.match(await run('groff', words), { code: 0, stdout: '', stderr: '' }, page);
  }
});

t.test('mandoc', { skip: missing('mandoc') }, async (t) => {
  for (const page of pages) {
    const { stdout } = await run('mandoc', ['-T', 'lint', '-W', 'warning', path.join(folder, page)]);
    // A date would change with every making of the page.
    const complaints = stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date'));
    t.same(complaints, [], page);
  }
});

t.test('what the manual shows is what is typed', { skip: missing('man') }, async (t) => {
  const { stdout } = await run('man', ['--warnings', '-l', path.join(folder, 'cellblock-volume.1')], {
    env: { MANWIDTH: '100', MANPAGER: 'cat', LC_ALL: 'C.UTF-8' },
  });
  t.match(stdout, /cellblock volume create \[options\] name/);
  t.match(stdout, /--iops-burst count/, 'hyphens of options can be copied');
  t.match(stdout, /xz -dc debian\.img\.xz \| cellblock volume import debian2 - --size 4G/);
});

/** Throws what commander says of a line; nothing is run. */
function parse(command: Command, words: string[]): void {
  const silence = (each: Command): void => {
    each.exitOverride().configureOutput({ writeErr: () => undefined, outputError: () => undefined });
    each.action(() => undefined);
    each.commands.forEach(silence);
  };
  silence(command);
  command.parse(words, { from: 'user' });
}

const MAKERS: Record<string, () => Command> = {
  cellblock: () => makeProgram(DESCRIBED),
  cellblockd: () => agentCommand('1'),
  'cellblock-coordinator': () => coordinatorCommand('1'),
};

t.test('examples', async (t) => {
  const all = [...Object.values(COMMAND_EXAMPLES).flat(), ...AGENT_EXAMPLES, ...COORDINATOR_EXAMPLES];
  const lines = all.flatMap(({ line }) => line.split('\n'));
  const commands = lines.flatMap(
    (line) => /\b(cellblock(?:d|-coordinator)?) (.*)/.exec(line)?.slice(1) ?? [],
  );
  t.equal(commands.length, lines.length * 2, 'each names a program');
  for (let index = 0; index < commands.length; index += 2) {
    const [program = '', rest = ''] = commands.slice(index, index + 2);
    const words = rest
      .replace(/[)>\]].*$/, '')
      .trim()
      .split(' ');
    t.doesNotThrow(() => parse(MAKERS[program]!(), words), `${program} ${rest}`);
  }
  const verbs = makeProgram(DESCRIBED).commands.map((command) => `cellblock-${command.name()}`);
  t.same(
    Object.keys(COMMAND_EXAMPLES).filter((page) => page !== 'cellblock' && !verbs.includes(page)),
    [],
    'none is of a page that is not there',
  );
});
