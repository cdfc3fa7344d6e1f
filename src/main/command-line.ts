// The command line as a process: hands the process's streams and signals to it, and its exit code back.

import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { EXIT_BROKEN_PIPE, EXIT_CODES } from '../agent/exit-codes.js';
import { explainOutputFailure } from '../commands/command-error.js';
import { run } from '../commands/program.js';
import { version } from './version.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const stop = new AbortController();
for (const signal of SIGNALS) {
  process.on(signal, () => {
    // The first one lets the command clean up; a second one, of any kind, does not wait for that.
    if (stop.signal.aborted) endBy(signal);
    stop.abort();
  });
}

/** Not process.exit(): that waits for calls that wait in the kernel, such as a read from a terminal. */
function endBy(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

/** Node makes U+FFFD of bytes that are no UTF-8: only the kernel knows what was typed. */
function wordsAreText(): boolean {
  return !process.argv.some((word) => word.includes('\ufffd')) || isUtf8(readFileSync('/proc/self/cmdline'));
}

let outputFailure: NodeJS.ErrnoException | undefined;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that went away (`| head`) is no defect, and nobody is left to tell.
  if (error.code === 'EPIPE') process.exit(EXIT_BROKEN_PIPE);
  outputFailure ??= error;
});
process.stderr.on('error', () => undefined);

const { stdin, stdout, stderr } = process;
process.exitCode = await run(process.argv.slice(2), {
  version,
  streams: { stdin, stdout, stderr },
  signal: stop.signal,
  // Loaded when it is asked for: it is as much again as every other command needs.
  offlineCheck: async (directory, watcher) =>
    (await import('./offline-check.js')).checkOffline(directory, watcher),
  wordsAreText: wordsAreText(),
});
// The failure of a write is told after the write. Where nothing was written nobody is to be told: a client that was handed over is gone.
if (stdout.bytesWritten !== 0) await new Promise((resolve) => stdout.write('', resolve));
if (outputFailure !== undefined && process.exitCode === 0) {
  const { kind, message, hint } = explainOutputFailure(outputFailure);
  stderr.write(`cellblock: ${message} ${hint}\n`);
  process.exitCode = EXIT_CODES[kind];
}
// A pipe that still holds input (an import that was refused) must not keep us here.
stdin.destroy();
// Nor a call that waits in the kernel; only a signal ends that.
if (stop.signal.aborted) setTimeout(() => endBy('SIGTERM'), 1000).unref();
