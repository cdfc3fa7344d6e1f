// What every command gets: the agent, the terminal, and a signal that says "stop" when the user does.

import type { Command } from 'commander';
import { ApiClient, defaultApiSocket } from './api-client.js';
import { type Streams, Terminal } from './terminal.js';

export interface Context {
  api: ApiClient;
  terminal: Terminal;
  signal: AbortSignal;
  streams: Streams;
}

export type ContextOf = (command: Command) => Context;

/** Reads the options that stand before the nouns. */
export function contextMaker(streams: Streams, signal: AbortSignal): ContextOf {
  return (command) => {
    const options = command.optsWithGlobals<{ api?: string; json?: boolean }>();
    return {
      api: new ApiClient(options.api ?? defaultApiSocket()),
      terminal: new Terminal({ json: options.json === true }, streams),
      signal,
      streams,
    };
  };
}
