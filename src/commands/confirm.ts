// Asks a person before what cannot be taken back. A program is not asked: it has said what it wants.

import { createInterface } from 'node:readline/promises';
import { CommandError } from './command-error.js';
import type { Context } from './context.js';
import { printable } from './table.js';

export interface ConfirmOptions {
  yes?: boolean;
}

export const YES = ['--yes', 'do not ask back'] as const;

/** Throws when the answer is anything but yes. `about`: what will be, one sentence. */
export async function confirm(
  { stdin, streams, terminal, signal }: Context,
  about: string,
  { yes }: ConfirmOptions,
): Promise<void> {
  if (yes === true || terminal.json || stdin.isTTY !== true) return;
  const lines = createInterface({ input: stdin, output: streams.stderr });
  try {
    // The end of its input is an answer too.
    const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
    const question = lines.question(`${printable(about)} Go on? [y/N] `, { signal });
    const answer = await Promise.race([question, ended]);
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    lines.close();
  }
  throw new CommandError('cancelled', 'not-confirmed', 'Nothing was done.', 'Answer y, or give --yes.');
}
