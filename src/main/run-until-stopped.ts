// Runs an agent until it is told to stop. SIGTERM or SIGINT: a clean stop; a second one: an immediate end, as after a crash, which the
// next start recovers from. SIGHUP: the files of TLS are read again. An error nobody caught: logged, then the end, because its state cannot be trusted.

import type { Logger } from 'pino';
import { EXIT_CODES } from '../agent/exit-codes.js';
import { asCellblockError } from '../base/errors.js';
import type { RunningAgent } from './composition.js';

/** Answers the exit code. What `start` throws is thrown on. */
export async function runUntilStopped(
  log: Logger,
  start: () => Promise<RunningAgent>,
  whenReady: (agent: RunningAgent) => void = () => undefined,
): Promise<number> {
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      log.fatal({ err: error }, 'an error that nobody caught; ending at once');
      process.exit(EXIT_CODES.internal);
    });
  }
  const asked = stopAsked(log);
  let reload = () => {}; // a start reads everything anyway
  process.on('SIGHUP', () => reload());
  const agent = await start();
  reload = () => agent.reload();
  log.info('ready');
  whenReady(agent);
  const signal = await asked;
  log.info({ signal }, 'stopping');
  try {
    await agent.stop();
  } catch (error) {
    const { kind, message } = asCellblockError(error);
    log.error({ err: error }, `stopped, but not cleanly: ${message}`);
    return EXIT_CODES[kind];
  }
  log.info('stopped');
  return 0;
}

/** Resolves at the first signal; a second one ends the process. A signal during the start stops right after it. */
function stopAsked(log: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (asked) {
          log.warn({ signal }, 'asked again; ending at once');
          process.exit(EXIT_CODES.cancelled);
        }
        asked = true;
        resolve(signal);
      });
    }
  });
}
