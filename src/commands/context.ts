// What every command gets: the agent, the terminal, and a signal that says "stop" when the user does.

import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import { CellblockError } from '../base/errors.js';
import { ApiClient } from './api-client.js';
import { defaultApiSocket } from './api-socket.js';
import { type Streams, Terminal } from './terminal.js';

export interface Context {
  api: ApiClient;
  terminal: Terminal;
  signal: AbortSignal;
  streams: Streams;
  /** Who can be asked back, if it is a terminal. */
  stdin: Readable & { isTTY?: boolean };
}

export type ContextOf = (command: Command) => Context;

/** Reads the options that stand before the nouns. */
export function contextMaker({
  streams,
  signal,
  patienceMs,
}: {
  streams: Streams & Pick<Context, 'stdin'>;
  signal: AbortSignal;
  patienceMs: number | undefined;
}): ContextOf {
  return (command) => {
    const options = command.optsWithGlobals<{ api?: string; json?: boolean }>();
    const terminal = new Terminal({ json: options.json === true }, streams);
    if (options.api === '') {
      throw new CellblockError('option-invalid', 'The path after --api is empty.', {
        hint: 'Name the socket of the agent, or leave --api out.',
      });
    }
    return {
      api: new ApiClient(options.api ?? defaultApiSocket(), {
        note: (text) => terminal.note(text),
        ...(patienceMs === undefined ? {} : { patienceMs }),
      }),
      terminal,
      signal,
      streams,
      stdin: streams.stdin,
    };
  };
}
