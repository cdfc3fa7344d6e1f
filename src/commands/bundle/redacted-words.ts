// Words of command lines and of files of variables, as they may be shown.

import { existsSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { withoutCredentials } from '../../agent/without-credentials.js';
import { REDACTED } from './scrub.js';

/** Options stay, and of what they are given what is plainly an address, a number or a path that is there. */
export function redactedWords(words: readonly string[]): string[] {
  return words.map((word) => {
    const [, option, value] = /^(--?[a-z][a-z-]*=)([\s\S]*)$/.exec(word) ?? [];
    if (option !== undefined) return option + redactedWord(value ?? '');
    return /^--?[a-z][a-z-]*$/.test(word) ? word : redactedWord(word);
  });
}

function redactedWord(word: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\/\S*$/i.test(word)) return withoutCredentials(word);
  if (/^(\d{1,9}|tcp:[\w.[\]:-]+:\d{1,5})$/.test(word)) return word;
  return isPathThatIsThere(word.replace(/^unix:/, '')) ? word : REDACTED;
}

export function isPathThatIsThere(text: string): boolean {
  return isAbsolute(text) && existsSync(text);
}

/** Lines NAME=WORDS; of others than `known` the name alone. */
export function redactedVariables(text: string, known: ReadonlySet<string>): string {
  const lines = text.split('\n').flatMap((line) => {
    const [, name, value = ''] = /^\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)$/.exec(line) ?? [];
    if (name === undefined) return [];
    const words = value.replace(/^(["'])(.*)\1$/, '$2').split(/\s+/);
    return [`${name}=${known.has(name) ? redactedWords(words).join(' ') : REDACTED}`];
  });
  return lines.map((line) => `${line}\n`).join('');
}
