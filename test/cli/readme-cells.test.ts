// What the README says of cells, run as it stands there: its configuration by two agents, its file of tokens by a coordinator, its commands in order.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { CellAgent, CoordinatorProcess } from '../support/coordinator-process.js';
import { repositoryRoot } from '../support/programs.js';

t.setTimeout(300_000);

const README = readFileSync(path.join(repositoryRoot, 'README.md'), 'utf8');
const SECTION = /\n## Cells\n([\s\S]*?)\n## /.exec(README)?.[1] ?? '';

/** The blocks of code with this info string. */
function blocks(info: string): string[] {
  return [...SECTION.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].flatMap(([, kind, text]) =>
    kind === info ? [text!] : [],
  );
}

t.test('cells in five commands', async (t) => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-readme-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const [setup = '', commands = ''] = blocks('');
  const written = /printf '(.*)' >tokens/.exec(setup)?.[1] ?? '';
  const tokens = path.join(directory, 'tokens-of-readme');
  writeFileSync(tokens, written.replaceAll('\\n', '\n'), { mode: 0o600 });
  const coordinator = await CoordinatorProcess.start(t, {
    directory,
    hosts: {},
    args: ['--token', tokens],
  });
  const agents = [];
  for (const [host, cell] of [
    ['h1', 'east'],
    ['h2', 'west'],
  ] as const) {
    const token = new RegExp(`echo (\\S+) >${host}\\.token`).exec(setup)?.[1] ?? '';
    const file = path.join(directory, `${host}.token`);
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    const text = blocks('yaml')[0]!.replaceAll('h1', host).replace('east', cell);
    const { coordinator: section } = parse(text) as { coordinator: Record<string, unknown> };
    t.match(section, { addresses: ['ws://127.0.0.1:7443'], token_file: `${host}.token` });
    const more = { ...section, addresses: [coordinator.address], token_file: file };
    agents.push(await CellAgent.start(t, coordinator, { host, cell, more }));
  }
  const lines = commands.trim().split('\n');
  t.equal(lines.length, 5);
  const says = [
    /^Volume disk made, 1G\.\n$/,
    /^Volume disk belongs to cell east, at host h1\.\n$/,
    /^Snapshot disk@monday taken at east\/h1: number 1 of its lineage/,
    /\nANSWERS +x: east\/h1[\s\S]*\nA snapshot asked for now would be taken, by the rule stay:/,
    /would move from east\/h1 to west\/h2\.\nTo be sent: 1 snapshot, then/,
  ];
  for (const [at, line] of lines.entries()) {
    const words = /^npx cellblock (.*)$/.exec(line)?.[1]?.split(' ') ?? [];
    t.match(await agents[0]!.said(...words), says[at]!, line);
  }
});
