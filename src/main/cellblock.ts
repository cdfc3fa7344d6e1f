#!/usr/bin/env node
// The command `cellblock`: hands the process's streams and signals to the command line, and its exit code back.

import { EXIT_BROKEN_PIPE, EXIT_CODES } from '../agent/exit-codes.js';
import { run } from '../commands/program.js';
import { checkOffline } from './offline-check.js';
import { version } from './version.js';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The first one lets the command clean up; a second one does not wait for that.
    if (stop.signal.aborted) process.exit(EXIT_CODES.cancelled);
    stop.abort();
  });
}

// A reader that went away (`| head`) is no defect, and nobody is left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_BROKEN_PIPE);
  throw error;
});
process.stderr.on('error', () => undefined);

const { stdin, stdout, stderr } = process;
process.exitCode = await run(process.argv.slice(2), {
  version,
  streams: { stdin, stdout, stderr },
  signal: stop.signal,
  offlineCheck: checkOffline,
});
// A pipe that still holds input (an import that was refused) must not keep us here.
stdin.destroy();
