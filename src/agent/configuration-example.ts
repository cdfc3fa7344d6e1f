// The configuration file that a package brings: every key with what it means, all of them commented out. Made from the schema, and part
// of the pages (`npm run docs`).

import { type ConfigurationKey, configurationSections } from './configuration-keys.js';

const HEAD = `# Configuration of cellblockd. Every key is optional; commented out stand those there are, with what holds without them. A value in
# <brackets> has no default and says what is allowed. A key in a mapping needs the line of the mapping too. See cellblock.yaml(5).
`;

const WIDTH = 130;

export function exampleConfiguration(): string {
  return [HEAD, ...configurationSections().map(({ name, keys }) => `${name}:\n${keyLines(keys)}`)].join('\n');
}

function keyLines(keys: readonly ConfigurationKey[]): string {
  let mapping = '';
  return keys
    .map((key) => {
      const within = key.path.slice(1, -1);
      const opens = within.join('.') !== mapping && within.length > 0;
      mapping = within.join('.');
      return `${opens ? `#${indent(within.length)}${within.at(-1)}:\n` : ''}${keyText(key)}`;
    })
    .join('');
}

function keyText({ path, allowed, fallback, description }: ConfigurationKey): string {
  const before = `#${indent(path.length - 1)}`;
  const meaning = fallback === undefined ? description : `${description} Allowed: ${allowed}.`;
  const value = fallback === undefined ? `<${allowed}>` : yamlValue(fallback);
  const comment = wrapped(meaning, WIDTH - before.length - 2).map((line) => `${before}# ${line}\n`);
  return `${comment.join('')}${before}${path.at(-1)}: ${value}\n`;
}

function indent(depth: number): string {
  return '  '.repeat(depth);
}

/** Text that YAML could take for a number stands in quotes. */
function yamlValue(value: unknown): string {
  return typeof value === 'string' && /^[\w./:-]*[A-Za-z][\w./:-]*$/.test(value)
    ? value
    : JSON.stringify(value);
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
